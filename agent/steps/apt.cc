#include <algorithm>
#include <array>
#include <charconv>
#include <chrono>
#include <optional>
#include <vector>

#include <fmt/format.h>

#include "agent/base/text.h"
#include "agent/steps/apt_lock.h"
#include "agent/steps/dpkg_status.h"
#include "agent/steps/kinds.h"

namespace gpustrap {
namespace {

/// First-boot updates of a cloud image take minutes.
constexpr auto kLockLimit = std::chrono::minutes(10);
constexpr int kMirrorAttempts = 3;
/// Written after an update of ours: the lists' own times say when the archive changed, not when it was asked.
constexpr const char* kStampFolder = "/var/lib/gpustrap";
constexpr const char* kStamp = "/var/lib/gpustrap/apt-updated";

struct Wanted {
  std::string name, version;
};

Wanted parse_wanted(const std::string& text) {
  const std::size_t equals = text.find('=');
  return equals == std::string::npos ? Wanted{text, ""} : Wanted{text.substr(0, equals), text.substr(equals + 1)};
}

/// apt's machine-readable progress, sent to its standard output: "dlstatus:3:42.1:…", "pmstatus:git:61.5:Unpacking git".
bool take_progress(std::string_view line, StepLog& log) {
  const bool downloads = line.starts_with("dlstatus:");
  if (!downloads && !line.starts_with("pmstatus:")) return line.starts_with("pmconffile:") || line.starts_with("media-change:");
  const std::vector<std::string> fields = split(line, ':');
  double percent = 0;
  if (fields.size() < 4 || std::from_chars(fields[2].data(), fields[2].data() + fields[2].size(), percent).ec != std::errc()) return true;
  log.share(downloads ? "downloading packages" : fields[3], percent / 100);
  return true;
}

bool looks_transient(const CommandResult& result) {
  static constexpr std::array kSigns = {"Hash Sum mismatch",           "Failed to fetch",   "Could not connect", "Connection timed out",
                                        "Temporary failure resolving", "Connection failed", "unexpected size",   "502  Bad Gateway",
                                        "503  Service Unavailable"};
  const std::string text = result.out + result.err;
  return std::any_of(kSigns.begin(), kSigns.end(), [&](const char* sign) { return text.find(sign) != std::string::npos; });
}

bool lock_is_held(const CommandResult& result) { return result.err.find("Could not get lock") != std::string::npos; }

/// apt's own words, with what to do about the ones that people meet.
Error apt_error(const Command& command, const CommandResult& result) {
  std::string why;
  for (const std::string& line : split(result.err, '\n')) {
    if (line.starts_with("E: ") && why.empty()) why = first_line(strip_control(line.substr(3)));
  }
  if (why.empty()) return command_error(command, result);
  std::string hint = "the step's output has all that apt said";
  ErrorCode code = ErrorCode::command;
  if (why.starts_with("Unable to locate package") || why.find("has no installation candidate") != std::string::npos) {
    hint = "check the package's name for this release (apt-cache search), or add its repository first";
  } else if (why.starts_with("Version ")) {
    hint = "`apt-cache madison PACKAGE` on the host lists the versions that exist";
  } else if (why.find("Held packages") != std::string::npos || why.find("held broken") != std::string::npos) {
    hint = "`apt-mark showhold` on the host lists held packages; `apt-get -s install PACKAGE` shows the conflict";
  } else if (why.find("Could not get lock") != std::string::npos) {
    code = ErrorCode::busy;
    hint = "another package manager is at work; run the same command again when it is done";
  } else if (why.find("free space") != std::string::npos || result.err.find("No space left") != std::string::npos) {
    code = ErrorCode::no_space;
    hint = "make room on / (df -h), then run the same command again";
  } else if (why.find("Failed to fetch") != std::string::npos || why.find("Could not connect") != std::string::npos ||
             why.find("resolving") != std::string::npos) {
    code = ErrorCode::network;
    hint = "can the host reach its package mirror? try on the host: sudo apt-get update";
  }
  return {code, why, hint};
}

class AptStep : public Step {
 public:
  explicit AptStep(AptSpec spec) : spec_(std::move(spec)) {
    for (const std::string& text : spec_.packages.items) wanted_.push_back(parse_wanted(text));
  }

