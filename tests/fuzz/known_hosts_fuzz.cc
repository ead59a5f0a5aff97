#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "controller/known_hosts.h"
#include "controller/ssh_agent.h"

// Any bytes as a known_hosts file: they take nothing from a line behind them, and nothing makes up for a key that is revoked. And as the
// answer of an SSH agent: refused, or read into keys that all stand in it.

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace gpustrap;
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  for (const std::string& key : agent_keys_in(bytes).value_or(std::vector<std::string>())) {
    if (bytes.find(key) == std::string_view::npos) std::abort();
  }
  constexpr const char* kKey = "AAAAC3NzaC1lZDI1NTE5AAAAIE2xiwI6uKWN32VwNIQ7N2wC7jvTEPVl7rAR27Tof02t";
  KnownHosts hosts("[gpu1]:2222");
  hosts.take(bytes, "known_hosts");
  const KnownHosts::Verdict before = hosts.ask(kKey).verdict;
  hosts.take(std::string("[gpu1]:2222 ssh-ed25519 ") + kKey, "behind");
  const KnownHosts::Verdict known = hosts.ask(kKey).verdict;
  const bool is_revoked = before == KnownHosts::Verdict::revoked;
  if (known != (is_revoked ? KnownHosts::Verdict::revoked : KnownHosts::Verdict::known) || hosts.types().empty()) std::abort();
  hosts.take(std::string("@revoked * ssh-ed25519 ") + kKey, "behind");
  if (hosts.ask(kKey).verdict != KnownHosts::Verdict::revoked) std::abort();
  return 0;
}
