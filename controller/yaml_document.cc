#include "controller/yaml_document.h"

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <cstdlib>
#include <optional>
#include <sstream>
#include <utility>

#include <fmt/format.h>
#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/exceptions.h>
#include <yaml-cpp/parser.h>

#include "agent/base/text.h"
#include "agent/protocol/json.h"
#include "controller/pasted_text.h"

namespace gpustrap {
namespace {

/// Deeper nesting than this is no recipe; documents go through recursive code later.
constexpr std::size_t kMaxDepth = 40;

struct Node;
using NodePtr = std::shared_ptr<Node>;

struct Node {
  enum class Kind { null, plain, quoted, list, mapping } kind = Kind::null;
  SourcePlace place;
  std::string text;
  std::vector<NodePtr> keys;   // of a mapping
  std::vector<NodePtr> items;  // of a list or a mapping
};

/// Thrown to leave the parser: it has no other way to be stopped.
struct TooDeep : std::exception {
  explicit TooDeep(YAML::Mark at) : mark(at) {}
  YAML::Mark mark;
};

/// Builds the tree that the parser's events describe. Aliases share the node they name.
class TreeBuilder : public YAML::EventHandler {
 public:
  TreeBuilder(std::string file, std::vector<SourceProblem>& problems) : file_(std::move(file)), problems_(problems) {}

  [[nodiscard]] NodePtr root() const { return root_; }
  /// Where the innermost list or mapping begins that is not closed yet.
  [[nodiscard]] std::optional<SourcePlace> innermost() const {
    if (open_.empty()) return std::nullopt;
    return open_.back().node->place;
  }
  /// Where the last scalar begins that was written in quotes.
  [[nodiscard]] std::optional<SourcePlace> last_quoted() const { return last_quoted_; }

  void OnDocumentStart(const YAML::Mark& /*mark*/) override {}
  void OnDocumentEnd() override {}
  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override { leaf(mark, anchor, Node::Kind::null, {}); }
  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor, const std::string& value) override {
    refuse_tag(mark, tag);
    if (tag != "?") last_quoted_ = place_of(mark);
    leaf(mark, anchor, tag == "?" ? Node::Kind::plain : Node::Kind::quoted, value);
  }
  void OnAlias(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    const auto found = anchors_.find(anchor);
    if (found != anchors_.end()) return add(found->second);
    problems_.push_back({place_of(mark), "an alias inside the value that it names: expected a value without itself in it"});
    leaf(mark, 0, Node::Kind::null, {});
  }
  void OnSequenceStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value /*style*/) override {
    open(mark, tag, anchor, Node::Kind::list);
  }
  void OnSequenceEnd() override { close(); }
  void OnMapStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor, YAML::EmitterStyle::value /*style*/) override {
    open(mark, tag, anchor, Node::Kind::mapping);
  }
  void OnMapEnd() override { close(); }

 private:
  struct Open {
    NodePtr node;
    YAML::anchor_t anchor;
  };

  [[nodiscard]] SourcePlace place_of(const YAML::Mark& mark) const {
    return {file_, std::max(mark.line, 0) + 1, std::max(mark.column, 0) + 1};
  }

  void refuse_tag(const YAML::Mark& mark, const std::string& tag) {
    if (tag.empty() || tag == "?" || tag == "!" || tag == "tag:yaml.org,2002:str") return;
    problems_.push_back(
        {place_of(mark), fmt::format("`{}` is a YAML tag: expected a value without one", first_line(strip_control(tag), 60))});
  }

  void leaf(const YAML::Mark& mark, YAML::anchor_t anchor, Node::Kind kind, const std::string& text) {
    auto node = std::make_shared<Node>();
    node->kind = kind;
    node->place = place_of(mark);
    node->text = text;
    if (anchor != 0) anchors_[anchor] = node;
    add(node);
  }

  void open(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor, Node::Kind kind) {
    refuse_tag(mark, tag);
    if (open_.size() >= kMaxDepth) throw TooDeep(mark);
    auto node = std::make_shared<Node>();
    node->kind = kind;
    node->place = place_of(mark);
    open_.push_back({std::move(node), anchor});
  }

  void close() {
    Open closed = std::move(open_.back());
    open_.pop_back();
    // A key without a value at the end of the input.
    if (closed.node->kind == Node::Kind::mapping && closed.node->keys.size() > closed.node->items.size()) {
      closed.node->items.push_back(std::make_shared<Node>());
    }
    // Only now: an alias inside the value would make a circle.
    if (closed.anchor != 0) anchors_[closed.anchor] = closed.node;
    add(closed.node);
  }

  void add(const NodePtr& node) {
    if (open_.empty()) {
      root_ = node;
      return;
    }
    Node& parent = *open_.back().node;
    if (parent.kind == Node::Kind::mapping && parent.keys.size() == parent.items.size()) {
      parent.keys.push_back(node);
    } else {
      parent.items.push_back(node);
    }
  }

  std::string file_;
  std::vector<SourceProblem>& problems_;
  NodePtr root_;
  std::optional<SourcePlace> last_quoted_;
  std::vector<Open> open_;
  std::map<YAML::anchor_t, NodePtr> anchors_;
};

