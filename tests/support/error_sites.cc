#include "tests/support/error_sites.h"

#include <algorithm>
#include <cctype>
#include <cstddef>
#include <filesystem>
#include <map>
#include <optional>
#include <span>

#include "agent/base/file.h"

namespace gpustrap {
namespace {

struct Token {
  enum class Kind { word, literal, mark } kind = Kind::mark;
  std::string text;  // a literal without its quotes and escapes
  int line = 0;
};
using Tokens = std::span<const Token>;

bool is_mark(const Token& token, std::string_view text) { return token.kind == Token::Kind::mark && token.text == text; }
bool opens(const Token& token) { return is_mark(token, "(") || is_mark(token, "{") || is_mark(token, "["); }
bool closes(const Token& token) { return is_mark(token, ")") || is_mark(token, "}") || is_mark(token, "]"); }

char unescaped(char after_backslash) {
  switch (after_backslash) {
    case 'n':
    case 't':
    case 'r': return ' ';
    default: return after_backslash;
  }
}

class Lexer {
 public:
  explicit Lexer(std::string_view text) : text_(text) {}

  std::vector<Token> tokens() {
    while (at_ < text_.size()) step();
    return std::move(tokens_);
  }

 private:
  void step() {
    const char c = text_[at_];
    if (c == '\n') ++line_;
    if (std::isspace(static_cast<unsigned char>(c)) != 0) {
      ++at_;
    } else if (text_.substr(at_).starts_with("//")) {
      at_ = std::min(text_.find('\n', at_), text_.size());
    } else if (text_.substr(at_).starts_with("R\"")) {
      raw_literal();
    } else if (c == '"') {
      literal();
    } else if (c == '\'') {
      character();
    } else if (std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_') {
      word();
    } else {
      const std::size_t length = text_.substr(at_).starts_with("::") || text_.substr(at_).starts_with("->") ? 2 : 1;
      add(Token::Kind::mark, std::string(text_.substr(at_, length)));
      at_ += length;
    }
  }
  void word() {
    std::size_t end = at_;
    // A digit may have an apostrophe behind it: 1'000.
    while (end < text_.size() && (std::isalnum(static_cast<unsigned char>(text_[end])) != 0 || text_[end] == '_' ||
                                  (text_[end] == '\'' && std::isdigit(static_cast<unsigned char>(text_[at_])) != 0)))
      ++end;
    add(Token::Kind::word, std::string(text_.substr(at_, end - at_)));
    at_ = end;
  }
  void literal() {
    std::string said;
    for (++at_; at_ < text_.size() && text_[at_] != '"'; ++at_) {
      const bool is_escape = text_[at_] == '\\' && at_ + 1 < text_.size();
      if (is_escape) ++at_;
      said += is_escape ? unescaped(text_[at_]) : text_[at_];
    }
    ++at_;
    if (!tokens_.empty() && tokens_.back().kind == Token::Kind::literal)
      tokens_.back().text += said;
    else
      add(Token::Kind::literal, std::move(said));
  }
  void raw_literal() {
    const std::size_t open = text_.find('(', at_);
    if (open == std::string_view::npos) {
      at_ = text_.size();
      return;
    }
    const std::string close = ")" + std::string(text_.substr(at_ + 2, open - at_ - 2)) + "\"";
    const std::size_t end = std::min(text_.find(close, open), text_.size());
    const std::string said(text_.substr(open + 1, end - open - 1));
    add(Token::Kind::literal, said);
    line_ += static_cast<int>(std::count(said.begin(), said.end(), '\n'));
    at_ = std::min(end + close.size(), text_.size());
  }
  void character() {
    at_ += at_ + 1 < text_.size() && text_[at_ + 1] == '\\' ? 4 : 3;
    add(Token::Kind::word, "'");
  }
  void add(Token::Kind kind, std::string text) { tokens_.push_back({kind, std::move(text), line_}); }

