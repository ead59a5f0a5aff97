#include "controller/shell_reader.h"

#include <algorithm>
#include <array>
#include <utility>

#include <fmt/format.h>

namespace gpustrap {
namespace {

bool is_name_start(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; }
bool is_name_part(char c) { return is_name_start(c) || (c >= '0' && c <= '9'); }
bool is_blank(char c) { return c == ' ' || c == '\t' || c == '\r'; }
bool ends_word(char c) { return is_blank(c) || c == '\n' || std::string_view(";&|()<>").find(c) != std::string_view::npos; }

/// Nesting of `$(`, quotes and braces that is followed; deeper is not understood.
constexpr int kMaxNesting = 40;

struct Token {
  enum class Kind { word, op, newline, comment, end } kind = Kind::end;
  std::string op;  ///< of an operator; of a comment: its text
  ShellWord word;
  std::size_t begin = 0, end = 0;
  int descriptor = -1;                  ///< of a redirection: `2` of `2>`
  std::optional<std::string> document;  ///< of the delimiter of a here-document
};

/// Words, operators and comments. Stops where quotes or braces are not closed: `broken` then is where that word began.
class Lexer {
 public:
  explicit Lexer(std::string_view text) : text_(text) {}

  std::vector<Token> read() {
    while (next()) {}
    if (!pending_.empty() && broken_ == std::string_view::npos) {
      broken_ = tokens_[pending_.front()].begin;
      broken_by_ = "the here-document " + tokens_[pending_.front()].word.shown();
    }
    tokens_.push_back({Token::Kind::end, "", {}, text_.size(), text_.size(), -1, {}});
    return std::move(tokens_);
  }
  [[nodiscard]] std::size_t broken() const { return broken_; }
  [[nodiscard]] const std::string& broken_by() const { return broken_by_; }

 private:
  [[nodiscard]] char at(std::size_t i) const { return i < text_.size() ? text_[i] : '\0'; }
  [[nodiscard]] bool here(std::string_view what) const { return text_.substr(at_, what.size()) == what; }

  bool next() {
    while (at_ < text_.size() && (is_blank(text_[at_]) || here("\\\n") || here("\\\r\n")))
      at_ += text_[at_] == '\\' ? (at(at_ + 1) == '\r' ? 3 : 2) : 1;
    if (at_ >= text_.size()) return false;
    const std::size_t begin = at_;
    const char c = text_[at_];
    if (c == '\n') {
      ++at_;
      take_documents();
      tokens_.push_back({Token::Kind::newline, "", {}, begin, at_, -1, {}});
      return true;
    }
    if (c == '#') {
      at_ = std::min(text_.find('\n', at_), text_.size());
      tokens_.push_back({Token::Kind::comment, std::string(text_.substr(begin + 1, at_ - begin - 1)), {}, begin, at_, -1, {}});
      return true;
    }
    if (here("((") && take_arithmetic()) return true;
    const bool substitutes = (c == '<' || c == '>') && at(at_ + 1) == '(';
    if (!substitutes && std::string_view(";&|()<>").find(c) != std::string_view::npos) return read_operator();
    return read_word();
  }

  /// `(( 1 << 3 ))` is a command of its own, and no here-document.
  bool take_arithmetic() {
    std::size_t end = at_ + 2;
    if (!skip_to(end, ')', 0) || at(end) != ')') return false;
    ShellWord word;
    word.begin = at_;
    word.end = end + 1;
    word.parts.push_back({ShellPart::Kind::opaque, std::string(text_.substr(at_, word.end - at_))});
    at_ = word.end;
    tokens_.push_back({Token::Kind::word, "", std::move(word), 0, at_, -1, {}});
    tokens_.back().begin = tokens_.back().word.begin;
    return true;
  }

  bool read_operator() {
    static constexpr std::array kOperators = {"<<<", "<<-", "&>>", "&&", "||", ";;", "|&", "<<", ">>", "<&", ">&",
                                              "<>",  "&>",  ">|",  ";",  "&",  "|",  "(",  ")",  "<",  ">"};
    for (const std::string_view op : kOperators) {
      if (!here(op)) continue;
      Token token{Token::Kind::op, std::string(op), {}, at_, at_ + op.size(), -1, {}};
      // `2>` is one thing where nothing stands between.
      if ((op[0] == '<' || op[0] == '>') && !tokens_.empty() && tokens_.back().kind == Token::Kind::word && tokens_.back().end == at_) {
        const std::string_view number = text_.substr(tokens_.back().begin, at_ - tokens_.back().begin);
        if (number.size() == 1 && number[0] >= '0' && number[0] <= '9') {
          token.descriptor = number[0] - '0';
          token.begin = tokens_.back().begin;
          tokens_.pop_back();
        }
      }
      at_ += op.size();
      awaits_delimiter_ = op == "<<" || op == "<<-";
      strip_tabs_ = op == "<<-";
      tokens_.push_back(std::move(token));
      return true;
    }
    return false;
  }