bool is_whole_number(std::string_view text) {
  if (text.starts_with('-')) text.remove_prefix(1);
  return !text.empty() && text.find_first_not_of("0123456789") == std::string_view::npos && (text == "0" || text[0] != '0');
}

/// 3.11, -0.5, 1e3. Not 1.2.3, 0644 or .5: those stay texts.
bool is_fraction(std::string_view text) {
  if (text.starts_with('-')) text.remove_prefix(1);
  const std::size_t whole = std::min(text.find_first_not_of("0123456789"), text.size());
  if (whole == 0 || (whole > 1 && text[0] == '0') || whole == text.size()) return false;
  double value = 0;
  const auto parsed = std::from_chars(text.data(), text.data() + text.size(), value);
  return parsed.ec == std::errc() && parsed.ptr == text.data() + text.size();
}

Json json_of_plain(const std::string& text) {
  if (text == "true" || text == "True" || text == "TRUE") return true;
  if (text == "false" || text == "False" || text == "FALSE") return false;
  if (is_whole_number(text)) {
    std::int64_t value = 0;
    const auto parsed = std::from_chars(text.data(), text.data() + text.size(), value);
    if (parsed.ec == std::errc()) return value;
    return text;
  }
  if (is_fraction(text)) return std::strtod(text.c_str(), nullptr);
  return text;
}

/// Turns the tree into JSON and notes where everything stands.
class Converter {
 public:
  Converter(PlaceMap& places, std::vector<SourceProblem>& problems) : places_(places), problems_(problems) {}

  Json convert(const Node& node, const std::string& pointer, const SourcePlace& key) {
    PlaceMap::Entry entry{key, node.place, {}};
    if (++count_ > kMaxRecipeValues) {
      if (count_ == kMaxRecipeValues + 1) {
        problems_.push_back({node.place, fmt::format("the aliases unfold to more than {} values: expected fewer", kMaxRecipeValues)});
      }
      return {};
    }
    Json value;
    if (node.kind == Node::Kind::null) {
      entry.value = key;  // the parser puts nothing where there is nothing
    } else if (node.kind == Node::Kind::quoted) {
      value = node.text;
    } else if (node.kind == Node::Kind::plain) {
      value = json_of_plain(node.text);
      if (value.is_number_float()) entry.number = node.text;
    }
    places_.set(pointer, entry);
    if (node.kind == Node::Kind::list) {
      value = Json::array();
      for (std::size_t i = 0; i < node.items.size() && count_ <= kMaxRecipeValues; ++i) {
        value.push_back(convert(*node.items[i], pointer + "/" + std::to_string(i), node.items[i]->place));
      }
    } else if (node.kind == Node::Kind::mapping) {
      value = Json::object();
      add_members(node, pointer, value);
    }
    return value;
  }

  [[nodiscard]] bool is_cut() const { return count_ > kMaxRecipeValues; }

