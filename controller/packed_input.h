#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>

#include "agent/base/result.h"

struct z_stream_s;

namespace gpustrap {

/// A zlib stream that comes in pieces, unpacked in pieces: a few bytes of a host that means no good may unpack to gigabytes.
class PackedInput {
 public:
  /// Errors: internal where zlib has no memory.
  [[nodiscard]] static Result<PackedInput> begin();
  ~PackedInput();
  PackedInput(PackedInput&&) noexcept;
  PackedInput& operator=(PackedInput&&) noexcept;

  void add(std::string_view bytes);
  /// Appends up to 256 KiB of what was packed; the number of bytes, 0 where more has to come first.
  /// Errors: protocol for what is no such stream, and for bytes behind its end.
  [[nodiscard]] Result<std::size_t> next(std::string& into);

 private:
  struct StreamEnd {
    void operator()(z_stream_s* stream) const;
  };
  PackedInput() = default;

  std::unique_ptr<z_stream_s, StreamEnd> stream_;
  std::string bytes_;
  std::size_t taken_ = 0;
};

}  // namespace gpustrap