  bool read_word() {
    ShellWord word;
    word.begin = at_;
    while (at_ < text_.size()) {
      const char c = text_[at_];
      const bool substitutes = (c == '<' || c == '>') && at(at_ + 1) == '(';
      if (substitutes && at_ == word.begin) {
        if (!take_opaque(word, at_ + 2, ')')) return broken_at(word.begin, "`" + std::string(1, c) + "(`");
        continue;
      }
      if (ends_word(c)) break;
      const std::string_view rest = text_.substr(at_);
      if (!read_part(word, c)) {
        return broken_at(word.begin, c == '$'    ? fmt::format("`{}`", rest.substr(0, 2))
                                     : c == '\\' ? "a line that goes on"
                                                 : fmt::format("the quote {}", c));
      }
    }
    word.end = at_;
    if (awaits_delimiter_) pending_.push_back(tokens_.size());
    if (awaits_delimiter_ && strip_tabs_) tabs_of_.push_back(tokens_.size());
    awaits_delimiter_ = false;
    tokens_.push_back({Token::Kind::word, "", std::move(word), word.begin, at_, -1, {}});
    tokens_.back().begin = tokens_.back().word.begin;
    return true;
  }

  bool read_part(ShellWord& word, char c) {
    if (c == '\\') {
      if (at(at_ + 1) == '\n') return at_ += 2, true;
      if (at_ + 1 >= text_.size()) return false;
      add(word, text_.substr(at_ + 1, 1));
      word.quoted = true;
      at_ += 2;
      return true;
    }
    if (c == '\'') {
      const std::size_t close = text_.find('\'', at_ + 1);
      if (close == std::string_view::npos) return false;
      word.quoted = true;
      if (word.parts.empty()) guard_tilde(word, text_.substr(at_ + 1, close - at_ - 1));
      add(word, text_.substr(at_ + 1, close - at_ - 1));
      at_ = close + 1;
      return true;
    }
    if (c == '"') return read_double(word);
    if (c == '$') return read_dollar(word);
    if (c == '`') return read_backticks(word);
    if (c == '*' || (c == '{' && text_.find(',', at_) < std::min(text_.find('}', at_), text_.find_first_of(" \t\n", at_)))) {
      word.parts.push_back({ShellPart::Kind::opaque, std::string(1, c)});
      return ++at_, true;
    }
    add(word, text_.substr(at_, 1));
    ++at_;
    return true;
  }

  /// A `~` in quotes is no home.
  static void guard_tilde(ShellWord& word, std::string_view text) {
    if (text.starts_with('~')) word.parts.push_back({ShellPart::Kind::opaque, ""});
  }

  bool read_double(ShellWord& word) {
    word.quoted = true;
    ++at_;
    if (word.parts.empty()) guard_tilde(word, text_.substr(at_, 1));
    if (word.parts.empty()) word.parts.push_back({ShellPart::Kind::text, ""});
    while (at_ < text_.size() && text_[at_] != '"') {
      const char c = text_[at_];
      if (c == '\\') {
        const char escaped = at(at_ + 1);
        if (at_ + 1 >= text_.size()) return false;
        if (escaped != '\n')
          add(word, std::string_view("$`\"\\").find(escaped) != std::string_view::npos ? text_.substr(at_ + 1, 1) : text_.substr(at_, 2));
        at_ += 2;
      } else if (c == '$') {
        const std::size_t first = word.parts.size();
        if (!read_dollar(word)) return false;
        for (std::size_t i = first; i < word.parts.size(); ++i) word.parts[i].quoted = true;
      } else if (c == '`') {
        if (!read_backticks(word)) return false;
      } else {
        add(word, text_.substr(at_, 1));
        ++at_;
      }
    }
    if (at_ >= text_.size()) return false;
    ++at_;
    return true;
  }

