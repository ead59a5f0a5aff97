#include "controller/fleet_hosts.h"

#include <sys/stat.h>

#include <algorithm>
#include <cstdlib>
#include <set>

#include <fmt/format.h>

#include "agent/base/file.h"
#include "agent/base/text.h"
#include "agent/protocol/fields_visit.h"
#include "agent/protocol/json.h"
#include "controller/fleet_hosts_builder.h"
#include "controller/newcomer.h"
#include "controller/ssh_config.h"

namespace gpustrap {
namespace {

/// A mapping that is read once all of it is there.
struct Mapping {
  const Json* value = nullptr;
};

/// Settings as they are written down.
struct SettingsFields {
  std::string address, private_address, user;
  std::optional<PortNumber> port;
  StringList key;
  Mapping vars;
};

}  // namespace

template <> struct FieldType<Mapping> {
  static void read(const Json& value, const FieldPlace& place, Mapping& out) {
    if (value.is_object())
      out.value = &value;
    else
      place.wrong(value, "a mapping of names to values");
  }
};

namespace {

std::string not_an_address(const std::string& text) {
  return fmt::format("{} is not an address: expected a name or an address, USER@ before it where wanted; a port goes behind `port`",
                     quote_value(text));
}

std::string not_a_user(const std::string& text) {
  return fmt::format("{} cannot be a user: expected the name of a login, such as ubuntu", quote_value(text));
}

class YamlHosts {
 public:
  YamlHosts(const YamlDocument& yaml, const std::string& folder, FleetHostsBuilder& builder, std::vector<SourceProblem>& problems)
      : document_(*yaml.value), places_(yaml.places), folder_(folder), builder_(builder), problems_(problems) {}

  void read() {
    SettingsFields fields;
    SpecReader reader("the hosts file", "", document_, "", Placeholders::refused, found_);
    reader("user", fields.user, Presence::optional, "");
    reader("port", fields.port, Presence::optional, "");
    reader("key", fields.key, Presence::optional, "");
    reader("vars", fields.vars, Presence::optional, "");
    Mapping ignored;
    const Json* hosts = member("hosts");
    const Json* groups = member("groups");
    if (hosts == nullptr || hosts->is_object()) reader("hosts", ignored, Presence::optional, "");
    if (hosts != nullptr && hosts->is_array()) reader("hosts", list_, Presence::optional, "");
    if (hosts != nullptr && !hosts->is_structured()) reader("hosts", ignored, Presence::optional, "");
    reader("groups", ignored, Presence::optional, "");
    reader.finish();
    take(fields, "", builder_.of_all());
    if (hosts != nullptr && hosts->is_object()) {
      for (const auto& [name, value] : hosts->items()) add_host(name, value, join_pointer("/hosts", name));
    }
    for (std::size_t i = 0; i < list_.items.size() && hosts->is_array(); ++i)
      add_listed(list_.items[i], join_pointer("/hosts", std::to_string(i)));
    if (groups != nullptr && groups->is_object()) {
      for (const auto& [name, value] : groups->items()) builder_.add_group(name, key_place(join_pointer("/groups", name)));
      for (const auto& [name, value] : groups->items()) add_group(name, value, join_pointer("/groups", name));
    }
    for (const FieldProblem& problem : found_) problems_.push_back(places_.locate(problem));
  }

 private:
  [[nodiscard]] const Json* member(const char* name) const {
    const auto found = document_.is_object() ? document_.find(name) : document_.end();
    return !document_.is_object() || found == document_.end() ? nullptr : &*found;
  }
  [[nodiscard]] SourcePlace key_place(const std::string& pointer) const { return places_.at(pointer).key; }
  [[nodiscard]] SourcePlace value_place(const std::string& pointer) const { return places_.at(pointer).value; }

  /// A key's path is relative to the file that names it.
  [[nodiscard]] std::string key_path(const std::string& path) const {
    const char* home = std::getenv("HOME");
    if (path.starts_with("~/") && home != nullptr) return home + path.substr(1);
    return path.starts_with('/') || path.starts_with('~') || folder_.empty() ? path : folder_ + "/" + path;
  }

