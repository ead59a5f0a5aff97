#include "controller/pack.h"

#include <utility>
#include <vector>

#include <fmt/format.h>

#include "agent/base/sha256.h"
#include "agent/base/text.h"
#include "agent/protocol/json.h"
#include "agent/protocol/line.h"

namespace gpustrap {
namespace {

using Places = std::vector<std::pair<std::string_view, std::string>>;

std::string fill(std::string_view text, const Places& places) {
  std::string filled(text);
  for (const auto& [name, value] : places) {
    for (std::size_t at = filled.find(name); at != std::string::npos; at = filled.find(name, at + value.size()))
      filled.replace(at, name.size(), value);
  }
  return filled;
}

/// A name as it may stand in a comment of a script.
std::string plain(const std::string& name) { return strip_control(first_line(name, 100)); }

/// The recipe as an agent takes it, with where its secrets come from: nobody hands them over there.
std::string recipe_text(const Recipe& recipe) {
  Json document = write_recipe(recipe);
  if (!recipe.secrets.empty()) document["secrets"] = Json::object();
  for (const SecretSource& secret : recipe.secrets) {
    Json source = Json::object();
    if (!secret.env.empty()) source["env"] = secret.env;
    if (!secret.file.empty()) source["file"] = secret.file;
    document["secrets"][secret.name] = std::move(source);
  }
  return document.dump() + "\n";
}

}  // namespace

std::string packed_script(const EmbeddedAgent& agent, const Recipe& recipe) {
  const std::string json = recipe_text(recipe);
  const std::string digest = sha256_hex(json);
  // The text says where its parts begin, which depends on how long it is with these numbers in it.
  std::string text;
  for (std::size_t length = 0; text.empty() || text.size() != length;) {
    length = text.size();
    const std::size_t recipe_from = length + agent.gzipped.size() + 1;
    text = fill(pack_script_text(), {{"@VERSION@", GPUSTRAP_VERSION},
                                     {"@NAME@", plain(recipe.name)},
                                     {"@ARCH@", agent.arch},
                                     {"@AGENT@", agent.digest},
                                     {"@AGENT_FROM@", std::to_string(length + 1)},
                                     {"@AGENT_SIZE@", std::to_string(agent.gzipped.size())},
                                     {"@RECIPE@", digest},
                                     {"@RECIPE_FROM@", std::to_string(recipe_from)},
                                     {"@RECIPE_SIZE@", std::to_string(json.size())},
                                     {"@SIZE@", std::to_string(recipe_from - 1 + json.size())}});
  }
  return text.append(agent.gzipped).append(json);
}

Result<std::string> user_data_for(const std::string& packed, const std::string& recipe_name, const std::string& url) {
  const bool has_scheme = url.starts_with("https://") || url.starts_with("http://");
  // Within single quotes of a shell everything but these stands for itself.
  if (!has_scheme || url.find_first_of("' \t\n\r\\") != std::string::npos || strip_control(url) != url)
    return fail(ErrorCode::usage, fmt::format("--user-data {}: that is no address to fetch from", first_line(strip_control(url), 100)),
                "give the address at which the packed file will lie, for instance https://example.org/lab.sh");
  std::string text =
      fill(pack_user_data_text(),
           {{"@VERSION@", GPUSTRAP_VERSION}, {"@NAME@", plain(recipe_name)}, {"@SHA256@", sha256_hex(packed)}, {"@URL@", url}});
  if (text.size() > kUserDataLimit)
    return fail(ErrorCode::usage, fmt::format("the user data would have {} bytes, and EC2 takes {}", text.size(), kUserDataLimit),
                "give a shorter address");
  return text;
}

std::string pack_json(const std::string& file, std::string_view packed, const EmbeddedAgent& agent, const Recipe& recipe,
                      const std::string& user_data) {
  const auto or_null = [](const std::string& text) { return text.empty() ? Json() : Json(text); };
  Json secrets = Json::array();
  for (const SecretSource& secret : recipe.secrets)
    secrets.push_back({{"name", secret.name}, {"env", or_null(secret.env)}, {"file", or_null(secret.file)}});
  return to_line({{"pack", 1},
                  {"file", file},
                  {"size", packed.size()},
                  {"sha256", sha256_hex(packed)},
                  {"arch", agent.arch},
                  {"agent", agent.digest},
                  {"recipe", recipe.name},
                  {"steps", recipe.steps.size()},
                  {"secrets", std::move(secrets)},
                  {"user_data", or_null(user_data)},
                  {"user_data_fits", user_data.empty() ? Json() : Json(user_data.size() <= kUserDataLimit)}});
}

bool is_packed_script(std::string_view text) { return text.starts_with("#!/bin/sh\n# gpustrap "); }

}  // namespace gpustrap
