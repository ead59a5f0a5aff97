#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>

#include "agent/protocol/json.h"
#include "controller/fleet_hosts.h"
#include "controller/ssh_config.h"

// Any bytes as a hosts file, YAML or an Ansible inventory: refused with a place in it, or read into hosts that all can be reached for.

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace gpustrap;
  const std::string text(data, data + size);
  for (const char* label : {"inventory", "hosts.yaml"}) {
    const Result<FleetHosts> hosts = read_fleet_hosts(text, label);
    if (!hosts) {
      if (hosts.error().why().find(label) != 0) std::abort();
      continue;
    }
    if (hosts->hosts.empty()) std::abort();
    for (const FleetHost& host : hosts->hosts) {
      if (host.settings.address.empty() || host.settings.address.front() == '-' || !is_plain_name(host.settings.user)) std::abort();
    }
  }
  return 0;
}
