#include "controller/user_config.h"

#include <unistd.h>

#include <algorithm>
#include <optional>
#include <string_view>
#include <utility>

#include <fmt/format.h>

#include "agent/base/file.h"
#include "agent/base/text.h"
#include "agent/protocol/fields_visit.h"
#include "agent/protocol/json.h"
#include "controller/user_recipes.h"
#include "controller/yaml_document.h"

namespace gpustrap {
namespace {

/// Where addresses are looked for instead: all of them below one folder, or those that begin with one text where another stands for it.
struct UrlMap {
  std::string base;
  std::vector<std::pair<std::string, std::string>> prefixes;
};

/// A mirror as it is written down.
struct MirrorFields {
  UrlMap apt;
  std::optional<Url> pypi, conda;
  std::vector<Url> conda_defaults;
  UrlMap downloads;
  template <class V> void fields(V& v) {
    v("apt", apt, Presence::optional, "");
    v("pypi", pypi, Presence::optional, "");
    v("conda", conda, Presence::optional, "");
    v("conda_defaults", conda_defaults, Presence::optional, "");
    v("downloads", downloads, Presence::optional, "");
  }
};

/// The mapping below `mirrors`, read once all of it is there.
struct MirrorTable {
  const Json* value = nullptr;
};

/// A setting's value as the command line would have it.
struct SettingText {
  std::vector<std::string> values;
};

}  // namespace

template <> struct FieldType<UrlMap> {
  static void read(const Json& value, const FieldPlace& place, UrlMap& out) {
    Url url;
    if (!value.is_object()) {
      FieldType<Url>::read(value, place, url);
      out.base = url.text;
      return;
    }
    for (const auto& [prefix, there] : value.items()) {
      Url from;
      FieldType<Url>::read(Json(prefix), place.member(prefix), from);
      FieldType<Url>::read(there, place.member(prefix), url);
      out.prefixes.emplace_back(std::move(from.text), url.text);
    }
    std::stable_sort(out.prefixes.begin(), out.prefixes.end(),
                     [](const auto& a, const auto& b) { return a.first.size() > b.first.size(); });
  }
};
template <> struct FieldType<SettingText> {
  static void read(const Json& value, const FieldPlace& place, SettingText& out) {
    for (const Json& one : value.is_array() ? value : Json::array({value})) {
      if (one.is_string())
        out.values.push_back(one.get<std::string>());
      else if (one.is_boolean() || one.is_number_integer())
        out.values.push_back(one.dump());
      else
        return place.wrong(value, "a word, a number, or true or false");
    }
  }
};
template <> struct FieldType<MirrorTable> {
  static void read(const Json& value, const FieldPlace& place, MirrorTable& out) {
    if (value.is_object())
      out.value = &value;
    else
      place.wrong(value, "a mapping of names to mirrors");
  }
};

namespace {

constexpr std::string_view kNone = "none";

bool is_plain_word(std::string_view text) {
  return !text.empty() && std::none_of(text.begin(), text.end(), [](unsigned char c) { return c <= 0x20 || c >= 0x7F || c == ','; });
}

bool is_loopback(std::string_view url) {
  const std::string_view rest = url.substr(url.find("://") + 3);
  return rest.starts_with("127.") || rest.starts_with("localhost") || rest.starts_with("[::1]");
}

std::string_view without_slash(std::string_view url) {
  while (url.ends_with('/')) url.remove_suffix(1);
  return url;
}

/// What is wrong with a proxy's address, as the rest of a sentence; empty where nothing is. Says no password.
std::string fault_of_proxy(const std::string& proxy) {
  constexpr std::string_view kExpected = "expected http://HOST:PORT";
  const std::string_view authority = without_slash(std::string_view(proxy).substr(std::min(proxy.find("://") + 3, proxy.size())));
  if (proxy.find('@') != std::string::npos) {
    return fmt::format(
        "holds a user name or password, which the host would keep with the run: {}; a proxy that wants a login is set on the "
        "host, as http_proxy and https_proxy in /etc/environment, and taken from there",
        kExpected);
  }
  const std::size_t colon = authority.rfind(':');
  const std::string_view port = colon == std::string_view::npos ? std::string_view() : authority.substr(colon + 1);
  const bool has_port = !port.empty() && port.size() < 6 && port.find_first_not_of("0123456789") == std::string_view::npos;
  if (!proxy.starts_with("http://") || colon == 0 || !has_port || !is_plain_word(authority) ||
      authority.find_first_of("/?#\"'\\<>^`{|}") != std::string_view::npos)
    return fmt::format("is {}: {}", quote_value(proxy), kExpected);
  return {};
}

std::string fault_of_no_proxy(const std::string& host) {
  if (is_plain_word(host) && host.find("://") == std::string::npos) return {};
  return fmt::format("holds {}: expected hosts and domains, such as gpu1 and .example.org", quote_value(host));
}

Mirror read_mirror(const std::string& name, const Json& value, std::vector<FieldProblem>& problems) {
  MirrorFields fields;
  const std::size_t before = problems.size();
  SpecReader reader("the mirror " + first_line(strip_control(name), 60), "", value, join_pointer("/mirrors", name), Placeholders::refused,
                    problems);
  fields.fields(reader);
  reader.finish();
  Mirror mirror;
  mirror.name = name;
  const auto add_map = [&](const char* what, const UrlMap& map) {
    for (const auto& [from, to] : map.prefixes) mirror.places.push_back({what, from, to});
    if (!map.base.empty()) mirror.places.push_back({what, "", map.base});
  };
  add_map("apt", fields.apt);
  if (fields.pypi) mirror.places.push_back({"pypi", "", fields.pypi->text});
  if (fields.conda) mirror.places.push_back({"conda", "", fields.conda->text});
  for (const Url& channel : fields.conda_defaults) mirror.places.push_back({"conda_defaults", "", channel.text});
  add_map("downloads", fields.downloads);
  if (!is_plain_id(name) || name == kNone)
    reader.say("has a name that cannot be said: expected letters, digits, `.`, `_`, `-`, and not `none`");
  if (problems.size() == before && mirror.places.empty())
    reader.say("mirrors nothing: expected one of apt, pypi, conda, conda_defaults, downloads");
  if (fields.pypi && fields.pypi->text.starts_with("http://") && !is_loopback(fields.pypi->text))
    reader.say_at("pypi", "is not encrypted: expected an https address, since pip takes nothing from another");
  for (const std::string_view archive : {"debian", "debian-security", "ubuntu", "ubuntu-ports"}) {
    const std::string_view base = without_slash(fields.apt.base);
    if (base.ends_with(fmt::format("/{}", archive)))
      reader.say_at("apt",
                    fmt::format("is one archive: expected the folder that holds it, {}", base.substr(0, base.size() - archive.size())));
  }
  return mirror;
}

class ConfigReader {
 public:
  ConfigReader(const Json& document, std::vector<FieldProblem>& problems)
      : problems_(problems), reader_("the configuration", "", document, "", Placeholders::refused, problems) {}