 private:
  void add_members(const Node& node, const std::string& pointer, Json& value) {
    std::vector<const Node*> merged;
    for (std::size_t i = 0; i < node.keys.size() && count_ <= kMaxRecipeValues; ++i) {
      const Node& key = *node.keys[i];
      const Node& item = *node.items[i];
      if (key.kind == Node::Kind::plain && key.text == "<<") {
        merge(item, merged);
        continue;
      }
      if (key.kind != Node::Kind::plain && key.kind != Node::Kind::quoted) {
        problems_.push_back({key.place.line > 0 ? key.place : node.place, "a key that is no text: expected a name and `:`"});
        continue;
      }
      // Only the first is told: each line that is indented so would be another one.
      if (const auto pasted = find_pasted(key.text); pasted && pasted->at == 0 && key.kind == Node::Kind::plain) {
        if (!std::exchange(told_of_indentation_, true))
          problems_.push_back({key.place, fmt::format("{} in the indentation: expected spaces", pasted->is)});
        continue;
      }
      if (value.contains(key.text)) {
        const SourcePlace& first = places_.at(pointer + "/" + escape(key.text)).key;
        problems_.push_back({key.place, fmt::format("`{}` is given twice, first in line {}: expected it once",
                                                    first_line(strip_control(key.text), 60), first.line)});
        continue;
      }
      value[key.text] = convert(item, pointer + "/" + escape(key.text), key.place);
    }
    for (const Node* source : merged) {
      for (std::size_t i = 0; i < source->keys.size() && count_ <= kMaxRecipeValues; ++i) {
        const Node& key = *source->keys[i];
        const bool is_text = key.kind == Node::Kind::plain || key.kind == Node::Kind::quoted;
        if (!is_text || value.contains(key.text)) continue;
        value[key.text] = convert(*source->items[i], pointer + "/" + escape(key.text), key.place);
      }
    }
  }

  void merge(const Node& item, std::vector<const Node*>& merged) {
    if (item.kind == Node::Kind::mapping) {
      merged.push_back(&item);
      return;
    }
    const bool is_list = item.kind == Node::Kind::list && std::all_of(item.items.begin(), item.items.end(),
                                                                      [](const NodePtr& one) { return one->kind == Node::Kind::mapping; });
    if (!is_list) {
      problems_.push_back({item.place, "`<<` merges something that is no mapping: expected an alias of a mapping"});
      return;
    }
    for (const NodePtr& one : item.items) merged.push_back(one.get());
  }

  static std::string escape(const std::string& key) {
    std::string escaped;
    for (const char c : key) escaped += c == '~' ? "~0" : (c == '/' ? "~1" : std::string(1, c));
    return escaped;
  }

  PlaceMap& places_;
  std::vector<SourceProblem>& problems_;
  std::size_t count_ = 0;
  bool told_of_indentation_ = false;
};

/// The first line up to `last` that is indented with a tab; none where there is no such line.
std::optional<SourcePlace> find_tab(const std::string& text, const std::string& file, int last) {
  const std::vector<std::string> lines = split(text, '\n');
  for (int i = 0; i <= last && static_cast<std::size_t>(i) < lines.size(); ++i) {
    const std::string& line = lines[static_cast<std::size_t>(i)];
    const std::size_t indent = std::min(line.find_first_not_of(" \t"), line.size());
    const std::size_t tab = line.substr(0, indent).find('\t');
    if (tab != std::string::npos && indent < line.size()) return SourcePlace{file, i + 1, static_cast<int>(tab) + 1};
  }
  return std::nullopt;
}

/// The first byte that is not UTF-8.
std::optional<SourcePlace> find_bad_byte(const std::string& text, const std::string& file) {
  if (to_utf8(text) == text) return std::nullopt;
  const std::vector<std::string> lines = split(text, '\n');
  for (std::size_t i = 0; i < lines.size(); ++i) {
    const std::string clean = to_utf8(lines[i]);
    if (clean == lines[i]) continue;
    const auto first = std::mismatch(lines[i].begin(), lines[i].end(), clean.begin(), clean.end()).first;
    return SourcePlace{file, static_cast<int>(i) + 1, static_cast<int>(first - lines[i].begin()) + 1};
  }
  return SourcePlace{file, 1, 1};
}

