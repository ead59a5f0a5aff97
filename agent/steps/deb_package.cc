#include "agent/steps/deb_package.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "agent/base/file.h"
#include "agent/base/sha256.h"
#include "agent/base/text.h"
#include "agent/protocol/json.h"
#include "agent/shown_url.h"
#include "agent/steps/apt_get.h"
#include "agent/steps/apt_lock.h"
#include "agent/steps/dpkg_status.h"
#include "agent/steps/state_paths.h"

namespace gpustrap {
namespace {

struct Control {
  DebName name;
  std::string architecture;
};

std::string shown_source(const WantedDeb& wanted) { return wanted.urls.empty() ? wanted.path : shown_url(wanted.urls.front()); }

/// Control data of a .deb, read by dpkg itself: they may be packed in any way that dpkg knows.
Result<Control> read_control(const Host& host, const std::string& file, const std::string& shown) {
  Command command;
  command.argv = {"dpkg-deb", "-f", file, "Package", "Version", "Architecture"};
  const Result<CommandResult> result = host.look(command);
  if (!result) return fail(result.error());
  Control control;
  for (const std::string& line : split(result->out, '\n')) {
    const std::size_t colon = line.find(": ");
    if (colon == std::string::npos) continue;
    const std::string value(trim(line.substr(colon + 2)));
    if (line.starts_with("Package:")) control.name.package = value;
    if (line.starts_with("Version:")) control.name.version = value;
    if (line.starts_with("Architecture:")) control.architecture = value;
  }
  if (result->exit_code != 0 || control.name.package.empty() || control.name.version.empty()) {
    const std::string said = first_line(strip_control(result->err));
    return fail(ErrorCode::unsupported, fmt::format("{} is no Debian package{}{}", shown, said.empty() ? "" : ": ", said),
                "does the address lead to the .deb itself, and not to a page about it?");
  }
  return control;
}

std::string record_path(const Host& host, const WantedDeb& wanted) {
  const std::string source = wanted.urls.empty() ? wanted.path : wanted.urls.front();
  return fmt::format("{}/{}.json", state_directory(host, "debs"), sha256_hex(source + "\n" + wanted.sha256).substr(0, 32));
}

std::optional<DebName> recall(const Host& host, const WantedDeb& wanted) {
  const Result<std::string> text = host.read(record_path(host, wanted));
  if (!text) return std::nullopt;
  const Json document = Json::parse(*text, nullptr, false);
  if (!document.is_object()) return std::nullopt;
  DebName name;
  for (const auto& [key, field] : {std::pair<const char*, std::string*>("package", &name.package), {"version", &name.version}}) {
    if (!document.contains(key) || !document[key].is_string()) return std::nullopt;
    *field = document[key].get<std::string>();
  }
  return name;
}

Result<void> remember(Host& host, const WantedDeb& wanted, const DebName& name) {
  const Json document = {{"source", to_utf8(shown_source(wanted))}, {"package", name.package}, {"version", name.version}};
  const std::string path = record_path(host, wanted);
  if (Result<void> made = host.make_directory(parent_of(path), {}); !made) return made;
  return host.write(path, document.dump() + "\n", {});
}

/// dpkg knows how versions compare ("1:2.0~rc1-1" and the like).
Result<bool> is_newer(const Host& host, const std::string& version, const std::string& than) {
  Command command;
  command.argv = {"dpkg", "--compare-versions", version, "gt", than};
  const Result<CommandResult> result = host.look(command);
  if (!result) return fail(result.error());
  if (result->exit_code > 1) return fail(command_error(command, *result));
  return result->exit_code == 0;
}

FetchRequest request_for(const Host& host, const WantedDeb& wanted) {
  FetchRequest request;
  request.urls = wanted.urls;
  request.to = fmt::format("{}/{}.deb", cache_directory(host), wanted.sha256);
  request.sha256 = wanted.sha256;
  request.name = file_name_of_url(wanted.urls.front());
  return request;
}

Result<std::string> fetch_deb(Host& host, StepLog& log, const WantedDeb& wanted) {
  const std::string cache = cache_directory(host);
  FileAttributes hidden;
  hidden.mode = 0700;
  if (Result<void> made = host.make_directory(cache, hidden); !made) return fail(std::move(made).error());
  const FetchRequest request = request_for(host, wanted);
  // Left by a run that ended between fetching and installing.
  if (const Result<std::optional<FileInfo>> left = host.info(request.to); left && *left) {
    const Result<std::string> digest = host.digest(request.to);
    if (digest && *digest == wanted.sha256) return request.to;
  }
  const Result<FetchResult> fetched = host.fetch(request, log);
  if (!fetched) return fail(fetched.error());
  return request.to;
}

Result<std::string> file_on_host(const Host& host, const WantedDeb& wanted) {
  const Result<std::string> digest = host.digest(wanted.path);
  if (!digest) {
    if (digest.error().code() != ErrorCode::not_found) return fail(digest.error());
    return fail(ErrorCode::not_found, wanted.path + " does not exist",
                "put the package there, or let a `download` step do that before this one");
  }
  if (!wanted.sha256.empty() && *digest != wanted.sha256) {
    return fail(ErrorCode::digest, fmt::format("{} has sha256 {}, wanted was {}", wanted.path, *digest, wanted.sha256),
                "put the right package there, or correct the digest in the recipe");
  }
  return wanted.path;
}

Result<void> check_architecture(const Host& host, const Control& control, const std::string& shown) {
  if (control.architecture == "all" || control.architecture.empty()) return {};
  std::vector<std::string> known;
  for (const char* which : {"--print-architecture", "--print-foreign-architectures"}) {
    Command command;
    command.argv = {"dpkg", which};
    const Result<CommandResult> result = host.look(command);
    if (!result) return fail(result.error());
    for (std::string& name : words(result->out)) known.push_back(std::move(name));
  }
  if (known.empty() || std::find(known.begin(), known.end(), control.architecture) != known.end()) return {};
  return fail(ErrorCode::unsupported, fmt::format("{} is for {}, this host is {}", shown, control.architecture, known.front()),
              "take the package for this architecture, or put `when: {arch: …}` on this step");
}

}  // namespace

std::optional<FetchRequest> deb_download(const Host& host, const WantedDeb& wanted) {
  if (wanted.urls.empty()) return std::nullopt;
  return request_for(host, wanted);
}

Result<std::optional<DebName>> name_of_deb(const Host& host, const WantedDeb& wanted) {
  if (!wanted.package.empty()) return std::optional<DebName>(DebName{wanted.package, wanted.version});
  if (!wanted.path.empty()) {
    const Result<std::optional<FileInfo>> info = host.info(wanted.path);
    if (!info) return fail(info.error());
    if (*info) {
      Result<Control> control = read_control(host, wanted.path, wanted.path);
      if (!control) return fail(std::move(control).error());
      return std::optional<DebName>(std::move(control->name));
    }
  }
  return recall(host, wanted);
}

Result<StepState> check_deb(const Host& host, const WantedDeb& wanted) {
  const Result<DpkgStatus> status = DpkgStatus::read(host);
  if (!status) return fail(status.error());
  const Result<std::optional<DebName>> name = name_of_deb(host, wanted);
  if (!name) return fail(name.error());
  if (!*name) {
    return StepState::unknown(wanted.path.empty()
                                  ? fmt::format("which package {} holds is not known before it is fetched", shown_source(wanted))
                                  : wanted.path + " is not there yet");
  }
  const auto& [package, version] = **name;
  const DpkgPackage* there = status->installed_itself(package);
  if (there == nullptr) return StepState::unsatisfied(package + " is not installed", fmt::format("install {} {}", package, version));
  if (there->version == version) return StepState::satisfied(fmt::format("{} {} is installed", package, version));
  const Result<bool> newer = is_newer(host, there->version, version);
  if (!newer) return fail(newer.error());
  if (*newer) return StepState::satisfied(fmt::format("{} {} is installed, newer than {}", package, there->version, version));
  return StepState::unsatisfied(fmt::format("{} {} installed, {} wanted", package, there->version, version),
                                fmt::format("install {} {}", package, version));
}

Result<DebName> install_deb(Host& host, StepLog& log, const WantedDeb& wanted) {
  const std::string shown = shown_source(wanted);
  Result<std::string> file = wanted.urls.empty() ? file_on_host(host, wanted) : fetch_deb(host, log, wanted);
  if (!file) return fail(std::move(file).error());
  const Result<Control> control = read_control(host, *file, shown);
  if (!control) return fail(control.error());
  const DebName& name = control->name;
  if (!wanted.package.empty() && (name.package != wanted.package || name.version != wanted.version)) {
    return fail(ErrorCode::recipe,
                fmt::format("{} holds {} {}, the recipe says {} {}", shown, name.package, name.version, wanted.package, wanted.version),
                "correct `package` and `version` in the recipe, or leave them out");
  }
  if (Result<void> fits = check_architecture(host, *control, shown); !fits) return fail(std::move(fits).error());
  // Which package it is may be known only now, and it may be there already.
  WantedDeb known = wanted;
  known.package = name.package;
  known.version = name.version;
  const Result<StepState> state = check_deb(host, known);
  if (!state) return fail(state.error());
  if (state->is != StepState::Is::satisfied) {
    if (Result<void> free = wait_for_apt_locks(host, log, kAptLockLimit); !free) return fail(std::move(free).error());
    if (Result<void> repaired = finish_cut_installation(host, log); !repaired) return fail(std::move(repaired).error());
    // A package that needs nothing installs without any list, on a host without a way out: lists are fetched only where apt misses them.
    Result<void> installed = run_apt_get(host, log, {"install", "--", *file});
    if (!installed && lists_may_lie(installed.error())) {
      if (Result<void> updated = update_package_lists(host, log); !updated) return fail(std::move(updated).error());
      installed = run_apt_get(host, log, {"install", "--", *file});
    }
    if (!installed) return fail(std::move(installed).error().in("installing " + shown));
  } else {
    log.say(state->reason);
  }
  if (Result<void> remembered = remember(host, wanted, name); !remembered) return fail(std::move(remembered).error());
  if (!wanted.urls.empty()) {
    if (Result<void> removed = host.remove(*file); !removed) return fail(std::move(removed).error());
  }
  return name;
}

}  // namespace gpustrap
