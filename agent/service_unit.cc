#include "agent/service_unit.h"

#include <cctype>
#include <charconv>
#include <utility>

#include "agent/base/text.h"

namespace gpustrap {
namespace {

/// Directives that say nothing about how the program runs: there is no boot, and there are no other units, to order it among.
bool says_nothing(std::string_view section, std::string_view name) {
  if (section == "[Install]") return true;
  if (section == "[Unit]")
    return name == "Description" || name == "Documentation" || name == "After" || name == "Before" || name == "Wants";
  return false;
}

/// The words of a value as systemd splits them. False where it is none, or where systemd would put something else in: %h, $HOME.
bool read_words(std::string_view text, bool is_command, std::vector<std::string>& words) {
  constexpr std::string_view kEscapes = "\"'\\stn", kMeanings = "\"'\\ \t\n";
  char quote = 0;
  bool inside = false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    char c = text[i];
    const char next = i + 1 < text.size() ? text[i + 1] : '\0';
    if (quote == 0 && (c == ' ' || c == '\t')) {
      inside = false;
      continue;
    }
    if (!inside) words.emplace_back();
    inside = true;
    if (quote == 0 ? c == '"' || c == '\'' : c == quote) {
      quote = quote == 0 ? c : '\0';
      continue;
    }
    if (c == '\\') {
      const std::size_t escape = kEscapes.find(next);
      if (escape == std::string_view::npos) return false;
      c = kMeanings[escape];
      ++i;
    } else if (c == '%' || (c == '$' && is_command)) {
      if (next == c)
        ++i;
      else if (c == '%' || next == '{' || next == '_' || std::isalpha(static_cast<unsigned char>(next)) != 0)
        return false;
    }
    words.back() += c;
  }
  return quote == 0;
}

/// "5", "500ms", "2min".
bool read_span(std::string_view text, std::chrono::milliseconds& into) {
  unsigned number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  const std::string_view unit = trim(text.substr(static_cast<std::size_t>(end - text.data())));
  if (error != std::errc() || number > 86'400) return false;
  if (unit == "ms")
    into = std::chrono::milliseconds(number);
  else if (unit.empty() || unit == "s" || unit == "sec")
    into = std::chrono::seconds(number);
  else if (unit == "min")
    into = std::chrono::minutes(number);
  else
    return false;
  return true;
}

/// False where the directive, or its value, is not known.
bool read_directive(std::string_view name, std::string_view value, ServiceUnit& unit) {
  std::vector<std::string> words;
  if (name == "ExecStart") {
    // The characters before a program's name make systemd start it in another way.
    if (!unit.command.empty() || value.find_first_of("@-:+!|") == 0 || !read_words(value, true, words) || words.empty()) return false;
    unit.command = words;
    return true;
  }
  if (name == "Environment") {
    if (!read_words(value, false, words)) return false;
    for (const std::string& word : words) {
      if (word.find('=') == std::string::npos) return false;
    }
    unit.environment.insert(unit.environment.end(), words.begin(), words.end());
    return true;
  }
  if (name == "Type") return value == "simple" || value == "exec";
  if (name == "Restart") {
    unit.restart = value == "always"       ? ServiceUnit::Restart::always
                   : value == "on-failure" ? ServiceUnit::Restart::on_failure
                                           : ServiceUnit::Restart::no;
    return unit.restart != ServiceUnit::Restart::no || value == "no";
  }
  if (name == "RestartSec") return read_span(value, unit.pause);
  if (name == "TimeoutStopSec") return read_span(value, unit.patience);
  if (name == "User") {
    unit.user = value;
    return value.find('%') == std::string_view::npos;
  }
  if (name == "WorkingDirectory") {
    unit.directory = value;
    return value.find('%') == std::string_view::npos && (value == "~" || value.starts_with('/'));
  }
  return false;
}

}  // namespace

Result<ServiceUnit> read_service_unit(std::string_view text) {
  constexpr const char* kHint =
      "leave it out, or use a host with systemd. Known are ExecStart, User, WorkingDirectory, Environment, Restart (no, on-failure, "
      "always), RestartSec, TimeoutStopSec, Type=simple";
  ServiceUnit unit;
  std::string section, line;
  for (const std::string& part : split(text, '\n')) {
    const std::string_view trimmed = trim(part);
    if (line.empty() && (trimmed.empty() || trimmed[0] == '#' || trimmed[0] == ';')) continue;
    line += trimmed;
    if (line.ends_with('\\')) {
      line.back() = ' ';
      continue;
    }
    const std::string whole = std::exchange(line, {});
    if (whole[0] == '[') {
      section = whole;
      continue;
    }
    const std::size_t equals = whole.find('=');
    const std::string_view name = trim(std::string_view(whole).substr(0, equals));
    if (says_nothing(section, name)) continue;
    const bool known = section == "[Service]" && equals != std::string::npos &&
                       read_directive(name, trim(std::string_view(whole).substr(equals + 1)), unit);
    if (!known) {
      return fail(ErrorCode::unsupported,
                  "systemd is not PID 1 here, and gpustrap itself does not know what the unit asks for with " + section + " " +
                      first_line(whole, 80),
                  kHint);
    }
  }
  if (unit.command.empty()) return fail(ErrorCode::unsupported, "the unit has no ExecStart, so there is nothing to start", kHint);
  return unit;
}

}  // namespace gpustrap
