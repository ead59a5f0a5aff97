// Ansible's inventories in INI form, and what its variables mean here.
#include <algorithm>
#include <array>
#include <charconv>
#include <cstdlib>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "agent/base/text.h"
#include "agent/protocol/field_types.h"
#include "agent/protocol/json.h"
#include "controller/fleet_hosts_builder.h"
#include "controller/newcomer.h"
#include "controller/ssh_config.h"

namespace gpustrap {
namespace {

/// Ansible's own affairs: how it becomes root, which Python it looks for, how it prints.
constexpr std::array<std::string_view, 9> kNotOurs = {
    "ansible_become",     "ansible_python_interpreter", "ansible_shell_type", "ansible_shell_exec",
    "ansible_pipelining", "ansible_ssh_pipelining",     "ansible_sudo",       "ansible_su",
    "ansible_remote_tmp"};

std::optional<std::uint16_t> port_of(const Json& value) {
  const std::string text = value.is_string() ? value.get<std::string>() : value.dump();
  unsigned port = 0;
  const auto parsed = std::from_chars(text.data(), text.data() + text.size(), port);
  if (parsed.ec != std::errc() || parsed.ptr != text.data() + text.size() || port == 0 || port > 65535) return std::nullopt;
  return static_cast<std::uint16_t>(port);
}

std::string at_home(const std::string& path) {
  const char* home = std::getenv("HOME");
  return path.starts_with("~/") && home != nullptr ? home + path.substr(1) : path;
}

/// A value as Ansible reads it in INI: numbers and booleans are what they look like, the rest is text.
Json value_of(const std::string& text) {
  if (text == "true" || text == "True") return true;
  if (text == "false" || text == "False") return false;
  std::int64_t number = 0;
  const auto parsed = std::from_chars(text.data(), text.data() + text.size(), number);
  const bool plain = text == "0" || (!text.empty() && text[0] != '0' && text.substr(0, 2) != "-0");
  if (plain && parsed.ec == std::errc() && parsed.ptr == text.data() + text.size()) return number;
  return text;
}

struct Word {
  std::string text;
  int column = 1;
};

/// Words as a shell would split them, without expansions. Nothing where a quote is not closed; a comment ends the line.
std::optional<std::vector<Word>> shell_words(const std::string& line) {
  std::vector<Word> found;
  bool inside = false;
  char quote = 0;
  for (std::size_t i = 0; i < line.size(); ++i) {
    const char c = line[i];
    if (quote == 0 && (c == ' ' || c == '\t' || c == '\r')) {
      inside = false;
      continue;
    }
    if (!inside) {
      if (c == '#') break;
      found.push_back({"", static_cast<int>(i) + 1});
      inside = true;
    }
    if (quote == 0 && (c == '\'' || c == '"'))
      quote = c;
    else if (quote != 0 && c == quote)
      quote = 0;
    else if (c == '\\' && quote != '\'' && i + 1 < line.size())
      found.back().text += line[++i];
    else
      found.back().text += c;
  }
  if (quote != 0) return std::nullopt;
  return found;
}

class IniReader {
 public:
  IniReader(const std::string& label, FleetHostsBuilder& builder, std::vector<SourceProblem>& problems)
      : label_(label), builder_(builder), problems_(problems) {}

  void read(const std::string& text) {
    const std::vector<std::string> lines = split(text, '\n');
    for (std::size_t i = 0; i < lines.size(); ++i) {
      line_ = static_cast<int>(i) + 1;
      const std::string_view trimmed = trim(lines[i]);
      if (trimmed.empty() || trimmed[0] == '#' || trimmed[0] == ';') continue;
      if (trimmed[0] == '[' && !is_range(trimmed))
        begin_section(lines[i], trimmed);
      else if (part_ == Part::hosts)
        take_host(lines[i]);
      else if (part_ == Part::children)
        take_child(lines[i]);
      else if (part_ == Part::vars)
        take_var(lines[i]);
    }
    for (const auto& [name, place] : spoken_of_) {
      if (name == "all" || builder_.has_group(name)) continue;
      problems_.push_back(
          {place, fmt::format("variables for a group {} that has no hosts: expected a section [{}] too", quote_value(name), name)});
    }
  }