  void take(const SettingsFields& fields, const std::string& pointer, HostSettings& settings) {
    if (!fields.address.empty()) {
      const Result<Destination> destination = read_destination(fields.address);
      if (destination) {
        settings.address = destination->host;
        settings.user = destination->user;
      } else {
        found_.push_back({FieldProblem::At::value, join_pointer(pointer, "address"), not_an_address(fields.address)});
      }
    }
    if (!fields.private_address.empty()) settings.private_address = fields.private_address;
    if (!is_plain_name(fields.user)) found_.push_back({FieldProblem::At::value, join_pointer(pointer, "user"), not_a_user(fields.user)});
    if (!fields.user.empty()) settings.user = fields.user;
    if (fields.port) settings.port = fields.port->number;
    for (const std::string& path : fields.key.items) settings.identities.push_back(key_path(path));
    if (fields.vars.value == nullptr) return;
    for (const auto& [name, value] : fields.vars.value->items())
      settings.vars.push_back({name, std::make_shared<const Json>(value), value_place(join_pointer(join_pointer(pointer, "vars"), name))});
  }

  void add_host(const std::string& name, const Json& value, const std::string& pointer) {
    SettingsFields fields;
    SpecReader reader("the host " + first_line(strip_control(name), 60), "address", value, pointer, Placeholders::refused, found_);
    reader("address", fields.address, Presence::optional, "");
    reader("private_address", fields.private_address, Presence::optional, "");
    reader("user", fields.user, Presence::optional, "");
    reader("port", fields.port, Presence::optional, "");
    reader("key", fields.key, Presence::optional, "");
    reader("vars", fields.vars, Presence::optional, "");
    reader.finish();
    HostSettings settings;
    take(fields, pointer, settings);
    const std::vector<std::string> names = builder_.add_hosts(name, key_place(pointer));
    if (names.size() > 1 && !settings.address.empty())
      reader.say("stands for several hosts, which cannot have one address: expected a name and an address for each");
    for (const std::string& one : names) builder_.of_host(one) = settings;
  }

  /// "ubuntu@203.0.113.7" in a list: an address is its own name.
  void add_listed(const std::string& text, const std::string& pointer) {
    const Result<Destination> destination = text.find('[') == std::string::npos ? read_destination(text) : Destination{"", text};
    if (!destination) {
      problems_.push_back({value_place(pointer), not_an_address(text)});
      return;
    }
    for (const std::string& one : builder_.add_hosts(destination->host, value_place(pointer)))
      builder_.of_host(one).user = destination->user;
  }

  void add_group(const std::string& name, const Json& value, const std::string& pointer) {
    SettingsFields fields;
    StringList hosts, groups;
    SpecReader reader("the group " + first_line(strip_control(name), 60), "hosts", value, pointer, Placeholders::refused, found_);
    reader("hosts", hosts, Presence::optional, "");
    reader("groups", groups, Presence::optional, "");
    reader("user", fields.user, Presence::optional, "");
    reader("port", fields.port, Presence::optional, "");
    reader("key", fields.key, Presence::optional, "");
    reader("vars", fields.vars, Presence::optional, "");
    reader.finish();
    take(fields, pointer, builder_.of_group(name));
    const std::string hosts_pointer = value.is_object() ? join_pointer(pointer, "hosts") : pointer;
    for (std::size_t i = 0; i < hosts.items.size(); ++i) put(name, hosts.items[i], item_place(hosts_pointer, i));
    for (std::size_t i = 0; i < groups.items.size(); ++i)
      builder_.put_group(name, groups.items[i], item_place(join_pointer(pointer, "groups"), i));
  }

  /// Of an item of a list, or of the one value that stands for it.
  [[nodiscard]] SourcePlace item_place(const std::string& pointer, std::size_t index) const {
    return value_place(join_pointer(pointer, std::to_string(index)));
  }

  void put(const std::string& group, const std::string& pattern, const SourcePlace& place) {
    std::vector<std::string> names = unfold_ranges(pattern);
    if (names.empty()) names = {pattern};
    for (const std::string& host : names) {
      if (builder_.has_host(host)) {
        builder_.put_host(group, host);
        continue;
      }
      const std::string nearest = nearest_name(host, builder_.host_names());
      const std::string advice = builder_.has_group(host) ? fmt::format("a group goes behind `groups`: groups: [{}]", host)
                                 : nearest.empty()        ? "expected the name of one in `hosts`"
                                                          : fmt::format("did you mean `{}`?", nearest);
      problems_.push_back(
          {place, fmt::format("the group {} has a host {}, which is not in `hosts`; {}", group, quote_value(host), advice)});
      return;
    }
  }

