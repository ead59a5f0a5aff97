#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>

#include "agent/base/result.h"

namespace gpustrap {

/// Incremental SHA-256 (libcrypto underneath).
class Sha256 {
 public:
  Sha256();
  ~Sha256();
  Sha256(Sha256&&) noexcept;
  Sha256& operator=(Sha256&&) noexcept;

  void add(std::string_view bytes);
  /// 64 lowercase hex digits. The object starts afresh afterwards.
  [[nodiscard]] std::string hex();
  /// The same of what was added so far; more may follow.
  [[nodiscard]] std::string hex_so_far() const;

 private:
  struct Context;
  std::unique_ptr<Context> context_;
};

[[nodiscard]] std::string sha256_hex(std::string_view bytes);
/// Whether it looks like one: 64 lowercase hex digits.
[[nodiscard]] bool is_sha256(std::string_view text);
/// Digest of a file's content, read in pieces.
[[nodiscard]] Result<std::string> sha256_of_file(const std::string& path);

}  // namespace gpustrap