  UserConfig read() {
    UserConfig config;
    StringList no_proxy;
    MirrorTable table;
    reader_("proxy", config.proxy, Presence::optional, "");
    reader_("no_proxy", no_proxy, Presence::optional, "");
    reader_("mirror", config.mirror, Presence::optional, "");
    reader_("mirrors", table, Presence::optional, "");
    read_settings(config);
    reader_.finish();
    config.no_proxy = std::move(no_proxy.items);
    if (reader_.has("proxy") && !config.proxy.empty()) {
      if (const std::string fault = fault_of_proxy(config.proxy); !fault.empty()) reader_.say_at("proxy", fault);
    }
    for (const std::string& host : config.no_proxy) {
      if (const std::string fault = fault_of_no_proxy(host); !fault.empty()) reader_.say_at_item("no_proxy", host, fault);
    }
    std::vector<std::string> names;
    if (table.value != nullptr) {
      for (const auto& [name, value] : table.value->items()) {
        config.mirrors.push_back(read_mirror(name, value, problems_));
        names.push_back(name);
      }
    }
    if (!config.mirror.empty() && std::find(names.begin(), names.end(), config.mirror) == names.end()) {
      const std::string nearest = nearest_name(config.mirror, names);
      reader_.say_at("mirror", fmt::format("is {}: expected the name of one in `mirrors`{}", quote_value(config.mirror),
                                           nearest.empty() ? "" : fmt::format("; did you mean `{}`?", nearest)));
    }
    return config;
  }

 private:
  /// What options are without being given: a row of settings.cc each.
  void read_settings(UserConfig& config) {
    for (const Setting& setting : settings()) {
      if (setting.in_file == InFile::no || setting.key == "mirror" || setting.key == "proxy") continue;
      SettingText text;
      reader_(setting.key, text, Presence::optional, "");
      if (text.values.empty()) continue;
      if (setting.kind != SettingKind::paths && text.values.size() > 1) {
        reader_.say_at(setting.key, "is a list: expected one value");
        continue;
      }
      bool is_good = true;
      for (const std::string& value : text.values) {
        const std::string fault = fault_of_setting(setting, value);
        is_good = is_good && fault.empty();
        if (!fault.empty()) reader_.say_at(setting.key, fault);
      }
      if (is_good) config.settings.push_back({std::string(setting.key), text.values, SettingValue::From::file, {}, {}, 0});
    }
  }

