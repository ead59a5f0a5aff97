#include "controller/adopt_yaml.h"

#include <algorithm>
#include <cstdint>

#include <fmt/format.h>

#include "agent/base/text.h"

namespace gpustrap {
namespace {

/// Whether YAML and the recipe's reader take it as the text it is, without quotes.
bool is_plain_scalar(const std::string& text) {
  constexpr std::string_view kInside = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./~+=@%^-,:";
  if (text.empty() || text.find_first_not_of(kInside) != std::string::npos || text.ends_with(':') || text == "~") return false;
  if (text.find(',') != std::string::npos || text.find(": ") != std::string::npos) return false;
  const char first = text[0];
  const bool begins = (first >= 'a' && first <= 'z') || (first >= 'A' && first <= 'Z') || first == '/' || first == '~' || first == '_';
  std::string small = text;
  std::transform(small.begin(), small.end(), small.begin(),
                 [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; });
  return begins && small != "true" && small != "false" && small != "null" && small != "yes" && small != "no" && small != "on" &&
         small != "off";
}

/// A text that can stand behind `|` and comes out as it went in.
bool is_block_scalar(const std::string& text) {
  const auto is_odd = [](unsigned char c) { return (c < 0x20 && c != '\n') || c == 0x7F; };
  return text.find('\n') != std::string::npos && text.ends_with('\n') && !text.ends_with("\n\n") && text[0] != ' ' && text[0] != '\n' &&
         std::none_of(text.begin(), text.end(), is_odd) && text.find("\xc2\x85") == std::string::npos &&
         text.find("\xe2\x80\xa8") == std::string::npos && text.find("\xe2\x80\xa9") == std::string::npos &&
         text.find("\xef\xbb\xbf") == std::string::npos;
}

std::string scalar(const Json& value) {
  if (!value.is_string()) return value.dump();
  const auto text = value.get<std::string>();
  // Line ends of Unicode's would be folded like any other.
  const bool has_line_ends = text.find("\xc2\x85") != std::string::npos || text.find("\xe2\x80\xa8") != std::string::npos ||
                             text.find("\xe2\x80\xa9") != std::string::npos;
  return is_plain_scalar(text) ? text : value.dump(-1, ' ', has_line_ends);
}

std::string flow(const Json& value) {
  if (value.is_array()) {
    std::vector<std::string> items;
    for (const Json& item : value) items.push_back(flow(item));
    return "[" + join(items, ", ") + "]";
  }
  if (value.is_object()) {
    std::vector<std::string> items;
    for (const auto& [name, item] : value.items()) items.push_back(name + ": " + flow(item));
    return items.empty() ? "{}" : "{ " + join(items, ", ") + " }";
  }
  return scalar(value);
}

void add_field(std::string& text, const std::string& name, const Json& value, std::size_t indent) {
  const std::string margin(indent, ' ');
  if (value.is_string() && is_block_scalar(value.get_ref<const std::string&>())) {
    text += margin + name + ": |\n";
    const std::vector<std::string> lines = split(value.get_ref<const std::string&>(), '\n');
    for (std::size_t i = 0; i + 1 < lines.size(); ++i) text += lines[i].empty() ? "\n" : margin + "  " + lines[i] + "\n";
    return;
  }
  text += margin + name + ": " + flow(value) + "\n";
}

void add_comment(std::string& text, std::string_view comment, std::size_t indent) {
  std::string clean = strip_control(comment);
  // What a script says in a comment is no instruction to lint.
  for (const std::string_view mark : {"lint:", "review:"}) {
    if (trim(clean).starts_with(mark)) clean = "“" + clean + "”";
  }
  for (const std::string& line : split(clean, '\n')) text += std::string(indent, ' ') + (trim(line).empty() ? "#" : "# " + line) + "\n";
}

}  // namespace

std::string recipe_name_from(const std::string& script) {
  std::string name = script.substr(script.rfind('/') == std::string::npos ? 0 : script.rfind('/') + 1);
  name = name.substr(0, name.rfind('.') == 0 ? std::string::npos : name.rfind('.'));
  for (char& c : name) {
    const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-';
    if (!plain) c = '-';
  }
  name.erase(0, std::min(name.find_first_not_of("-_"), name.size()));
  return name.empty() || script == "the commands" ? "adopted" : name.substr(0, 64);
}

std::string base64_of(std::string_view bytes) {
  constexpr std::string_view kDigits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  constexpr std::size_t kLine = 57;  // 76 characters
  std::string text;
  for (std::size_t i = 0; i < bytes.size(); i += 3) {
    std::uint32_t group = 0;
    for (std::size_t k = 0; k < 3; ++k) group = (group << 8U) | (i + k < bytes.size() ? static_cast<unsigned char>(bytes[i + k]) : 0U);
    for (std::size_t k = 0; k < 4; ++k) text += i + k <= bytes.size() ? kDigits[(group >> (18U - 6U * k)) & 63U] : '=';
    if (i % kLine == kLine - 3 && i + 3 < bytes.size()) text += '\n';
  }
  return text;
}

std::string review_text(const std::string& review) { return first_line(strip_control(review), 300); }

std::string write_adopted(const AdoptedRecipe& recipe, std::vector<AdoptedLines>& lines) {
  std::string text;
  const auto next_line = [&] { return static_cast<int>(std::count(text.begin(), text.end(), '\n')) + 1; };
  add_comment(text,
              fmt::format("Made from {} by `gpustrap adopt`. Look at every `review`, then delete that comment.",
                          first_line(strip_control(recipe.script), 100)),
              0);
  add_comment(text, "`gpustrap recipe lint FILE` lists them; `gpustrap plan FILE HOST` says what would change, and changes nothing.", 0);
  text += fmt::format("name: {}\n", Json(recipe.name).dump());
  text +=
      fmt::format("description: {}\n", Json(fmt::format("What {} does, as steps", first_line(strip_control(recipe.script), 60))).dump());
  if (recipe.asks_terms) text += "vars:\n  accept_tos: false   # true: you have read and accept Anaconda's Terms of Service\n";
  text += "steps:\n";
  for (const AdoptedStep& step : recipe.steps) {
    text += &step == &recipe.steps.front() ? "" : "\n";
    lines.push_back({next_line(), {}});
    for (const std::string& comment : step.comments) add_comment(text, comment, 2);
    for (const std::string& review : step.reviews) {
      lines.back().reviews.push_back(next_line());
      text += "  # review: " + review_text(review) + "\n";
    }
    for (const std::string& rule : step.allows) text += fmt::format("  # lint: allow {} as the script has it\n", rule);
    text += fmt::format("  - id: {}\n", scalar(Json(step.id)));
    if (!step.as.empty()) text += fmt::format("    as: {}\n", scalar(Json(step.as)));
    std::string fields;
    bool one_line = true;
    for (const auto& [name, value] : step.fields.items()) {
      add_field(fields, name, value, 6);
      one_line = one_line && !(value.is_string() && is_block_scalar(value.get_ref<const std::string&>()));
    }
    const std::string flat = flow(step.fields);
    text += one_line && flat.size() < 100 ? fmt::format("    {}: {}\n", step.kind, flat) : fmt::format("    {}:\n{}", step.kind, fields);
  }
  if (!recipe.comments.empty()) text += "\n";
  for (const std::string& comment : recipe.comments) add_comment(text, comment, 2);
  return text;
}

}  // namespace gpustrap
