#include "agent/masking.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <utility>

#include "agent/protocol/secrets.h"

namespace gpustrap {
namespace {

constexpr std::string_view kMask = "***";
/// Of a value that is written in another alphabet, and of a line of a longer value: shorter ones would be found everywhere.
constexpr std::size_t kShortestWritten = 8;
constexpr std::string_view kBase64 = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// What base64 of any text makes of `value` where it begins `offset` bytes behind a multiple of three: the digits that it alone decides.
PrivateText base64_at(std::string_view value, std::size_t offset) {
  PrivateText digits;
  std::uint32_t bits = 0;
  unsigned held = static_cast<unsigned>(offset) * 8 % 6;
  const std::size_t foreign = held == 0 ? 0 : 1;  // the first digit has bits of what comes before
  for (const char c : value) {
    bits = (bits << 8U) | static_cast<unsigned char>(c);
    held += 8;
    while (held >= 6) {
      held -= 6;
      digits += kBase64[(bits >> held) & 63U];
    }
  }
  return digits.substr(std::min(foreign, digits.size()));
}

PrivateText with_url_alphabet(PrivateText digits) {
  std::replace(digits.begin(), digits.end(), '+', '-');
  std::replace(digits.begin(), digits.end(), '/', '_');
  return digits;
}

PrivateText as_hex(std::string_view value, std::string_view digits) {
  PrivateText hex;
  for (const char c : value) {
    const auto byte = static_cast<unsigned char>(c);
    hex += digits[byte >> 4U];
    hex += digits[byte & 15U];
  }
  return hex;
}

bool is_unreserved(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || std::string_view("-._~").find(c) < 4;
}

/// `kept` are characters that the writer leaves as they are beside letters and digits.
PrivateText as_url(std::string_view value, std::string_view kept, std::string_view digits) {
  PrivateText url;
  for (const char c : value) {
    if (is_unreserved(c) || kept.find(c) != std::string_view::npos) {
      url += c;
      continue;
    }
    const auto byte = static_cast<unsigned char>(c);
    url += '%';
    url += digits[byte >> 4U];
    url += digits[byte & 15U];
  }
  return url;
}

PrivateText as_json(std::string_view value) {
  PrivateText json;
  constexpr std::string_view kPlain = "\"\\\b\f\n\r\t";
  constexpr std::string_view kEscaped = "\"\\bfnrt";
  for (const char c : value) {
    const std::size_t known = kPlain.find(c);
    if (known != std::string_view::npos) {
      json += '\\';
      json += kEscaped[known];
    } else {
      json += c;
    }
  }
  return json;
}

/// With `mark` before each character of `special`.
PrivateText with_escapes(std::string_view value, std::string_view special, std::string_view mark) {
  PrivateText escaped;
  for (const char c : value) {
    if (special.find(c) != std::string_view::npos) escaped += mark;
    escaped += c;
  }
  return escaped;
}

PrivateText as_xml(std::string_view value, std::string_view single, std::string_view both) {
  PrivateText xml;
  for (const char c : value) {
    switch (c) {
      case '&': xml += "&amp;"; break;
      case '<': xml += "&lt;"; break;
      case '>': xml += "&gt;"; break;
      case '\'': xml += single; break;
      case '"': xml += both; break;
      default: xml += c;
    }
  }
  return xml;
}

}  // namespace

void Masking::add_pattern(PrivateText pattern) {
  if (pattern.empty() || std::find(patterns_.begin(), patterns_.end(), pattern) != patterns_.end()) return;
  const auto place =
      std::find_if(patterns_.begin(), patterns_.end(), [&](const PrivateText& other) { return other.size() < pattern.size(); });
  patterns_.insert(place, std::move(pattern));
}

void Masking::add(std::string_view value) {
  if (value.empty()) return;
  // Output is told line by line.
  const bool has_lines = value.find('\n') != std::string_view::npos;
  for (std::size_t begin = 0; begin <= value.size();) {
    const std::size_t end = std::min(value.find('\n', begin), value.size());
    std::string_view line = value.substr(begin, end - begin);
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (!has_lines || line.size() >= kShortestWritten) add_pattern(PrivateText(line));
    begin = end + 1;
  }
  add_pattern(PrivateText(value));
  add_pattern(as_json(value));
  // bash -x, export -p and printf %q; Python's repr; XML.
  add_pattern(with_escapes(value, "'", "'\\'"));
  add_pattern(with_escapes(value, "\"$`\\", "\\"));
  add_pattern(with_escapes(value, " \t!\"#$&'()*,;<=>?[\\]^`{|}~", "\\"));
  add_pattern(with_escapes(value, "'\\", "\\"));
  add_pattern(as_xml(value, "'", "\""));
  add_pattern(as_xml(value, "&#x27;", "&quot;"));
  add_pattern(as_xml(value, "&#39;", "&#34;"));
  constexpr std::string_view kUpper = "0123456789ABCDEF", kLower = "0123456789abcdef";
  for (const std::string_view digits : {kUpper, kLower}) {
    for (const std::string_view kept : {"", "/", "!*'()", "!*'();:@&=+$,/?#[]"}) add_pattern(as_url(value, kept, digits));
    if (value.size() * 2 >= kShortestWritten) add_pattern(as_hex(value, digits));
  }
  for (std::size_t offset = 0; offset < 3; ++offset) {
    PrivateText digits = base64_at(value, offset);
    if (digits.size() < kShortestWritten) continue;
    add_pattern(with_url_alphabet(digits));
    add_pattern(std::move(digits));
  }
}

std::string Masking::mask(std::string_view text) const {
  std::string masked(text);
  for (const PrivateText& pattern : patterns_) {
    for (std::size_t at = masked.find(pattern.c_str(), 0, pattern.size()); at != std::string::npos;
         at = masked.find(pattern.c_str(), at + kMask.size(), pattern.size())) {
      masked.replace(at, pattern.size(), kMask);
    }
  }
  return masked;
}

std::size_t Masking::safe_end(std::string_view text, std::size_t end) const {
  bool moved = true;
  while (moved && end > 0) {
    moved = false;
    for (const PrivateText& pattern : patterns_) {
      const std::string_view wanted(pattern.data(), pattern.size());
      // A match that begins before `end` and reaches beyond it, as far as there is text to compare.
      for (std::size_t begin = end >= wanted.size() ? end - wanted.size() + 1 : 0; begin < end; ++begin) {
        const std::string_view there = text.substr(begin, wanted.size());
        if (wanted.substr(0, there.size()) != there) continue;
        end = begin;
        moved = true;
        break;
      }
      if (end == 0) return 0;
    }
  }
  return end;
}

}  // namespace gpustrap