  bool read_dollar(ShellWord& word) {
    const char c = at(at_ + 1);
    if (c == '(') return take_opaque(word, at_ + 2, ')');
    if (c == '{') {
      std::size_t end = at_ + 2;
      // `${{ vars.x }}` of a recipe is a value that somebody else fills in.
      while (is_name_part(at(end))) ++end;
      if (at(end) == '}' && end > at_ + 2 && is_name_start(at(at_ + 2))) {
        word.parts.push_back({ShellPart::Kind::variable, std::string(text_.substr(at_ + 2, end - at_ - 2))});
        return at_ = end + 1, true;
      }
      return take_opaque(word, at_ + 2, '}');
    }
    if (is_name_start(c)) {
      std::size_t end = at_ + 1;
      while (is_name_part(at(end))) ++end;
      word.parts.push_back({ShellPart::Kind::variable, std::string(text_.substr(at_ + 1, end - at_ - 1))});
      return at_ = end, true;
    }
    if (c == '\'') {
      const std::size_t begin = at_;
      at_ += 2;
      while (at_ < text_.size() && text_[at_] != '\'') at_ += text_[at_] == '\\' ? 2 : 1;
      if (at_ >= text_.size()) return false;
      ++at_;
      word.parts.push_back({ShellPart::Kind::opaque, std::string(text_.substr(begin, at_ - begin))});
      return true;
    }
    if (std::string_view("@*#?-$!0123456789").find(c) != std::string_view::npos && c != '\0') {
      word.parts.push_back({ShellPart::Kind::opaque, std::string(text_.substr(at_, 2))});
      return at_ += 2, true;
    }
    add(word, "$");
    return ++at_, true;
  }

  bool read_backticks(ShellWord& word) {
    const std::size_t begin = at_++;
    while (at_ < text_.size() && text_[at_] != '`') at_ += text_[at_] == '\\' ? 2 : 1;
    if (at_ >= text_.size()) return false;
    ++at_;
    word.parts.push_back({ShellPart::Kind::opaque, std::string(text_.substr(begin, at_ - begin))});
    return true;
  }

  /// From here to the bracket that closes what was opened before `inside`.
  bool take_opaque(ShellWord& word, std::size_t inside, char close) {
    const std::size_t begin = at_;
    std::size_t end = inside;
    if (!skip_to(end, close, 0)) return false;
    at_ = end;
    word.parts.push_back({ShellPart::Kind::opaque, std::string(text_.substr(begin, end - begin))});
    return true;
  }

  /// Moves `i` behind the `close` that belongs to the bracket before it.
  bool skip_to(std::size_t& i, char close, int depth) const {
    if (depth > kMaxNesting) return false;
    // Inside of $( ) stand commands, with comments, here-documents and `case`; in (( )) there is neither.
    const bool has_commands = close == ')' && !(i >= 2 && text_[i - 1] == '(' && text_[i - 2] == '(');
    int cases = 0;
    while (i < text_.size()) {
      const char c = text_[i];
      const bool begins_word = i == 0 || std::string_view(" \t\n;&|(").find(text_[i - 1]) != std::string_view::npos;
      if (has_commands && begins_word) {
        if (is_word_at(i, "case")) ++cases;
        if (is_word_at(i, "esac") && cases > 0) --cases;
        if (c == '#') {
          i = std::min(text_.find('\n', i), text_.size());
          continue;
        }
      }
      if (c == close && close == ')' && cases > 0) {  // ends a pattern
        ++i;
        continue;
      }
      if (c == close) return ++i, true;
      if (has_commands && c == '<' && at(i + 1) == '<' && at(i + 2) != '<') {
        if (!skip_document(i)) return false;
        continue;
      }
      if (c == '\\') {
        i += 2;
      } else if (c == '\'' && close != '"') {
        const std::size_t end = text_.find('\'', i + 1);
        if (end == std::string_view::npos) return false;
        i = end + 1;
      } else if (c == '"' || c == '`') {
        if (!skip_to(++i, c, depth + 1)) return false;
      } else if ((c == '(' && close != '"' && close != '`') || (c == '$' && at(i + 1) == '(')) {
        i += c == '$' ? 2 : 1;
        if (!skip_to(i, ')', depth + 1)) return false;
      } else if ((c == '{' && close == '}') || (c == '$' && at(i + 1) == '{')) {
        i += c == '$' ? 2 : 1;
        if (!skip_to(i, '}', depth + 1)) return false;
      } else {
        ++i;
      }
    }
    return false;
  }

  [[nodiscard]] bool is_word_at(std::size_t i, std::string_view word) const {
    return text_.substr(i, word.size()) == word && (i + word.size() >= text_.size() || ends_word(text_[i + word.size()]));
  }

  /// Moves `i` from `<<` to the end of the document's last line; what stands behind `<<END` in its own line is gone over as it is.
  bool skip_document(std::size_t& i) const {
    std::size_t from = i + 2;
    const bool tabs = at(from) == '-';
    if (tabs) ++from;
    while (at(from) == ' ' || at(from) == '\t') ++from;
    std::string end;
    for (; from < text_.size() && !ends_word(text_[from]); ++from) {
      if (std::string_view("'\"\\").find(text_[from]) == std::string_view::npos) end += text_[from];
    }
    if (end.empty()) return i = from, true;
    for (std::size_t line = text_.find('\n', from); line != std::string_view::npos;) {
      const std::size_t stop = std::min(text_.find('\n', line + 1), text_.size());
      std::string_view one = text_.substr(line + 1, stop - line - 1);
      while (tabs && one.starts_with('\t')) one.remove_prefix(1);
      if (one == end) return i = stop, true;
      line = stop < text_.size() ? stop : std::string_view::npos;
    }
    return false;
  }

