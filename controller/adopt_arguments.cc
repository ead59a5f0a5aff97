#include "controller/adopt_arguments.h"

#include <algorithm>
#include <cctype>
#include <cstddef>
#include <utility>

#include "agent/base/text.h"
#include "controller/adopt_commands.h"
#include "controller/shell_reader.h"

namespace gpustrap {
namespace {

bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_name_part(char c) { return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_'; }
bool ends_word(char c) { return std::string_view(" \t\n;&|()<>").find(c) != std::string_view::npos; }

/// Goes through shell text as far as quotes, comments and here-documents matter, and writes what comes of it.
class Filler {
 public:
  Filler(std::string_view text, const std::vector<std::optional<std::string>>& arguments, MissingArgument missing)
      : text_(text), arguments_(arguments), missing_(missing) {}

  bool run() {
    while (at_ < text_.size() && !failed_) step();
    return !failed_;
  }
  [[nodiscard]] std::string& out() { return out_; }
  [[nodiscard]] const std::string& first() const { return first_; }

 private:
  [[nodiscard]] char at(std::size_t i) const { return i < text_.size() ? text_[i] : '\0'; }
  [[nodiscard]] bool here(std::string_view what) const { return text_.substr(at_, what.size()) == what; }
  [[nodiscard]] char place() const { return open_.empty() ? '(' : open_.back(); }
  [[nodiscard]] bool begins_word() const { return at_ == 0 || ends_word(text_[at_ - 1]) || text_[at_ - 1] == '`'; }
  /// `${name:-…}` inside of double quotes is quoted, too.
  [[nodiscard]] bool is_quoted() const {
    for (std::size_t i = open_.size(); i-- > 0;) {
      if (open_[i] == '"') return true;
      if (open_[i] != '{') return false;
    }
    return false;
  }
  void fail() { failed_ = true; }

  void copy(std::size_t count) {
    out_ += text_.substr(at_, count);
    at_ = std::min(at_ + count, text_.size());
  }

  void step() {
    const char c = text_[at_];
    if (c == '\\') return copy(2);
    if (c == '$') return take_dollar();
    if (c == '`') {
      if (place() == '`')
        open_.pop_back();
      else
        open_ += '`';
      return copy(1);
    }
    if (c == '"') {
      if (place() == '"')
        open_.pop_back();
      else
        open_ += '"';
      return copy(1);
    }
    if (c == '}' && place() == '{') return open_.pop_back(), copy(1);
    if (is_quoted()) return copy(1);
    if (c == '\'') return copy(std::min(text_.find('\'', at_ + 1), text_.size()) - at_ + 1);
    if (c == '#' && begins_word() && place() != '{') return copy(std::min(text_.find('\n', at_), text_.size()) - at_);
    if (c == '(') {
      open_ += '(';
      return copy(1);
    }
    if (c == ')') {
      if (!open_.empty() && open_.back() == '(') open_.pop_back();  // else it ends a pattern of `case`
      return copy(1);
    }
    if (begins_word()) {
      if (here("[[") && ends_word(at(at_ + 2))) in_test_ = true;
      if (here("]]")) in_test_ = false;
      // Its `)` would close what `$(` has opened.
      if (here("case ") && !open_.empty()) has_hidden_case_ = true;
    }
    if (here("<<") && at(at_ + 2) != '<' && place() == '(' && open_.find("((") == std::string::npos) return take_delimiter();
    copy(1);
    if (c == '\n') take_documents();
  }

  void take_delimiter() {
    Document document;
    copy(2);
    document.strips_tabs = at(at_) == '-';
    if (document.strips_tabs) copy(1);
    while (at(at_) == ' ' || at(at_) == '\t') copy(1);
    while (at_ < text_.size() && !ends_word(text_[at_])) {
      const char c = text_[at_];
      document.is_plain = document.is_plain || c == '\'' || c == '"' || c == '\\';
      if (c != '\'' && c != '"' && c != '\\') document.delimiter += c;
      copy(1);
    }
    documents_.push_back(std::move(document));
  }

  void take_documents() {
    for (const Document& document : std::exchange(documents_, {})) {
      bool is_over = false;
      while (at_ < text_.size() && !is_over && !failed_) {
        const std::size_t end = std::min(text_.find('\n', at_), text_.size());
        std::string_view line = text_.substr(at_, end - at_);
        while (document.strips_tabs && line.starts_with('\t')) line.remove_prefix(1);
        is_over = line == document.delimiter;
        if (is_over || document.is_plain) {
          copy(end - at_ + 1);
          continue;
        }
        in_document_ = true;
        while (at_ < text_.size() && at_ <= end && !failed_) {
          const char c = text_[at_];
          if (c == '$')
            take_dollar();
          else
            copy(c == '\\' ? 2 : 1);
          if (c == '\n') break;
        }
        in_document_ = false;
      }
    }
  }

  void take_dollar() {
    const char c = at(at_ + 1);
    if (c == '\'' && !is_quoted() && !in_document_) {
      std::size_t end = at_ + 2;
      while (end < text_.size() && text_[end] != '\'') end += text_[end] == '\\' ? 2 : 1;
      return copy(end + 1 - at_);
    }
    if (is_digit(c) && c != '0') return found(2), at_ += 2, give_one(static_cast<std::size_t>(c - '0'));
    if (c == '@' || c == '*') return found(2), at_ += 2, give_all(1, c == '@');
    if (c == '#') return found(2), at_ += 2, give_count();
    if (c != '{') return copy(c == '$' || c == '?' || c == '!' ? 2 : 1);
    take_braces();
  }

  /// `${1}`, `${1:-none}`, `${@:2}`; any other begins with a name.
  void take_braces() {
    std::size_t i = at_ + 2;
    const bool is_indirect = at(i) == '!' || at(i) == '#';
    if (is_indirect && at(i + 1) != '}') {
      const char next = at(i + 1);
      if (at(i) == '#' && (next == '@' || next == '*') && at(i + 2) == '}') return found(5), at_ += 5, give_count();
      if (is_digit(next) || next == '@' || next == '*') return found(4), fail();
      return open_ += '{', copy(3);
    }
    if (at(i) == '#') return found(4), at_ += 4, give_count();
    const bool is_all = at(i) == '@' || at(i) == '*';
    if (!is_all && (!is_digit(at(i)) || at(i) == '0')) return open_ += '{', copy(2);
    std::size_t number = 0;
    const char list = at(i);
    if (is_all) ++i;
    while (!is_all && is_digit(at(i)) && number < 100) number = number * 10 + static_cast<std::size_t>(at(i++) - '0');
    const std::size_t close = text_.find('}', i);
    if (close == std::string_view::npos) return fail();
    const std::string_view rest = text_.substr(i, close - i);
    found(close + 1 - at_);
    at_ = close + 1;
    if (rest.empty()) return is_all ? give_all(1, list == '@') : give_one(number);
    if (is_all) {
      const bool is_from = rest.size() == 2 && rest[0] == ':' && is_digit(rest[1]) && rest[1] != '0';
      return is_from ? give_all(static_cast<std::size_t>(rest[1] - '0'), list == '@') : fail();
    }
    const bool asks_empty = rest[0] == ':';
    const char what = rest.size() > (asks_empty ? 1U : 0U) ? rest[asks_empty ? 1 : 0] : '\0';
    const std::string_view word = rest.substr(asks_empty ? 2 : 1);
    const bool is_given = number <= arguments_.size();
    if (is_given && !arguments_[number - 1]) return fail();
    const bool counts = is_given && !(asks_empty && arguments_[number - 1]->empty());
    if (word.find_first_of("\"'\\`{$") != std::string_view::npos) return counts && what == '-' ? give_one(number) : fail();
    if (what == '-') return counts ? give_one(number) : give(std::string(word));
    if (what == '+') return counts ? give(std::string(word)) : give("");
    if (what == '?' && counts) return give_one(number);
    fail();
  }

  void found(std::size_t length) {
    if (first_.empty()) first_ = std::string(text_.substr(at_, length));
    if (has_hidden_case_) fail();
  }

  void give_count() { give(std::to_string(arguments_.size())); }

  void give_one(std::size_t number) {
    if (number > arguments_.size()) return missing_ == MissingArgument::unknown ? fail() : give("");
    const std::optional<std::string>& value = arguments_[number - 1];
    if (!value) return fail();
    give(*value);
  }

  void give_all(std::size_t from, bool apart) {
    std::vector<std::string> values;
    for (std::size_t i = from; i <= arguments_.size(); ++i) {
      if (!arguments_[i - 1]) return fail();
      values.push_back(*arguments_[i - 1]);
    }
    const bool quoted = is_quoted() || in_document_;
    if (quoted && values.empty() && apart && !in_document_ && out_.ends_with('"') && at(at_) == '"' && place() == '"') {
      out_.pop_back();  // "$@" of nothing is no word, and "" is one
      ++at_;
      open_.pop_back();
      return;
    }
    for (std::size_t i = 0; i < values.size(); ++i) {
      if (i > 0) out_ += quoted && apart && !in_document_ ? "\" \"" : " ";
      give(values[i]);
    }
  }

  /// A value in its place, so that a shell reads it as what it would have filled in.
  void give(const std::string& value) {
    std::string rest = value;
    std::string home;
    if (value == "~" || value.starts_with("~/")) {
      home = "${HOME}";
      rest.erase(0, 1);
    }
    if (is_quoted() || in_document_) {
      out_ += home;
      for (const char c : rest) {
        if (c == '$' || c == '`' || c == '\\' || (c == '"' && !in_document_)) out_ += '\\';
        out_ += c;
      }
      return;
    }
    constexpr std::string_view kPlain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./:=@%+,-";
    const bool is_plain = rest.find_first_not_of(kPlain) == std::string::npos;
    const bool has_blanks = rest.find_first_of(" \t\n") != std::string::npos;
    const bool has_pattern = rest.find_first_of("*?[") != std::string::npos;
    if (in_test_ || is_assigned()) {
      if (in_test_ && has_pattern) return fail();
      out_ += home + (is_plain && !rest.empty() ? rest : home.empty() ? shell_quote(rest) : rest.empty() ? "" : shell_quote(rest));
      return;
    }
    if (is_plain) {
      out_ += home.empty() || rest.empty() ? home + rest : "\"" + home + "\"" + rest;
      return;
    }
    if (has_pattern || (has_blanks && (!home.empty() || rest.find_first_not_of(std::string(kPlain) + " \t\n") != std::string::npos)))
      return fail();
    out_ += has_blanks ? rest : home + shell_quote(rest);
  }

  /// Whether the word that is being written is `NAME=…`, whose value no shell splits.
  [[nodiscard]] bool is_assigned() const {
    std::size_t begin = out_.size();
    while (begin > 0 && !ends_word(out_[begin - 1])) --begin;
    const std::string_view word = std::string_view(out_).substr(begin);
    const std::size_t equals = word.find('=');
    if (equals == std::string_view::npos || equals == 0 || is_digit(word[0])) return false;
    const std::string_view name = word.substr(0, word[equals - 1] == '+' ? equals - 1 : equals);
    return !name.empty() && std::all_of(name.begin(), name.end(), is_name_part);
  }

  struct Document {
    std::string delimiter;
    bool strips_tabs = false, is_plain = false;
  };
  std::string_view text_;
  const std::vector<std::optional<std::string>>& arguments_;
  MissingArgument missing_;
  std::size_t at_ = 0;
  std::string open_;  ///< what is open around the place: " ` ( {
  bool failed_ = false, in_test_ = false, in_document_ = false, has_hidden_case_ = false;
  std::vector<Document> documents_;  ///< whose lines begin behind this one
  std::string out_, first_;
};

/// `shift`, `set -- a b`, `getopts`, `for x; do`: what moves or takes the arguments one by one.
bool takes_one_by_one(std::string_view text) {
  for (const FoundCommand& found : find_commands(text)) {
    const BareCommand bare = bare_command(found.command);
    const std::string program = bare.words.empty() ? "" : bare.words[0].shown();
    if (program == "shift" || program == "getopts" || program == "eval") return true;
    const std::string second = bare.words.size() > 1 ? bare.words[1].shown() : "";
    if (program == "set" && !second.empty() && (second == "--" || (second[0] != '-' && second[0] != '+'))) return true;
  }
  for (std::size_t at = text.find("for "); at != std::string_view::npos; at = text.find("for ", at + 1)) {
    std::size_t end = at + 4;
    while (end < text.size() && is_name_part(text[end])) ++end;
    while (end < text.size() && (text[end] == ' ' || text[end] == '\n')) ++end;
    const bool begins = at == 0 || ends_word(text[at - 1]);
    if (begins && end < text.size() && (text[end] == ';' || text.substr(end, 3) == "do ")) return true;
  }
  return false;
}

}  // namespace

std::optional<std::string> with_arguments(std::string_view text, const std::vector<std::optional<std::string>>& arguments,
                                          MissingArgument missing) {
  Filler filler(text, arguments, missing);
  if (!filler.run() || takes_one_by_one(text)) return std::nullopt;
  if (filler.first().empty()) return std::string(text);
  // The arguments of a function in it are its own.
  for (const ShellStatement& statement : read_shell(text)) {
    const auto block = statement.commands.empty() ? read_block(statement.text) : std::nullopt;
    if (block && block->kind == ShellBlock::Kind::function && !argument_in(block->body).empty()) return std::nullopt;
  }
  return std::move(filler.out());
}

std::string argument_in(std::string_view text) {
  const std::vector<std::optional<std::string>> none;
  Filler filler(text, none, MissingArgument::empty);
  (void)filler.run();
  return filler.first();
}

}  // namespace gpustrap
