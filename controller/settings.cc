#include "controller/settings.h"

#include <algorithm>
#include <array>
#include <cctype>

#include <fmt/format.h>

#include "agent/base/text.h"
#include "agent/protocol/field_types.h"
#include "controller/option_values.h"

namespace gpustrap {
namespace {

constexpr std::string_view kPrefix = "GPUSTRAP_";

bool is_one_of(std::string_view text, std::initializer_list<std::string_view> words) {
  return std::find(words.begin(), words.end(), text) != words.end();
}

/// A flag as the environment has it; empty where it is none.
std::string_view flag_of(std::string_view text) {
  if (is_one_of(text, {"1", "true", "yes", "on"})) return "true";
  if (is_one_of(text, {"0", "false", "no", "off"})) return "false";
  return "";
}

std::string upper(std::string_view text) {
  std::string word(text);
  std::transform(word.begin(), word.end(), word.begin(), [](unsigned char c) { return static_cast<char>(std::toupper(c)); });
  return word;
}

}  // namespace

const std::vector<Setting>& settings() {
  using Kind = SettingKind;
  static const std::vector<Setting> table = {
      {"identity", "-i", Kind::paths, InFile::yes, "ssh's keys", "private keys to log in with, for hosts of which none is remembered"},
      {"port", "-p", Kind::port, InFile::yes, "ssh's", "port of sshd"},
      {"user", "-l", Kind::word, InFile::yes, "ssh's", "user to log in as"},
      {"wait", "--wait", Kind::time, InFile::yes, "2m", "how long a host may take until it answers"},
      {"keep", "--keep", Kind::time, InFile::yes, "0", "how long a connection is left to the next command"},
      {"accept_new_host_key", "--accept-new-host-key", Kind::flag, InFile::no, "false", "trust hosts that were never seen"},
      {"ask_sudo_password", "--ask-sudo-password", Kind::flag, InFile::yes, "false", "ask for the password of sudo"},
      {"mirror", "--mirror", Kind::word, InFile::yes, "none", "where packages and files are taken from"},
      {"proxy", "--proxy", Kind::word, InFile::yes, "the host's own", "the hosts' way out"},
      {"parallel", "--parallel", Kind::number, InFile::yes, "50", "how many hosts at once"},
      {"forward", "-L", Kind::ports, InFile::yes, "8889 or the next free one", "ports of the tunnel"},
      {"no_tunnel", "--no-tunnel", Kind::flag, InFile::yes, "false", "end once the notebook is proven"},
      {"yes", "--yes", Kind::flag, InFile::no, "false", "ask nothing: a driver may be installed, the host restarted, a machine rented"},
      {"allow_disruption", "--allow-disruption", Kind::flag, InFile::no, "false", "restart even while others are at work there"},
      {"json", "--json", Kind::flag, InFile::yes, "false", "for programs"},
      {"no_color", "--no-color", Kind::flag, InFile::yes, "false", "no colours"},
      {"quiet", "--quiet", Kind::flag, InFile::yes, "false", "only the end, and what failed"},
      {"verbose", "--verbose", Kind::flag, InFile::yes, "false", "everything that is said"},
      {"format", "--format", Kind::format, InFile::yes, "text", "of `recipe lint`: text, json or sarif"},
  };
  return table;
}

const std::vector<OneCallOption>& one_call_options() {
  static const std::vector<OneCallOption> table = {
      {"--help", "it is a question"},
      {"--html", "it names the file that this one report goes to"},
      {"--junit", "it names the file that this one test's cases go to"},
      {"--list", "it is a question"},
      {"-o", "it names the file that this one recipe goes to"},
      {"--origin", "it is a question"},
      {"--profile", "it is the AWS command line's: AWS_PROFILE, ~/.aws/config"},
      {"--region", "it is the AWS command line's: AWS_REGION, ~/.aws/config"},
      {"--user-data", "it names the address of this one file"},
  };
  return table;
}

const Setting* setting_of_key(std::string_view key) {
  const auto found = std::find_if(settings().begin(), settings().end(), [&](const Setting& one) { return one.key == key; });
  return found == settings().end() ? nullptr : &*found;
}

const Setting* setting_of_option(std::string_view option) {
  const auto found = std::find_if(settings().begin(), settings().end(), [&](const Setting& one) { return one.option == option; });
  return found == settings().end() ? nullptr : &*found;
}

std::string variable_of(const Setting& setting) { return std::string(kPrefix) + upper(setting.key); }

std::string SettingValue::origin() const { return from == From::variable ? variable : fmt::format("{}:{}", file, line); }

std::string fault_of_setting(const Setting& setting, const std::string& value) {
  const std::string is = fmt::format("is {}", quote_value(value));
  switch (setting.kind) {
    case SettingKind::flag: return flag_of(value).empty() ? is + ": expected true or false" : "";
    case SettingKind::port: return read_port(value, "-p") ? "" : is + ": expected a port, a number from 1 to 65535";
    case SettingKind::ports: return read_forward(value) ? "" : is + ": expected LOCAL:REMOTE, such as 9000:8888, or one port";
    case SettingKind::time: return read_time(value, "--wait") ? "" : is + ": expected a time, such as 90s or 10m";
    case SettingKind::number: return read_parallel(value) ? "" : is + ": expected a number from 1 to 1000";
    case SettingKind::format: return is_one_of(value, {"text", "json", "sarif"}) ? "" : is + ": expected text, json or sarif";
    case SettingKind::paths:
      if (value.ends_with(".pub")) return is + ", the public half of a key: expected the private one";
      [[fallthrough]];
    case SettingKind::word: {
      const bool plain = !value.empty() && std::none_of(value.begin(), value.end(), [](unsigned char c) { return std::iscntrl(c) != 0; });
      return plain && !value.starts_with('-') ? "" : is + ": expected a word";
    }
  }
  return "";
}

Result<std::vector<SettingValue>> settings_of_environment(const std::vector<std::pair<std::string, std::string>>& environment) {
  std::vector<SettingValue> said;
  std::vector<std::string> known;
  for (const Setting& setting : settings()) known.push_back(upper(setting.key));
  for (const auto& [name, text] : environment) {
    if (!name.starts_with(kPrefix) || text.empty()) continue;
    const std::string rest = name.substr(kPrefix.size());
    const auto row = std::find(known.begin(), known.end(), rest);
    if (row == known.end()) {
      const std::string nearest = nearest_name(rest, known);
      if (nearest.empty()) continue;
      return fail(ErrorCode::usage, fmt::format("{} is no variable of gpustrap; did you mean {}{}?", strip_control(name), kPrefix, nearest),
                  fmt::format("`unset {}`, or the other name; `gpustrap config` lists them", shell_quote(strip_control(name))));
    }
    const Setting& setting = settings()[static_cast<std::size_t>(row - known.begin())];
    SettingValue value{std::string(setting.key), {text}, SettingValue::From::variable, name, {}, 0};
    if (setting.kind == SettingKind::paths) value.values = split(text, ':');
    for (std::string& one : value.values) {
      if (const std::string fault = fault_of_setting(setting, one); !fault.empty())
        return fail(ErrorCode::usage, fmt::format("the variable {} {}", name, fault), fmt::format("it stands for {}", setting.option));
      if (setting.kind == SettingKind::flag) one = flag_of(one);
    }
    said.push_back(std::move(value));
  }
  return said;
}

std::vector<std::string> unknown_variables(const std::vector<std::pair<std::string, std::string>>& environment) {
  constexpr std::string_view kOthers[] = {"SECRET_", "TEST",   "BENCH",    "BIN",  "JOBS",     "UPDATE_GOLDEN", "CACHE", "SOURCE",
                                          "PACKAG",  "STATIC", "ONE_FILE", "ARCH", "COMPILER", "DEVELOPER",     "TRIES"};
  std::vector<std::string> said;
  for (const auto& [name, text] : environment) {
    if (!name.starts_with(kPrefix)) continue;
    const std::string_view rest = std::string_view(name).substr(kPrefix.size());
    const bool is_setting = std::any_of(settings().begin(), settings().end(), [&](const Setting& one) { return variable_of(one) == name; });
    const bool is_other =
        std::any_of(std::begin(kOthers), std::end(kOthers), [&](std::string_view other) { return rest.starts_with(other); });
    if (is_setting || is_other) continue;
    const bool looks = rest == "DRY_RUN" || rest == "DRYRUN" || rest == "CHECK" || rest == "NOOP";
    said.push_back(fmt::format("the variable {} says nothing to gpustrap; {}", strip_control(name),
                               looks ? "`gpustrap plan` says what would change" : "`gpustrap config` shows those that do"));
  }
  return said;
}

const SettingValue* value_of(const std::vector<SettingValue>& said, std::string_view key) {
  for (const SettingValue::From from : {SettingValue::From::variable, SettingValue::From::file}) {
    for (const SettingValue& value : said) {
      if (value.from == from && value.key == key) return &value;
    }
  }
  return nullptr;
}

}  // namespace gpustrap
