#include "agent/protocol/placeholders.h"

#include <algorithm>
#include <optional>
#include <utility>

#include <fmt/format.h>

#include "agent/base/text.h"
#include "agent/protocol/field_types.h"
#include "agent/protocol/json.h"

namespace gpustrap {
namespace {

enum class Context { plain, shell };

bool is_name(std::string_view name) {
  if (name.empty() || name.front() == '.' || name.back() == '.' || name.find("..") != std::string_view::npos) return false;
  return name.find_first_not_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-") == std::string_view::npos;
}

/// Whether the shell is inside quotes at the end of `text`.
bool ends_inside_quotes(std::string_view text) { return shell_quote_at_end(text) != 0; }

/// What of a value can stand inside a text: itself, or the items of a list. Nothing of a mapping.
std::optional<std::vector<std::string>> items_of(const Json& value) {
  if (value.is_object() || value.is_null()) return std::nullopt;
  if (!value.is_array()) return std::vector<std::string>{value.is_string() ? value.get<std::string>() : value.dump()};
  std::vector<std::string> items;
  for (const Json& item : value) {
    if (item.is_structured() || item.is_null()) return std::nullopt;
    items.push_back(item.is_string() ? item.get<std::string>() : item.dump());
  }
  return items;
}

class Filler {
 public:
  Filler(const PlaceholderLookup& lookup, std::vector<FieldProblem>& problems) : lookup_(lookup), problems_(problems) {}

  void fill(Json& value, const std::string& pointer, Context context) {
    if (value.is_string()) return fill_text(value, pointer, context);
    if (value.is_array()) {
      for (std::size_t i = 0; i < value.size(); ++i) fill(value[i], join_pointer(pointer, std::to_string(i)), Context::plain);
    } else if (value.is_object()) {
      for (auto& [name, member] : value.items()) fill(member, join_pointer(pointer, name), Context::plain);
    }
  }

 private:
  void say(const std::string& pointer, std::string message) { problems_.push_back({FieldProblem::At::value, pointer, std::move(message)}); }

  void fill_text(Json& value, const std::string& pointer, Context context) {
    const auto text = value.get<std::string>();
    const auto found = find_placeholders(text);
    if (!found) return say(pointer, found.error().why());
    if (found->empty()) return;
    if (found->size() == 1 && found->front().begin == 0 && found->front().end == text.size() && context == Context::plain) {
      auto known = lookup_(found->front().name);
      if (!known) return say(pointer, known.error().why());
      if (*known) value = **std::move(known);
      return;
    }
    std::string filled;
    std::size_t done = 0;
    for (const Placeholder& placeholder : *found) {
      filled.append(text, done, placeholder.begin - done);
      done = placeholder.end;
      filled += text_for(text, placeholder, pointer, context);
    }
    value = filled + text.substr(done);
  }

  /// What stands in the text instead of the placeholder; the placeholder itself where it has no value yet or a problem was reported.
  std::string text_for(const std::string& text, const Placeholder& placeholder, const std::string& pointer, Context context) {
    const std::string original = text.substr(placeholder.begin, placeholder.end - placeholder.begin);
    const auto known = lookup_(placeholder.name);
    if (!known) {
      say(pointer, known.error().why());
      return original;
    }
    const bool quoted = context == Context::shell && ends_inside_quotes(std::string_view(text).substr(0, placeholder.begin));
    if (!*known) return original;
    const std::optional<std::vector<std::string>> items = items_of(**known);
    if (!items) {
      say(pointer, fmt::format("`{}` is {}: expected a text, a number, a boolean or a list of them inside a text", placeholder.name,
                               quote_value(**known)));
      return original;
    }
    if (context == Context::plain) return join(*items, ",");
    std::vector<std::string> words;
    for (const std::string& item : *items) words.push_back(shell_quote(item));
    const std::string plain = join(*items, " ");
    const std::string safe = join(words, " ");
    if (quoted && safe != plain) {
      say(pointer,
          fmt::format("`{}` stands inside quotes, and its value {} needs quotes of its own: expected the placeholder without quotes "
                      "around it, since its value is always passed quoted",
                      placeholder.name, quote_value(**known)));
      return original;
    }
    return safe;
  }

  const PlaceholderLookup& lookup_;
  std::vector<FieldProblem>& problems_;
};

}  // namespace

char shell_quote_at_end(std::string_view text) {
  char quote = 0;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (quote == '\'') {
      if (c == '\'') quote = 0;
    } else if (c == '\\') {
      ++i;
    } else if (quote == '"') {
      if (c == '"') quote = 0;
    } else if (c == '\'' || c == '"') {
      quote = c;
    } else if (c == '#' && (i == 0 || std::string_view(" \t\n;&|(").find(text[i - 1]) != std::string_view::npos)) {
      i = std::min(text.find('\n', i), text.size());
    }
  }
  return quote;
}

Result<std::vector<Placeholder>> find_placeholders(std::string_view text) {
  std::vector<Placeholder> found;
  for (std::size_t begin = text.find("${{"); begin != std::string_view::npos; begin = text.find("${{", found.back().end)) {
    const std::size_t close = text.find("}}", begin);
    if (close == std::string_view::npos) {
      return fail(ErrorCode::recipe, fmt::format("{} is not closed: expected }}}}", quote_value(std::string(text.substr(begin)))));
    }
    const std::string_view name = trim(text.substr(begin + 3, close - begin - 3));
    if (!is_name(name)) {
      return fail(ErrorCode::recipe,
                  fmt::format("{} is not a placeholder: expected a name such as ${{{{ vars.port }}}} or ${{{{ facts.arch }}}}",
                              quote_value(std::string(text.substr(begin, close + 2 - begin)))));
    }
    found.push_back({begin, close + 2, std::string(name)});
  }
  return found;
}

void fill_placeholders(Json& value, const std::string& pointer, const PlaceholderLookup& lookup, std::vector<FieldProblem>& problems) {
  Filler(lookup, problems).fill(value, pointer, Context::plain);
}

void fill_step_placeholders(StepKind kind, Json& value, const std::string& pointer, const PlaceholderLookup& lookup,
                            std::vector<FieldProblem>& problems) {
  Filler filler(lookup, problems);
  if (kind != StepKind::command) return filler.fill(value, pointer, Context::plain);
  if (value.is_string()) return filler.fill(value, pointer, Context::shell);
  if (!value.is_object()) return filler.fill(value, pointer, Context::plain);
  for (auto& [name, member] : value.items()) {
    filler.fill(member, join_pointer(pointer, name), name == "run" || name == "unless" ? Context::shell : Context::plain);
  }
}

}  // namespace gpustrap