  std::vector<FieldProblem>& problems_;
  SpecReader reader_;
};

/// Takes out what agrees to something: a line that was written once would answer questions that are asked in a year.
void refuse_consents(Json& document, std::vector<FieldProblem>& problems) {
  if (!document.is_object()) return;
  for (const Setting& setting : settings()) {
    const std::string key(setting.key);
    if (setting.in_file == InFile::yes || !document.contains(key)) continue;
    problems.push_back({FieldProblem::At::key, join_pointer("", key),
                        fmt::format("`{}` is agreed to each time and stands in no file: expected {} on the command line, or {}=1", key,
                                    setting.option, variable_of(setting))});
    document.erase(key);
  }
}

/// Where each setting stands, mirrors and proxies among them.
void add_origins(UserConfig& config, const PlaceMap& places, const std::string& file) {
  const auto add = [&](const char* key, std::vector<std::string> values) {
    if (!values.empty() && !values.front().empty())
      config.settings.push_back({key, std::move(values), SettingValue::From::file, {}, {}, 0});
  };
  add("mirror", {config.mirror});
  add("proxy", {config.proxy});
  add("no_proxy", config.no_proxy);
  std::vector<std::string> names;
  for (const Mirror& mirror : config.mirrors) names.push_back(mirror.name);
  add("mirrors", names);
  for (SettingValue& value : config.settings) {
    value.file = file;
    value.line = places.at(join_pointer("", value.key)).key.line;
  }
}

std::vector<std::pair<std::string, std::string>> environment() {
  std::vector<std::pair<std::string, std::string>> variables;
  for (char** entry = environ; entry != nullptr && *entry != nullptr; ++entry) {
    const std::string_view text = *entry;
    if (const std::size_t equals = text.find('='); equals != std::string_view::npos)
      variables.emplace_back(text.substr(0, equals), text.substr(equals + 1));
  }
  return variables;
}

/// Nothing but comments: what a person keeps who has switched everything off.
bool says_nothing(const std::string& text) {
  const std::vector<std::string> lines = split(text, '\n');
  return std::all_of(lines.begin(), lines.end(), [](const std::string& line) { return trim(line).empty() || trim(line).starts_with('#'); });
}

}  // namespace

Result<UserConfig> read_user_config(const std::string& text, const std::string& label) {
  UserConfig config;
  if (!says_nothing(text)) {
    std::vector<SourceProblem> problems;
    const YamlDocument yaml = read_yaml(text, label, problems);
    if (yaml.value) {
      std::vector<FieldProblem> found;
      refuse_consents(*yaml.value, found);
      config = ConfigReader(*yaml.value, found).read();
      add_origins(config, yaml.places, label);
      for (const FieldProblem& problem : found) problems.push_back(yaml.places.locate(problem));
    }
    if (!problems.empty()) return fail(error_of(std::move(problems), "nothing was changed"));
  }
  config.path = label;
  return config;
}

Result<UserConfig> load_user_config() {
  const std::string directory = config_directory();
  if (directory.empty()) return UserConfig();
  const std::string path = directory + "/config.yaml";
  Result<std::string> text = read_file(path, kMaxRecipeBytes);
  if (text) return read_user_config(*text, path);
  if (text.error().code() != ErrorCode::not_found) return fail(std::move(text).error().in("reading the configuration"));
  UserConfig config;
  config.path = path;
  return config;
}

std::vector<std::string> unknown_variables() { return unknown_variables(environment()); }

Result<std::vector<SettingValue>> user_settings() {
  Result<std::vector<SettingValue>> said = settings_of_environment(environment());
  if (!said) return said;
  Result<UserConfig> config = load_user_config();
  if (!config) return fail(std::move(config).error());
  said->insert(said->end(), config->settings.begin(), config->settings.end());
  return said;
}

Result<Network> network_for(const UserConfig& config, const std::optional<std::string>& mirror, const std::optional<std::string>& proxy) {
  Network network;
  network.proxy = proxy.value_or(config.proxy);
  if (network.proxy == kNone) network.proxy.clear();
  if (const std::string fault = network.proxy.empty() ? "" : fault_of_proxy(network.proxy); !fault.empty())
    return fail(ErrorCode::usage, "--proxy " + fault, "for instance --proxy http://proxy.example.org:3128, or --proxy none");
  if (!network.proxy.empty()) network.no_proxy = config.no_proxy;
  const std::string name = mirror.value_or(config.mirror);
  if (name.empty() || name == kNone) return network;
  std::vector<std::string> names;
  for (const Mirror& known : config.mirrors) {
    if (known.name == name) network.mirror = known;
    names.push_back(known.name);
  }
  if (!network.mirror.places.empty()) return network;
  const std::string nearest = nearest_name(name, names);
  const std::string where = config.path.empty() ? "gpustrap's config.yaml" : config.path;
  return fail(
      ErrorCode::usage,
      fmt::format("there is no mirror {}{}", quote_value(name), nearest.empty() ? "" : fmt::format("; did you mean `{}`?", nearest)),
      names.empty() ? fmt::format("write it into {}: mirrors: {{ NAME: {{ pypi: https://mirror.example.org/simple }} }}", where)
                    : fmt::format("mirrors in {}: {}", where, join(names, ", ")));
}

std::vector<std::string> describe_network(const Network& network) {
  std::vector<std::string> lines;
  if (!network.proxy.empty()) {
    lines.push_back(fmt::format("through the proxy {}{}", network.proxy,
                                network.no_proxy.empty() ? "" : fmt::format(", but for {}", join(network.no_proxy, ", "))));
  }
  for (const MirrorPlace& place : network.mirror.places) {
    lines.push_back(fmt::format("{} from the mirror {} ({}{}{})", place.what == "conda_defaults" ? "conda's defaults" : place.what,
                                network.mirror.name, place.to, place.from.empty() ? "" : " for ", place.from));
  }
  return lines;
}

}  // namespace gpustrap
