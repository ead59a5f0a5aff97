#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "agent/base/file.h"
#include "agent/base/sha256.h"
#include "agent/base/text.h"
#include "agent/shown_url.h"
#include "agent/steps/conda_login.h"
#include "agent/steps/conda_prefix.h"
#include "agent/steps/kinds.h"
#include "agent/steps/ownership.h"
#include "agent/steps/python_version.h"
#include "agent/steps/state_paths.h"

namespace gpustrap {
namespace {

/// Why an installer failed. What it says goes to both of its streams.
Error installer_error(const Command& command, const CommandResult& result, const Host& host, const std::string& prefix) {
  const std::string said = result.err + result.out;
  for (const char* sign : {"No space left on device", "Not enough free disk space", "Disk quota exceeded", "Errno 28"}) {
    if (said.find(sign) == std::string::npos) continue;
    const Result<std::uint64_t> free = host.disk_free(parent_of(prefix));
    return {ErrorCode::no_space, fmt::format("the disk was full{}", free ? fmt::format(", {} are free now", human_size(*free)) : ""),
            "make room (df -h), or choose a `prefix` on another disk; then run the same command again"};
  }
  if (said.find("requires GLIBC") != std::string::npos) {
    return {ErrorCode::unsupported, "the installer wants a newer C library than this host has",
            "choose an older `version` with its `sha256`"};
  }
  return command_error(command, result);
}

class CondaStep : public Step {
 public:
  explicit CondaStep(CondaSpec spec) : spec_(std::move(spec)) {}

  [[nodiscard]] Result<StepState> check(const Host& host) const override {
    const Result<Seen> seen = look(host);
    if (!seen) return fail(seen.error());
    if (seen->to_do != Seen::ToDo::nothing) {
      if (Result<void> allowed = may_install(); !allowed) return fail(std::move(allowed).error());
      return StepState::unsatisfied(seen->reason, (seen->to_do == Seen::ToDo::update ? "update it with " : "install ") + installer(host));
    }
    std::string reason = seen->reason;
    if (spec_.init) {
      Result<StepState> state = check_conda_init(host, seen->prefix);
      if (!state) return state;
      if (state->is != StepState::Is::satisfied) return StepState::unsatisfied(fmt::format("{}; {}", reason, state->reason));
      reason += "; " + state->reason;
    }
    if (spec_.accept_tos) {
      Result<StepState> state = check_conda_terms(host, seen->prefix);
      if (!state) return state;
      if (state->is != StepState::Is::satisfied) return StepState::unsatisfied(fmt::format("{}; {}", reason, state->reason));
      reason += "; " + state->reason;
    }
    return StepState::satisfied(reason);
  }

  Result<void> apply(Host& host, StepLog& log) override {
    Result<Seen> seen = look(host);
    if (!seen) return fail(std::move(seen).error());
    if (seen->to_do != Seen::ToDo::nothing) {
      if (Result<void> installed = install(host, log, *seen); !installed) return installed;
    }
    if (spec_.init) {
      const Result<StepState> state = check_conda_init(host, seen->prefix);
      if (!state) return fail(state.error());
      if (state->is != StepState::Is::satisfied) {
        if (Result<void> done = init_conda(host, log, seen->prefix); !done) return fail(std::move(done).error().in("conda init"));
      }
    }
    if (!spec_.accept_tos) return {};
    const Result<StepState> state = check_conda_terms(host, seen->prefix);
    if (!state) return fail(state.error());
    return state->is == StepState::Is::satisfied ? Result<void>() : accept_conda_terms(host, log, seen->prefix);
  }

  [[nodiscard]] std::vector<FetchRequest> downloads(const Host& host) const override {
    const Result<Seen> seen = look(host);
    const Result<FetchRequest> wanted = request(host);
    if (!seen || !wanted || !may_install() || seen->to_do == Seen::ToDo::nothing) return {};
    return {*wanted};
  }

 private:
  struct Seen {
    std::string prefix;
    enum class ToDo { nothing, install, clear_and_install, update } to_do = ToDo::nothing;
    std::string reason;
  };