 private:
  enum class Part { hosts, children, vars, nothing };

  [[nodiscard]] SourcePlace at(int column) const { return {label_, line_, column}; }
  void wrong(int column, std::string message) { problems_.push_back({at(column), std::move(message)}); }

  /// A line such as "[a:c].example.org" names hosts.
  static bool is_range(std::string_view line) {
    const std::size_t close = line.find(']');
    return close != std::string_view::npos && close + 1 < line.size() && line[close + 1] != ' ' && line[close + 1] != '\t' &&
           line[close + 1] != '#' && line[close + 1] != ';';
  }

  void begin_section(const std::string& line, std::string_view trimmed) {
    const int column = static_cast<int>(line.find('[')) + 1;
    part_ = Part::nothing;
    const std::size_t close = trimmed.find(']');
    if (close == std::string_view::npos) return wrong(column, "a section without its `]`: expected [GROUP]");
    const std::string whole(trim(trimmed.substr(1, close - 1)));
    const std::size_t colon = whole.find(':');
    group_ = whole.substr(0, colon);
    const std::string what = colon == std::string::npos ? "" : whole.substr(colon + 1);
    if (group_.empty()) return wrong(column, "a section without a name: expected [GROUP]");
    if (what.empty() && colon == std::string::npos) {
      part_ = Part::hosts;
    } else if (what == "children") {
      part_ = Part::children;
    } else if (what == "vars") {
      part_ = Part::vars;
      spoken_of_.emplace_back(group_, at(column));
      return;
    } else {
      return wrong(column, fmt::format("{} is no kind of section: expected [{}], [{}:children] or [{}:vars]", quote_value(whole), group_,
                                       group_, group_));
    }
    if (!is_everybody()) builder_.add_group(group_, at(column));
  }

  [[nodiscard]] bool is_everybody() const { return group_.empty() || group_ == "all" || group_ == "ungrouped"; }

  void take_host(const std::string& line) {
    const std::optional<std::vector<Word>> words = shell_words(line);
    if (!words) return wrong(1, "a quote that is not closed");
    if (words->empty()) return;
    std::string name = words->front().text;
    HostSettings settings;
    // "gpu1:2222" is a port; an IPv6 address has more colons, and a range has its own.
    const std::size_t bracket = name.rfind(']');
    const std::size_t colon = name.find(':', bracket == std::string::npos ? 0 : bracket);
    if (colon != std::string::npos && name.find(':', colon + 1) == std::string::npos) {
      settings.port = port_of(name.substr(colon + 1));
      if (!settings.port) return wrong(words->front().column, fmt::format("{} has no port behind the colon", quote_value(name)));
      name.resize(colon);
    }
    const std::vector<std::string> names = builder_.add_hosts(name, at(words->front().column));
    for (std::size_t i = 1; i < words->size(); ++i) {
      const Word& word = (*words)[i];
      const std::size_t equals = word.text.find('=');
      if (equals == std::string::npos || equals == 0) {
        wrong(word.column, fmt::format("{} behind a host: expected NAME=VALUE", quote_value(word.text)));
        continue;
      }
      take_ansible_var(settings, word.text.substr(0, equals), value_of(word.text.substr(equals + 1)), at(word.column), builder_, problems_);
    }
    for (const std::string& one : names) {
      HostSettings& known = builder_.of_host(one);
      if (settings.port) known.port = settings.port;
      if (!settings.address.empty()) known.address = settings.address;
      if (!settings.private_address.empty()) known.private_address = settings.private_address;
      if (!settings.user.empty()) known.user = settings.user;
      if (!settings.identities.empty()) known.identities = settings.identities;
      known.vars.insert(known.vars.end(), settings.vars.begin(), settings.vars.end());
      if (!is_everybody()) builder_.put_host(group_, one);
    }
  }

  void take_child(const std::string& line) {
    const std::optional<std::vector<Word>> words = shell_words(line);
    if (!words || words->size() != 1) return wrong(1, "expected the name of one group a line");
    if (!is_everybody()) builder_.put_group(group_, words->front().text, at(words->front().column));
  }

