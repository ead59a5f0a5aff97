#include "agent/steps/cuda_sources.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <optional>
#include <string_view>
#include <utility>

#include <fmt/format.h>

#include "agent/base/file.h"
#include "agent/base/text.h"
#include "agent/shown_url.h"
#include "agent/steps/apt_get.h"
#include "agent/steps/apt_lock.h"
#include "agent/steps/apt_mirror.h"
#include "agent/steps/apt_sources.h"
#include "agent/steps/deb_package.h"
#include "agent/steps/edited_file.h"
#include "agent/steps/state_paths.h"

namespace gpustrap {
namespace {

/// The installer unpacks several gigabytes into its temporary folder, and then copies them.
constexpr auto kInstallerLimit = std::chrono::hours(1);
constexpr const char* kInstallerLog = "/var/log/cuda-installer.log";

bool is_driver(std::string_view package) {
  static constexpr std::array<std::string_view, 6> kDrivers = {"cuda-drivers", "nvidia-driver",      "nvidia-open",
                                                               "nvidia-dkms",  "nvidia-kernel-dkms", "libnvidia-compute"};
  return std::any_of(kDrivers.begin(), kDrivers.end(), [&](std::string_view name) { return package.starts_with(name); }) &&
         !package.starts_with("nvidia-driver-pinning");
}

/// The toolkit must leave the driver alone: the one that serves these GPUs was chosen for them, and is loaded.
Result<void> install(Host& host, StepLog& log, const std::vector<std::string>& packages) {
  Command command;
  command.argv = {"apt-get", "-s", "-q", "-o", "Debug::NoLocking=1", "install", "--no-install-recommends", "--"};
  command.argv.insert(command.argv.end(), packages.begin(), packages.end());
  look_by_apt_mirror(host, command);
  const Result<CommandResult> simulated = host.look(command);
  if (!simulated) return fail(simulated.error());
  if (simulated->exit_code != 0) return fail(apt_error(command, *simulated));
  for (const std::string& line : split(simulated->out, '\n')) {
    const std::vector<std::string> fields = words(line);
    if (fields.size() < 2 || (fields[0] != "Inst" && fields[0] != "Remv") || !is_driver(fields[1])) continue;
    return fail(ErrorCode::unsafe,
                fmt::format("{} would {} {} along with it", join(packages, " "), fields[0] == "Inst" ? "install" : "remove", fields[1]),
                "`apt-get -s install` on the host shows why; a toolkit needs no driver package");
  }
  std::vector<std::string> words_after = {"install", "--no-install-recommends", "--"};
  words_after.insert(words_after.end(), packages.begin(), packages.end());
  return run_apt_get(host, log, words_after);
}

Result<void> prepare_apt(Host& host, StepLog& log) {
  if (Result<void> free = wait_for_apt_locks(host, log, kAptLockLimit); !free) return free;
  return finish_cut_installation(host, log);
}

/// What a local repository's package has brought: its folder and the key that signs it.
struct LocalRepository {
  std::string folder, key;
};
Result<LocalRepository> local_repository(const Host& host, const std::string& package) {
  const Result<std::string> files = host.read("/var/lib/dpkg/info/" + package + ".list");
  if (!files) return fail(files.error());
  LocalRepository found;
  for (const std::string& file : split(*files, '\n')) {
    const bool index = file.ends_with("/Packages") || file.ends_with("/Packages.gz") || file.ends_with("/InRelease");
    if (index) found.folder = parent_of(file);
    if (file.ends_with(".pub") || file.ends_with("keyring.gpg")) found.key = file;
  }
  if (!found.folder.empty() && !found.key.empty()) return found;
  return fail(ErrorCode::unsupported,
              fmt::format("{} is no local repository: there is no {} in it", package, found.folder.empty() ? "list of packages" : "key"),
              "does the address lead to a cuda-repo-…-local .deb?");
}

FetchRequest runfile_request(const Host& host, const CudaSpec& spec) {
  FetchRequest request;
  request.urls.push_back(spec.url->text);
  for (const Url& mirror : spec.mirrors) request.urls.push_back(mirror.text);
  request.sha256 = spec.sha256->hex;
  request.to = fmt::format("{}/{}.run", cache_directory(host), spec.sha256->hex);
  request.name = file_name_of_url(spec.url->text);
  return request;
}

WantedDeb wanted_deb(const Host& host, const CudaSpec& spec) {
  WantedDeb deb;
  if (spec.url) deb.urls.push_back(spec.url->text);
  for (const Url& mirror : spec.mirrors) deb.urls.push_back(mirror.text);
  if (spec.path) deb.path = host.expand(spec.path->text);
  if (spec.sha256) deb.sha256 = spec.sha256->hex;
  return deb;
}

}  // namespace

Result<void> install_toolkit_from_repository(Host& host, StepLog& log, const NvidiaRepository& repository,
                                             const std::vector<std::string>& packages) {
  if (Result<void> ready = prepare_apt(host, log); !ready) return ready;
  if (Result<void> added = add_nvidia_repository(host, log, repository); !added) return added;
  if (Result<void> updated = update_package_lists(host, log); !updated) return updated;
  return install(host, log, packages);
}

Result<void> install_toolkit_from_deb(Host& host, StepLog& log, const CudaSpec& spec, const std::vector<std::string>& packages) {
  const Result<DebName> name = install_deb(host, log, wanted_deb(host, spec));
  if (!name) return fail(name.error());
  const Result<LocalRepository> repository = local_repository(host, name->package);
  if (!repository) return fail(repository.error());
  // The package's own entry trusts its key for everything, or wants it copied by hand.
  const std::string source = fmt::format("/etc/apt/sources.list.d/gpustrap-{}.sources", name->package);
  const AptPlace place{"file://" + repository->folder, {"/"}};
  const Result<std::vector<AptConflict>> conflicts = conflicting_sources(host, place, source);
  if (!conflicts) return fail(conflicts.error());
  for (const AptConflict& conflict : *conflicts) {
    log.say(fmt::format("{} names the same repository and is disabled", conflict.summary));
    if (Result<void> kept = keep_backup(conflict.file, host, log, ".save"); !kept) return kept;
    if (Result<void> wrote = host.write(conflict.file.path, conflict.text, {}); !wrote) return wrote;
  }
  // apt takes armoured keys by the ending .asc alone.
  const std::string ending = repository->key.ends_with(".gpg") ? ".gpg" : ".asc";
  const std::string key = fmt::format("/etc/apt/keyrings/{}{}", name->package, ending);
  const Result<std::string> bytes = host.read(repository->key);
  if (!bytes) return fail(bytes.error());
  FileAttributes readable;
  readable.mode = 0644;
  if (Result<void> made = host.make_directory("/etc/apt/keyrings", {}); !made) return made;
  if (Result<void> wrote = host.write(key, *bytes, readable); !wrote) return wrote;
  const std::string text =
      fmt::format("# Written by gpustrap.\nTypes: deb\nURIs: file://{}\nSuites: /\nSigned-By: {}\n", repository->folder, key);
  if (Result<void> wrote = host.write(source, text, readable); !wrote) return wrote;
  if (Result<void> ready = prepare_apt(host, log); !ready) return ready;
  if (Result<void> updated = update_package_lists(host, log); !updated) return updated;
  return install(host, log, packages);
}

std::optional<FetchRequest> toolkit_download(const Host& host, const CudaSpec& spec) {
  if (!spec.url || !spec.sha256 || spec.from == CudaSpec::From::repository) return std::nullopt;
  return spec.from == CudaSpec::From::runfile ? runfile_request(host, spec) : deb_download(host, wanted_deb(host, spec));
}

Result<void> install_toolkit_from_runfile(Host& host, StepLog& log, const CudaSpec& spec) {
  std::string file;
  if (spec.path) {
    file = host.expand(spec.path->text);
    const Result<std::string> digest = host.digest(file);
    if (!digest) return fail(digest.error());
    if (spec.sha256 && *digest != spec.sha256->hex) {
      return fail(ErrorCode::digest, fmt::format("{} has sha256 {}, wanted was {}", file, *digest, spec.sha256->hex),
                  "put the right file there, or correct the digest in the recipe");
    }
  } else {
    FileAttributes hidden;
    hidden.mode = 0700;
    const std::string cache = cache_directory(host);
    if (Result<void> made = host.make_directory(cache, hidden); !made) return made;
    const FetchRequest request = runfile_request(host, spec);
    file = request.to;
    const Result<std::optional<FileInfo>> left = host.info(file);
    const Result<std::string> digest = left && *left ? host.digest(file) : Result<std::string>("");
    if (!digest || *digest != spec.sha256->hex) {
      if (const Result<FetchResult> fetched = host.fetch(request, log); !fetched) return fail(fetched.error());
    }
  }
  // --override: it would refuse a compiler that is newer than itself, though nothing is compiled here.
  const Command command{{"sh", file, "--silent", "--toolkit", "--override"}, {}, "/", "", kInstallerLimit, {}};
  const Result<CommandResult> result = host.act(command, log);
  if (!result) return fail(result.error());
  if (result->exit_code != 0) {
    std::string why;
    const Result<std::string> text = host.read(kInstallerLog);
    for (const std::string& line : split(text ? *text : result->out + result->err, '\n')) {
      if (line.find("ERROR") != std::string::npos) why = first_line(strip_control(line), 200);
    }
    if (why.empty()) return fail(command_error(command, *result));
    return fail(ErrorCode::command, fmt::format("the installer failed: {}", why),
                fmt::format("{} on the host has the rest; it needs room in /tmp and /usr/local (df -h)", kInstallerLog));
  }
  return spec.path ? Result<void>() : host.remove(file);
}

}  // namespace gpustrap
