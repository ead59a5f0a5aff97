#include "controller/man_page.h"

#include <algorithm>
#include <string_view>
#include <vector>

#include <fmt/format.h>

#include "agent/base/text.h"
#include "controller/command_line.h"
#include "controller/help_text.h"

namespace gpustrap {
namespace {

/// Of the page's own words; a page needs one, and that of the build would make every archive another.
constexpr std::string_view kDate = "2026-11-22";

/// Text as roff takes it: a hyphen that can be copied, a backslash that is one, and no line that would be a request.
std::string roff(std::string_view text) {
  std::string safe;
  bool line_begins = true;
  for (const char c : text) {
    if (line_begins && (c == '.' || c == '\'')) safe += "\\&";
    if (c == '\\')
      safe += "\\e";
    else if (c == '-')
      safe += "\\-";
    else if (c == '`')
      safe += "\\(ga";
    else if (c == '~')
      safe += "\\(ti";
    else if (c == '^')
      safe += "\\(ha";
    else
      safe += c;
    line_begins = c == '\n';
  }
  return safe;
}

std::string paragraph(const std::string& text) {
  std::string lines;
  for (const std::string& line : split(text, '\n')) {
    if (!trim(line).empty()) lines += roff(trim(line)) + "\n";
  }
  return lines;
}

std::string as_it_stands(const std::string& text) {
  std::string lines = ".PP\n.nf\n";
  for (const std::string& line : split(text, '\n')) {
    if (!trim(line).empty()) lines += roff(line.starts_with("  ") ? line.substr(2) : line) + "\n";
  }
  return lines + ".fi\n";
}

/// The part of the overview behind its examples, up to the exit codes: groups of verbs.
std::string exit_codes() {
  const std::string overview(overview_help());
  const std::size_t at = overview.find("Exit codes:");
  std::string codes = overview.substr(at + std::string_view("Exit codes:").size());
  std::replace(codes.begin(), codes.end(), '\n', ' ');
  while (!codes.empty() && (codes.back() == ' ' || codes.back() == '.')) codes.pop_back();
  std::string text;
  for (const std::string& part : split(codes, ',')) {
    const std::string_view code = trim(part);
    const std::size_t space = code.find(' ');
    text += fmt::format(".TP\n.B {}\n{}\n", code.substr(0, space), roff(code.substr(space + 1)));
  }
  return text;
}

}  // namespace

std::string man_page() {
  const std::string overview(overview_help());
  const std::string first = overview.substr(0, overview.find("\n\n"));
  const std::size_t examples = overview.find("Examples\n") + std::string_view("Examples\n").size();
  std::string page = ".\\\" Made by `gpustrap man` of what the program takes; not to be edited.\n";
  page += fmt::format(".TH GPUSTRAP 1 {} \"gpustrap {}\" \"User Commands\"\n", kDate, GPUSTRAP_VERSION);
  page += ".SH NAME\ngpustrap \\- make a bare GPU host that answers SSH ready for work\n";
  page += ".SH SYNOPSIS\n.B gpustrap\n.I verb\n.RI [ option ]...\n";
  page += ".SH DESCRIPTION\n" + paragraph(first);
  page += ".SH EXAMPLES\n" + as_it_stands(overview.substr(examples, overview.find("\n\n", examples) - examples)).substr(4);
  page += ".SH VERBS\n";
  for (const VerbDescription& verb : describe_verbs()) {
    page += fmt::format(".SS \"gpustrap {}{}{}\"\n", verb.name, verb.places.empty() ? "" : " ", roff(verb.places));
    page += paragraph(verb.what);
    page += as_it_stands(verb.examples);
    for (const OptionDescription& option : verb.options) {
      if (option.name() == "--help") continue;
      std::string names;
      for (const std::string& name : option.names) names += (names.empty() ? "\\fB" : ", \\fB") + roff(name) + "\\fR";
      if (option.takes_value()) names += " \\fI" + roff(option.value) + "\\fR";
      page += fmt::format(".TP\n{}\n{}\n", names, roff(option.what));
    }
  }
  page += ".SH EXIT STATUS\n" + exit_codes();
  page += ".SH FILES\n.TP\n.I \\(ti/.config/gpustrap/config.yaml\nwhat holds for all runs: mirrors, proxies and defaults of options\n";
  page += ".TP\n.I \\(ti/.config/gpustrap/recipes/\nrecipes that can be named by their file's name alone\n";
  page += ".TP\n.I \\(ti/.local/state/gpustrap/\nwhat is remembered of hosts, and the logs of runs\n";
  page += ".SH SEE ALSO\n.BR ssh (1),\n.BR ssh_config (5)\n";
  return page;
}

}  // namespace gpustrap
