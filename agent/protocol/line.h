#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

#include "agent/base/result.h"
#include "agent/protocol/json_fwd.h"

namespace gpustrap {

/// Longest line that either side accepts, newline included. A resolved recipe is the longest that is sent.
constexpr std::size_t kMaxLine = 1U << 20U;

/// Cuts a byte stream into lines without ever holding more than kMaxLine of an unfinished one.
class LineReader {
 public:
  /// Takes bytes as they arrive.
  void add(std::string_view bytes);
  /// The next whole line without its newline; nullopt where more bytes are needed; an error (protocol) for a line over the limit.
  Result<std::optional<std::string>> next();
  /// What is left of an unfinished line.
  [[nodiscard]] std::string_view rest() const { return std::string_view(buffer_).substr(begin_); }

 private:
  std::string buffer_;
  std::size_t begin_ = 0;
  std::size_t searched_ = 0;
};

/// One JSON document; an error (protocol) that quotes the start of what is not JSON or not an object.
[[nodiscard]] Result<Json> parse_line(std::string_view line);
/// The document and its newline. Invalid UTF-8 becomes U+FFFD.
[[nodiscard]] std::string to_line(const Json& document);

}  // namespace gpustrap
