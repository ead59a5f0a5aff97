#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>

namespace gpustrap {

// Bytes looked at eight at a time, for loops over everything that a host prints. Each answers for any of the eight; the tricks are those of
// "Bit Twiddling Hacks" (S. E. Anderson), and hold for any order of bytes.

constexpr std::uint64_t kLowBits = 0x0101010101010101U, kHighBits = 0x8080808080808080U;

[[nodiscard]] constexpr std::uint64_t any_below(std::uint64_t eight, std::uint8_t limit) {
  return (eight - kLowBits * limit) & ~eight & kHighBits;
}
[[nodiscard]] constexpr std::uint64_t any_is(std::uint64_t eight, std::uint8_t byte) { return any_below(eight ^ (kLowBits * byte), 1); }
[[nodiscard]] constexpr std::uint64_t any_above_ascii(std::uint64_t eight) { return eight & kHighBits; }

/// Length of the longest start of `text` in which no byte stops: `stops_in` is asked of eight, `stops` of one.
template <class StopsIn, class Stops> [[nodiscard]] std::size_t length_until(std::string_view text, StopsIn stops_in, Stops stops) {
  std::size_t length = 0;
  for (; length + sizeof(std::uint64_t) <= text.size(); length += sizeof(std::uint64_t)) {
    std::uint64_t eight = 0;
    std::memcpy(&eight, text.data() + length, sizeof eight);
    if (stops_in(eight) != 0) break;
  }
  while (length < text.size() && !stops(static_cast<unsigned char>(text[length]))) ++length;
  return length;
}

}  // namespace gpustrap