/// Whether the quoted scalar that begins at `place` has no closing quote: the parser takes the end of the file for one.
bool is_unclosed(const std::string& text, const SourcePlace& place) {
  std::size_t at = 0;
  for (int line = 1; line < place.line; ++line) at = text.find('\n', at) + 1;
  at += static_cast<std::size_t>(place.column) - 1;
  while (at < text.size() && (text[at] == '&' || text[at] == '!')) {  // an anchor or a tag comes first
    at = text.find_first_not_of(" \n", std::min(text.find_first_of(" \n", at), text.size()));
  }
  if (at >= text.size() || (text[at] != '"' && text[at] != '\'')) return false;
  const char quote = text[at];
  for (++at; at < text.size(); ++at) {
    if (quote == '"' && text[at] == '\\') {
      ++at;
    } else if (text[at] == quote) {
      if (quote == '"' || text.substr(at + 1, 1) != "'") return false;
      ++at;
    }
  }
  return true;
}

/// A name with a value right behind its colon, `name:x`, in the last line that says anything up to `last`: YAML takes all of it for a text.
std::optional<SourceProblem> find_colon_without_space(const std::string& text, const std::string& file, int last) {
  const std::vector<std::string> lines = split(text, '\n');
  const auto is_name = [](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_'; };
  for (int i = std::min(last, static_cast<int>(lines.size()) - 1), looked = 0; i >= 0 && looked < 2; --i) {
    const std::string& line = lines[static_cast<std::size_t>(i)];
    const std::size_t begin = std::min(line.find_first_not_of(" -"), line.size());
    if (begin == line.size() || line[begin] == '#' || line[begin] == '\r') continue;
    ++looked;
    std::size_t end = begin;
    while (end < line.size() && is_name(line[end])) ++end;
    const SourcePlace place{file, i + 1, static_cast<int>(end) + 1};
    if (end == begin || end + 1 >= line.size()) continue;
    if (line.compare(end, 3, "\xEF\xBC\x9A") == 0) return SourceProblem{place, "not YAML: `：` is a full-width colon: expected `: `"};
    if (line[end] == ':' && std::string_view(" \r\t").find(line[end + 1]) == std::string_view::npos && line.find(": ") == std::string::npos)
      return SourceProblem{place, fmt::format("not YAML: a space is missing behind `{}:`", line.substr(begin, end - begin))};
  }
  return std::nullopt;
}

std::size_t indent_of(std::string_view line) { return std::min(line.find_first_not_of(' '), line.size()); }

/// A mark that git leaves where two versions of a line met.
std::optional<SourcePlace> find_conflict(const std::vector<std::string>& lines, const std::string& file) {
  for (std::size_t i = 0; i < lines.size(); ++i) {
    for (const std::string_view mark : {"<<<<<<< ", ">>>>>>> "}) {
      if (lines[i].starts_with(mark)) return SourcePlace{file, static_cast<int>(i) + 1, 1};
    }
  }
  return std::nullopt;
}

/// The first line of a here-document that is indented less than the text around it: for YAML the text ends there.
std::optional<SourceProblem> find_here_document(const std::vector<std::string>& lines, const std::string& file, std::size_t last) {
  for (std::size_t i = 0; i <= last && i < lines.size(); ++i) {
    const std::size_t at = lines[i].find("<<");
    if (at == std::string::npos || lines[i].substr(at, 3) == "<<<") continue;
    std::size_t begin = lines[i].find_first_not_of("-~ '\"\\", at + 2);
    if (begin == std::string::npos) continue;
    const std::string word = lines[i].substr(begin, lines[i].find_first_of(" '\"|>;&\r", begin) - begin);
    const auto is_end = [&](const std::string& line) { return trim(line) == word; };
    // `1 << 20` is none: nothing ends it.
    if (word.empty() || std::none_of(lines.begin() + static_cast<std::ptrdiff_t>(i) + 1, lines.end(), is_end)) continue;
    for (std::size_t k = i + 1; k < lines.size(); ++k) {
      if (!trim(lines[k]).empty() && indent_of(lines[k]) < indent_of(lines[i]))
        return SourceProblem{
            {file, static_cast<int>(k) + 1, static_cast<int>(indent_of(lines[k])) + 1},
            fmt::format("not YAML: this line of the here-document `{}` ends the text: expected it indented by {} spaces, like "
                        "line {}; the shell does not see them",
                        word, indent_of(lines[i]), i + 1)};
      if (is_end(lines[k])) break;
    }
  }
  return std::nullopt;
}

/// Where the quoted text or the bracket that begins at `at` ends: behind it; npos where it does not in this line.
std::size_t end_of_value(std::string_view line, std::size_t at) {
  const char open = line[at];
  if (open == '"' || open == '\'') {
    for (std::size_t i = at + 1; i < line.size(); ++i) {
      if (open == '"' && line[i] == '\\')
        ++i;
      else if (line[i] == open && open == '\'' && line.substr(i + 1, 1) == "'")
        ++i;
      else if (line[i] == open)
        return i + 1;
    }
    return std::string_view::npos;
  }
  std::size_t depth = 0;
  for (std::size_t i = at; i < line.size(); ++i) {
    if (line[i] == '[' || line[i] == '{') ++depth;
    if ((line[i] == ']' || line[i] == '}') && --depth == 0) return i + 1;
  }
  return std::string_view::npos;
}

/// `run: [ -f x ] || make`, `run: "echo "hi""`, `run: | grep x`: a value that goes on where YAML takes it for ended.
std::optional<SourceProblem> find_value_that_goes_on(const std::vector<std::string>& lines, const std::string& file, int last) {
  for (int i = std::min(last, static_cast<int>(lines.size()) - 1), looked = 0; i >= 0 && looked < 2; --i) {
    const std::string& line = lines[static_cast<std::size_t>(i)];
    if (trim(line).empty() || trim(line).starts_with('#')) continue;
    ++looked;
    std::size_t at = indent_of(line);
    while (line.compare(at, 2, "- ") == 0) at = std::min(line.find_first_not_of(' ', at + 2), line.size());
    if (at < line.size() && std::string_view("\"'[{|>").find(line[at]) == std::string_view::npos) {
      const std::size_t colon = line.find(": ", at);
      if (colon == std::string::npos) continue;
      at = std::min(line.find_first_not_of(' ', colon + 1), line.size());
    }
    if (at >= line.size()) continue;
    const SourcePlace place{file, i + 1, static_cast<int>(at) + 1};
    const char open = line[at];
    if (open == '|' || open == '>') {
      const std::string_view rest = trim(std::string_view(line).substr(at + 1));
      if (rest.empty() || rest.starts_with('#') || rest.find_first_not_of("+-0123456789") == std::string_view::npos) continue;
      return SourceProblem{place, fmt::format("not YAML: a text that begins with {} must be in quotes", open)};
    }
    if (std::string_view("\"'[{").find(open) == std::string_view::npos) continue;
    const std::size_t end = end_of_value(line, at);
    if (end == std::string_view::npos) continue;
    const std::string_view rest = trim(std::string_view(line).substr(end));
    if (rest.empty() || rest[0] == '#' || rest[0] == ':') continue;
    if (open == '"')
      return SourceProblem{place, "not YAML: the second \" ends the text: one that holds \" must be between ' and ', or below `|`"};
    if (open == '\'')
      return SourceProblem{place, "not YAML: the second ' ends the text: one that holds ' must be between \" and \", or below `|`"};
    return SourceProblem{place, fmt::format("not YAML: a text that begins with {} must be in quotes", open)};
  }
  return std::nullopt;
}

/// A placeholder between brackets or braces without quotes: its own braces are taken for some of theirs.
std::optional<SourceProblem> find_bare_placeholder(const std::vector<std::string>& lines, const std::string& file, int last) {
  for (int i = 0; i <= last && static_cast<std::size_t>(i) < lines.size(); ++i) {
    const std::string& line = lines[static_cast<std::size_t>(i)];
    const std::size_t hash = line.find(" #");
    for (std::size_t at = line.find("${{"); at < hash; at = line.find("${{", at + 1)) {
      const std::string_view before = std::string_view(line).substr(0, at);
      const bool in_flow = before.find('{') != std::string_view::npos || before.find('[') != std::string_view::npos;
      const bool in_quotes =
          std::count(before.begin(), before.end(), '"') % 2 == 1 || std::count(before.begin(), before.end(), '\'') % 2 == 1;
      const std::size_t end = line.find("}}", at);
      if (!in_flow || in_quotes || end == std::string::npos) continue;
      return SourceProblem{{file, i + 1, static_cast<int>(at) + 1},
                           fmt::format("not YAML: between brackets or braces a placeholder must be in quotes: \"{}\"",
                                       first_line(strip_control(line.substr(at, end + 2 - at)), 60))};
    }
  }
  return std::nullopt;
}

/// Why the bracket or brace at `place` has no end for the parser. Of several reasons the first in its line.
std::string why_unclosed(const std::string& text, const SourcePlace& place) {
  std::size_t at = 0;
  for (int line = 1; line < place.line; ++line) at = text.find('\n', at) + 1;
  at += static_cast<std::size_t>(place.column) - 1;
  const std::string_view line = std::string_view(text).substr(at, text.find('\n', at) - at);
  std::size_t depth = 0;
  bool begins_value = false;
  for (std::size_t i = 0; i < line.size(); ++i) {
    const char c = line[i];
    if ((c == '"' || c == '\'') && begins_value) {
      const std::size_t end = line.find(c, i + 1);
      if (end == std::string_view::npos) return "not YAML: a quote that is not closed";
      i = end;
      continue;
    }
    if (c == '{' || c == '[') ++depth;
    if ((c == '}' || c == ']') && --depth == 0)
      return "not YAML: between brackets or braces, a text that holds `: `, a comma or a bracket must be in quotes";
    if (c != ' ') begins_value = std::string_view("{[,:").find(c) != std::string_view::npos;
  }
  return "not YAML: a bracket or brace that is not closed";
}

std::string explain(const std::string& message) {
  if (message == "illegal map value") return "not YAML here: a text that holds `: ` or begins with a special character must be in quotes";
  if (message == "unknown token") return "not YAML here: a text that begins with %, @ or ` must be in quotes";
  if (message == "the referenced anchor is not defined")
    return "not YAML here: no anchor has that name; a text that begins with * must be in quotes";
  if (message.starts_with("unknown escape character") || message.find("scanning hex number") != std::string::npos)
    return "not YAML here: between \" a \\ is special; between ' it is not";
  if (message == "bad indentation of a mapping entry" || message == "end of map not found" || message == "end of sequence not found") {
    return "not YAML here: expected a key or an item indented like the ones above it";
  }
  return "not YAML here: " + message;
}

}  // namespace

