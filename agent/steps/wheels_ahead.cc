#include "agent/steps/wheels_ahead.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <map>
#include <optional>
#include <string_view>
#include <utility>

#include <fmt/format.h>

#include "agent/agent_looks.h"
#include "agent/base/file.h"
#include "agent/base/sha256.h"
#include "agent/base/text.h"
#include "agent/fetch.h"
#include "agent/fetched_ahead.h"
#include "agent/protocol/json.h"
#include "agent/steps/python_environment.h"
#include "agent/steps/python_version.h"
#include "agent/steps/wheel_lock.h"

namespace gpustrap {
namespace {

constexpr std::string_view kPublicIndex = "https://pypi.org/simple";

std::string wheel_folder(const Host& host, const PipSpec& spec) {
  return parent_of(ahead_folder(host.self())) + "/wheels-" + sha256_hex(host.expand(environment_folder(spec))).substr(0, 16);
}

/// The number behind "3." of a version; nullopt for what is no Python 3.
std::optional<unsigned> minor_of(std::string_view version) {
  unsigned minor = 0;
  if (!version.starts_with("3.")) return std::nullopt;
  const auto [end, wrong] = std::from_chars(version.data() + 2, version.data() + version.size(), minor);
  const bool is_whole = end == version.data() + version.size() || *end == '.';
  return wrong == std::errc() && is_whole ? std::optional(minor) : std::nullopt;
}

std::optional<std::string> first_words_of(const Host& host, std::vector<std::string> argv) {
  Command command;
  command.argv = std::move(argv);
  const Result<CommandResult> said = host.look(command);
  if (!said || said->exit_code != 0) return std::nullopt;
  return std::string(trim(said->out));
}

/// The Python of the environment that is there, or that an earlier step will make.
std::optional<unsigned> python_of(const Host& host, const PipSpec& spec) {
  const Result<std::optional<PythonEnvironment>> there = find_python_environment(host, host.expand(environment_folder(spec)));
  if (there && *there) return minor_of((*there)->version);
  const Result<CommandResult> to_come = host.look(ask_python_to_come());
  const std::string named = to_come && to_come->exit_code == 0 ? to_come->out : "";
  if (named.empty()) return std::nullopt;
  if (const std::optional<unsigned> minor = minor_of(named)) return minor;
  const std::optional<std::string> said =
      first_words_of(host, {host.expand(named), "-c", "import sys; print('%d.%d' % sys.version_info[:2])"});
  return said ? minor_of(*said) : std::nullopt;
}

std::optional<WheelTarget> target_of(const Host& host, const PipSpec& spec) {
  const std::optional<unsigned> python = python_of(host, spec);
  const std::optional<std::string> libc = first_words_of(host, {"getconf", "GNU_LIBC_VERSION"});
  constexpr std::string_view kGlibc = "glibc 2.";
  if (!python || !libc || !libc->starts_with(kGlibc)) return std::nullopt;
  WheelTarget target{*python, host.facts().arch, 0};
  std::from_chars(libc->data() + kGlibc.size(), libc->data() + libc->size(), target.glibc);
  return target.glibc > 0 ? std::optional(target) : std::nullopt;
}

/// Settings that name one index, or that lead elsewhere.
struct IndexSettings {
  std::string index;
  bool is_clear = true;  ///< false: there is more than an index to it
  bool is_uvs = true;    ///< false: uv is told of another one
};

void read_setting(std::string name, std::string_view value, IndexSettings& settings) {
  std::replace(name.begin(), name.end(), '_', '-');
  std::transform(name.begin(), name.end(), name.begin(), [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; });
  // Without a value behind it the values stand in the lines that follow.
  if (name == "index-url" && value.empty()) settings.is_clear = false;
  if (name == "index-url") settings.index = value;
  constexpr std::array kElsewhere = {"extra-index-url", "find-links", "no-index", "no-binary", "config-file"};
  if (std::find(kElsewhere.begin(), kElsewhere.end(), name) != kElsewhere.end()) settings.is_clear = false;
}

/// As pip has them: its files, the nearer the stronger, then the environment of the step, in which a mirror stands already.
IndexSettings index_settings(const Host& host, const std::string& environment) {
  IndexSettings settings;
  for (const std::string& path : {std::string("/etc/xdg/pip/pip.conf"), std::string("/etc/pip.conf"), host.expand("~/.pip/pip.conf"),
                                  host.expand("~/.config/pip/pip.conf"), environment + "/pip.conf"}) {
    const Result<std::string> text = host.read(path);
    if (!text) continue;
    for (const std::string& line : split(*text, '\n')) {
      const std::size_t equals = line.find_first_of("=:");
      if (equals != std::string::npos && !trim(line).starts_with('#'))
        read_setting(std::string(trim(std::string_view(line).substr(0, equals))), trim(std::string_view(line).substr(equals + 1)),
                     settings);
    }
  }
  for (const std::string& path : {std::string("/etc/uv/uv.toml"), host.expand("~/.config/uv/uv.toml")}) {
    const Result<std::string> text = host.read(path);
    if (text && (text->find("index") != std::string::npos || text->find("find-links") != std::string::npos)) settings.is_clear = false;
  }
  const std::optional<std::string> variables = first_words_of(host, {"env"});
  if (!variables) settings.is_clear = false;
  for (const std::string& line : split(variables.value_or(""), '\n')) {
    const std::size_t equals = line.find('=');
    if (equals == std::string::npos || equals + 1 == line.size() || !line.starts_with("PIP_")) continue;
    read_setting(line.substr(4, equals - 4), std::string_view(line).substr(equals + 1), settings);
  }
  for (const std::string& line : split(variables.value_or(""), '\n')) {
    const std::size_t equals = line.find('=');
    if (equals == std::string::npos || equals + 1 == line.size() || !line.starts_with("UV_")) continue;
    const std::string name = line.substr(0, equals);
    const bool leads = name.find("INDEX") != std::string::npos || name.find("FIND_LINKS") != std::string::npos ||
                       name.find("NO_BINARY") != std::string::npos || name.find("CONFIG_FILE") != std::string::npos;
    if (leads && line.substr(equals + 1) != settings.index) settings.is_uvs = false;
  }
  return settings;
}

/// The one index to ask; nullopt where that is not clear, or takes a login: whom that may be told, pip knows.
std::optional<std::string> index_of(const Host& host, const PipSpec& spec, const std::string& of_lock) {
  const IndexSettings settings = index_settings(host, host.expand(environment_folder(spec)));
  if (!settings.is_clear || (spec.index && !of_lock.empty())) return std::nullopt;
  std::string index = settings.index.empty() ? std::string(kPublicIndex) : settings.index;
  if (spec.index) index = host.mirror().by_prefix("downloads", spec.index->text).value_or(spec.index->text);
  if (!of_lock.empty()) index = of_lock;
  const std::size_t host_begins = index.find("://");
  const bool is_web = index.starts_with("https://") || index.starts_with("http://");
  if (!is_web || index.find_first_of("?#@ \t") != std::string::npos || host_begins == std::string::npos) return std::nullopt;
  while (index.ends_with('/')) index.pop_back();
  return index;
}

/// Whether uv would choose what pip chooses. It knows nothing of a requirements file's own options, which may name another index, and
/// decides anew what an upgrade leaves alone; packages that the system or conda brought look absent from here.
bool uv_may_choose(const Host& host, const PipSpec& spec) {
  if (spec.upgrade || !spec.env.empty()) return false;
  std::vector<std::string> lines = spec.packages.items;
  if (spec.requirements) {
    const Result<std::string> text = host.read(host.expand(spec.requirements->text));
    if (!text) return false;
    for (std::string& line : split(*text, '\n')) lines.push_back(std::move(line));
  }
  const bool is_plain = std::all_of(lines.begin(), lines.end(), [](const std::string& line) {
    const std::string_view wish = trim(line);
    return !wish.starts_with('-') && wish.find("--") == std::string_view::npos && wish.find_first_of("/@\\") == std::string_view::npos;
  });
  if (!is_plain) return false;
  const std::string path = host.expand(environment_folder(spec));
  const Result<std::optional<PythonEnvironment>> environment = find_python_environment(host, path);
  if (!environment || !*environment) return environment.has_value();
  const Result<std::optional<FileInfo>> is_venv = host.info(path + "/pyvenv.cfg");
  return !(*environment)->system_site_packages && is_venv && *is_venv;
}

/// What uv, where it is there, makes of packages without digests. Nothing is built for that, and no Python fetched.
std::optional<WheelLock> resolved_by_uv(const Host& host, const PipSpec& spec, const WheelTarget& target) {
  const std::optional<std::string> index = index_of(host, spec, "");
  if (!index || !uv_may_choose(host, spec) || !index_settings(host, host.expand(environment_folder(spec))).is_uvs) return std::nullopt;
  Command command;
  command.argv = {"uv",
                  "pip",
                  "compile",
                  "--quiet",
                  "--no-header",
                  "--no-annotate",
                  "--generate-hashes",
                  "--only-binary",
                  ":all:",
                  "--python-version",
                  fmt::format("3.{}", target.python),
                  "--index-url",
                  *index};
  // Ahead of its step, root runs nothing that another user may have put there.
  const std::string own =
      host.self().uid == 0 ? std::string() : host.expand(environment_folder(spec)) + "/bin:" + host.login().home + "/.local/bin:";
  command.env = {{"PATH", own + "/usr/local/bin:/usr/bin:/bin"}, {"UV_DEFAULT_INDEX", ""}, {"UV_PYTHON_DOWNLOADS", "never"}};
  if (spec.requirements) command.argv.push_back(host.expand(spec.requirements->text));
  if (!spec.packages.items.empty()) command.argv.emplace_back("-");
  command.input = join(spec.packages.items, "\n") + "\n";
  const Result<CommandResult> said = host.look(command);
  return said && said->exit_code == 0 ? read_wheel_lock(said->out) : std::nullopt;
}

/// The lock of the requirements file, where that is all that the step installs.
std::optional<WheelLock> lock_of_file(const Host& host, const PipSpec& spec) {
  if (!spec.requirements || !spec.packages.items.empty()) return std::nullopt;
  const Result<std::string> text = host.read(host.expand(spec.requirements->text));
  return text ? read_wheel_lock(*text) : std::nullopt;
}

using Installed = std::map<std::string, std::string>;  ///< versions by normalised name

Installed installed_by(const Host& host, const PipSpec& spec) {
  const Result<std::optional<PythonEnvironment>> environment = find_python_environment(host, host.expand(environment_folder(spec)));
  if (!environment || !*environment) return {};
  return installed_python_packages(host, **environment).value_or(Installed());
}

/// A lock wants its own version; else what is there is not touched.
bool may_stay(const Installed& installed, const std::string& name, const std::string& version, bool is_locked) {
  const auto found = installed.find(name);
  if (found == installed.end()) return false;
  return !is_locked || compare_python_versions(found->second, version) == 0;
}

std::vector<std::optional<std::string>> ask(const Host& host, const std::vector<std::string>& urls) {
  std::vector<std::optional<std::string>> texts(urls.size());
  const Result<CommandResult> said = host.look(ask_pages(urls));
  const Json pages = Json::parse(said && said->exit_code == 0 ? said->out : "", nullptr, false);
  for (std::size_t i = 0; pages.is_array() && i < std::min(texts.size(), pages.size()); ++i) {
    if (pages[i].is_string()) texts[i] = pages[i].get<std::string>();
  }
  return texts;
}

bool has_digest(const LockedPackage& package, const std::string& sha256) {
  return std::find(package.sha256.begin(), package.sha256.end(), sha256) != package.sha256.end();
}

}  // namespace

std::vector<FetchRequest> wheels_to_fetch(const Host& host, const PipSpec& spec) {
  std::vector<FetchRequest> wheels;
  const std::optional<WheelTarget> target = target_of(host, spec);
  if (!target) return wheels;
  std::optional<WheelLock> lock = lock_of_file(host, spec);
  const bool is_locked = lock.has_value();
  if (!lock) lock = resolved_by_uv(host, spec, *target);
  if (!lock) return wheels;
  const std::optional<std::string> index = index_of(host, spec, lock->index);
  if (!index) return wheels;
  const Installed installed = installed_by(host, spec);
  std::erase_if(lock->packages,
                [&](const LockedPackage& package) { return may_stay(installed, package.name, package.version, is_locked); });
  std::vector<std::string> pages;
  for (const LockedPackage& package : lock->packages) pages.push_back(fmt::format("{}/{}/", *index, package.name));
  const std::vector<std::optional<std::string>> texts = ask(host, pages);
  const std::string folder = wheel_folder(host, spec);
  for (std::size_t i = 0; i < pages.size(); ++i) {
    if (!texts[i]) continue;
    const IndexedFile* best = nullptr;
    unsigned fitness = 0;
    const std::vector<IndexedFile> files = read_index_page(*texts[i], pages[i]);
    for (const IndexedFile& file : files) {
      const unsigned fits = has_digest(lock->packages[i], file.sha256) ? wheel_fitness(file.name, *target) : 0;
      if (fits > fitness) best = &file;
      fitness = std::max(fitness, fits);
    }
    if (best == nullptr) continue;
    FetchRequest wheel;
    wheel.urls = {best->url};
    wheel.to = folder + "/" + best->name;
    wheel.sha256 = best->sha256;
    wheel.name = best->name;
    wheels.push_back(std::move(wheel));
  }
  return wheels;
}

namespace {

void clear_wheels(Host& host, const PipSpec& spec) { (void)host.remove_tree(wheel_folder(host, spec)); }

/// "numpy-2.1.0-cp311-….whl" is "numpy" and "2.1.0".
std::pair<std::string, std::string> name_and_version(const std::string& file) {
  const std::vector<std::string> parts = split(file, '-');
  return parts.size() < 2 ? std::pair<std::string, std::string>() : std::pair(normalized_package_name(parts[0]), parts[1]);
}

/// What was found ahead, as far as it is still wanted, and may be: of a lock nothing but what it names.
std::vector<FetchRequest> found_ahead(const Host& host, const PipSpec& spec) {
  const Result<CommandResult> told = host.look(ask_found_ahead());
  std::vector<FetchRequest> found = requests_from_json(told && told->exit_code == 0 ? told->out : "");
  if (found.empty()) return found;
  const std::string folder = wheel_folder(host, spec);
  const std::optional<WheelLock> lock = lock_of_file(host, spec);
  // The environment may have come to be another than the one that was to come.
  if (!lock && !uv_may_choose(host, spec)) return {};
  const Installed installed = installed_by(host, spec);
  std::erase_if(found, [&](const FetchRequest& wheel) {
    if (wheel.urls.empty() || !wheel.sha256 || !is_wheel_name(wheel.name) || wheel.to != folder + "/" + wheel.name) return true;
    const auto [name, version] = name_and_version(wheel.name);
    if (may_stay(installed, name, version, lock.has_value())) return true;
    return lock && std::none_of(lock->packages.begin(), lock->packages.end(),
                                [&](const LockedPackage& package) { return has_digest(package, *wheel.sha256); });
  });
  return found;
}

}  // namespace

void install_wheels(Host& host, StepLog& log, const PipSpec& spec, const Command& installer) {
  const std::vector<FetchRequest> found = found_ahead(host, spec);
  if (found.empty()) return;
  const std::string folder = wheel_folder(host, spec);
  clear_wheels(host, spec);  // of a run that was cut
  FileAttributes own;
  own.mode = 0700;
  if (!host.make_directory(folder, own)) return;
  std::vector<FetchRequest> there, missing;
  for (const FetchRequest& wheel : found) (host.take_fetched(wheel, log) ? there : missing).push_back(wheel);
  const std::size_t ahead = there.size();
  if (!missing.empty()) (void)host.fetch_many(missing, log);
  for (const FetchRequest& wheel : missing) {
    // It has its name only where its digest was right.
    const Result<std::optional<FileInfo>> came = host.info(wheel.to);
    if (came && *came) there.push_back(wheel);
  }
  if (!there.empty()) {
    log.say(fmt::format("{} of {} wheels came ahead", ahead, found.size()));
    std::string list;
    for (const FetchRequest& wheel : there) {
      const auto [name, version] = name_and_version(wheel.name);
      list += fmt::format("{}=={} --hash=sha256:{}\n", name, version, *wheel.sha256);
    }
    Command command = installer;
    command.argv.insert(command.argv.end(), {"--no-deps", "--no-index", "--find-links", folder, "-r", folder + "/wheels.txt"});
    const Result<void> wrote = host.write(folder + "/wheels.txt", list, {});
    const Result<CommandResult> result = wrote ? host.act(command, log) : fail(wrote.error());
    if (!result || result->exit_code != 0) log.say("they could not be installed from here; the index is asked for them");
  }
  clear_wheels(host, spec);
}

}  // namespace gpustrap