  [[nodiscard]] Result<StepState> check(const Host& host) const override {
    const Result<DpkgStatus> status = DpkgStatus::read(host);
    if (!status) return fail(status.error());
    std::vector<std::string> reasons;
    if (const std::vector<std::string> cut = status->unfinished(); !cut.empty()) {
      reasons.push_back(fmt::format("an earlier installation was cut short ({})", join(cut, " ")));
    }
    const std::vector<std::string> missing = to_change(*status);
    if (!missing.empty()) {
      reasons.push_back(
          fmt::format("{} {}", join(missing, " "), spec_.state == AptSpec::State::absent ? "to be removed" : "not installed"));
    } else if (spec_.state == AptSpec::State::latest) {
      const Result<std::vector<std::string>> newer = upgradable(host);
      if (!newer) return fail(newer.error());
      if (!newer->empty()) reasons.push_back("newer versions exist of " + join(*newer, " "));
    }
    std::vector<std::string> to_hold;
    for (const std::string& name : spec_.hold.items) {
      if (!status->is_held(name)) to_hold.push_back(name);
    }
    if (!to_hold.empty()) reasons.push_back(join(to_hold, " ") + " not held");
    if (spec_.update && reasons.empty() && lists_are_old(host))
      reasons.push_back(fmt::format("package lists are older than {}", human_duration(spec_.max_age.time)));
    if (!reasons.empty()) return StepState::unsatisfied(join(reasons, "; "));
    return StepState::satisfied(describe(*status));
  }

  Result<void> apply(Host& host, StepLog& log) override {
    if (Result<void> free = wait_for_apt_locks(host, log, kLockLimit); !free) return free;
    if (Result<void> repaired = repair(host, log); !repaired) return repaired;
    const Result<DpkgStatus> status = DpkgStatus::read(host);
    if (!status) return fail(status.error());
    std::vector<std::string> names = to_change(*status);
    if (spec_.state == AptSpec::State::latest) {
      names.clear();
      for (const Wanted& wanted : wanted_) names.push_back(wanted.name);
    }
    const bool installs = !names.empty() && spec_.state != AptSpec::State::absent;
    if ((spec_.update || installs) && lists_are_old(host)) {
      if (Result<void> updated = update(host, log); !updated) return updated;
    }
    if (!names.empty()) {
      if (Result<void> changed = change(host, log, names); !changed) return changed;
    }
    return hold(host, log);
  }

 private:
  /// The packages, as apt wants them named, that are not as they should be.
  [[nodiscard]] std::vector<std::string> to_change(const DpkgStatus& status) const {
    std::vector<std::string> names;
    for (const Wanted& wanted : wanted_) {
      const DpkgPackage* there = status.installed(wanted.name);
      const bool right = spec_.state == AptSpec::State::absent
                             ? there == nullptr
                             : there != nullptr && (wanted.version.empty() || there->version == wanted.version);
      if (!right) names.push_back(wanted.version.empty() ? wanted.name : wanted.name + "=" + wanted.version);
    }
    return names;
  }

  [[nodiscard]] Result<std::vector<std::string>> upgradable(const Host& host) const {
    Command command;
    command.argv = {"apt-get", "-s", "-o", "Debug::NoLocking=1", "install", "--"};
    for (const Wanted& wanted : wanted_) command.argv.push_back(wanted.name);
    const Result<CommandResult> simulated = host.look(command);
    if (!simulated) return fail(simulated.error());
    if (simulated->exit_code != 0) return fail(apt_error(command, *simulated));
    std::vector<std::string> names;
    for (const std::string& line : split(simulated->out, '\n')) {
      if (const std::vector<std::string> parts = words(line); parts.size() > 1 && parts[0] == "Inst") names.push_back(parts[1]);
    }
    return names;
  }

  [[nodiscard]] bool lists_are_old(const Host& host) const {
    std::int64_t newest = 0;
    for (const char* path : {kStamp, "/var/lib/apt/periodic/update-success-stamp"}) {
      const Result<std::optional<FileInfo>> info = host.info(path);
      if (info && *info) newest = std::max(newest, (*info)->mtime_s);
    }
    // Lists that were removed (small images do that) are no lists, however young the stamp.
    const Result<std::vector<std::string>> lists = host.list("/var/lib/apt/lists");
    const bool any = lists && std::any_of(lists->begin(), lists->end(), [](const std::string& name) {
                       return name.find("_Packages") != std::string::npos || name.find("InRelease") != std::string::npos;
                     });
    return !any || host.now() - newest > spec_.max_age.time.count();
  }

  [[nodiscard]] static Command apt_command(std::vector<std::string> words_after) {
    Command command;
    command.argv = {"apt-get",
                    "-q",
                    "-y",
                    "-o",
                    "DPkg::Lock::Timeout=600",
                    "-o",
                    "Dpkg::Options::=--force-confdef",
                    "-o",
                    "Dpkg::Options::=--force-confold",
                    "-o",
                    "Dpkg::Use-Pty=0",
                    "-o",
                    "APT::Status-Fd=3"};
    command.argv.insert(command.argv.end(), words_after.begin(), words_after.end());
    // Nothing may ask: debconf, changed configuration files (the user's stays), needrestart.
    command.env = {{"DEBIAN_FRONTEND", "noninteractive"},
                   {"NEEDRESTART_SUSPEND", "1"},
                   {"APT_LISTCHANGES_FRONTEND", "none"},
                   {"UCF_FORCE_CONFFOLD", "1"}};
    return command;
  }