Error error_of(std::vector<SourceProblem> problems, std::string_view consequence) {
  std::stable_sort(problems.begin(), problems.end(), [](const auto& a, const auto& b) { return a.place < b.place; });
  std::string text;
  std::string last;
  std::size_t count = 0;
  for (const SourceProblem& problem : problems) {
    const std::string where = problem.place.line == 0
                                  ? problem.place.file
                                  : fmt::format("{}:{}:{}", problem.place.file, problem.place.line, problem.place.column);
    std::string line = fmt::format("{}: {}", where, problem.message);
    if (line == last) continue;
    if (count++ > 0) text += "\n";
    text += line;
    last = std::move(line);
  }
  return {ErrorCode::recipe, std::move(text), count == 1 ? "" : fmt::format("{} problems; {}", count, consequence)};
}

const PlaceMap::Entry& PlaceMap::at(std::string_view pointer) const {
  static const Entry nowhere;
  while (true) {
    const auto found = entries_.find(std::string(pointer));
    if (found != entries_.end()) return found->second;
    if (pointer.empty()) return nowhere;
    pointer = pointer.substr(0, pointer.rfind('/'));
  }
}

void PlaceMap::graft(const PlaceMap& from, const std::string& from_pointer, const std::string& to_pointer) {
  for (const auto& [pointer, entry] : from.entries_) {
    if (pointer == from_pointer || pointer.starts_with(from_pointer + "/"))
      entries_[to_pointer + pointer.substr(from_pointer.size())] = entry;
  }
}

