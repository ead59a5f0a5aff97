#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <CLI/CLI.hpp>

#include "agent/base/text.h"
#include "controller/help_text.h"
#include "controller/option_parts.h"

namespace gpustrap {
namespace {

/// Examples first, then what may be written, in groups; fits 80 columns.
class HelpFormatter : public CLI::Formatter {
 public:
  HelpFormatter() { column_width(30); }
  std::string make_help(const CLI::App* app, std::string, CLI::AppFormatMode) const override {
    const bool nested = app->get_parent() != nullptr && app->get_parent()->get_parent() != nullptr;
    const std::string usage =
        (nested ? app->get_parent()->get_name() + " " : "") + app->get_name() + (app->get_footer().empty() ? "" : " " + app->get_footer());
    std::string text = app->get_description() + "\n\nExamples\n";
    text += examples_of(nested ? app->get_parent()->get_name() + " " + app->get_name() : app->get_name());
    const std::vector<const CLI::App*> verbs = app->get_subcommands(every_verb);
    text += "\nUsage: gpustrap " + usage + (verbs.empty() ? "" : " VERB") + " [OPTION]...\n";
    if (!verbs.empty()) text += "\nVerbs\n";
    for (const CLI::App* verb : verbs)
      text += line_of(verb->get_name() + (verb->get_footer().empty() ? "" : " ") + verb->get_footer(), verb->get_description());
    for (const std::string group : {"Run", "Connection", "Output"}) {
      const std::vector<const CLI::Option*> options = app->get_options([&](const CLI::Option* o) { return o->get_group() == group; });
      if (options.empty()) continue;
      text += "\n" + group + "\n";
      for (const CLI::Option* option : options) text += line_of(help_name_of(*option), option->get_description());
    }
    return text;
  }

 private:
  static std::string help_name_of(const CLI::Option& option) {
    std::string names = option.get_name(false, true);
    std::replace(names.begin(), names.end(), ',', ' ');
    return option.get_type_name().empty() ? names : names + " " + option.get_type_name();
  }

  static std::string line_of(const std::string& names, const std::string& description) {
    std::string line = fmt::format("  {:<26}", names);
    if (names.size() > 25) line += "\n" + std::string(28, ' ');
    // Wrapped by hand at 80: descriptions are short sentences.
    std::size_t column = 28;
    for (const std::string& word : words(description)) {
      if (column + word.size() > 79) {
        line.back() = '\n';
        line += std::string(28, ' ');
        column = 28;
      }
      line += word + " ";
      column += word.size() + 1;
    }
    while (line.ends_with(' ')) line.pop_back();
    return line + "\n";
  }
};

}  // namespace

std::shared_ptr<CLI::FormatterBase> make_help_formatter() { return std::make_shared<HelpFormatter>(); }

}  // namespace gpustrap
