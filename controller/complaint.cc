#include "controller/complaint.h"

#include <vector>

#include <fmt/format.h>

#include "agent/base/text.h"
#include "agent/protocol/json.h"
#include "controller/display_width.h"

namespace gpustrap {
namespace {

constexpr std::string_view kPlaceholder = "HOST";

void add_line(std::string& text, const std::string& line, std::size_t columns, std::string_view indent) {
  const std::vector<std::string> lines = columns == 0 ? std::vector<std::string>{line} : wrap_to_width(line, columns, indent);
  for (const std::string& one : lines) text += one + "\n";
}

}  // namespace

/// HOST as a word of its own; "ubuntu@HOST" is an example and stays one.
std::string with_host(const std::string& advice, std::string_view host) {
  if (host.empty()) return advice;
  std::string filled;
  std::size_t from = 0;
  while (true) {
    const std::size_t at = advice.find(kPlaceholder, from);
    if (at == std::string::npos) return filled + advice.substr(from);
    const std::size_t end = at + kPlaceholder.size();
    const bool begins = at == 0 || std::string_view(" `").find(advice[at - 1]) != std::string_view::npos;
    const bool ends = end == advice.size() || std::string_view(" `,;.").find(advice[end]) != std::string_view::npos;
    filled += advice.substr(from, at - from);
    filled += begins && ends ? host : kPlaceholder;
    from = end;
  }
}

std::string complaint(const Error& error, std::string_view host, std::size_t columns) {
  const std::string what = strip_control(error.sentence());
  const std::string advice = with_host(strip_control(error.hint()), host);
  std::string text;
  if (what.find('\n') != std::string::npos) {
    // Many problems of one recipe: each begins with file:line:column, as editors want it, and the last line counts them.
    text = what + "\n";
    if (!advice.empty()) add_line(text, "gpustrap: " + advice, columns, "  ");
    return text;
  }
  add_line(text, "gpustrap: " + what, columns, "  ");
  if (advice.empty()) return text;
  for (const std::string& line : split(advice, '\n')) add_line(text, "  " + line, columns, "  ");
  return text;
}

Json error_document(const Error& error) {
  return {{"code", error_code_name(error.code())},
          {"message", to_utf8(strip_control(error.sentence()))},
          {"hint", to_utf8(strip_control(error.hint()))}};
}

}  // namespace gpustrap
