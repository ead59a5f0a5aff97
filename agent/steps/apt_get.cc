#include "agent/steps/apt_get.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <optional>

#include <fmt/format.h>

#include "agent/base/text.h"
#include "agent/mirrors.h"
#include "agent/shown_url.h"
#include "agent/steps/apt_lock.h"
#include "agent/steps/apt_mirror.h"
#include "agent/steps/apt_packages.h"
#include "agent/steps/dpkg_status.h"

namespace gpustrap {
namespace {

constexpr int kMirrorAttempts = 3;
/// Written after an update of ours: the lists' own times say when the archive changed, not when it was asked.
constexpr const char* kStampFolder = "/var/lib/gpustrap";
constexpr const char* kStamp = "/var/lib/gpustrap/apt-updated";

/// apt's machine-readable progress, sent to its standard output: "dlstatus:3:42.1:…", "pmstatus:git:61.5:Unpacking git".
bool take_progress(std::string_view line, StepLog& log) {
  const bool downloads = line.starts_with("dlstatus:");
  if (!downloads && !line.starts_with("pmstatus:"))
    return line.starts_with("pmconffile:") || line.starts_with("pmerror:") || line.starts_with("media-change:");
  const std::vector<std::string> fields = split(line, ':');
  double percent = 0;
  if (fields.size() < 4 || std::from_chars(fields[2].data(), fields[2].data() + fields[2].size(), percent).ec != std::errc()) return true;
  log.share(downloads ? "downloading packages" : fields[3], percent / 100);
  return true;
}

bool lock_is_held(const CommandResult& result) { return result.err.find("Could not get lock") != std::string::npos; }

/// " libfoo : Depends: libbar (>= 2) but it is not installable", of the block in which apt explains itself.
std::string unmet_dependency(const std::string& out) {
  const std::size_t block = out.find("The following packages have unmet dependencies:");
  if (block == std::string::npos) return {};
  for (const std::string& line : split(std::string_view(out).substr(block), '\n')) {
    if (line.starts_with(' ') && line.find(" : ") != std::string::npos) return first_line(strip_control(join(words(line), " ")));
  }
  return {};
}

Command apt_command(const std::vector<std::string>& words_after) {
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

/// apt asks logind not to shut the host down while dpkg works; dpkg itself does not. Nothing where there is no logind.
void hold_off_shutdown(const Host& host, Command& command) {
  Command inhibit;
  inhibit.argv = {"systemd-inhibit", "--what=shutdown", "--mode=block", "--who=gpustrap", "--why=packages are being installed", "true"};
  inhibit.timeout = std::chrono::seconds(10);
  const Result<CommandResult> can = host.look(inhibit);
  if (!can || can->exit_code != 0) return;
  inhibit.argv.pop_back();
  command.argv.insert(command.argv.begin(), inhibit.argv.begin(), inhibit.argv.end());
}

/// The word behind `sign` in what apt said: the key that a signature needs.
std::string word_after(const std::string& said, std::string_view sign) {
  const std::size_t at = said.find(sign);
  if (at == std::string::npos) return {};
  const std::vector<std::string> rest = words(std::string_view(said).substr(at + sign.size(), 80));
  std::string word = rest.empty() ? std::string() : strip_control(rest.front());
  while (word.ends_with(',') || word.ends_with('.')) word.pop_back();
  return word;
}

/// Which repository apt complains of: "GPG error: https://… InRelease: …", "The repository 'https://… Release' is not signed".
std::string repository_in(const std::string& said) {
  for (const std::string_view sign : {"GPG error: ", "The repository '", "OpenPGP signature verification failed: "}) {
    const std::string url = word_after(said, sign);
    if (url.find("://") != std::string::npos) return shown_url(url);
  }
  return "a repository";
}

/// Why a repository's signature was not accepted; nullopt where it was something else.
std::optional<Error> signature_error(const std::string& said) {
  constexpr const char* kTakeTheRight = "take the key that the repository's own instructions name, with its sha256 (apt_repository)";
  std::string key = word_after(said, "NO_PUBKEY ");
  if (key.empty()) key = word_after(said, "Missing key ");
  const auto error = [&](std::string_view why, std::string_view hint) {
    return Error(ErrorCode::unsafe, fmt::format("{} {}", repository_in(said), why), std::string(hint));
  };
  if (!key.empty()) {
    const bool nvidia = key.ends_with("A4B469963BF863CC");
    return error(fmt::format("is signed by key {}, which its keyring does not hold", key),
                 nvidia ? "NVIDIA replaced its key 7fa2af80 by 3bf863cc on 2022-04-27: use 3bf863cc.pub of the repository, or cuda-keyring"
                        : kTakeTheRight);
  }
  if (key = word_after(said, "EXPKEYSIG "); !key.empty())
    return error(fmt::format("is signed by key {}, which has expired", key), kTakeTheRight);
  if (said.find("SHA1 is not considered secure") != std::string::npos) {
    return error("is signed by a key that relies on SHA-1, which this release no longer accepts",
                 "use the repository made for this release, not the one of an older release");
  }
  if (said.find("does not have a Release file") != std::string::npos || said.find("is not signed") != std::string::npos)
    return error("is no signed repository", "check its address and suites: is there one for this release?");
  return std::nullopt;
}

bool looks_transient(const CommandResult& result) {
  static constexpr std::array kSigns = {"Hash Sum mismatch",           "Failed to fetch",   "Could not connect", "Connection timed out",
                                        "Temporary failure resolving", "Connection failed", "unexpected size",   "502  Bad Gateway",
                                        "503  Service Unavailable"};
  const std::string text = result.out + result.err;
  // "Failed to fetch" is said of these too, and the next answer is signed by the same key.
  for (const char* key : {"NO_PUBKEY", "EXPKEYSIG", "Missing key "}) {
    if (text.find(key) != std::string::npos) return false;
  }
  return std::any_of(kSigns.begin(), kSigns.end(), [&](const char* sign) { return text.find(sign) != std::string::npos; });
}

/// What was fetched came by a mirror or a proxy, if there is one; what went wrong on this host did not.
Error with_way(const Host& host, Error error) {
  const bool fetched = error.code() == ErrorCode::network || error.code() == ErrorCode::unsafe;
  return fetched ? by_way_of(host, std::move(error), host.mirror().any("apt")) : error;
}

}  // namespace

Error apt_error(const Command& command, const CommandResult& result) {
  std::string why;
  for (const std::string& line : split(result.err, '\n')) {
    if (line.starts_with("E: ") && why.empty()) why = first_line(strip_control(line.substr(3)));
  }
  if (why.empty()) return command_error(command, result);
  if (const std::string unmet = unmet_dependency(result.out); !unmet.empty()) {
    return {ErrorCode::command, unmet,
            "is it made for this release, and does it need a repository more? `apt-mark showhold` lists what is held back"};
  }
  if (std::optional<Error> signature = signature_error(result.out + result.err)) return *std::move(signature);
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
  } else if ((result.out + result.err).find("Hash Sum mismatch") != std::string::npos) {
    code = ErrorCode::network;
    if (why.find("Hash Sum mismatch") == std::string::npos) why += ": Hash Sum mismatch";
    hint =
        "the mirror does not serve what its own lists promise: it is being updated, or something on the way alters it; use another mirror";
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

bool lists_may_lie(const Error& error) {
  const std::string& why = error.why();
  return why.starts_with("Unable to locate") || why.find("404") != std::string::npos || why.starts_with("Version ") ||
         why.find("Depends: ") != std::string::npos;
}

Result<void> run_apt_get(Host& host, StepLog& log, const std::vector<std::string>& words_after) {
  Command command = apt_command(words_after);
  if (Result<void> prepared = prepare_apt_mirror(host); !prepared)
    return fail(std::move(prepared).error().in("preparing the mirror for apt"));
  by_apt_mirror(host, command);
  if (std::find(words_after.begin(), words_after.end(), "install") != words_after.end()) hand_over_packages(host, log, words_after);
  command.takes_line = [&log](std::string_view line) {
    // The first of them is said just before dpkg begins. Until then, lists and packages that were half fetched do no harm.
    if (line.starts_with("pmstatus:")) log.must_finish();
    return take_progress(line, log);
  };
  for (int attempt = 1;; ++attempt) {
    const Result<CommandResult> result = host.act(command, log);
    if (!result) return fail(result.error());
    if (result->exit_code == 0) return {};
    const bool again = attempt < kMirrorAttempts && (looks_transient(*result) || lock_is_held(*result));
    if (!again) return fail(with_way(host, apt_error(command, *result)));
    log.say(fmt::format("trying again: {}", apt_error(command, *result).why()));
    if (lock_is_held(*result)) {
      if (Result<void> free = wait_for_apt_locks(host, log, kAptLockLimit); !free) return free;
    }
    host.pause(std::chrono::seconds(2 * attempt));
  }
}

Result<void> finish_cut_installation(Host& host, StepLog& log) {
  const Result<DpkgStatus> status = DpkgStatus::read(host);
  if (!status) return fail(status.error());
  const Result<std::vector<std::string>> updates = host.list("/var/lib/dpkg/updates");
  const bool journal = updates && std::any_of(updates->begin(), updates->end(), [](const std::string& name) {
                         return name.find_first_not_of("0123456789") == std::string::npos;
                       });
  if (status->unfinished().empty() && !journal) return {};
  log.say("an earlier installation was cut short; finishing it first (dpkg --configure -a)");
  log.must_finish();
  Command command;
  command.argv = {"dpkg", "--configure", "-a", "--force-confdef", "--force-confold"};
  hold_off_shutdown(host, command);
  command.env = {{"DEBIAN_FRONTEND", "noninteractive"}, {"NEEDRESTART_SUSPEND", "1"}};
  const Result<CommandResult> result = host.act(command, log);
  if (!result) return fail(result.error());
  const Result<DpkgStatus> after = DpkgStatus::read(host);
  if (!after) return fail(after.error());
  if (const std::vector<std::string> half = after->half_installed(); !half.empty()) {
    // Killed before its files were all there: dpkg leaves it as it is, and so every later installation would stumble over it.
    log.say(fmt::format("{} was not even unpacked; installing it again", join(half, " ")));
    std::vector<std::string> again = {"install", "--reinstall", "--"};
    again.insert(again.end(), half.begin(), half.end());
    if (Result<void> installed = run_apt_get(host, log, again); !installed) {
      return fail(std::move(installed).error().in(fmt::format("finishing the installation of {} that was cut short", join(half, " "))));
    }
    return {};
  }
  if (result->exit_code == 0) return {};
  // What dpkg cannot finish by itself, apt may: a missing dependency, for instance.
  return run_apt_get(host, log, {"install", "-f"});
}

Result<void> update_package_lists(Host& host, StepLog& log) {
  if (const std::string place = host.mirror().any("apt"); !place.empty()) say_mirror(host, log, "the distribution's packages", place);
  if (Result<void> updated = run_apt_get(host, log, {"-o", "APT::Update::Error-Mode=any", "update"}); !updated) {
    return fail(std::move(updated).error().in("updating the package lists"));
  }
  if (Result<void> made = host.make_directory(kStampFolder, {}); !made) return made;
  if (Result<void> noted = note_apt_mirror_lists(host); !noted) return noted;
  return host.write(kStamp, "", {});
}

bool lists_are_old(const Host& host, std::chrono::seconds max_age) {
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
  // A stamp of the future was written before the clock was set right, and says nothing.
  const std::int64_t age = host.now() - newest;
  return !any || age < 0 || age > max_age.count();
}

}  // namespace gpustrap
