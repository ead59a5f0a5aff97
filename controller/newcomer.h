#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "agent/base/result.h"

namespace gpustrap {

// The mistakes that people make on their first command line. Each error says what was meant, as a command to copy.

struct Destination {
  std::string user, host;
};
/// "ubuntu@203.0.113.7", "gpu1", "::1", "[::1]". Refuses what cannot be a host: a leading dash, spaces, a port behind a colon, an ssh://
/// URL.
[[nodiscard]] Result<Destination> read_destination(const std::string& word);

/// The first word is a verb, and `recipe` is followed by one of its own.
[[nodiscard]] Result<void> check_verb(const std::vector<std::string>& words);
/// As many and such words as the verb takes. `hosts_file`: that of -f, where the hosts come from there.
[[nodiscard]] Result<void> check_places(const std::string& verb, const std::vector<std::string>& places,
                                        const std::string& hosts_file = {});
/// What is wrong with an option that the verb does not have.
[[nodiscard]] Error unknown_option(const std::string& verb, const std::string& option, const std::vector<std::string>& known);

}  // namespace gpustrap
