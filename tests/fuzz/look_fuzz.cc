#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "agent/base/text.h"
#include "controller/idle_status.h"
#include "controller/machine_look.h"

// Any bytes as a host's answer to what it is: refused, or read into what may be shown as it is.

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace gpustrap;
  const std::string text(data, data + size);
  const Result<MachineLook> look = read_look(text);
  if (!look) return 0;
  const auto is_printable = [](const std::string& word) { return strip_control(word) == word && is_utf8(word); };
  for (const DiskLook& disk : look->disks) {
    if (disk.free > disk.total || !is_printable(disk.path)) std::abort();
  }
  for (const GpuLook& gpu : look->gpus) {
    if (gpu.utilisation.value_or(0) > 100 || !is_printable(gpu.name)) std::abort();
  }
  for (const ServiceLook& service : look->services) {
    if (!is_printable(service.name) || !is_printable(service.state)) std::abort();
  }
  if (!is_printable(look->facts.os_name) || !is_printable(look->facts.driver) || !is_printable(look->gpu_trouble)) std::abort();
  if (const auto idle = read_idle_status(look->idle, look->facts.uptime_s)) {
    for (const auto& [title, line] : idle_lines(*idle))
      if (!is_printable(line)) std::abort();
  }
  if (look->gpus.size() > 64 || look->disks.size() > 64 || look->services.size() > 64) std::abort();
  return 0;
}
