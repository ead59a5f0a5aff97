#include "controller/console.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <cstdlib>
#include <string>

#include "agent/base/file.h"

namespace gpustrap {
namespace {

std::string_view variable(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? std::string_view{} : value;
}

/// The first of these that is set decides, as POSIX says.
bool locale_is_utf8() {
  for (const char* name : {"LC_ALL", "LC_CTYPE", "LANG"}) {
    const std::string_view value = variable(name);
    if (value.empty()) continue;
    std::string upper;
    for (const char c : value) upper += static_cast<char>(c >= 'a' && c <= 'z' ? c - 'a' + 'A' : c);
    return upper.find("UTF-8") != std::string::npos || upper.find("UTF8") != std::string::npos;
  }
  return false;
}

TerminalSize size_of(int descriptor) {
  winsize size{};
  if (::ioctl(descriptor, TIOCGWINSZ, &size) != 0 || size.ws_col == 0 || size.ws_row == 0) return {};
  return {size.ws_col, size.ws_row};
}

}  // namespace

Console console_of(int descriptor, ColourChoice colour) {
  Console console;
  const std::string_view term = variable("TERM");
  const bool terminal = ::isatty(descriptor) == 1;
  console.person = terminal;
  console.live = terminal && !term.empty() && term != "dumb";
  console.colour = console.live && colour == ColourChoice::automatic && variable("NO_COLOR").empty();
  console.unicode = locale_is_utf8();
  console.size = [descriptor] { return size_of(descriptor); };
  // A reader that went away must not end a run; what cannot be written is dropped.
  console.write = [descriptor](std::string_view text) { static_cast<void>(write_all(descriptor, text).has_value()); };
  console.now = [] { return std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::steady_clock::now().time_since_epoch()); };
  return console;
}

bool person_is_here() { return ::isatty(STDIN_FILENO) == 1 && ::isatty(STDOUT_FILENO) == 1; }

}  // namespace gpustrap
