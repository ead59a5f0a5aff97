#include "agent/protocol/fields.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <charconv>
#include <cmath>
#include <limits>

#include <fmt/format.h>

#include "agent/base/text.h"
#include "agent/protocol/field_types.h"
#include "agent/protocol/json.h"
#include "agent/protocol/money.h"

namespace gpustrap {
namespace {

constexpr std::string_view kQuoteIt = "put it in quotes";

bool has_control(std::string_view text) {
  return std::any_of(text.begin(), text.end(), [](unsigned char c) { return c < 0x20 || c == 0x7F; });
}

/// A text, or a whole number where a text is wanted; nullopt after it has said what is wrong.
std::optional<std::string> read_text(const Json& value, const FieldPlace& place, std::string_view expected) {
  if (value.is_string()) {
    auto text = value.get<std::string>();
    if (text.find('\0') == std::string::npos) return text;
    place.wrong(value, expected, "it holds a NUL character");
    return std::nullopt;
  }
  if (value.is_number_integer()) return value.dump();
  if (value.is_number_float()) {
    place.wrong(value, expected, "it reads as a number here, and 3.10 would become 3.1: put it in quotes");
  } else if (value.is_boolean()) {
    place.wrong(value, expected, kQuoteIt);
  } else {
    place.wrong(value, expected);
  }
  return std::nullopt;
}

bool is_environment_name(std::string_view name) {
  const auto is_word = [](unsigned char c) { return c < 0x80 && (std::isalnum(c) != 0 || c == '_'); };
  return !name.empty() && std::isdigit(static_cast<unsigned char>(name[0])) == 0 && std::all_of(name.begin(), name.end(), is_word);
}

struct Unit {
  std::string_view name;
  std::uint64_t factor;
};
constexpr std::array<Unit, 9> kSizeUnits = {{{"TiB", std::uint64_t{1} << 40U},
                                             {"GiB", std::uint64_t{1} << 30U},
                                             {"MiB", std::uint64_t{1} << 20U},
                                             {"KiB", std::uint64_t{1} << 10U},
                                             {"TB", 1'000'000'000'000U},
                                             {"GB", 1'000'000'000U},
                                             {"MB", 1'000'000U},
                                             {"kB", 1'000U},
                                             {"B", 1U}}};
constexpr std::array<Unit, 4> kTimeUnits = {{{"d", 86400}, {"h", 3600}, {"m", 60}, {"s", 1}}};
/// Ten years: anything longer is a slip, and sums of such times stay far from overflow.
constexpr std::uint64_t kLongestTime = 3650ULL * 86400ULL;

std::optional<std::uint64_t> parse_size(std::string_view text) {
  const std::size_t end = text.find_first_not_of("0123456789.");
  if (end == 0 || end == std::string_view::npos) return std::nullopt;
  const std::string_view number = text.substr(0, end);
  const std::string_view unit = trim(text.substr(end));
  const auto* found = std::find_if(kSizeUnits.begin(), kSizeUnits.end(), [&](const Unit& candidate) { return candidate.name == unit; });
  if (found == kSizeUnits.end()) return std::nullopt;
  if (number.find('.') == std::string_view::npos) {
    std::uint64_t count = 0;
    const auto parsed = std::from_chars(number.data(), number.data() + number.size(), count);
    if (parsed.ec != std::errc() || count > std::numeric_limits<std::uint64_t>::max() / found->factor) return std::nullopt;
    return count * found->factor;
  }
  double count = 0;
  const auto parsed = std::from_chars(number.data(), number.data() + number.size(), count);
  const double bytes = count * static_cast<double>(found->factor);
  if (parsed.ec != std::errc() || parsed.ptr != number.data() + number.size() || bytes >= 1.8e19) return std::nullopt;
  return static_cast<std::uint64_t>(std::llround(std::min(bytes, 9.2e18)));
}

std::optional<std::uint64_t> parse_time(std::string_view text) {
  std::uint64_t total = 0;
  if (text.empty()) return std::nullopt;
  while (!text.empty()) {
    std::uint64_t count = 0;
    const auto parsed = std::from_chars(text.data(), text.data() + text.size(), count);
    if (parsed.ec != std::errc() || count > kLongestTime) return std::nullopt;
    text.remove_prefix(static_cast<std::size_t>(parsed.ptr - text.data()));
    const auto* unit = std::find_if(kTimeUnits.begin(), kTimeUnits.end(), [&](const Unit& u) { return text.substr(0, 1) == u.name; });
    if (unit == kTimeUnits.end()) return std::nullopt;
    total += count * unit->factor;
    if (total > kLongestTime) return std::nullopt;
    text.remove_prefix(1);
  }
  return total;
}

}  // namespace

void FieldPlace::wrong(const Json& value, std::string_view expected, std::string_view remark) const {
  std::string sentence = value.is_null() ? fmt::format("{} is empty: expected {}", label_, expected)
                                         : fmt::format("{} is {}: expected {}", label_, quote_value(value), expected);
  if (!remark.empty()) sentence += fmt::format("; {}", remark);
  problems_->push_back({FieldProblem::At::value, pointer_, std::move(sentence)});
}

void FieldPlace::say(std::string_view rest_of_sentence) const {
  problems_->push_back({FieldProblem::At::value, pointer_, fmt::format("{} {}", label_, rest_of_sentence)});
}

FieldPlace FieldPlace::item(std::size_t index) const {
  return {fmt::format("item {} of {}", index + 1, label_), join_pointer(pointer_, std::to_string(index)), placeholders_, *problems_};
}

FieldPlace FieldPlace::member(std::string_view name) const {
  return {fmt::format("`{}` in {}", first_line(strip_control(name), 60), label_), join_pointer(pointer_, name), placeholders_, *problems_};
}

bool FieldPlace::is_deferred(const Json& value) const {
  return placeholders_ == Placeholders::allowed && value.is_string() &&
         value.get_ref<const std::string&>().find("${{") != std::string::npos;
}

std::string join_pointer(std::string_view pointer, std::string_view key) {
  std::string joined = std::string(pointer) + "/";
  for (const char c : key) {
    if (c == '~')
      joined += "~0";
    else if (c == '/')
      joined += "~1";
    else
      joined += c;
  }
  return joined;
}

std::string quote_value(const Json& value) {
  const std::string text = value.is_string() ? value.get<std::string>() : value.dump(-1, ' ', false, Json::error_handler_t::replace);
  std::string clean = strip_control(text);
  std::replace(clean.begin(), clean.end(), '\n', ' ');
  return "`" + first_line(clean, 60) + "`";
}

bool is_plain_id(std::string_view text) {
  const auto is_alnum = [](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9'); };
  return !text.empty() && text.size() <= 64 && is_alnum(text[0]) &&
         std::all_of(text.begin(), text.end(), [&](char c) { return is_alnum(c) || c == '.' || c == '_' || c == '-'; });
}

std::string FieldType<bool>::type() { return "boolean"; }
std::string FieldType<bool>::expected() { return "true or false"; }
void FieldType<bool>::read(const Json& value, const FieldPlace& place, bool& out) {
  if (place.is_deferred(value)) return;
  if (value.is_boolean())
    out = value.get<bool>();
  else
    place.wrong(value, expected());
}
Json FieldType<bool>::write(const bool& value) { return value; }

std::string FieldType<std::int64_t>::type() { return "number"; }
std::string FieldType<std::int64_t>::expected() { return "a whole number, 0 or more"; }
void FieldType<std::int64_t>::read(const Json& value, const FieldPlace& place, std::int64_t& out) {
  if (place.is_deferred(value)) return;
  // Every number in a recipe counts something; a million of anything is a slip.
  constexpr std::int64_t kMost = 1'000'000;
  if (value.is_number_integer() && value >= 0 && value <= kMost)
    out = value.get<std::int64_t>();
  else
    place.wrong(value, expected());
}
Json FieldType<std::int64_t>::write(const std::int64_t& value) { return value; }

std::string FieldType<std::string>::type() { return "text"; }
std::string FieldType<std::string>::expected() { return "a text"; }
void FieldType<std::string>::read(const Json& value, const FieldPlace& place, std::string& out) {
  if (place.is_deferred(value)) return;
  if (auto text = read_text(value, place, expected())) out = *std::move(text);
}
Json FieldType<std::string>::write(const std::string& value) { return value; }

std::string FieldType<HostPath>::type() { return "path"; }
std::string FieldType<HostPath>::expected() { return "an absolute path, ~ or a path that starts with ~/"; }
void FieldType<HostPath>::read(const Json& value, const FieldPlace& place, HostPath& out) {
  if (place.is_deferred(value)) return;
  if (value.is_null()) return place.wrong(value, expected(), "a bare ~ is empty in YAML, write \"~\"");
  const auto text = read_text(value, place, expected());
  if (!text) return;
  const bool is_path = text->substr(0, 1) == "/" || *text == "~" || text->substr(0, 2) == "~/";
  if (!is_path || has_control(*text)) return place.wrong(value, expected());
  out.text = *text;
}
Json FieldType<HostPath>::write(const HostPath& value) { return value.text; }

std::string FieldType<Url>::type() { return "URL"; }
std::string FieldType<Url>::expected() { return "a URL that starts with https:// or http://"; }
void FieldType<Url>::read(const Json& value, const FieldPlace& place, Url& out) {
  if (place.is_deferred(value)) return;
  const auto text = read_text(value, place, expected());
  if (!text) return;
  std::string_view rest = *text;
  for (const std::string_view scheme : {"https://", "http://"}) {
    if (rest.substr(0, scheme.size()) != scheme) continue;
    rest.remove_prefix(scheme.size());
    const std::string_view authority = rest.substr(0, rest.find_first_of("/?#"));
    if (authority.find('@') != std::string_view::npos) {
      // The value is not quoted: what stands there may be a password.
      return place.say("holds a user name or password: expected a URL without credentials, since recipes and logs are shared");
    }
    const std::size_t odd = text->find_first_of(" \"<>\\^`{|}");
    if (odd != std::string::npos)
      return place.wrong(
          value, expected(),
          (*text)[odd] == ' ' ? "it holds a space, which a URL has as %20" : fmt::format("it holds `{}`, which no URL does", (*text)[odd]));
    if (authority.empty() || has_control(*text)) break;
    out.text = *text;
    return;
  }
  place.wrong(value, expected());
}
Json FieldType<Url>::write(const Url& value) { return value.text; }

std::string FieldType<std::vector<Url>>::type() { return "list of URLs"; }
std::string FieldType<std::vector<Url>>::expected() { return "a URL or a list of them"; }
void FieldType<std::vector<Url>>::read(const Json& value, const FieldPlace& place, std::vector<Url>& out) {
  if (place.is_deferred(value)) return;
  if (value.is_string()) {
    FieldType<Url>::read(value, place, out.emplace_back());
  } else if (value.is_array()) {
    for (std::size_t i = 0; i < value.size(); ++i) FieldType<Url>::read(value[i], place.item(i), out.emplace_back());
  } else {
    place.wrong(value, expected());
  }
}
Json FieldType<std::vector<Url>>::write(const std::vector<Url>& value) {
  Json list = Json::array();
  for (const Url& url : value) list.push_back(url.text);
  return list;
}

std::string FieldType<Sha256Digest>::type() { return "SHA-256"; }
std::string FieldType<Sha256Digest>::expected() { return "64 hexadecimal digits"; }
void FieldType<Sha256Digest>::read(const Json& value, const FieldPlace& place, Sha256Digest& out) {
  if (place.is_deferred(value)) return;
  auto text = read_text(value, place, expected());
  if (!text) return;
  if (text->rfind("sha256:", 0) == 0) text->erase(0, 7);
  std::transform(text->begin(), text->end(), text->begin(),
                 [](char c) { return c >= 'A' && c <= 'F' ? static_cast<char>(c - 'A' + 'a') : c; });
  if (text->find_first_not_of("0123456789abcdef") != std::string::npos) return place.wrong(value, expected());
  if (text->size() != 64) return place.wrong(value, expected(), fmt::format("it has {}", text->size()));
  out.hex = *text;
}
Json FieldType<Sha256Digest>::write(const Sha256Digest& value) { return value.hex; }

std::string FieldType<FileMode>::type() { return "mode"; }
std::string FieldType<FileMode>::expected() { return "permissions in octal, such as \"0644\""; }
void FieldType<FileMode>::read(const Json& value, const FieldPlace& place, FileMode& out) {
  if (place.is_deferred(value)) return;
  // A bare 644 could be octal digits or the decimal that another YAML reader made of 01204: only a text is certain.
  if (!value.is_string()) return place.wrong(value, expected(), value.is_number() ? kQuoteIt : "");
  const auto text = value.get<std::string>();
  if (text.size() < 3 || text.size() > 5 || text.find_first_not_of("01234567") != std::string::npos) return place.wrong(value, expected());
  unsigned bits = 0;
  std::from_chars(text.data(), text.data() + text.size(), bits, 8);
  if (bits > 07777U) return place.wrong(value, expected());
  out.bits = bits;
}
Json FieldType<FileMode>::write(const FileMode& value) { return fmt::format("{:04o}", value.bits); }

std::string FieldType<ByteSize>::type() { return "size"; }
std::string FieldType<ByteSize>::expected() { return "a size with its unit, such as 40GiB or 500MB"; }
void FieldType<ByteSize>::read(const Json& value, const FieldPlace& place, ByteSize& out) {
  if (place.is_deferred(value)) return;
  const auto bytes = value.is_string() ? parse_size(value.get<std::string>()) : std::nullopt;
  if (bytes)
    out.bytes = *bytes;
  else
    place.wrong(value, expected());
}
Json FieldType<ByteSize>::write(const ByteSize& value) {
  const auto* unit = std::find_if(kSizeUnits.begin(), kSizeUnits.end(), [&](const Unit& candidate) {
    return value.bytes >= candidate.factor && value.bytes % candidate.factor == 0;
  });
  return unit == kSizeUnits.end() ? std::string("0B") : fmt::format("{}{}", value.bytes / unit->factor, unit->name);
}

std::string FieldType<Duration>::type() { return "time"; }
std::string FieldType<Duration>::expected() { return "a time with its unit, such as 90s, 10m, 2h or 1d"; }
void FieldType<Duration>::read(const Json& value, const FieldPlace& place, Duration& out) {
  if (place.is_deferred(value)) return;
  const auto seconds = value.is_string() ? parse_time(value.get<std::string>()) : std::nullopt;
  if (seconds)
    out.time = std::chrono::seconds(*seconds);
  else
    place.wrong(value, expected());
}
Json FieldType<Duration>::write(const Duration& value) {
  const auto count = static_cast<std::uint64_t>(value.time.count());
  const auto* unit =
      std::find_if(kTimeUnits.begin(), kTimeUnits.end(), [&](const Unit& u) { return count >= u.factor && count % u.factor == 0; });
  return unit == kTimeUnits.end() ? std::string("0s") : fmt::format("{}{}", count / unit->factor, unit->name);
}

std::string FieldType<Money>::type() { return "money"; }
std::string FieldType<Money>::expected() { return "an amount with its currency, such as 5 USD"; }
void FieldType<Money>::read(const Json& value, const FieldPlace& place, Money& out) {
  if (place.is_deferred(value)) return;
  const auto money = value.is_string() ? parse_money(value.get<std::string>()) : std::nullopt;
  if (money)
    out = *money;
  else
    place.wrong(value, expected());
}
Json FieldType<Money>::write(const Money& value) { return money_text(value); }

std::string FieldType<HourlyPrice>::type() { return "price"; }
std::string FieldType<HourlyPrice>::expected() { return "what an hour costs, such as 0.526 USD/h"; }
void FieldType<HourlyPrice>::read(const Json& value, const FieldPlace& place, HourlyPrice& out) {
  if (place.is_deferred(value)) return;
  const auto price = value.is_string() ? parse_price(value.get<std::string>()) : std::nullopt;
  if (price)
    out = *price;
  else
    place.wrong(value, expected());
}
Json FieldType<HourlyPrice>::write(const HourlyPrice& value) { return price_text(value); }

std::string FieldType<PortNumber>::type() { return "port"; }
std::string FieldType<PortNumber>::expected() { return "a port number, 1 to 65535"; }
void FieldType<PortNumber>::read(const Json& value, const FieldPlace& place, PortNumber& out) {
  if (place.is_deferred(value)) return;
  if (value.is_number_integer() && value >= 1 && value <= 65535)
    out.number = value.get<std::uint16_t>();
  else
    place.wrong(value, expected());
}
Json FieldType<PortNumber>::write(const PortNumber& value) { return value.number; }

std::string FieldType<StringList>::type() { return "list of texts"; }
std::string FieldType<StringList>::expected() { return "a text or a list of texts"; }
void FieldType<StringList>::read(const Json& value, const FieldPlace& place, StringList& out) {
  const auto add = [&](const Json& item, const FieldPlace& at) {
    if (at.is_deferred(item)) return;
    const auto text = read_text(item, at, "a text");
    if (!text) return;
    if (trim(*text).empty()) return at.say("is empty: expected a text");
    out.items.push_back(*text);
  };
  out.items.clear();
  if (value.is_array()) {
    for (std::size_t i = 0; i < value.size(); ++i) add(value[i], place.item(i));
  } else if (value.is_object() || value.is_null()) {
    place.wrong(value, expected());
  } else {
    add(value, place);
  }
}
Json FieldType<StringList>::write(const StringList& value) { return value.items; }

std::string FieldType<CommandText>::type() { return "command"; }
std::string FieldType<CommandText>::expected() { return "a shell text or a list of arguments"; }
void FieldType<CommandText>::read(const Json& value, const FieldPlace& place, CommandText& out) {
  if (place.is_deferred(value)) return;
  if (value.is_array()) {
    if (value.empty()) return place.wrong(value, expected());
    for (std::size_t i = 0; i < value.size(); ++i) {
      const FieldPlace at = place.item(i);
      if (at.is_deferred(value[i]))
        out.argv.emplace_back();
      else if (auto text = read_text(value[i], at, "a text"))
        out.argv.push_back(*std::move(text));
      if (i == 0 && !out.argv.empty() && out.argv[0].empty() && !at.is_deferred(value[0]))
        at.say("is empty: expected the name of a program");
    }
    return;
  }
  if (!value.is_string()) return place.wrong(value, expected());
  auto text = read_text(value, place, expected());
  if (!text) return;
  if (trim(*text).empty()) return place.say("is empty: expected a command to run");
  out.shell = *std::move(text);
}
Json FieldType<CommandText>::write(const CommandText& value) {
  if (!value.argv.empty()) return value.argv;
  return value.shell.empty() ? Json() : Json(value.shell);
}

std::string FieldType<TextMap>::type() { return "mapping"; }
std::string FieldType<TextMap>::expected() { return "a mapping of names to texts"; }
void FieldType<TextMap>::read(const Json& value, const FieldPlace& place, TextMap& out) {
  if (!value.is_object()) return place.wrong(value, expected());
  for (const auto& [name, text] : value.items()) {
    const FieldPlace at = place.member(name);
    if (!is_environment_name(name)) at.say("is not a name for a variable: expected letters, digits and _, not beginning with a digit");
    std::string item;
    FieldType<std::string>::read(text, at, item);
    out.items.emplace_back(name, std::move(item));
  }
}
Json FieldType<TextMap>::write(const TextMap& value) {
  Json map = Json::object();
  for (const auto& [name, text] : value.items) map[name] = text;
  return map;
}

std::string FieldType<EnvironmentChange>::type() { return "text or mapping"; }
std::string FieldType<EnvironmentChange>::expected() { return "a text, {prepend: …} or {append: …}"; }
void FieldType<EnvironmentChange>::read(const Json& value, const FieldPlace& place, EnvironmentChange& out) {
  if (!value.is_object()) {
    if (place.is_deferred(value)) return;
    if (auto text = read_text(value, place, expected())) {
      if (has_control(*text)) return place.wrong(value, "a text of one line");
      out = {EnvironmentChange::Kind::set, {*std::move(text)}};
    }
    return;
  }
  if (value.size() != 1) return place.wrong(value, expected());
  const std::string end = value.begin().key();
  if (end != "prepend" && end != "append") {
    const std::string nearest = nearest_name(end, {"prepend", "append"});
    return place.wrong(value, expected(), nearest.empty() ? "" : fmt::format("did you mean `{}`?", nearest));
  }
  StringList list;
  const FieldPlace at = place.member(end);
  FieldType<StringList>::read(value.begin().value(), at, list);
  for (const std::string& item : list.items) {
    if (has_control(item)) at.wrong(item, "texts of one line");
  }
  out = {end == "prepend" ? EnvironmentChange::Kind::prepend : EnvironmentChange::Kind::append, std::move(list.items)};
}
Json FieldType<EnvironmentChange>::write(const EnvironmentChange& value) {
  if (value.kind == EnvironmentChange::Kind::set) return value.values.empty() ? std::string() : value.values[0];
  return {{value.kind == EnvironmentChange::Kind::prepend ? "prepend" : "append", value.values}};
}

std::optional<std::size_t> read_choice(const Json& value, const FieldPlace& place, const std::vector<std::string>& names) {
  if (place.is_deferred(value)) return std::nullopt;
  if (value.is_string()) {
    const auto text = value.get<std::string>();
    const auto found = std::find(names.begin(), names.end(), text);
    if (found != names.end()) return static_cast<std::size_t>(found - names.begin());
    const std::string nearest = nearest_name(text, names);
    place.wrong(value, choice_text(names), nearest.empty() ? "" : fmt::format("did you mean `{}`?", nearest));
  } else {
    place.wrong(value, choice_text(names));
  }
  return std::nullopt;
}

std::string choice_text(const std::vector<std::string>& names) { return "one of " + join(names, ", "); }

}  // namespace gpustrap