  std::string_view text_;
  std::size_t at_ = 0;
  int line_ = 1;
  std::vector<Token> tokens_;
};

/// Index of the bracket that closes the one at `open`; the end of `tokens` where none does.
std::size_t closing(Tokens tokens, std::size_t open) {
  int depth = 0;
  for (std::size_t i = open; i < tokens.size(); ++i) {
    depth += opens(tokens[i]) ? 1 : closes(tokens[i]) ? -1 : 0;
    if (depth == 0) return i;
  }
  return tokens.size();
}

/// What stands between the commas of an argument list.
std::vector<Tokens> arguments_of(Tokens inside) {
  std::vector<Tokens> arguments;
  std::size_t begin = 0;
  for (std::size_t i = 0; i < inside.size(); ++i) {
    if (opens(inside[i])) i = std::min(closing(inside, i), inside.size() - 1);
    if (i < inside.size() && is_mark(inside[i], ",")) {
      arguments.push_back(inside.subspan(begin, i - begin));
      begin = i + 1;
    }
  }
  arguments.push_back(inside.subspan(std::min(begin, inside.size())));
  return arguments;
}

void put_gap(std::string& said) {
  if (!said.ends_with("…")) said += "…";
}

void put_format(std::string& said, std::string_view format) {
  for (std::size_t i = 0; i < format.size(); ++i) {
    const bool is_doubled = i + 1 < format.size() && format[i] == format[i + 1];
    if (format[i] == '{' && !is_doubled) {
      put_gap(said);
      i = std::min(format.find('}', i), format.size());
    } else {
      if ((format[i] == '{' || format[i] == '}') && is_doubled) ++i;
      said += format[i];
    }
  }
}

using Constants = std::map<std::string, std::string>;

/// Texts with a name: `kAdvice = "…"`, `kAdvice[] = "…"`.
Constants constants_in(Tokens tokens) {
  Constants constants;
  for (std::size_t i = 2; i < tokens.size(); ++i) {
    if (tokens[i].kind != Token::Kind::literal || !is_mark(tokens[i - 1], "=")) continue;
    const std::size_t name = i >= 4 && is_mark(tokens[i - 2], "]") ? i - 4 : i - 2;
    if (tokens[name].text.starts_with('k')) constants[tokens[name].text] = tokens[i].text;
  }
  return constants;
}

/// The words of an expression that makes a string: its literals and constants, and "…" for everything else.
std::string said_by(Tokens expression, const Constants& constants) {
  std::string said, before_alternative;
  const auto put = [&](const std::string& words) {
    if (words.starts_with("…") && said.ends_with("…"))
      said += words.substr(std::string("…").size());
    else
      said += words;
  };
  for (std::size_t i = 0; i < expression.size(); ++i) {
    const Token& token = expression[i];
    if (token.kind == Token::Kind::literal) {
      put(token.text);
    } else if (is_mark(token, "?")) {
      said.clear();  // that was the condition
    } else if (is_mark(token, ":")) {
      before_alternative += said + " / ";
      said.clear();
    } else if (opens(token)) {
      const std::size_t end = closing(expression, i);
      const Tokens inside = expression.subspan(i + 1, std::min(end, expression.size()) - i - 1);
      const std::string callee = i > 0 && expression[i - 1].kind == Token::Kind::word ? expression[i - 1].text : "";
      if (callee == "format") {
        if (said.ends_with("…")) said.resize(said.size() - std::string("…").size());  // of the name itself
        const std::vector<Tokens> arguments = arguments_of(inside);
        std::string words;
        if (!arguments[0].empty() && arguments[0][0].kind == Token::Kind::literal) put_format(words, arguments[0][0].text);
        put(words);
      } else if (callee == "string" || callee.empty()) {
        if (said.ends_with("…") && !callee.empty()) said.resize(said.size() - std::string("…").size());
        put(said_by(inside, constants));
      }
      i = end;
    } else if (const auto constant = constants.find(token.text); constant != constants.end()) {
      put(constant->second);
    } else if (token.kind == Token::Kind::word) {
      put_gap(said);
    }
  }
  return before_alternative + said;
}

/// The site whose code stands at `at` (`ErrorCode` `::` NAME `,`); none where that is no error's first argument.
std::optional<ErrorSite> site_at(Tokens tokens, std::size_t at, const Constants& constants) {
  int depth = 0;
  std::size_t open = at;
  while (open > 0 && depth >= 0) {
    --open;
    depth += closes(tokens[open]) ? 1 : opens(tokens[open]) ? -1 : 0;
    if (depth == 0 && (is_mark(tokens[open], ",") || is_mark(tokens[open], ";"))) return std::nullopt;
  }
  if (depth >= 0 || open == 0) return std::nullopt;
  const std::string& callee = tokens[open - 1].text;
  if (callee == "ErrorText" || callee == "error") return std::nullopt;  // filled in later
  const std::size_t end = closing(tokens, open);
  if (end >= tokens.size()) return std::nullopt;
  const std::vector<Tokens> arguments = arguments_of(tokens.subspan(open + 1, end - open - 1));
  ErrorSite site;
  site.first_line = tokens[open - 1].line;
  site.last_line = tokens[end].line;
  for (std::size_t i = 0; i + 2 < arguments[0].size(); ++i)
    if (arguments[0][i].text == "ErrorCode") site.codes.push_back(arguments[0][i + 2].text);
  if (arguments.size() > 1) site.says = said_by(arguments[1], constants);
  if (arguments.size() > 2) site.todo = said_by(arguments[2], constants);
  return site;
}

}  // namespace

std::vector<ErrorSite> error_sites_in(const std::string& file, std::string_view text) {
  const std::vector<Token> tokens = Lexer(text).tokens();
  const Constants constants = constants_in(tokens);
  std::vector<ErrorSite> sites;
  for (std::size_t i = 0; i + 3 < tokens.size(); ++i) {
    if (tokens[i].text != "ErrorCode" || !is_mark(tokens[i + 1], "::") || !is_mark(tokens[i + 3], ",")) continue;
    std::optional<ErrorSite> site = site_at(tokens, i, constants);
    if (!site) continue;
    site->file = file;
    sites.push_back(std::move(*site));
  }
  return sites;
}

std::vector<ErrorSite> error_sites(const std::string& root) {
  std::vector<std::string> files;
  for (const std::string folder : {"agent", "controller"})
    for (const auto& entry : std::filesystem::recursive_directory_iterator(root + "/" + folder))
      if (const std::string suffix = entry.path().extension(); suffix == ".cc" || suffix == ".h")
        files.push_back(entry.path().lexically_relative(root).string());
  std::sort(files.begin(), files.end());
  std::vector<ErrorSite> sites;
  for (const std::string& file : files) {
    if (file == "controller/error_catalogue.cc") continue;
    const std::vector<ErrorSite> of_file = error_sites_in(file, read_file(root + "/" + file).value_or(""));
    sites.insert(sites.end(), of_file.begin(), of_file.end());
  }
  return sites;
}

}  // namespace gpustrap