  /// Runs apt, again where a mirror or a lock failed in passing.
  static Result<void> run_apt(Host& host, StepLog& log, const std::vector<std::string>& words_after) {
    Command command = apt_command(words_after);
    command.takes_line = [&log](std::string_view line) { return take_progress(line, log); };
    for (int attempt = 1;; ++attempt) {
      const Result<CommandResult> result = host.act(command, log);
      if (!result) return fail(result.error());
      if (result->exit_code == 0) return {};
      const bool again = attempt < kMirrorAttempts && (looks_transient(*result) || lock_is_held(*result));
      if (!again) return fail(apt_error(command, *result));
      log.say(fmt::format("trying again: {}", apt_error(command, *result).why()));
      if (lock_is_held(*result)) {
        if (Result<void> free = wait_for_apt_locks(host, log, kLockLimit); !free) return free;
      }
      host.pause(std::chrono::seconds(2 * attempt));
    }
  }

  static Result<void> repair(Host& host, StepLog& log) {
    const Result<DpkgStatus> status = DpkgStatus::read(host);
    if (!status) return fail(status.error());
    const Result<std::vector<std::string>> updates = host.list("/var/lib/dpkg/updates");
    const bool journal = updates && std::any_of(updates->begin(), updates->end(), [](const std::string& name) {
                           return name.find_first_not_of("0123456789") == std::string::npos;
                         });
    if (status->unfinished().empty() && !journal) return {};
    log.say("an earlier installation was cut short; finishing it first (dpkg --configure -a)");
    Command command;
    command.argv = {"dpkg", "--configure", "-a", "--force-confdef", "--force-confold"};
    command.env = {{"DEBIAN_FRONTEND", "noninteractive"}, {"NEEDRESTART_SUSPEND", "1"}};
    const Result<CommandResult> result = host.act(command, log);
    if (!result) return fail(result.error());
    if (result->exit_code == 0) return {};
    // What dpkg cannot finish by itself, apt may: a missing dependency, for instance.
    return run_apt(host, log, {"install", "-f"});
  }

  static Result<void> update(Host& host, StepLog& log) {
    if (Result<void> updated = run_apt(host, log, {"-o", "APT::Update::Error-Mode=any", "update"}); !updated) {
      return fail(std::move(updated).error().in("updating the package lists"));
    }
    if (Result<void> made = host.make_directory(kStampFolder, {}); !made) return made;
    return host.write(kStamp, "", {});
  }

  Result<void> change(Host& host, StepLog& log, const std::vector<std::string>& names) {
    std::vector<std::string> words_after = {spec_.state == AptSpec::State::absent ? "remove" : "install"};
    if (!spec_.recommends) words_after.emplace_back("--no-install-recommends");
    if (std::any_of(names.begin(), names.end(), [](const std::string& name) { return name.find('=') != std::string::npos; }))
      words_after.emplace_back("--allow-downgrades");
    words_after.emplace_back("--");
    words_after.insert(words_after.end(), names.begin(), names.end());
    Result<void> changed = run_apt(host, log, words_after);
    if (changed || spec_.state == AptSpec::State::absent) return changed;
    // Lists that name a version which the mirror no longer has look just like a wrong name: ask the mirror once.
    const std::string why = changed.error().why();
    const bool lists_may_lie = why.starts_with("Unable to locate") || why.find("404") != std::string::npos || why.starts_with("Version ");
    if (!lists_may_lie || updated_now_) return changed;
    updated_now_ = true;
    if (Result<void> updated = update(host, log); !updated) return updated;
    return run_apt(host, log, words_after);
  }

  Result<void> hold(Host& host, StepLog& log) const {
    const Result<DpkgStatus> status = DpkgStatus::read(host);
    if (!status) return fail(status.error());
    Command command;
    command.argv = {"apt-mark", "hold", "--"};
    for (const std::string& name : spec_.hold.items) {
      if (!status->is_held(name)) command.argv.push_back(name);
    }
    if (command.argv.size() == 3) return {};
    const Result<CommandResult> result = host.act(command, log);
    if (!result) return fail(result.error());
    if (result->exit_code != 0) return fail(command_error(command, *result));
    return {};
  }

  [[nodiscard]] std::string describe(const DpkgStatus& status) const {
    std::vector<std::string> parts;
    for (const Wanted& wanted : wanted_) {
      const DpkgPackage* there = status.installed(wanted.name);
      parts.push_back(there == nullptr ? wanted.name : wanted.name + (wanted.version.empty() ? "" : " " + there->version));
    }
    if (parts.empty()) return "package lists are fresh";
    return fmt::format("{}: {}", join(parts, " "), spec_.state == AptSpec::State::absent ? "not installed" : "installed");
  }

  AptSpec spec_;
  std::vector<Wanted> wanted_;
  bool updated_now_ = false;
};

}  // namespace

std::unique_ptr<Step> make_apt_step(const StepSpec& spec) { return std::make_unique<AptStep>(std::get<AptSpec>(spec)); }

}  // namespace gpustrap