  [[nodiscard]] Result<Seen> look(const Host& host) const {
    Result<std::string> prefix = follow_link(host.expand(spec_.prefix.text), host);
    if (!prefix) return fail(std::move(prefix).error());
    Seen seen;
    seen.prefix = std::move(*prefix);
    const Result<CondaPrefix> there = look_at_conda_prefix(host, seen.prefix);
    if (!there) return fail(there.error());
    if (*there == CondaPrefix::complete) return look_at_version(host, std::move(seen));
    seen.to_do = Seen::ToDo::install;
    if (*there == CondaPrefix::absent || *there == CondaPrefix::empty) {
      seen.reason = seen.prefix + (*there == CondaPrefix::empty ? " is empty" : " does not exist");
      return seen;
    }
    std::string work = conda_work(host, seen.prefix);
    // Its end alone may have been missed, and the conda been in use since: an installer makes no environments.
    if (const Result<std::vector<std::string>> used = host.list(seen.prefix + "/envs"); work == "install" && used && !used->empty())
      work.clear();
    if (work == "update") {
      seen.to_do = Seen::ToDo::update;
      seen.reason = fmt::format("an update of {} was cut short", seen.prefix);
    } else if (work == "install") {
      seen.to_do = Seen::ToDo::clear_and_install;
      seen.reason = fmt::format("gpustrap's installation in {} was cut short", seen.prefix);
    } else if (*there == CondaPrefix::cut) {
      return fail(
          ErrorCode::unsafe, fmt::format("{} holds a conda whose installation was cut short, not by gpustrap", seen.prefix),
          fmt::format("finish it with its installer and -u, or move it away (mv {0} {0}.old), or choose another `prefix`", seen.prefix));
    } else {
      return fail(ErrorCode::unsafe, fmt::format("{} exists, is not empty, and is no conda", seen.prefix),
                  fmt::format("move it away (mv {0} {0}.old), or choose another `prefix`", seen.prefix));
    }
    return seen;
  }

  [[nodiscard]] Result<Seen> look_at_version(const Host& host, Seen seen) const {
    const Result<std::map<std::string, CondaPackage>> packages = conda_packages(host, seen.prefix);
    if (!packages) return fail(packages.error());
    seen.reason = fmt::format("conda {} in {}", packages->at("conda").version, seen.prefix);
    if (spec_.version.empty()) return seen;
    const std::string wanted = comparable_conda_version(spec_.version);
    const bool is_anaconda = spec_.distribution == CondaDistribution::anaconda;
    const auto package = packages->find(is_anaconda ? "anaconda" : "conda");
    // Without its package of that name, or with a custom one, it is somebody's own choice of packages.
    if (package == packages->end() || package->second.version == "custom") return seen;
    if (compare_python_versions(package->second.version, wanted) >= 0) {
      if (is_anaconda) seen.reason += fmt::format(", Anaconda {}", package->second.version);
      return seen;
    }
    seen.to_do = Seen::ToDo::update;
    seen.reason = fmt::format("{} {} in {}, {} wanted", package->first, package->second.version, seen.prefix, wanted);
    return seen;
  }

  /// Batch mode counts as agreement to what the installer would have asked.
  [[nodiscard]] Result<void> may_install() const {
    if (spec_.distribution == CondaDistribution::miniforge || spec_.accept_tos) return {};
    const char* name = spec_.distribution == CondaDistribution::anaconda ? "Anaconda" : "Miniconda";
    return fail(ErrorCode::recipe,
                fmt::format("{} and its channels are under Anaconda's Terms of Service, which nobody has accepted yet", name),
                "read them (https://www.anaconda.com/legal), then say `accept_tos: true` on this step (of a recipe that comes with "
                "gpustrap: `--var accept_tos=true`); or take `distribution: miniforge`, "
                "which asks for nothing");
  }

  [[nodiscard]] std::string version() const {
    return spec_.version.empty() ? std::string(pinned_conda_version(spec_.distribution)) : spec_.version;
  }
  [[nodiscard]] std::string installer(const Host& host) const {
    return conda_installer_name(spec_.distribution, version(), host.facts().arch);
  }