  static void add(ShellWord& word, std::string_view text) {
    if (word.parts.empty() || word.parts.back().kind != ShellPart::Kind::text) word.parts.push_back({ShellPart::Kind::text, ""});
    word.parts.back().text += text;
  }

  /// The bodies of the here-documents of the line that has ended.
  void take_documents() {
    for (const std::size_t index : pending_) {
      Token& delimiter = tokens_[index];
      const std::string end = delimiter.word.shown();
      const bool tabs = std::find(tabs_of_.begin(), tabs_of_.end(), index) != tabs_of_.end();
      std::string body;
      bool closed = false;
      while (at_ < text_.size() && !closed) {
        const std::size_t stop = std::min(text_.find('\n', at_), text_.size());
        std::string_view line = text_.substr(at_, stop - at_);
        at_ = std::min(stop + 1, text_.size());
        if (tabs) line.remove_prefix(std::min(line.find_first_not_of('\t'), line.size()));
        if (line.ends_with('\r')) line.remove_suffix(1);
        closed = line == end;
        if (!closed) body += std::string(line) + "\n";
      }
      if (!closed && broken_ == std::string_view::npos) {
        broken_ = delimiter.begin;
        broken_by_ = "the here-document " + end;
      }
      delimiter.document = std::move(body);
    }
    pending_.clear();
    tabs_of_.clear();
  }

  bool broken_at(std::size_t where, std::string by) {
    if (where < broken_) broken_by_ = std::move(by);
    broken_ = std::min(broken_, where);
    at_ = text_.size();
    return false;
  }

  std::string_view text_;
  std::size_t at_ = 0;
  std::size_t broken_ = std::string_view::npos;
  std::string broken_by_;
  bool awaits_delimiter_ = false, strip_tabs_ = false;
  std::vector<std::size_t> pending_, tabs_of_;
  std::vector<Token> tokens_;
};

/// The word where it is written without quotes and variables: only such a word can be a reserved one.
std::string bare_text(const Token& token) {
  if (token.kind != Token::Kind::word || token.word.quoted || token.word.parts.size() != 1 ||
      token.word.parts[0].kind != ShellPart::Kind::text)
    return {};
  return token.word.parts[0].text;
}

bool is_redirect(const Token& token) { return token.kind == Token::Kind::op && (token.op.find_first_of("<>") != std::string::npos); }
bool is_op(const Token& token, std::string_view op) { return token.kind == Token::Kind::op && token.op == op; }
bool is_join(const Token& token) { return is_op(token, "&&") || is_op(token, "||") || is_op(token, "|") || is_op(token, "|&"); }

constexpr std::array kOpening = {"if", "for", "while", "until", "case", "select", "{", "function", "[["};
constexpr std::array kMiddle = {"then", "else", "elif", "do", "!", "time", "in"};
constexpr std::array kClosing = {"fi", "done", "esac", "}"};
template <std::size_t N> bool is_among(const std::string& word, const std::array<const char*, N>& words) {
  return std::find(words.begin(), words.end(), word) != words.end();
}

/// `NAME=value` at the front of a command.
std::optional<ShellAssignment> assignment_of(const ShellWord& word) {
  if (word.parts.empty() || word.parts[0].kind != ShellPart::Kind::text) return std::nullopt;
  const std::string& text = word.parts[0].text;
  const std::size_t equals = text.find('=');
  if (equals == 0 || equals == std::string::npos || !is_name_start(text[0])) return std::nullopt;
  if (!std::all_of(text.begin(), text.begin() + static_cast<std::ptrdiff_t>(equals), is_name_part)) return std::nullopt;
  ShellAssignment assignment{text.substr(0, equals), word};
  assignment.value.parts[0].text.erase(0, equals + 1);
  if (assignment.value.parts[0].text.empty() && assignment.value.parts.size() > 1)
    assignment.value.parts.erase(assignment.value.parts.begin());
  return assignment;
}

/// One simple command from the tokens [from, to), which hold words and redirections alone; nullopt where they do not.
std::optional<ShellCommand> simple_command(const std::vector<Token>& tokens, std::size_t from, std::size_t to) {
  ShellCommand command;
  if (from >= to) return std::nullopt;
  command.begin = tokens[from].begin;
  command.end = tokens[to - 1].end;
  for (std::size_t i = from; i < to; ++i) {
    const Token& token = tokens[i];
    if (is_redirect(token)) {
      if (i + 1 >= to || tokens[i + 1].kind != Token::Kind::word) return std::nullopt;
      const Token& target = tokens[++i];
      ShellRedirect redirect{token.op, token.descriptor, target.word, target.document, false};
      redirect.document_is_plain = target.document && (target.word.quoted || target.document->find_first_of("$`\\") == std::string::npos);
      command.redirects.push_back(std::move(redirect));
    } else if (token.kind != Token::Kind::word) {
      return std::nullopt;
    } else if (auto assignment = command.words.empty() ? assignment_of(token.word) : std::nullopt) {
      command.assignments.push_back(*std::move(assignment));
    } else {
      command.words.push_back(token.word);
    }
  }
  return command;
}

/// Follows what is nested, token by token: if … fi, { … }, ( … ).
class Nesting {
 public:
  struct Open {
    std::string word;
    std::size_t at;
  };
  std::vector<Open> open;
  std::optional<Open> stray;  ///< closes what nothing has opened
  bool compound = false;