SourceProblem PlaceMap::locate(const FieldProblem& problem) const {
  const Entry& entry = at(problem.pointer);
  std::string message = problem.message;
  if (!entry.number.empty()) {
    const std::string read = "`" + Json(std::strtod(entry.number.c_str(), nullptr)).dump() + "`";
    if (const std::size_t where = message.find(read); where != std::string::npos)
      message.replace(where, read.size(), "`" + entry.number + "`");
  }
  if (const auto pasted = find_pasted(message)) message += "; " + describe(*pasted);
  return {problem.at == FieldProblem::At::key ? entry.key : entry.value, std::move(message)};
}

YamlDocument read_yaml(const std::string& text, const std::string& file, std::vector<SourceProblem>& problems) {
  YamlDocument document;
  if (text.size() > kMaxRecipeBytes) {
    problems.push_back({{file, 1, 1}, "more than 1 MiB: expected a recipe"});
    return document;
  }
  if (const auto place = find_bad_byte(text, file)) {
    problems.push_back({*place, "a byte that is not UTF-8: expected the file to be saved as UTF-8"});
    return document;
  }
  const std::vector<std::string> lines = split(text, '\n');
  for (std::size_t i = 0; i < lines.size(); ++i) {
    const std::size_t nul = lines[i].find('\0');
    if (nul == std::string::npos) continue;
    problems.push_back({{file, static_cast<int>(i) + 1, static_cast<int>(nul) + 1}, "a NUL byte: expected text"});
    return document;
  }
  if (const auto conflict = find_conflict(lines, file)) {
    problems.push_back({*conflict, "a mark of git, where two versions meet: expected the one that you want, without the marks"});
    return document;
  }
  TreeBuilder builder(file, problems);
  const auto stop = [&](const YAML::Mark& mark, std::string message) {
    const int line = std::max(mark.line, 0);
    // The parser looks for the digits of an escape in the next line, too.
    if (message.find(" a \\ is special") != std::string::npos) {
      int at = std::min(line, static_cast<int>(lines.size()) - 1);
      while (at > 0 && lines[static_cast<std::size_t>(at)].find('\\') == std::string::npos) --at;
      const std::size_t escape = lines[static_cast<std::size_t>(at)].find('\\');
      if (at != line && escape != std::string::npos) {
        problems.push_back({{file, at + 1, static_cast<int>(escape) + 1}, std::move(message)});
        return;
      }
    }
    if (const auto tab = find_tab(text, file, line)) {
      problems.push_back({*tab, "a tab in the indentation: expected spaces"});
    } else if (auto here = find_here_document(lines, file, static_cast<std::size_t>(line))) {
      problems.push_back(*std::move(here));
    } else if (auto bare = find_bare_placeholder(lines, file, line)) {
      problems.push_back(*std::move(bare));
    } else if (message.find(" flow not found") != std::string::npos && builder.innermost()) {
      problems.push_back({*builder.innermost(), why_unclosed(text, *builder.innermost())});
    } else if (auto colon = find_colon_without_space(text, file, line)) {
      problems.push_back(*std::move(colon));
    } else if (auto value = find_value_that_goes_on(lines, file, line)) {
      problems.push_back(*std::move(value));
    } else {
      problems.push_back({{file, line + 1, std::max(mark.column, 0) + 1}, std::move(message)});
    }
  };
  try {
    std::istringstream input(text);
    YAML::Parser parser(input);
    if (!parser.HandleNextDocument(builder) || builder.root() == nullptr) {
      const bool is_blank = trim(text).empty();
      problems.push_back(
          {{file, 1, 1},
           fmt::format("the file {}: expected a recipe with `name` and `steps`", is_blank ? "is empty" : "holds comments alone")});
      return document;
    }
    if (builder.last_quoted() && is_unclosed(text, *builder.last_quoted())) {
      problems.push_back({*builder.last_quoted(), "not YAML: a quote that is not closed"});
      return document;
    }
    const NodePtr root = builder.root();
    TreeBuilder rest(file, problems);
    if (parser.HandleNextDocument(rest) && rest.root() != nullptr) {
      problems.push_back({rest.root()->place, "a second YAML document: expected one recipe a file, without `---` after its beginning"});
    }
    Converter converter(document.places, problems);
    auto value = std::make_shared<Json>(converter.convert(*root, "", {file, 1, 1}));
    // What is left of one that is too large would be found wanting in everything else.
    if (!converter.is_cut()) document.value = std::move(value);
  } catch (const TooDeep& error) {
    stop(error.mark, fmt::format("nested deeper than {} levels: expected a recipe", kMaxDepth));
  } catch (const YAML::Exception& error) { stop(error.mark, explain(error.msg)); }
  return document;
}

}  // namespace gpustrap
