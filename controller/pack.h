#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "agent/base/result.h"
#include "agent/protocol/recipe.h"
#include "controller/embedded_agents.h"

namespace gpustrap {

/// What EC2 takes as user data, before it is written in base64 (RunInstances).
constexpr std::size_t kUserDataLimit = 16 * 1024;

/// A shell script that carries an agent and a resolved recipe, and runs the one with the other: for user data, image builds and hosts that
/// nobody reaches from here. The same agent and recipe give the same bytes.
[[nodiscard]] std::string packed_script(const EmbeddedAgent& agent, const Recipe& recipe);

/// A small script that fetches a packed one from `url`, sees that it is that, and runs it. Errors: usage, where the address is none that
/// can be fetched, or what comes of it is too long for user data.
[[nodiscard]] Result<std::string> user_data_for(const std::string& packed, const std::string& recipe_name, const std::string& url);

/// What was packed, for programs: one line of JSON (docs/json.md). `user_data` may be empty.
[[nodiscard]] std::string pack_json(const std::string& file, std::string_view packed, const EmbeddedAgent& agent, const Recipe& recipe,
                                    const std::string& user_data);

/// Whether a file that begins so was made by packed_script.
[[nodiscard]] bool is_packed_script(std::string_view text);

/// pack_script.sh and pack_user_data.sh, with their @PLACES@.
[[nodiscard]] std::string_view pack_script_text();
[[nodiscard]] std::string_view pack_user_data_text();

}  // namespace gpustrap