  /// The reserved word that the token is in its place; empty where it is none.
  std::string take(const Token& token) {
    if (token.kind == Token::Kind::word) return take_word(token);
    if (token.kind == Token::Kind::comment || is_redirect(token)) return {};
    if (is_op(token, "(")) {
      open.push_back({"(", token.begin});
      compound = true;
    } else if (is_op(token, ")")) {
      compound = true;
      if (!open.empty() && open.back().word == "(")
        open.pop_back();
      else if (!stray && std::none_of(open.begin(), open.end(), [](const Open& one) { return one.word == "case"; }))
        stray = {")", token.begin};
    }
    command_position_ = true;  // behind `name()` too: what follows is its body
    return {};
  }

 private:
  std::string take_word(const Token& token) {
    const std::string word = bare_text(token);
    if (names_function_) {
      names_function_ = false;
      return {};
    }
    const bool in_place = command_position_;
    if (in_place && (word == "function" || word == "[[" || word == "!" || word == "time")) {
      compound = true;
      names_function_ = word == "function";
    } else if (in_place && is_among(word, kOpening)) {
      open.push_back({word, token.begin});
      compound = true;
    } else if (in_place && is_among(word, kClosing)) {
      compound = true;
      close(word, token.begin);
    }
    const bool is_reserved = in_place && (is_among(word, kOpening) || is_among(word, kMiddle) || is_among(word, kClosing));
    command_position_ =
        in_place && (word == "{" || is_among(word, kMiddle) || word == "if" || word == "while" || word == "until" || names_function_);
    return is_reserved ? word : std::string();
  }

  void close(const std::string& word, std::size_t at) {
    const std::string opened = open.empty() ? "" : open.back().word;
    const bool fits = word == "fi"     ? opened == "if"
                      : word == "esac" ? opened == "case"
                      : word == "}"    ? opened == "{"
                                       : opened == "for" || opened == "while" || opened == "until" || opened == "select";
    if (!fits && !stray) stray = {word, at};
    if (!open.empty()) open.pop_back();
  }