  const Json& document_;
  const PlaceMap& places_;
  std::string folder_;
  FleetHostsBuilder& builder_;
  std::vector<SourceProblem>& problems_;
  std::vector<FieldProblem> found_;
  StringList list_;
};

/// Ansible's YAML: groups of {hosts, children, vars}, in one another.
class AnsibleYaml {
 public:
  AnsibleYaml(const YamlDocument& yaml, FleetHostsBuilder& builder, std::vector<SourceProblem>& problems)
      : places_(yaml.places), builder_(builder), problems_(problems) {}

  void read_groups(const Json& groups, const std::string& pointer, const std::string& parent) {
    for (const auto& [name, value] : groups.items()) {
      const std::string at = join_pointer(pointer, name);
      const bool everybody = name == "all" || name == "ungrouped";
      if (!everybody) builder_.add_group(name, places_.at(at).key);
      if (!everybody && !parent.empty()) builder_.put_group(parent, name, places_.at(at).key);
      if (!value.is_null()) read_group(everybody ? "" : name, value, at);
    }
  }

 private:
  void wrong(const std::string& pointer, std::string message, FieldProblem::At at = FieldProblem::At::value) {
    problems_.push_back(places_.locate({at, pointer, std::move(message)}));
  }

  void read_group(const std::string& group, const Json& value, const std::string& pointer) {
    const std::string called = group.empty() ? "all" : group;
    if (!value.is_object())
      return wrong(pointer, fmt::format("the group {} is {}: expected hosts, children, vars", called, quote_value(value)));
    for (const auto& [field, content] : value.items()) {
      const std::string at = join_pointer(pointer, field);
      if (field != "hosts" && field != "children" && field != "vars") {
        wrong(at, fmt::format("{} is not a field of the group {}; its fields are hosts, children, vars", quote_value(field), called),
              FieldProblem::At::key);
      } else if (!content.is_null() && !content.is_object()) {
        wrong(at, fmt::format("`{}` of the group {} is {}: expected a mapping", field, called, quote_value(content)));
      } else if (field == "hosts") {
        for (const auto& [host, vars] : content.items()) read_host(group, host, vars, join_pointer(at, host));
      } else if (field == "children") {
        read_groups(content, at, group);
      } else {
        HostSettings& settings = group.empty() ? builder_.of_all() : builder_.of_group(group);
        read_vars(settings, content, at);
      }
    }
  }

  void read_host(const std::string& group, const std::string& name, const Json& vars, const std::string& pointer) {
    if (!vars.is_null() && !vars.is_object())
      return wrong(pointer, fmt::format("the host {} is {}: expected its variables", name, quote_value(vars)));
    for (const std::string& host : builder_.add_hosts(name, places_.at(pointer).key)) {
      if (!group.empty()) builder_.put_host(group, host);
      read_vars(builder_.of_host(host), vars, pointer);
    }
  }

  void read_vars(HostSettings& settings, const Json& vars, const std::string& pointer) {
    for (const auto& [name, value] : vars.items())
      take_ansible_var(settings, name, value, places_.at(join_pointer(pointer, name)).value, builder_, problems_);
  }

