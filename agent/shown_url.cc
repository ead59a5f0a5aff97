#include "agent/shown_url.h"

#include <cstddef>

namespace gpustrap {
namespace {

int hex_value(char digit) {
  if (digit >= '0' && digit <= '9') return digit - '0';
  if (digit >= 'a' && digit <= 'f') return digit - 'a' + 10;
  if (digit >= 'A' && digit <= 'F') return digit - 'A' + 10;
  return -1;
}

}  // namespace

std::string shown_url(std::string_view url) {
  const std::size_t end = url.find_first_of("?#");
  const bool had_query = end != std::string_view::npos && url[end] == '?';
  url = url.substr(0, end);
  std::string shown;
  const std::size_t scheme = url.find("://");
  if (scheme != std::string_view::npos) {
    shown = url.substr(0, scheme + 3);
    url.remove_prefix(scheme + 3);
    const std::size_t at = url.substr(0, url.find('/')).rfind('@');
    if (at != std::string_view::npos) url.remove_prefix(at + 1);
  }
  shown += url;
  if (had_query) shown += "?…";
  return shown;
}

std::string file_name_of_url(std::string_view url) {
  url = url.substr(0, url.find_first_of("?#"));
  if (const std::size_t scheme = url.find("://"); scheme != std::string_view::npos) url.remove_prefix(scheme + 3);
  const std::size_t slash = url.rfind('/');
  if (slash == std::string_view::npos) return {};
  url.remove_prefix(slash + 1);
  std::string name;
  for (std::size_t i = 0; i < url.size(); ++i) {
    char byte = url[i];
    if (byte == '%' && i + 2 < url.size() && hex_value(url[i + 1]) >= 0 && hex_value(url[i + 2]) >= 0) {
      byte = static_cast<char>(hex_value(url[i + 1]) * 16 + hex_value(url[i + 2]));
      i += 2;
    }
    if (byte == '/' || static_cast<unsigned char>(byte) < 0x20 || byte == 0x7f) return {};
    name += byte;
  }
  return name == "." || name == ".." ? std::string() : name;
}

}  // namespace gpustrap
