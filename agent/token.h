#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "agent/base/result.h"
#include "agent/host.h"
#include "agent/paths.h"
#include "agent/protocol/json_fwd.h"

namespace gpustrap {

/// Where the jupyter step of a service keeps its token, in the login user's home.
[[nodiscard]] std::string token_path(const std::string& home, std::string_view service);

/// A notebook that some run set up.
struct NotebookService {
  std::string name;
  std::uint16_t port = 0;
  bool is_public = false;  ///< speaks TLS
  Identity login = {};     ///< whose it is
  std::string dir = {};    ///< the folder that it shows, absolute
};
/// Each once, as the newest run with it says; the newest first. A later run of another recipe does not take a notebook away.
[[nodiscard]] std::vector<NotebookService> notebook_services(const AgentPaths& paths);

/// {"token", "port", "service", "tls"} of a notebook (the newest one that has a token where `service` is empty).
/// The file is read with the login user's rights, so a planted link cannot make root read another's.
[[nodiscard]] Result<Json> jupyter_token(const AgentPaths& paths, const Identity& login, const std::string& service);

}  // namespace gpustrap
