#include "controller/pasted_text.h"

#include <fmt/format.h>

namespace gpustrap {
namespace {

struct Lookalike {
  std::string_view bytes, is, expected;
  bool seen;  ///< it has a shape that can be shown
};
constexpr Lookalike kLookalikes[] = {
    {"\xE2\x80\x9C", "a typographic quote", "\"", true},
    {"\xE2\x80\x9D", "a typographic quote", "\"", true},
    {"\xE2\x80\x9E", "a typographic quote", "\"", true},
    {"\xE2\x80\x98", "a typographic quote", "'", true},
    {"\xE2\x80\x99", "a typographic quote", "'", true},
    {"\xC2\xA0", "a no-break space", "a space", false},
    {"\xE2\x80\xAF", "a narrow no-break space", "a space", false},
    {"\xE3\x80\x80", "a full-width space", "a space", false},
    {"\xE2\x80\x8B", "a space of no width", "nothing", false},
    {"\xE2\x81\xA0", "a joiner of no width", "nothing", false},
    {"\xEF\xBB\xBF", "a byte order mark", "nothing", false},
};
constexpr Lookalike kDashes[] = {
    {"\xE2\x80\x93", "a typographic dash", "-", true},
    {"\xE2\x80\x94", "a typographic dash", "--", true},
    {"\xE2\x88\x92", "a minus sign", "-", true},
};

template <std::size_t count> const Lookalike* lookalike_at(const Lookalike (&table)[count], std::string_view text, std::size_t at) {
  for (const Lookalike& one : table) {
    if (text.substr(at, one.bytes.size()) == one.bytes) return &one;
  }
  return nullptr;
}

PastedCharacter found_at(const Lookalike& one, std::size_t at) { return {at, one.bytes, one.is, one.expected}; }

bool is_blank(char c) { return c == ' ' || c == '\t' || c == '\n'; }

}  // namespace

std::optional<PastedCharacter> find_pasted(std::string_view text) {
  for (std::size_t at = 0; at < text.size(); ++at) {
    if (const Lookalike* one = lookalike_at(kLookalikes, text, at)) return found_at(*one, at);
  }
  return std::nullopt;
}

std::optional<PastedCharacter> find_pasted_in_shell(std::string_view text) {
  char quote = 0;
  for (std::size_t at = 0; at < text.size(); ++at) {
    const char c = text[at];
    const bool begins_word = at == 0 || is_blank(text[at - 1]);
    if (quote != 0) {
      if (c == '\\' && quote == '"') ++at;
      if (c == quote) quote = 0;
      continue;
    }
    if (c == '\\') {
      ++at;
    } else if (c == '\'' || c == '"') {
      quote = c;
    } else if (c == '#' && begins_word) {
      at = text.find('\n', at);
      if (at == std::string_view::npos) return std::nullopt;
    } else if (text.substr(at, 3) == "<<<") {
      at += 2;
    } else if (text.substr(at, 2) == "<<") {
      return std::nullopt;  // what a here document holds is for another program
    } else if (const Lookalike* one = lookalike_at(kLookalikes, text, at)) {
      return found_at(*one, at);
    } else if (const Lookalike* dash = begins_word ? lookalike_at(kDashes, text, at) : nullptr) {
      // Alone it is punctuation.
      if (at + dash->bytes.size() < text.size() && !is_blank(text[at + dash->bytes.size()])) return found_at(*dash, at);
    }
  }
  return std::nullopt;
}

std::string describe(const PastedCharacter& found) {
  const auto seen = [&](const Lookalike& one) { return one.bytes == found.bytes && one.seen; };
  bool shown = false;
  for (const Lookalike& one : kLookalikes) shown = shown || seen(one);
  for (const Lookalike& one : kDashes) shown = shown || seen(one);
  const std::string what = shown ? fmt::format("`{}` is {}", found.bytes, found.is) : fmt::format("it holds {}", found.is);
  const bool in_words = found.expected.size() > 2;
  return fmt::format("{}: expected {}", what, in_words ? std::string(found.expected) : fmt::format("`{}`", found.expected));
}

}  // namespace gpustrap
