#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "agent/base/result.h"
#include "controller/doctor/evidence.h"
#include "controller/ssh_session.h"

namespace gpustrap {

/// The script that is run on the host.
[[nodiscard]] std::string_view probe_script();
/// What is executed there: says that it has begun, takes a line with sudo's password, or an empty one, then the script. The login shell
/// may be any.
[[nodiscard]] std::string_view probe_command();

/// One exec that changes nothing on the host. `sudo_password`: where sudo asks for one. `now`: seconds since 1970 by this machine's clock;
/// where the host's is another, it asks a server. Where the login shell never comes to the
/// command, that is all the evidence, in the section login-shell. `limit`: every program has 20 s at most where the host can bound it, and
/// after one that hangs few others are asked. Errors: authentication where sudo does not take the password, timeout,
/// protocol, unreachable.
[[nodiscard]] Result<Evidence> probe(SshSession& session, const std::optional<std::string>& sudo_password, std::int64_t now,
                                     std::chrono::seconds limit = std::chrono::minutes(3));

/// Of a host that was not waited for any longer: the sections that came, and the others as late ones.
[[nodiscard]] Result<Evidence> evidence_so_far(std::string_view said);
/// Of a host that has ended by itself: what it said, or, where its shell could start no more programs, what came before that, which is
/// told by its `complaints`. Sections that it did not come to are unanswered. Errors as Evidence::read.
[[nodiscard]] Result<Evidence> evidence_at_end(std::string_view said, std::string_view complaints);
/// Of a host whose login shell runs no command: `how` it does that, and no section that was seen but this.
[[nodiscard]] Evidence evidence_of_no_shell(const std::string& how);

}  // namespace gpustrap
