#pragma once

#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "agent/base/result.h"
#include "agent/protocol/fields.h"
#include "agent/protocol/json_fwd.h"

namespace gpustrap {

struct StepEntry;

/// A secret that a recipe declares: its name, and where its value is looked for where the user sits, the first that has one. A resolved
/// recipe names secrets only; its sources then are empty.
struct SecretSource {
  std::string name;
  std::string env;     ///< an environment variable
  std::string file;    ///< a file, absolute or below ~/
  std::string prompt;  ///< what a person at the terminal is asked
  template <class V> void fields(V& v) {
    v("env", env, Presence::optional, "an environment variable");
    v("file", file, Presence::optional, "a file; a newline at its end does not count");
    v("prompt", prompt, Presence::optional, "what you are asked at the terminal; the answer is not shown");
  }
};

/// Values by name. Never part of a recipe, a run's digest or an event.
using SecretValues = std::map<std::string, std::string>;

/// A value shorter than this could not be hidden in what steps print without hiding much else.
constexpr std::size_t kShortestSecret = 4;
/// Of all values of a run together.
constexpr std::size_t kLongestSecrets = 128U << 10U;

/// Letters, digits and `_`, not beginning with a digit.
[[nodiscard]] bool is_secret_name(std::string_view name);
/// `secrets:` of a recipe, a mapping of names to sources; or a list of names, as in a resolved one.
[[nodiscard]] std::vector<SecretSource> read_secret_sources(const Json& value, std::vector<FieldProblem>& problems);
/// What documentation says of a source.
[[nodiscard]] std::vector<FieldDoc> describe_secret_source();

/// Reports secrets that are not declared, and those that stand where they would show: they may stand in `env`, in the shell text of a
/// command and in the content of a file or a block. In a shell text the value goes through an environment variable, whose name takes the
/// placeholder's place; a file with a secret in it is its owner's alone where the recipe does not say otherwise.
void settle_secrets(StepEntry& step, const std::string& pointer, const std::vector<SecretSource>& declared,
                    std::vector<FieldProblem>& problems);

/// What a step needs of them, sorted.
struct SecretNeeds {
  std::vector<std::string> in_spec;
  std::vector<std::string> all;  ///< with those of `env`
};
[[nodiscard]] SecretNeeds secrets_of(const StepEntry& step);

/// Where values come from; tests give their own.
struct SecretSurroundings {
  std::function<std::optional<std::string>(const std::string& name)> environment;
  std::function<std::optional<std::string>(const std::string& question)> ask;  ///< none: there is nobody to ask
  std::string home;
};
/// All values, or one error (secret) that says of each missing one where it was looked for.
[[nodiscard]] Result<SecretValues> collect_secrets(const std::vector<SecretSource>& sources, const SecretSurroundings& around);

}  // namespace gpustrap
