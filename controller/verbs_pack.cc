#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "agent/base/file.h"
#include "agent/base/text.h"
#include "controller/compat_loader.h"
#include "controller/guard_wish.h"
#include "controller/pack.h"
#include "controller/recipe_loader.h"
#include "controller/user_recipes.h"
#include "controller/verbs.h"

namespace gpustrap {
namespace {

/// Most machines with GPUs are of this kind, whatever this one is.
constexpr std::string_view kUsualArch = "x86_64";

Result<const EmbeddedAgent*> agent_for(const std::string& arch) {
  std::vector<std::string> known;
  for (const EmbeddedAgent& agent : embedded_agents()) {
    if (agent.arch == arch) return &agent;
    known.push_back(agent.arch);
  }
  return fail(ErrorCode::usage, fmt::format("--arch {}: this gpustrap carries agents for {}", arch, join(known, ", ")),
              "it is what `uname -m` says on the machine");
}

/// One that was packed before may be packed anew; nothing else is overwritten.
Result<void> may_write(const std::string& file) {
  const Result<std::string> there = read_file(file, 64U << 20U);
  if (!there && there.error().code() == ErrorCode::not_found) return {};
  if (there && is_packed_script(*there)) return {};
  return fail(ErrorCode::usage, there ? fmt::format("{} is there already, and is no packed recipe", file) : there.error().sentence(),
              "name another file: -o FILE");
}

std::string summary(const std::string& file, const std::string& text, const Recipe& recipe, const std::string& arch) {
  std::string said = fmt::format("{}: {}, {} steps, for Linux on {}. On the machine, as root:\n  sh {}\n", file, human_bytes(text.size()),
                                 recipe.steps.size(), arch, shell_quote(file.substr(file.rfind('/') + 1)));
  for (const SecretSource& secret : recipe.secrets) {
    const std::string places = secret.env.empty()    ? secret.file
                               : secret.file.empty() ? "the variable " + secret.env
                                                     : fmt::format("the variable {} or {}", secret.env, secret.file);
    said += fmt::format("The secret {} is not in it: it comes from {} there.\n", secret.name, places);
  }
  return said;
}

/// Nobody is at the terminal of a machine that sets itself up.
Result<void> check_secrets(const Recipe& recipe) {
  for (const SecretSource& secret : recipe.secrets) {
    if (secret.env.empty() && secret.file.empty())
      return fail(ErrorCode::recipe,
                  fmt::format("the secret `{}` is asked for at the terminal, and a packed recipe runs where nobody is", secret.name),
                  "give it `env` or `file` beside `prompt` in the recipe's `secrets`");
  }
  return {};
}

}  // namespace

VerbResult verb_pack(const Options& options) {
  Result<LoadedRecipe> loaded = load_recipe(options.recipe, LoadOptions{recipe_sources(), options.vars});
  if (!loaded) return fail(std::move(loaded).error());
  Recipe& recipe = loaded->recipe;
  add_guard(recipe, options.guard);
  if (Result<void> added = add_compat(recipe); !added) return fail(std::move(added).error());
  if (Result<void> checked = check_secrets(recipe); !checked) return fail(std::move(checked).error());
  const std::string arch = options.arch.empty() ? std::string(kUsualArch) : options.arch;
  const Result<const EmbeddedAgent*> agent = agent_for(arch);
  if (!agent) return fail(agent.error());
  const std::string text = packed_script(**agent, recipe);
  const std::string file = options.output.empty() ? fmt::format("{}-{}.sh", recipe.name, arch) : options.output;
  if (Result<void> may = may_write(file); !may) return fail(std::move(may).error());
  const Result<std::string> user_data = options.user_data.empty() ? std::string() : user_data_for(text, recipe.name, options.user_data);
  if (!user_data) return fail(user_data.error());
  if (Result<void> written = write_file_atomically(file, text, 0755); !written) return fail(std::move(written).error());
  if (options.json) {
    if (Result<void> shown = write_all(STDOUT_FILENO, pack_json(file, text, **agent, recipe, *user_data)); !shown)
      return fail(std::move(shown).error());
    return ExitCode::ok;
  }
  const std::string said = summary(file, text, recipe, arch);
  if (options.user_data.empty()) {
    if (Result<void> shown = write_all(STDOUT_FILENO, said); !shown) return fail(std::move(shown).error());
    return ExitCode::ok;
  }
  static_cast<void>(
      write_all(STDERR_FILENO, said + fmt::format("Put it at {}; what follows is the user data that fetches it.\n", options.user_data)));
  if (Result<void> shown = write_all(STDOUT_FILENO, *user_data); !shown) return fail(std::move(shown).error());
  return ExitCode::ok;
}

}  // namespace gpustrap
