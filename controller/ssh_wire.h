#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace gpustrap {

// SSH's strings (RFC 4251, section 5): a length in four bytes, and as many bytes.

/// Takes the next one; nothing where it is cut off.
inline std::optional<std::string_view> take_ssh_string(std::string_view& bytes) {
  if (bytes.size() < 4) return std::nullopt;
  std::uint32_t size = 0;
  for (std::size_t i = 0; i < 4; ++i) size = size << 8U | static_cast<unsigned char>(bytes[i]);
  if (size > bytes.size() - 4) return std::nullopt;
  const std::string_view text = bytes.substr(4, size);
  bytes.remove_prefix(4 + text.size());
  return text;
}

inline std::string ssh_number(std::size_t value) {
  std::string bytes;
  for (unsigned shift = 32; shift > 0; shift -= 8) bytes += static_cast<char>(value >> (shift - 8) & 0xFFU);
  return bytes;
}

inline std::string ssh_string(std::string_view text) { return ssh_number(text.size()).append(text); }

}  // namespace gpustrap