  bool command_position_ = true, names_function_ = false;
};

/// Where the statement that begins at `from` ends: the index of its separator. `compound` where anything is nested.
std::size_t end_of_statement(const std::vector<Token>& tokens, std::size_t from, bool& compound) {
  Nesting nesting;
  std::size_t i = from;
  for (; tokens[i].kind != Token::Kind::end; ++i) {
    const Token& token = tokens[i];
    const bool separates = token.kind == Token::Kind::newline || is_op(token, ";") || is_op(token, "&");
    if (separates && nesting.open.empty()) {
      std::size_t before = i;
      while (before > from && tokens[before - 1].kind == Token::Kind::comment) --before;
      const bool names_function = before == from + 2 && bare_text(tokens[from]) == "function";
      const bool goes_on = token.kind == Token::Kind::newline && before > from &&
                           (is_join(tokens[before - 1]) || names_function ||
                            (is_op(tokens[before - 1], ")") && before >= from + 3 && is_op(tokens[before - 2], "(")));
      if (!goes_on) break;
    }
    nesting.take(token);
  }
  compound = compound || nesting.compound;
  return i;
}

void split_commands(const std::vector<Token>& tokens, std::size_t from, std::size_t to, ShellStatement& statement) {
  std::vector<ShellCommand> commands;
  ShellJoin join = ShellJoin::none;
  std::size_t begin = from;
  for (std::size_t i = from; i <= to; ++i) {
    if (i < to && (tokens[i].kind == Token::Kind::newline || tokens[i].kind == Token::Kind::comment) && i == begin) {
      ++begin;  // behind `&&` a line may end
      continue;
    }
    if (i < to && !is_join(tokens[i])) continue;
    auto command = simple_command(tokens, begin, i);
    if (!command) return;
    command->join = join;
    commands.push_back(*std::move(command));
    if (i < to) join = is_op(tokens[i], "&&") ? ShellJoin::and_then : is_op(tokens[i], "||") ? ShellJoin::or_else : ShellJoin::pipe;
    begin = i + 1;
  }
  statement.commands = std::move(commands);
}

}  // namespace

std::optional<std::string> ShellWord::plain() const {
  return expanded([](const std::string&) { return std::nullopt; });
}

std::optional<std::string> ShellWord::expanded(const std::function<std::optional<std::string>(const std::string& name)>& value_of) const {
  std::string text;
  for (const ShellPart& part : parts) {
    if (part.kind == ShellPart::Kind::opaque) return std::nullopt;
    if (part.kind == ShellPart::Kind::text) {
      text += part.text;
      continue;
    }
    const std::optional<std::string> value = value_of(part.text);
    if (!value) return std::nullopt;
    text += *value;
  }
  return text;
}

std::string ShellWord::shown() const {
  std::string text;
  for (const ShellPart& part : parts) text += part.kind == ShellPart::Kind::variable ? "${" + part.text + "}" : part.text;
  return text;
}

std::vector<ShellStatement> read_shell(std::string_view text) {
  Lexer lexer(text);
  const std::vector<Token> tokens = lexer.read();
  const std::size_t broken = lexer.broken();
  std::vector<ShellStatement> statements;
  std::vector<std::string> comments;
  std::size_t counted = 0;
  int line = 1;
  const auto line_at = [&](std::size_t where) {
    where = std::max(where, counted);
    line += static_cast<int>(
        std::count(text.begin() + static_cast<std::ptrdiff_t>(counted), text.begin() + static_cast<std::ptrdiff_t>(where), '\n'));
    counted = where;
    return line;
  };
  std::size_t i = 0;
  while (tokens[i].kind != Token::Kind::end) {
    if (tokens[i].kind == Token::Kind::comment) {
      comments.push_back(tokens[i++].op);
      continue;
    }
    if (tokens[i].kind == Token::Kind::newline || is_op(tokens[i], ";")) {
      ++i;
      continue;
    }
    bool compound = false;
    std::size_t end = end_of_statement(tokens, i, compound);
    ShellStatement statement;
    statement.begin = tokens[i].begin;
    statement.end = end > i ? tokens[end - 1].end : tokens[end].end;
    if (end == i) ++end;  // a lone `&` or `)`: text that means nothing
    statement.line = line_at(statement.begin);
    statement.background = is_op(tokens[end], "&");
    statement.comments = std::move(comments);
    comments.clear();
    std::size_t last = end;
    while (last > i && tokens[last - 1].kind == Token::Kind::comment) --last;
    if (last < end) {
      statement.comments.push_back(tokens[end - 1].op);
      if (last > i) statement.end = tokens[last - 1].end;
    }
    // The bodies of here-documents stand behind the line: with them the statement is the whole of it.
    const bool has_document =
        std::any_of(tokens.begin() + static_cast<std::ptrdiff_t>(i), tokens.begin() + static_cast<std::ptrdiff_t>(end),
                    [](const Token& t) { return t.document.has_value(); });
    if (has_document) {
      std::size_t line_end = end;
      while (tokens[line_end].kind != Token::Kind::newline && tokens[line_end].kind != Token::Kind::end) ++line_end;
      if (line_end != end) compound = true;
      end = line_end;
      statement.end = std::max(statement.end, tokens[end].end);
    }
    const bool is_broken = broken != std::string_view::npos && (statement.end > broken || tokens[end].kind == Token::Kind::end);
    if (is_broken) {
      statement.end = text.size();
      end = tokens.size() - 1;
    } else if (!compound) {
      split_commands(tokens, i, last, statement);
    }
    statement.text = std::string(text.substr(statement.begin, statement.end - statement.begin));
    while (!statement.text.empty() && (is_blank(statement.text.back()) || statement.text.back() == '\n')) statement.text.pop_back();
    statements.push_back(std::move(statement));
    i = end;
    if (is_op(tokens[i], "&")) ++i;
  }
  if (broken != std::string_view::npos && (statements.empty() || statements.back().end < text.size())) {
    // What is not closed was the first word of its statement.
    ShellStatement rest;
    rest.begin = broken;
    rest.end = text.size();
    rest.line = line_at(broken);
    rest.text = std::string(text.substr(broken));
    rest.comments = std::move(comments);
    comments.clear();
    statements.push_back(std::move(rest));
  }
  if (!comments.empty()) {
    ShellStatement rest;
    rest.comments = std::move(comments);
    rest.begin = rest.end = text.size();
    rest.line = line_at(text.size());
    statements.push_back(std::move(rest));
  }
  return statements;
}

std::optional<ShellFault> find_fault(std::string_view text) {
  Lexer lexer(text);
  const std::vector<Token> tokens = lexer.read();
  const auto line_of = [&](std::size_t at) {
    return 1 + static_cast<int>(std::count(text.begin(), text.begin() + static_cast<std::ptrdiff_t>(std::min(at, text.size())), '\n'));
  };
  if (lexer.broken() != std::string_view::npos) return ShellFault{line_of(lexer.broken()), lexer.broken_by(), false};
  Nesting nesting;
  for (const Token& token : tokens) {
    nesting.take(token);
    if (nesting.stray) return ShellFault{line_of(nesting.stray->at), "`" + nesting.stray->word + "`", true};
  }
  if (nesting.open.empty()) return std::nullopt;
  return ShellFault{line_of(nesting.open.back().at), "`" + nesting.open.back().word + "`", false};
}

std::optional<ShellBlock> read_block(std::string_view text) {
  Lexer lexer(text);
  std::vector<Token> tokens = lexer.read();
  if (lexer.broken() != std::string_view::npos) return std::nullopt;
  std::erase_if(tokens, [](const Token& one) { return one.kind == Token::Kind::comment; });
  while (!tokens.empty() && (tokens.back().kind == Token::Kind::newline || tokens.back().kind == Token::Kind::end)) tokens.pop_back();
  constexpr std::size_t kLeast = 4;
  if (tokens.size() < kLeast) return std::nullopt;
  const auto between = [&](std::size_t from, std::size_t to) { return std::string(text.substr(from, to - from)); };
  ShellBlock block;
  const std::string first = bare_text(tokens[0]);
  std::size_t name = first == "function" || first == "for" ? 1 : 0;
  if (first == "if") {
    block.kind = ShellBlock::Kind::condition;
  } else if (first == "for") {
    block.kind = ShellBlock::Kind::loop;
    if (bare_text(tokens[2]) != "in") return std::nullopt;
    for (std::size_t i = 3; i < tokens.size() && tokens[i].kind == Token::Kind::word; ++i) block.words.push_back(tokens[i].word);
  } else {
    block.kind = ShellBlock::Kind::function;
    std::size_t i = name + 1;
    const bool has_brackets = is_op(tokens[i], "(") && is_op(tokens[i + 1], ")");
    if (has_brackets) i += 2;
    while (i < tokens.size() && tokens[i].kind == Token::Kind::newline) ++i;
    if (i >= tokens.size() || bare_text(tokens[i]) != "{" || (!has_brackets && name == 0)) return std::nullopt;
  }
  block.name = bare_text(tokens[name]);
  const std::string_view begins = first == "if" ? "then" : first == "for" ? "do" : "{";
  Nesting nesting;
  std::optional<std::size_t> body;
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    const std::string word = nesting.take(tokens[i]);
    if (!body && word == begins && nesting.open.size() == 1) {
      body = tokens[i].end;
      if (first == "if") block.condition = between(tokens[1].begin, tokens[i].begin);
    } else if (nesting.open.size() == 1 && (word == "else" || word == "elif")) {
      return std::nullopt;
    } else if (body && nesting.open.empty()) {
      if (i + 1 != tokens.size()) return std::nullopt;
      block.body = between(*body, tokens[i].begin);
      block.line = static_cast<int>(std::count(text.begin(), text.begin() + static_cast<std::ptrdiff_t>(*body), '\n'));
      while (!block.condition.empty() &&
             (is_blank(block.condition.back()) || block.condition.back() == ';' || block.condition.back() == '\n'))
        block.condition.pop_back();
      return block;
    }
  }
  return std::nullopt;
}

