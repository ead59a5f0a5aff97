#pragma once

#include <string>
#include <vector>

#include "agent/host.h"

// What a step can ask of the agent itself, as a command that only looks: no program is started for it. For the few kinds that find out by
// asking what they will fetch.

namespace gpustrap {

inline constexpr const char* kAgentItself = "gpustrap-agent";

/// The small texts at these addresses, as an index of packages has them, several asked for at once: a JSON array, null for what did not
/// come.
[[nodiscard]] inline Command ask_pages(std::vector<std::string> urls) {
  Command command{{kAgentItself, "pages"}, {}, {}, {}};
  command.argv.insert(command.argv.end(), urls.begin(), urls.end());
  return command;
}
/// What a fetcher that ran ahead of this step has found that the step will ask for, as requests_to_json() writes it.
[[nodiscard]] inline Command ask_found_ahead() { return {{kAgentItself, "found-ahead"}, {}, {}, {}}; }
/// The `python` of the earlier step that makes this step's environment.
[[nodiscard]] inline Command ask_python_to_come() { return {{kAgentItself, "python-to-come"}, {}, {}, {}}; }

}  // namespace gpustrap
