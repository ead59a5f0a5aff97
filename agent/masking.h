#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "agent/private_memory.h"

namespace gpustrap {

/// Replaces secrets by `***`. A value is found as it is (line by line, where it has several), as JSON, a URL, XML, base64,
/// hexadecimal digits and the quotes of shells and Python write it; not where a program has compressed, encrypted, cut or wrapped it.
class Masking {
 public:
  void add(std::string_view value);
  [[nodiscard]] bool empty() const { return patterns_.empty(); }
  [[nodiscard]] std::string mask(std::string_view text) const;
  /// The most of the first `end` bytes of `text` that can be masked without what follows: a secret that begins there ends there. 0 where a
  /// secret may begin at the first byte, and more of it is to come.
  [[nodiscard]] std::size_t safe_end(std::string_view text, std::size_t end) const;

 private:
  void add_pattern(PrivateText pattern);
  PrivateList<PrivateText> patterns_;  ///< the longest first
};

}  // namespace gpustrap
