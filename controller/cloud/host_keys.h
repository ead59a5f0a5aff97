#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "agent/base/result.h"

namespace gpustrap {

/// The public keys that cloud-init prints on a new instance's console, as known_hosts has them: "ssh-ed25519 AAAA…", without comment.
/// Only whole blocks count, and the last one of a console that shows several boots. Console text is the host's: what does not look like
/// a key is left out.
[[nodiscard]] std::vector<std::string> host_keys_in(std::string_view console);

/// Makes known_hosts say that `host` has these keys and no others: EC2 gives addresses of one machine to the next. Lines of other hosts
/// stay as they are.
[[nodiscard]] Result<void> pin_host_keys(const std::string& known_hosts, const std::string& host, const std::vector<std::string>& keys);
/// Takes the host out of known_hosts, where it stands there.
[[nodiscard]] Result<void> forget_host_keys(const std::string& known_hosts, const std::string& host);

}  // namespace gpustrap