  [[nodiscard]] Result<FetchRequest> request(const Host& host) const {
    FetchRequest request;
    request.urls.push_back(spec_.url ? spec_.url->text : conda_installer_url(spec_.distribution, version(), host.facts().arch));
    for (const Url& mirror : spec_.mirrors) request.urls.push_back(mirror.text);
    request.sha256 = spec_.sha256 ? spec_.sha256->hex : std::string(pinned_conda_digest(spec_.distribution, version(), host.facts().arch));
    if (request.sha256->empty()) {
      return fail(ErrorCode::unsupported, fmt::format("gpustrap knows no digest of {}", installer(host)),
                  fmt::format("give `sha256`; the publisher lists them at {}", conda_digest_source(spec_.distribution)));
    }
    // Two steps that run side by side may want the same conda in two places: each has its installer for itself.
    request.to = fmt::format("{}/{}-{}-{}", cache_directory(host), request.sha256->substr(0, 16),
                             sha256_hex(host.expand(spec_.prefix.text)).substr(0, 8), installer(host));
    request.attributes.mode = 0600;
    request.name = installer(host);
    return request;
  }

  /// The installer on the host's disk, its digest checked. One that a run before left there is used.
  [[nodiscard]] static Result<void> fetch(Host& host, StepLog& log, const FetchRequest& wanted) {
    FileAttributes hidden;
    hidden.mode = 0700;
    if (Result<void> made = host.make_directory(parent_of(wanted.to), hidden); !made) return made;
    if (const Result<std::optional<FileInfo>> left = host.info(wanted.to); left && *left) {
      const Result<std::string> digest = host.digest(wanted.to);
      if (digest && *digest == wanted.sha256) return {};
    }
    log.say("fetching " + shown_url(wanted.urls.front()));
    const Result<FetchResult> fetched = host.fetch(wanted, log);
    return fetched ? Result<void>() : fail(fetched.error());
  }

  Result<void> install(Host& host, StepLog& log, const Seen& seen) const {
    if (Result<void> allowed = may_install(); !allowed) return allowed;
    const Result<FetchRequest> wanted = request(host);
    if (!wanted) return fail(wanted.error());
    const bool updates = seen.to_do == Seen::ToDo::update;
    // First of all: a full disk needs the room that a cut installation takes.
    if (seen.to_do == Seen::ToDo::clear_and_install) {
      log.say(fmt::format("{}; clearing it away to install anew", seen.reason));
      if (Result<void> cleared = clear_folder(host, seen.prefix); !cleared) return cleared;
    }
    if (Result<void> fetched = fetch(host, log, *wanted); !fetched) return fetched;
    if (Result<void> made = host.make_directory(seen.prefix, {}); !made) return made;
    if (Result<void> noted = begin_conda_work(host, seen.prefix, updates ? "update" : "install"); !noted) return noted;
    Command command;
    // -f: the folder is there already, made above for the note.
    command.argv = {"sh", wanted->to, "-b", updates ? "-u" : "-f", "-p", seen.prefix};
    const Result<CommandResult> result = host.act(command, log);
    if (!result) return fail(result.error());
    if (result->exit_code != 0) {
      const Error why = installer_error(command, *result, host, seen.prefix);
      // An update is left as it is, for the next one to go on with: the conda there is the user's.
      if (!updates) {
        if (Result<void> cleared = clear_folder(host, seen.prefix); !cleared) return cleared;
        if (Result<void> ended = end_conda_work(host, seen.prefix); !ended) return ended;
      }
      return fail(Error(why).in("running " + installer(host)));
    }
    const Result<CondaPrefix> made = look_at_conda_prefix(host, seen.prefix);
    if (!made) return fail(made.error());
    if (*made != CondaPrefix::complete) {
      return fail(ErrorCode::command, fmt::format("{} ended well, but left no whole conda in {}", installer(host), seen.prefix),
                  "its output is above; is it an installer of conda?");
    }
    if (Result<void> ended = end_conda_work(host, seen.prefix); !ended) return ended;
    return host.remove(wanted->to);
  }

  CondaSpec spec_;
};

}  // namespace

std::unique_ptr<Step> make_conda_step(const StepSpec& spec) { return std::make_unique<CondaStep>(std::get<CondaSpec>(spec)); }

}  // namespace gpustrap
