#include "controller/doctor/looks.h"

#include <algorithm>
#include <set>
#include <utility>

#include <fmt/format.h>

#include "agent/base/text.h"

// apt and dpkg: what is broken, what is held, whom packages are taken from, what an upgrade would do.

namespace gpustrap {
namespace {

bool has_apt(const Patient& p) {
  const Section* sources = p.evidence.find("apt-sources");
  return sources != nullptr && sources->status != Section::kAbsent;
}

bool is_driver_or_kernel(std::string_view name) {
  for (const std::string_view prefix : {"nvidia", "libnvidia", "linux-", "cuda", "libcuda", "libxnvctrl", "xserver-xorg-video-nvidia"}) {
    if (name.starts_with(prefix)) return true;
  }
  return false;
}

bool is_of_rhel(const std::string& os) {
  for (const std::string_view one : {"rhel", "rocky", "almalinux", "centos", "ol"}) {
    if (os == one) return true;
  }
  return false;
}

/// A key of apt's.
struct AptKey {
  std::string file, id, uid;
  std::int64_t created = 0;
  std::int64_t expires = 0;  ///< seconds since 1970; 0: never
};

/// "1y2d3h4m" in seconds, a year being 365 days.
std::int64_t lifetime_of(std::string_view text) {
  std::int64_t sum = 0, number = 0;
  for (const char c : text) {
    if (c >= '0' && c <= '9' && number < 1'000'000)
      number = number * 10 + (c - '0');
    else {
      sum += number * (c == 'y' ? 365 * 86400 : c == 'd' ? 86400 : c == 'h' ? 3600 : c == 'm' ? 60 : 0);
      number = 0;
    }
  }
  return sum;
}

/// What stands behind `mark` in `line`, up to the next space, comma or bracket.
std::string word_behind(const std::string& line, std::string_view mark) {
  const std::size_t at = line.find(mark);
  if (at == std::string::npos) return {};
  const std::string rest = line.substr(at + mark.size());
  return rest.substr(0, rest.find_first_of(" ,)"));
}

/// Keys as `gpg --list-packets` takes them apart: a key's own newest signature over itself says how long it is good.
std::vector<AptKey> keys_of(const Patient& p) {
  std::vector<AptKey> keys;
  std::string file;
  enum class In { nothing, key, own_signature } in = In::nothing;
  std::int64_t newest = 0, made = 0;
  for (const std::string& raw : p.evidence.lines("apt-keys")) {
    const std::string line(trim(raw));
    if (line.starts_with("file ")) file = line.substr(5);
    if (line.starts_with(":public key packet")) {
      keys.push_back({file, "", ""});
      newest = 0;
      in = In::key;
    } else if (line.starts_with(":signature packet")) {
      if (in != In::nothing) in = word_behind(line, "keyid ") == keys.back().id ? In::own_signature : In::key;
      made = 0;
    } else if (line.starts_with(":user ID packet") && !keys.empty()) {
      if (keys.back().uid.empty()) keys.back().uid = line.substr(std::min(line.size(), line.find('"') + 1));
      while (keys.back().uid.ends_with('"')) keys.back().uid.pop_back();
    } else if (line.starts_with(":public sub key") || line.starts_with("file ")) {
      in = In::nothing;  // what follows is of the subkey, until the next key
    } else if (in == In::key && keys.back().created == 0 && contains(line, "created ")) {
      keys.back().created = static_cast<std::int64_t>(number_of(word_behind(line, "created ")).value_or(0));
    } else if (in == In::key && keys.back().id.empty() && line.starts_with("keyid: ")) {
      keys.back().id = line.substr(7);
    } else if (in == In::own_signature && contains(line, "sigclass 0x1")) {
      made = static_cast<std::int64_t>(number_of(word_behind(line, "created ")).value_or(0));
      if (made >= newest) keys.back().expires = 0;
      newest = std::max(newest, made);
    } else if (in == In::own_signature && made == newest && contains(line, "key expires after ")) {
      keys.back().expires = keys.back().created + lifetime_of(word_behind(line, "key expires after "));
    }
  }
  return keys;
}

constexpr std::string_view kLists = "/var/lib/apt/lists/";

std::vector<std::string> apt_errors(const Patient& p) {
  std::vector<std::string> lines;
  for (const char* section : {"apt-check", "apt-errors"}) {
    for (const std::string& line : p.evidence.lines(section)) {
      if (line.starts_with("E:") || line.starts_with("W:") || line.starts_with("Err")) lines.push_back(line);
    }
  }
  return lines;
}

/// "FILE:TEXT" lines of sources that speak of NVIDIA's CUDA repository.
std::vector<std::string> cuda_sources(const Patient& p) { return matching(p.evidence.lines("apt-sources"), "/compute/cuda/repos/"); }

}  // namespace

Verdict look_apt_locked(const Patient& p) {
  if (!has_apt(p)) return irrelevant();
  const Section* locks = p.evidence.find("apt-locks");
  if (locks == nullptr || !p.evidence.was_seen("apt-locks")) return unseen(p, "apt-locks");
  std::vector<std::string> lines = p.evidence.lines("apt-locks");
  std::erase_if(lines, [](const std::string& line) { return !line.starts_with("/"); });
  if (lines.empty()) return fine();
  const std::vector<std::string> parts = words(lines.front());
  const std::string pid = parts.size() > 1 ? parts[1] : "", name = parts.size() > 2 ? parts[2] : "a process";
  return found(lines, fmt::format("{} is at work with packages and holds apt's lock: another installation waits or fails meanwhile", name),
               {"# wait until it is done; gpustrap's own steps do. What it does: ps -fp " + (number_of(pid) ? pid : "PID"),
                "# never delete the lock file: the database breaks"});
}

Verdict look_apt_interrupted(const Patient& p) {
  if (!p.evidence.was_seen("packages")) return irrelevant();
  std::vector<std::string> evidence;
  for (const InstalledPackage& one : p.packages) {
    if (one.state.size() < 2 || (one.state[0] != 'i' && one.state[0] != 'h' && one.state[0] != 'r')) continue;
    if (contains("UFHWt", one.state.substr(1, 1)) || (one.state.size() > 2 && one.state[2] == 'R'))
      evidence.push_back(one.state + " " + one.name + " " + one.version);
  }
  for (const std::string& line : matching(apt_errors(p), "dpkg was interrupted")) evidence.push_back(line);
  if (evidence.empty()) return fine();
  return found(std::move(evidence), "packages are half installed: dpkg was interrupted, or a package's script has failed",
               {"sudo dpkg --configure -a", "sudo apt-get install -f",
                "# where a package's own script fails each time, its output says why; without the package: sudo apt-get purge NAME"},
               {step_of("configure", "command",
                        {{"run", "DEBIAN_FRONTEND=noninteractive dpkg --configure -a --force-confdef --force-confold"},
                         {"unless", "test -z \"$(dpkg --audit)\""}})});
}

Verdict look_apt_sources(const Patient& p) {
  if (!has_apt(p)) return irrelevant();
  std::vector<std::string> evidence;
  for (const char* what : {"Conflicting values set for option", "Malformed", "The list of sources could not be read", "Unable to parse",
                           "Type '", "Syntax error", "Extra junk", "configured multiple times"}) {
    for (const std::string& line : matching(apt_errors(p), what)) {
      if (contains(line, kLists)) continue;  // a list that was fetched, not a file of sources
      if (line.starts_with("E:") || !contains(line, "configured multiple times")) evidence.push_back(line);
    }
  }
  if (evidence.empty()) return p.evidence.was_seen("apt-check") ? fine() : unseen(p, "apt-check");
  if (contains(evidence.front(), "Syntax error") || contains(evidence.front(), "Extra junk"))
    return found(std::move(evidence), "a file of apt's settings cannot be read: apt refuses to work at all",
                 {"ls -l /etc/apt/apt.conf.d", "# correct or remove the line that is named, then: sudo apt-get update"});
  const bool conflict = contains(evidence.front(), "Conflicting");
  return found(std::move(evidence),
               conflict ? "two files name the same repository with different keys: apt refuses to work at all"
                        : "a file of apt's sources cannot be read: apt refuses to work at all",
               {"ls -l /etc/apt/sources.list.d; grep -rn signed-by /etc/apt/sources.list*",
                "# remove the older of the two files, or correct the line, then: sudo apt-get update"});
}

Verdict look_apt_preferences(const Patient& p) {
  if (!has_apt(p)) return irrelevant();
  std::vector<std::string> evidence, commands;
  for (const char* what : {"preferences file", "Did not understand pin type", "specified for pin"}) {
    for (const std::string& line : matching(apt_errors(p), what)) {
      if (!line.starts_with("E:")) continue;
      evidence.push_back(line);
      const std::size_t at = line.find("/etc/apt/preferences");
      if (at == std::string::npos) continue;
      const std::string file = line.substr(at, line.find_first_of(" ,", at) - at);
      commands.push_back(
          fmt::format("sudo mv {0} {0}.off   # or correct it: `Package: *`, `Pin: …`, `Pin-Priority: N`", shell_quote(file)));
    }
  }
  if (evidence.empty()) return p.evidence.was_seen("apt-check") ? fine() : unseen(p, "apt-check");
  if (commands.empty())
    commands.emplace_back("grep -rn Pin /etc/apt/preferences /etc/apt/preferences.d   # correct or remove the one that is named");
  commands.emplace_back("sudo apt-get update");
  return found(std::move(evidence), "a file of apt's preferences cannot be read: apt refuses to work at all", std::move(commands));
}

// A captive portal's page, or half a list. The next update fetches them all anew.
Verdict look_apt_lists_broken(const Patient& p) {
  if (!has_apt(p)) return irrelevant();
  std::vector<std::string> evidence;
  for (const char* what : {"Encountered a section with no Package", "Unable to parse package file", "Problem with MergeList"}) {
    for (const std::string& line : matching(apt_errors(p), what)) {
      if (line.starts_with("E:") && contains(line, kLists)) evidence.push_back(line);
    }
  }
  if (evidence.empty()) return p.evidence.was_seen("apt-check") ? fine() : unseen(p, "apt-check");
  const std::string run = "rm -rf /var/lib/apt/lists/* && apt-get update -q";
  return found(std::move(evidence), "what apt has fetched as lists of packages is something else, mostly a page of a login to the network",
               {"sudo sh -c 'rm -rf /var/lib/apt/lists/*'", "sudo apt-get update   # behind a portal: log in to the network first"},
               {step_of("lists", "command", {{"run", run}})});
}

namespace {

/// A line of sources that names a release: "FILE:deb http://… SUITE …", or "FILE:Suites: SUITE…" behind its "FILE:URIs: …".
struct NamedRelease {
  std::string file, release, line;
};

/// Whether this is a repository of the distribution's own, or a mirror of it: others name their releases as they like.
bool is_own(std::string uri, const std::string& components, const std::string& key) {
  while (uri.ends_with('/')) uri.pop_back();
  if (uri.ends_with(".list")) uri.resize(uri.size() - 5);  // mirror+file:/etc/apt/mirrors/debian.list
  const std::string name = uri.substr(uri.rfind('/') == std::string::npos ? 0 : uri.rfind('/') + 1);
  if (name != "debian" && name != "debian-security" && name != "ubuntu" && name != "ubuntu-ports") return false;
  // Publishers' paths end so, too.
  for (const char* host : {"launchpad", "packagecloud.io", "packages.", "download.docker.com"}) {
    if (contains(uri, host)) return false;
  }
  if (!key.empty() && !contains(key, "ubuntu-archive") && !contains(key, "debian-archive")) return false;
  const std::vector<std::string> parts = words(components);
  return std::any_of(parts.begin(), parts.end(), [](const std::string& one) { return one == "main" || one == "universe"; });
}

std::vector<NamedRelease> named_releases(const Patient& p) {
  struct Stanza {
    std::string uris, suites, components, key, line;
  };
  std::vector<NamedRelease> all;
  std::string at;
  Stanza stanza;
  const auto end_stanza = [&] {
    for (const std::string& uri : words(stanza.uris)) {
      if (!is_own(uri, stanza.components, stanza.key)) continue;
      for (const std::string& suite : words(stanza.suites)) all.push_back({at, suite.substr(0, suite.find_first_of("-/")), stanza.line});
      break;
    }
    stanza = {};
  };
  for (const std::string& line : p.evidence.lines("apt-sources")) {
    const std::size_t colon = line.find(':');
    if (!line.starts_with("/etc/apt/") || colon == std::string::npos) continue;
    const std::string file = line.substr(0, colon), text(trim(std::string_view(line).substr(colon + 1)));
    const bool is_line = text.starts_with("deb ") || text.starts_with("deb-src ");
    const std::size_t end_of_name = text.find(':');
    const std::string name = is_line || end_of_name == std::string::npos ? "" : text.substr(0, end_of_name);
    if (is_line || file != at || name == "Types") end_stanza();
    at = file;
    if (is_line) {
      std::string plain = text;
      if (const std::size_t open = plain.find('['), close = plain.find(']'); open < close && close != std::string::npos) {
        const std::string options = plain.substr(open, close - open);
        if (contains(options, "signed-by")) stanza.key = options;
        plain.erase(open, close + 1 - open);
      }
      const std::vector<std::string> parts = words(plain);
      if (parts.size() < 4) continue;
      stanza.uris = parts[1], stanza.suites = parts[2], stanza.line = line;
      stanza.components = join({parts.begin() + 3, parts.end()}, " ");
      continue;
    }
    const std::string value = name.empty() ? "" : text.substr(end_of_name + 1);
    if (name == "URIs") stanza.uris = value;
    if (name == "Suites") stanza.suites = value, stanza.line = line;
    if (name == "Components") stanza.components = value;
    if (name == "Signed-By") stanza.key = trim(value);
  }
  end_stanza();
  return all;
}

bool is_plain_word(std::string_view word) {
  return !word.empty() && word.find_first_not_of("abcdefghijklmnopqrstuvwxyz") == std::string_view::npos;
}

}  // namespace

Verdict look_apt_release(const Patient& p) {
  if (!has_apt(p)) return irrelevant();
  if (!p.evidence.was_seen("apt-sources")) return unseen(p, "apt-sources");
  std::string codename;
  for (const std::string& line : p.evidence.lines("system")) {
    if (line.starts_with("VERSION_CODENAME=")) codename = line.substr(17);
  }
  if (!is_plain_word(codename) || (p.facts.os != "debian" && p.facts.os != "ubuntu")) return irrelevant();
  constexpr std::string_view kMoving = " stable oldstable oldoldstable testing unstable sid experimental devel rc ";
  // Of others a name that is none of these is one misspelt, or newer than this program.
  constexpr std::string_view kReleases =
      " jessie stretch buster bullseye bookworm trixie forky duke trusty xenial bionic focal jammy kinetic lunar mantic noble oracular "
      "plucky questing resolute ";
  std::vector<std::string> evidence, commands, repairs, others;
  bool has_own = false, is_misspelt = true;
  for (const NamedRelease& one : named_releases(p)) {
    const std::string word = " " + one.release + " ";
    has_own = has_own || one.release == codename;
    if (one.release == codename || contains(kMoving, word) || !is_plain_word(one.release)) continue;
    is_misspelt = is_misspelt && !contains(kReleases, word);
    evidence.push_back(one.line);
    if (std::find(others.begin(), others.end(), one.release) == others.end()) others.push_back(one.release);
    const std::string run = fmt::format("sed -i.bak 's/\\b{}\\b/{}/g' {}", one.release, codename, shell_quote(one.file));
    if (std::find(repairs.begin(), repairs.end(), run) == repairs.end()) repairs.push_back(run);
  }
  if (evidence.empty()) return fine();
  for (const std::string& one : repairs) commands.push_back("sudo " + one);
  commands.emplace_back("sudo apt-get update");
  evidence.push_back("/etc/os-release: VERSION_CODENAME=" + codename);
  if (is_misspelt)
    return found(std::move(evidence),
                 fmt::format("apt's sources name a release {} that does not exist: this system is {}", join(others, ", "), codename),
                 std::move(commands), {step_of("release", "command", {{"run", join(repairs, " && ") + " && apt-get update -q"}})});
  commands.insert(commands.begin(), fmt::format("# unless an upgrade to {} is meant and under way:", join(others, ", ")));
  Verdict verdict = found(std::move(evidence),
                          fmt::format("apt's sources name {}, and this system is {}: packages of two releases do not fit together",
                                      join(others, ", "), codename),
                          std::move(commands));
  if (has_own) verdict.severity = Severity::warning;  // one may have been added for a purpose, with a pin
  return verdict;
}

Verdict look_apt_no_sources(const Patient& p) {
  if (!has_apt(p)) return irrelevant();
  if (!p.evidence.was_seen("apt-sources")) return unseen(p, "apt-sources");
  // Its own last line says that all files were read.
  if (p.evidence.lines("apt-sources") != std::vector<std::string>{"looked"}) return fine();
  // Which mirror is the right one, the machine's image knows, or the examples that apt brings for its release.
  constexpr const char* kExamples = "/usr/share/doc/apt/examples";
  const std::string write_them = fmt::format(
      "if command -v cloud-init; then cloud-init single --name apt_configure --frequency always\n"
      "elif test -e {0}/sources.list; then cp {0}/sources.list /etc/apt/sources.list\n"
      "else cp {0}/*.sources /etc/apt/sources.list.d/; fi\n"
      "apt-get update -q\n",
      kExamples);
  return found({"/etc/apt/sources.list and /etc/apt/sources.list.d: no line that says anything"},
               "apt has no sources: no package can be installed",
               {"sudo cloud-init single --name apt_configure --frequency always   # on the image of a cloud: writes those of the release",
                fmt::format("sudo cp {0}/sources.list /etc/apt/   # elsewhere; or {0}/*.sources to /etc/apt/sources.list.d", kExamples),
                "sudo apt-get update"},
               {step_of("sources", "command", {{"run", write_them}})});
}

// dpkg keeps a file of each package's files beside its database: many more of them than packages that it knows is a database cut short.
Verdict look_dpkg_database(const Patient& p) {
  if (!p.evidence.was_seen("dpkg-database")) return irrelevant();
  const std::uint64_t known = number_of(p.evidence.value("dpkg-database", "known")).value_or(0);
  const std::uint64_t listed = number_of(p.evidence.value("dpkg-database", "listed")).value_or(0);
  if (listed < 20 || known * 3 >= listed * 2) return fine();
  std::vector<std::string> evidence = {fmt::format("{} packages are known, {} have left their lists of files", known, listed)};
  for (const std::string& line : matching(p.evidence.lines("dpkg-database"), "copy ")) evidence.push_back(line.substr(5) + " bytes");
  return found(std::move(evidence), "dpkg's database has been cut or emptied: it no longer knows what is installed",
               {"ls -l /var/lib/dpkg/status* /var/backups/dpkg.status*   # the newest whole one, mostly status-old",
                "sudo cp /var/lib/dpkg/status-old /var/lib/dpkg/status",
                "# repair nothing by apt before that: it would install the whole system anew"});
}

Verdict look_apt_lists(const Patient& p) {
  if (!has_apt(p) || !p.evidence.was_seen("apt-lists")) return irrelevant();
  std::vector<std::string> lacking = matching(p.evidence.lines("apt-lists"), "lacks ");
  // A bare image has no lists at all: it has never asked.
  if (matching(p.evidence.lines("apt-lists"), "has ").empty()) return irrelevant();
  if (lacking.empty()) return fine();
  for (std::string& line : lacking) line = "no list of " + line.substr(6);
  return found(std::move(lacking),
               "apt has no list of a repository that its sources name: the address or the release in it is wrong, it cannot be reached, or "
               "nobody has asked since it was added",
               {"sudo apt-get update   # what it says of that repository is the cause",
                "grep -rn deb /etc/apt/sources.list /etc/apt/sources.list.d   # correct or remove its line"},
               {step_of("lists", "command", {{"run", "apt-get -o DPkg::Lock::Timeout=300 update"}})});
}

// ---- rpm, dnf and yum

Verdict look_rpm_database(const Patient& p) {
  const Section* rpm = p.evidence.find("rpm");
  if (rpm == nullptr || rpm->status == Section::kAbsent) return irrelevant();
  const std::vector<std::string> lines = matching(p.evidence.lines("rpm"), "error:");
  if (rpm->status == 0 || lines.empty()) return fine();
  return found(lines, "the database of installed packages cannot be read: dnf and yum do nothing",
               {"sudo rpm --rebuilddb", "sudo dnf check   # whether that was enough"},
               {step_of("database", "command", {{"run", "rpm --rebuilddb"}})});
}

Verdict look_rpm_twice(const Patient& p) {
  const Section* rpm = p.evidence.find("rpm");
  if (rpm == nullptr || rpm->status != 0) return irrelevant();
  std::vector<std::string> evidence;
  for (const std::string& line : matching(p.evidence.lines("rpm"), "twice ")) evidence.push_back(line.substr(6) + " is installed twice");
  for (const std::string& line : matching(p.evidence.lines("rpm"), "unfinished ")) evidence.push_back(line.substr(11));
  if (evidence.empty()) return fine();
  return found(std::move(evidence), "an installation or upgrade was cut short: packages are there in two versions",
               {"sudo dnf check", "sudo dnf remove --duplicates   # read first what it names; on yum: package-cleanup --cleandupes"});
}

Verdict look_dnf_busy(const Patient& p) {
  const std::vector<std::string> lines = matching(p.evidence.lines("rpm"), "busy ");
  if (!p.evidence.was_seen("rpm")) return irrelevant();
  if (lines.empty()) return fine();
  return found(lines, "dnf or yum is at work: another installation waits meanwhile",
               {"# wait until it is done: ps -ef | grep -E 'dnf|yum'"});
}

Verdict look_apt_dependencies(const Patient& p) {
  if (!has_apt(p)) return irrelevant();
  const Section* check = p.evidence.find("apt-check");
  if (check == nullptr || !p.evidence.was_seen("apt-check")) return unseen(p, "apt-check");
  const bool broken = contains(check->text, "Unmet dependencies") || contains(check->text, "unmet dependencies");
  if (check->status == 0 || !broken) return fine();
  std::vector<std::string> evidence;
  for (const std::string& line : p.evidence.lines("apt-check")) {
    if (line == "upgrades") break;
    if (contains(line, "Depends:") || line.starts_with("E:") || contains(line, "but it is not")) evidence.push_back(line);
  }
  return found(
      std::move(evidence), "installed packages lack what they depend on: apt installs nothing else until that is repaired",
      {"sudo apt-get --fix-broken install   # read what it would remove"},
      // What would take packages away is for a person to read: such a repair fails, and says which.
      {step_of("dependencies", "command",
               {{"run", "DEBIAN_FRONTEND=noninteractive apt-get -y -o DPkg::Lock::Timeout=300 --no-remove --fix-broken install"}})});
}

Verdict look_packages_held(const Patient& p) {
  if (const std::vector<std::string> locked = matching(p.evidence.lines("rpm"), "locked "); !locked.empty())
    return found(locked, "packages are locked to a version: upgrades leave them alone, and what needs newer ones cannot be installed",
                 {"sudo dnf versionlock list", "sudo dnf versionlock delete NAME   # where that is not meant"});
  if (!p.evidence.was_seen("packages")) return irrelevant();
  std::vector<std::string> held, driver_held, driver_free;
  for (const InstalledPackage& one : p.packages) {
    if (one.state.empty()) continue;
    if (one.state[0] == 'h') (is_driver_or_kernel(one.name) ? driver_held : held).push_back(one.name);
    const bool is_driver = one.name.starts_with("libnvidia-compute") || one.name.starts_with("nvidia-dkms") ||
                           one.name.starts_with("nvidia-utils") || one.name.starts_with("nvidia-kernel-common") ||
                           one.name.starts_with("linux-modules-nvidia");
    if (is_driver && one.state == "ii") driver_free.push_back(one.name);
  }
  // Driver and kernel are held on purpose, and together.
  const bool half = std::any_of(driver_held.begin(), driver_held.end(), [](const std::string& name) { return contains(name, "nvidia"); }) &&
                    !driver_free.empty();
  if (half) {
    Verdict verdict = found({"held: " + join(driver_held, " "), "not held: " + join(driver_free, " ")},
                            "a part of the driver is held and a part is not: the next upgrade leaves it in two versions",
                            {"sudo apt-mark hold " + join(driver_free, " ")}, {step_of("hold", "apt", {{"hold", Json(driver_free)}})});
    verdict.severity = Severity::warning;
    return verdict;
  }
  if (held.empty()) return fine();
  return found({"held: " + join(held, " ")}, "packages are held: upgrades leave them alone, and what needs newer ones cannot be installed",
               {"sudo apt-mark unhold " + join(held, " ") + "   # where that is not meant"});
}

Verdict look_key_expired(const Patient& p) {
  if (!has_apt(p)) return irrelevant();
  std::vector<std::string> evidence = matching(apt_errors(p), "EXPKEYSIG");
  const std::int64_t now = p.clock.value_or(p.now);
  std::string file;
  const std::vector<AptKey> keys = keys_of(p);
  const auto is_good = [&](const AptKey& key) { return key.expires == 0 || key.expires > now; };
  for (const AptKey& key : keys) {
    if (is_good(key)) continue;
    // A publisher's file keeps its old keys; that is no trouble as long as a good one is beside it. In apt-key's are all publishers'.
    const bool has_good = std::any_of(keys.begin(), keys.end(), [&](const AptKey& one) { return one.file == key.file && is_good(one); });
    if (has_good && key.file != "/etc/apt/trusted.gpg") continue;
    if (contains(key.file, "archive-keyring") || contains(key.file, "debian-archive") || contains(key.file, "trusted.gpg.d/debian") ||
        contains(key.file, "ubuntu-keyring"))
      continue;
    file = key.file;
    evidence.push_back(fmt::format("{}: {} {} expired {} days ago", key.file, key.id, key.uid, (now - key.expires) / 86400));
  }
  if (evidence.empty()) {
    if (contains(p.evidence.text("apt-keys"), "no gpg")) {
      Verdict verdict;
      verdict.state = Verdict::State::unknown;
      verdict.why = "gpg is not installed";
      return verdict;
    }
    return fine();
  }
  const bool nvidia = std::any_of(evidence.begin(), evidence.end(),
                                  [](const std::string& line) { return contains(line, "NVIDIA") || contains(line, "cudatools"); });
  return found(std::move(evidence), "the key of a repository has expired: apt no longer takes its lists, and its packages grow old",
               {nvidia ? "# NVIDIA's new key: https://developer.download.nvidia.com/compute/cuda/repos/ → your release → "
                         "cuda-keyring_1.1-1_all.deb; sudo dpkg -i it"
                       : fmt::format("# fetch the publisher's current key into {}, then:", file.empty() ? "the same file" : file),
                "sudo apt-get update"});
}

Verdict look_key_missing(const Patient& p) {
  if (!has_apt(p)) return irrelevant();
  std::vector<std::string> evidence = matching(apt_errors(p), "NO_PUBKEY");
  for (const std::string& line : p.evidence.lines("apt-keys")) {
    if (line.starts_with("missing ")) evidence.push_back("a source names " + line.substr(8) + ", which is not there");
  }
  std::erase_if(evidence, [](const std::string& line) { return contains(line, "A4B469963BF863CC"); });  // key-rotated says that better
  if (evidence.empty()) return fine();
  return found(std::move(evidence), "the key of a repository is missing: apt does not trust its lists",
               {"# fetch the publisher's key into the file that its source names (signed-by), then:", "sudo apt-get update"});
}

Verdict look_key_rotated(const Patient& p) {
  if (!has_apt(p)) return irrelevant();
  std::vector<std::string> evidence = matching(apt_errors(p), "A4B469963BF863CC");
  std::vector<std::string> old;
  for (const AptKey& key : keys_of(p)) {
    if (key.id.ends_with("F60F4B3D7FA2AF80")) old.push_back(key.file + ": " + key.id + " " + key.uid);
    if (key.id == "A4B469963BF863CC" && evidence.empty()) return fine();
  }
  const std::vector<std::string> sources = cuda_sources(p);
  if (evidence.empty() && (old.empty() || sources.empty())) return fine();
  evidence.insert(evidence.end(), old.begin(), old.end());
  if (!sources.empty()) evidence.push_back(sources.front());
  return found(std::move(evidence), "NVIDIA's repository is trusted by its key of before April 2022, which signs nothing any more",
               {"sudo apt-key del 7fa2af80; sudo rm -f /etc/apt/sources.list.d/cuda.list",
                "wget https://developer.download.nvidia.com/compute/cuda/repos/RELEASE/x86_64/cuda-keyring_1.1-1_all.deb   # ubuntu2204, "
                "ubuntu2404, debian12 …",
                "sudo dpkg -i cuda-keyring_1.1-1_all.deb && sudo apt-get update"});
}

Verdict look_key_legacy(const Patient& p) {
  if (!has_apt(p)) return irrelevant();
  const std::vector<std::string> lines = matching(p.evidence.lines("apt-keys"), "legacy ");
  if (lines.empty()) return fine();
  std::vector<std::string> evidence = {"/etc/apt/trusted.gpg is not empty"};
  for (const AptKey& key : keys_of(p)) {
    if (key.file == "/etc/apt/trusted.gpg") evidence.push_back(key.id + " " + key.uid);
  }
  return found(std::move(evidence),
               "keys were added by apt-key: each of them can sign for every repository, and newer releases no longer read them",
               {"# give each key a file of its own, and name it in its source: signed-by=/usr/share/keyrings/NAME.gpg"});
}

Verdict look_repository_release(const Patient& p) {
  std::vector<std::string> sources = cuda_sources(p);
  for (std::string& line : matching(p.evidence.lines("rpm-sources"), "/compute/cuda/repos/")) sources.push_back(std::move(line));
  if (sources.empty() || p.facts.os.empty()) return irrelevant();
  // NVIDIA's folders: ubuntu2404, debian12, rhel9 for all that is built of it, amzn2023, fedora42.
  const bool is_rhel = is_of_rhel(p.facts.os);
  const std::string family = is_rhel ? "rhel" : p.facts.os;
  std::string own = family + (is_rhel ? p.facts.os_version.substr(0, p.facts.os_version.find('.')) : p.facts.os_version);
  std::erase(own, '.');
  std::vector<std::string> evidence;
  for (const std::string& line : sources) {
    constexpr std::string_view kFolder = "/compute/cuda/repos/";
    const std::string rest = line.substr(line.find(kFolder) + kFolder.size());
    const std::string release = rest.substr(0, rest.find('/'));
    // Debian's own families are told apart; an rpm host takes a repository of no other.
    const bool is_near = release.starts_with(family) || !matching({line}, ".repo:").empty();
    if (!release.empty() && is_near && release != own && release.find('$') == std::string::npos) evidence.push_back(line);
  }
  if (evidence.empty()) return fine();
  const bool has_dnf = !matching(evidence, ".repo:").empty();
  return found(std::move(evidence),
               fmt::format("NVIDIA's repository is that of another release than {}: its drivers are built for other kernels and compilers",
                           p.facts.os_name),
               {fmt::format("# replace the release in that file by {}, then:", own),
                has_dnf ? "sudo dnf clean all && sudo dnf makecache" : "sudo apt-get update"});
}

Verdict look_driver_upgrade(const Patient& p) {
  if (!has_apt(p) || !p.has_gpu()) return irrelevant();
  if (!p.evidence.was_seen("apt-check")) return unseen(p, "apt-check");
  const std::string& settings = p.evidence.text("unattended");
  const bool by_itself = contains(settings, "APT::Periodic::Unattended-Upgrade \"1\"") && contains(settings, "program yes");
  std::vector<std::string> evidence, names;
  for (const std::string& line : p.evidence.lines("apt-check")) {
    const std::vector<std::string> parts = words(line);
    if (parts.size() < 3 || parts[0] != "Inst") continue;
    const bool is_driver = (contains(parts[1], "nvidia") || parts[1].starts_with("libcuda")) && !contains(parts[1], "container");
    const InstalledPackage* installed = p.package(parts[1]);
    if (!is_driver || installed == nullptr || contains(settings, "Package-Blacklist:: \"" + parts[1])) continue;
    evidence.push_back(line);
    names.push_back(parts[1]);
  }
  if (evidence.empty() || !by_itself) return fine();
  evidence.emplace_back("APT::Periodic::Unattended-Upgrade \"1\"");
  return found(std::move(evidence),
               "the next unattended upgrade would replace the driver under the loaded one: nvidia-smi and CUDA then fail until a restart",
               {"sudo apt-mark hold " + join(names, " "),
                "# upgrade it when a restart suits you: sudo apt-mark unhold …; sudo apt-get upgrade; sudo reboot"},
               {step_of("hold", "apt", {{"hold", Json(names)}})});
}

}  // namespace gpustrap