  const PlaceMap& places_;
  FleetHostsBuilder& builder_;
  std::vector<SourceProblem>& problems_;
};

/// Groups at the top, each with hosts, children or vars in it; gpustrap's own files have `hosts` or `groups` there.
bool is_ansible(const Json& document) {
  if (!document.is_object() || document.empty() || document.contains("hosts") || document.contains("groups")) return false;
  return std::all_of(document.begin(), document.end(), [](const Json& group) {
    if (group.is_null()) return true;
    return group.is_object() && (group.empty() || group.contains("hosts") || group.contains("children") || group.contains("vars"));
  });
}

/// Whether the first line that says something is one of an INI file: a section, or a host.
bool is_ini(const std::string& text, const std::string& label) {
  if (label.ends_with(".yaml") || label.ends_with(".yml") || label.ends_with(".json")) return false;
  for (const std::string& line : split(text, '\n')) {
    const std::string_view said = trim(line);
    if (said.empty() || said[0] == '#' || said[0] == ';') continue;
    if (said == "---") return false;
    // "hosts:" and "user: ubuntu" are YAML; "gpu1", "[gpus]" and "gpu1:22 a=b" are not.
    return !said.ends_with(':') && said.find(": ") == std::string_view::npos;
  }
  return false;
}

bool says_nothing(const std::string& text) {
  const std::vector<std::string> lines = split(text, '\n');
  return std::all_of(lines.begin(), lines.end(), [](const std::string& line) { return trim(line).empty() || trim(line).starts_with('#'); });
}

}  // namespace

Result<FleetHosts> read_fleet_hosts(const std::string& text, const std::string& label) {
  std::vector<SourceProblem> problems;
  FleetHostsBuilder builder(problems);
  if (says_nothing(text)) {
    problems.push_back({{label, 1, 1}, "the file is empty: expected `hosts`, or an Ansible inventory"});
  } else if (is_ini(text, label)) {
    if (to_utf8(text) != text)
      problems.push_back({{label, 1, 1}, "a byte that is not UTF-8: expected the file to be saved as UTF-8"});
    else
      read_ansible_ini(text, label, builder, problems);
  } else {
    const YamlDocument yaml = read_yaml(text, label, problems);
    if (yaml.value && is_ansible(*yaml.value)) {
      AnsibleYaml(yaml, builder, problems).read_groups(*yaml.value, "", "");
    } else if (yaml.value) {
      const std::string folder = label.find('/') == std::string::npos ? "" : parent_of(label);
      YamlHosts(yaml, folder, builder, problems).read();
    }
  }
  FleetHosts hosts = builder.finish({label, 1, 1});
  if (!problems.empty()) return fail(error_of(std::move(problems), "nothing was changed"));
  return hosts;
}

Result<FleetHosts> load_fleet_hosts(const std::string& path) {
  struct stat info {};
  const bool known = ::stat(path.c_str(), &info) == 0;
  if (known && S_ISDIR(info.st_mode)) {
    return fail(ErrorCode::usage, fmt::format("{} is a folder", path),
                fmt::format("for an inventory in several files: ansible-inventory -i {} --list --yaml > hosts.yaml", shell_quote(path)));
  }
  Result<std::string> text = read_file(path, kMaxRecipeBytes);
  if (!text)
    return fail(Error(ErrorCode::usage, text.error().sentence(), "docs/hosts.md says how to write one").in("reading the hosts file"));
  if (known && (info.st_mode & 0111U) != 0 && text->starts_with("#!")) {
    return fail(ErrorCode::usage, fmt::format("{} is a program", path),
                fmt::format("let it write an inventory: ansible-inventory -i {} --list --yaml > hosts.yaml", shell_quote(path)));
  }
  return read_fleet_hosts(*text, path);
}

Result<std::vector<std::size_t>> select_hosts(const FleetHosts& hosts, const std::string& limit) {
  std::set<std::size_t> chosen;
  for (const std::string& part : split(limit, ',')) {
    const std::string name(trim(part));
    if (name.empty()) continue;
    const std::size_t before = chosen.size();
    bool known = false;
    for (std::size_t i = 0; i < hosts.hosts.size(); ++i) {
      const FleetHost& host = hosts.hosts[i];
      const bool meant = name == "all" || host.name == name || std::find(host.groups.begin(), host.groups.end(), name) != host.groups.end();
      if (meant) chosen.insert(i);
      known = known || meant;
    }
    if (known || chosen.size() > before) continue;
    std::vector<std::string> names = hosts.groups;
    for (const FleetHost& host : hosts.hosts) names.push_back(host.name);
    const bool empty_group = std::find(hosts.groups.begin(), hosts.groups.end(), name) != hosts.groups.end();
    const std::string nearest = nearest_name(name, names);
    return fail(ErrorCode::usage,
                empty_group ? fmt::format("--limit {}: there is no host in that group", name)
                            : fmt::format("--limit {}: there is no host and no group of that name{}", name,
                                          nearest.empty() ? "" : fmt::format("; did you mean `{}`?", nearest)),
                hosts.groups.empty() ? "" : "groups: " + join(hosts.groups, ", "));
  }
  return std::vector<std::size_t>(chosen.begin(), chosen.end());
}

}  // namespace gpustrap