std::vector<ShellBranch> read_branches(std::string_view text) {
  Lexer lexer(text);
  std::vector<Token> tokens = lexer.read();
  if (lexer.broken() != std::string_view::npos) return {};
  std::erase_if(tokens, [](const Token& one) { return one.kind == Token::Kind::comment; });
  while (!tokens.empty() && (tokens.back().kind == Token::Kind::newline || tokens.back().kind == Token::Kind::end)) tokens.pop_back();
  if (tokens.empty() || bare_text(tokens[0]) != "if") return {};
  const auto between = [&](std::size_t from, std::size_t to) {
    std::string_view part = text.substr(from, to - from);
    while (!part.empty() && (is_blank(part.back()) || part.back() == ';' || part.back() == '\n')) part.remove_suffix(1);
    return std::string(part);
  };
  std::vector<ShellBranch> branches;
  Nesting nesting;
  std::size_t begin = 0;  // of the condition or body that is being read
  bool is_body = false, is_over = false;
  for (const Token& token : tokens) {
    if (is_over) return {};
    const std::size_t depth = nesting.open.size();
    const std::string word = nesting.take(token);
    const bool is_own = depth == 1 && (word == "then" || word == "elif" || word == "else" || word == "fi");
    if (branches.empty() && begin == 0 && word == "if") begin = token.end;
    if (!is_own) continue;
    if (word == "then") {
      ShellBranch branch;
      branch.condition = between(begin, token.begin);
      branch.condition.erase(0, branch.condition.find_first_not_of(" \t\n"));
      branches.push_back(std::move(branch));
      is_body = true;
    } else {
      if (!is_body) return {};
      branches.back().body = between(begin, token.begin);
      branches.back().line = static_cast<int>(std::count(text.begin(), text.begin() + static_cast<std::ptrdiff_t>(begin), '\n'));
      is_body = word == "else";
      if (is_body) branches.emplace_back();
      is_over = word == "fi";
    }
    begin = token.end;
  }
  return is_over ? branches : std::vector<ShellBranch>{};
}

