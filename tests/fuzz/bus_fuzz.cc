#include <cstddef>
#include <cstdint>
#include <string_view>

#include "agent/systemd_bus.h"

// Whatever stands on systemd's socket is read to its end, or refused.

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace gpustrap;
  std::string_view bytes(reinterpret_cast<const char*>(data), size);
  bool is_wrong = false;
  while (const auto message = take_message(bytes, is_wrong)) {
    if (const auto value = value_in(message->body); value && value->size() > size + 64) __builtin_trap();
  }
  return 0;
}