  void take_var(const std::string& line) {
    const std::size_t equals = line.find('=');
    const std::string name(trim(std::string_view(line).substr(0, equals)));
    const int column = static_cast<int>(line.find_first_not_of(" \t")) + 1;
    if (equals == std::string::npos || name.empty() || name.find_first_of(" \t") != std::string::npos)
      return wrong(column, fmt::format("{} among variables: expected NAME=VALUE", quote_value(std::string(trim(line)))));
    std::string text(trim(std::string_view(line).substr(equals + 1)));
    if (text.size() > 1 && (text[0] == '"' || text[0] == '\'') && text.back() == text[0]) {
      text = text.substr(1, text.size() - 2);
    } else if (const std::size_t comment = text.find(" #"); comment != std::string::npos) {
      text = trim(text.substr(0, comment));
    }
    HostSettings& settings = group_ == "all" ? builder_.of_all() : of_later_group();
    take_ansible_var(settings, name, value_of(text), at(column), builder_, problems_);
  }

  /// Variables may stand before the hosts of their group.
  HostSettings& of_later_group() { return builder_.of_group(group_); }

  const std::string& label_;
  FleetHostsBuilder& builder_;
  std::vector<SourceProblem>& problems_;
  Part part_ = Part::hosts;  ///< hosts may come before the first section
  std::string group_;
  int line_ = 0;
  std::vector<std::pair<std::string, SourcePlace>> spoken_of_;
};

}  // namespace

void read_ansible_ini(const std::string& text, const std::string& label, FleetHostsBuilder& builder, std::vector<SourceProblem>& problems) {
  IniReader(label, builder, problems).read(text);
}

void take_ansible_var(HostSettings& settings, const std::string& name, const Json& value, const SourcePlace& place,
                      FleetHostsBuilder& builder, std::vector<SourceProblem>& problems) {
  const std::string text = value.is_string() ? value.get<std::string>() : value.dump();
  const auto wrong = [&](std::string_view expected) {
    problems.push_back({place, fmt::format("`{}` is {}: expected {}", name, quote_value(value), expected)});
  };
  const auto is = [&](std::initializer_list<std::string_view> names) { return std::find(names.begin(), names.end(), name) != names.end(); };
  const bool ours = is({"ansible_host", "ansible_ssh_host", "ansible_user", "ansible_ssh_user", "ansible_port", "ansible_ssh_port",
                        "ansible_ssh_private_key_file", "ansible_private_key_file", "private_address"});
  if (ours && (value.is_structured() || text.find("{{") != std::string::npos))
    return wrong("a plain value, since gpustrap does not work out templates");
  if (is({"ansible_host", "ansible_ssh_host"})) {
    if (const Result<Destination> destination = read_destination(text); !destination || !destination->user.empty())
      return wrong("a name or an address");
    settings.address = text;
  } else if (is({"ansible_user", "ansible_ssh_user"})) {
    if (!is_plain_name(text)) return wrong("the name of a login, such as ubuntu");
    settings.user = text;
  } else if (is({"ansible_port", "ansible_ssh_port"})) {
    settings.port = port_of(value);
    if (!settings.port) wrong("a port number, 1 to 65535");
  } else if (is({"ansible_ssh_private_key_file", "ansible_private_key_file"})) {
    settings.identities = {at_home(text)};
  } else if (name == "private_address") {
    settings.private_address = text;
  } else if (name == "ansible_connection") {
    if (text != "ssh" && text != "smart" && text != "paramiko" && text != "paramiko_ssh") wrong("ssh: gpustrap reaches hosts by SSH alone");
  } else if (name.starts_with("ansible_")) {
    const bool not_ours = std::any_of(kNotOurs.begin(), kNotOurs.end(), [&](std::string_view one) { return name.starts_with(one); });
    if (!not_ours)
      builder.notice(place, fmt::format("`{}` is not followed; what SSH is to know of a host, gpustrap takes from ~/.ssh/config", name));
  } else if (value.is_object() ||
             (value.is_array() && std::any_of(value.begin(), value.end(), [](const Json& item) { return item.is_structured(); })) ||
             text.find("{{") != std::string::npos) {
    builder.notice(place, fmt::format("`{}` is not taken as a var: it is a template or more than a list", name));
  } else {
    settings.vars.push_back({name, std::make_shared<const Json>(value), place});
  }
}

}  // namespace gpustrap