std::vector<FoundCommand> find_commands(std::string_view text) {
  Lexer lexer(text);
  const std::vector<Token> tokens = lexer.read();
  std::vector<FoundCommand> found;
  ShellJoin join = ShellJoin::none;
  std::size_t begin = 0;
  int groups = 0;  // ( that are open: a `)` beside them ends a pattern of `case`
  const auto flush = [&](std::size_t end, bool background) {
    if (auto command = simple_command(tokens, begin, end)) {
      command->join = join;
      found.push_back({*std::move(command), background});
    }
  };
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    const Token& token = tokens[i];
    if (token.kind == Token::Kind::word) {
      const std::string word = bare_text(token);
      const bool is_case = i == begin && word == "case" && i + 2 < tokens.size() && bare_text(tokens[i + 2]) == "in";
      if (i == begin && (is_among(word, kOpening) || is_among(word, kMiddle) || is_among(word, kClosing))) begin = i + 1;
      if (is_case) begin = (i += 2) + 1;
      continue;
    }
    if (is_redirect(token)) continue;
    const bool is_pattern = is_op(token, ")") && groups == 0;
    groups += is_op(token, "(") ? 1 : is_op(token, ")") && groups > 0 ? -1 : 0;
    if (!is_pattern) flush(i, is_op(token, "&"));
    begin = i + 1;
    join = is_op(token, "&&")   ? ShellJoin::and_then
           : is_op(token, "||") ? ShellJoin::or_else
           : is_join(token)     ? ShellJoin::pipe
                                : ShellJoin::none;
  }
  return found;
}

BareCommand bare_command(const ShellCommand& command) {
  BareCommand bare;
  std::size_t i = 0;
  const auto text = [&](std::size_t k) { return k < command.words.size() ? command.words[k].shown() : std::string(); };
  const auto take_assignments = [&] {
    for (; i < command.words.size(); ++i) {
      auto assignment = assignment_of(command.words[i]);
      if (!assignment) return;
      bare.assignments.push_back(*std::move(assignment));
    }
  };
  while (i < command.words.size()) {
    const std::string word = text(i);
    if (word == "command" || word == "exec" || word == "nohup" || word == "time") {
      bare.nohup = bare.nohup || word == "nohup";
      ++i;
    } else if (word == "sudo") {
      bare.sudo = true;
      ++i;
      while (text(i).starts_with('-') && text(i).size() > 1) {
        const std::string option = text(i++);
        if (option == "--") break;
        if (option == "-u" || option == "--user")
          bare.user = text(i++);
        else if (option.starts_with("--user="))
          bare.user = option.substr(7);
        else if (option != "-E" && option != "-H" && option != "-n" && option != "-EH" && option != "-HE" && option != "--preserve-env")
          bare.understood = false;
      }
      take_assignments();
    } else if (word == "env") {
      ++i;
      take_assignments();
      if (text(i).starts_with('-')) bare.understood = false;
    } else if (word == "nice") {
      ++i;
      if (text(i) == "-n")
        i += 2;
      else if (text(i).starts_with('-'))
        ++i;
    } else {
      break;
    }
  }
  bare.words.assign(command.words.begin() + static_cast<std::ptrdiff_t>(std::min(i, command.words.size())), command.words.end());
  return bare;
}

}  // namespace gpustrap
