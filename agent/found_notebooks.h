#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "agent/host.h"
#include "agent/token.h"

namespace gpustrap {

// Jupyter servers that somebody started himself: each leaves a file in its user's runtime folder that says where it listens, and the token.

struct FoundNotebook {
  int pid = 0;
  std::uint16_t port = 0;
  std::string address;  ///< of the loopback: "127.0.0.1", "[::1]"
  bool tls = false;
  std::string base;   ///< "/", "/lab/": what its paths begin with
  std::string token;  ///< empty: it wants none, or a password, with which nobody can ask it
  std::string dir;    ///< the folder that it shows; empty: not known
};
/// What stands in jpserver-PID.json, of older ones nbserver-PID.json. Nothing where that is no such thing, or a server that the loopback
/// does not reach.
[[nodiscard]] std::optional<FoundNotebook> found_notebook_in(std::string_view text);

/// Those whose files lie in that folder, by their names, at most eight: plain files of that user's, of a process of that user's that lives.
/// Links are not followed.
[[nodiscard]] std::vector<FoundNotebook> found_notebooks_in(const std::string& folder, uid_t user);

/// People, and root, who listen to anything, by /proc/net/tcp: whoever does not has no server.
[[nodiscard]] std::vector<uid_t> listening_people(std::string_view table);

/// What all of them say of their kernels, but those that are `known`: an answer for each, as that of ask_notebook. Each is asked with its
/// user's rights, over the loopback, where the port is that user's; nobody is waited for when all together have taken 15 s.
[[nodiscard]] std::vector<std::string> ask_found_notebooks(const Host& host, const std::vector<NotebookService>& known);

}  // namespace gpustrap
