#include "agent/steps/nvidia_packages.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include <fmt/format.h>

#include "agent/base/text.h"
#include "agent/protocol/compat_lookup.h"
#include "agent/steps/apt_get.h"
#include "agent/steps/apt_lock.h"
#include "agent/steps/apt_mirror.h"
#include "agent/steps/dpkg_status.h"
#include "agent/steps/host_restart.h"
#include "agent/steps/nvidia_module.h"

namespace gpustrap {
namespace {

/// Drivers that were published since are worth an update of the lists, which takes seconds.
constexpr auto kListsAge = std::chrono::hours(1);
constexpr auto kBuildLimit = std::chrono::minutes(30);

bool exists(const Host& host, const std::string& path) {
  const Result<std::optional<FileInfo>> info = host.info(path);
  return info && info->has_value();
}

std::string source_name(const std::string& from) {
  return from == "ubuntu" ? "Ubuntu's own packages" : from == "debian" ? "Debian's own packages" : "NVIDIA's repository";
}

Result<void> install(Host& host, StepLog& log, const std::vector<std::string>& packages) {
  std::vector<std::string> words_after = {"install", "--allow-downgrades", "--"};
  words_after.insert(words_after.end(), packages.begin(), packages.end());
  return run_apt_get(host, log, words_after);
}

class Installer {
 public:
  Installer(Host& host, StepLog& log, const DriverInstallation& wanted) : host_(host), log_(log), wanted_(wanted) {}

  Result<std::string> run() {
    if (Result<void> free = wait_for_apt_locks(host_, log_, kAptLockLimit); !free) return fail(std::move(free).error());
    if (Result<void> repaired = finish_cut_installation(host_, log_); !repaired) return fail(std::move(repaired).error());
    if (exists(host_, "/usr/bin/nvidia-uninstall")) {
      return fail(ErrorCode::unsupported, "a driver from NVIDIA's .run installer is on this host, and packages would be mixed with it",
                  "remove it first: sudo nvidia-uninstall --silent; then run the same command again");
    }
    std::vector<std::string> reasons;
    std::string hint;
    for (const DriverAnswer::Source& source : wanted_.driver.sources) {
      if (source.from == "nvidia") {
        if (!wanted_.repository) continue;
        if (Result<void> added = add_nvidia_repository(host_, log_, *wanted_.repository); !added) return fail(std::move(added).error());
      }
      if (lists_are_old(host_, kListsAge) || needs_apt_mirror_lists(host_, kListsAge) || source.from == "nvidia") {
        if (Result<void> updated = update_package_lists(host_, log_); !updated) return fail(std::move(updated).error());
      }
      const Result<std::optional<std::string>> done = source.is_signed ? install_built(source) : install_and_build(source);
      if (!done) return fail(done.error());
      if (*done) return **done;
      reasons.push_back(fmt::format("{}: {}", source_name(source.from), why_not_->why()));
      hint = why_not_->hint();
      log_.say(reasons.back());
      if (source.from == "debian" && why_not_->why().find("locate package") != std::string::npos)
        hint = "Debian has it in the component non-free, with contrib and non-free-firmware: add these to its sources";
    }
    return fail(ErrorCode::unsupported,
                fmt::format("no source has packages of driver branch {}: {}", wanted_.driver.branch, join(reasons, "; ")), hint);
  }

 private:
  /// Modules that the distribution has built and signed: those for the running kernel, or for the newest of its flavour.
  Result<std::optional<std::string>> install_built(const DriverAnswer::Source& source) {
    const std::string& release = host_.facts().kernel;
    std::vector<std::string> kernels = {release, kernel_name(release).flavour};
    // Upgrades of the kernel bring their modules along by the flavour's package alone.
    if (!wanted_.stay_on_kernel) std::reverse(kernels.begin(), kernels.end());
    for (const std::string& kernel : kernels) {
      std::vector<std::string> packages;
      for (const std::string& name : source.packages) packages.push_back(filled_in(name, {{"flavour", kernel}}));
      Result<std::optional<Error>> why_not = why_not_installable(host_, packages);
      if (!why_not) return fail(std::move(why_not).error());
      if (!*why_not) {
        if (Result<void> installed = install(host_, log_, packages); !installed) return fail(std::move(installed).error());
        return std::optional<std::string>("");
      }
      // What stands in the way of the flavour's package is what people can do something about.
      if (!why_not_ || kernel != release) why_not_ = **why_not;
    }
    return std::optional<std::string>();
  }

  /// Modules that are built here, for the running kernel.
  Result<std::optional<std::string>> install_and_build(const DriverAnswer::Source& source) {
    if (source.from == "nvidia") {
      if (Result<void> pinned = pin(source); !pinned) return fail(std::move(pinned).error());
    }
    Result<std::optional<Error>> why_not = why_not_installable(host_, source.packages);
    if (!why_not) return fail(std::move(why_not).error());
    if (*why_not) {
      why_not_ = **why_not;
      return std::optional<std::string>();
    }
    const Result<std::string> version = candidate_version(host_, source.packages.front());
    if (!version) return fail(version.error());
    if (branch_of(upstream_version(*version)) != wanted_.driver.branch) {
      why_not_ = Error(
          ErrorCode::unsupported,
          fmt::format("{} is of version {} there, driver branch {} is wanted", source.packages.front(), *version, wanted_.driver.branch),
          "`apt-cache policy` on the host shows which sources and pins decide");
      return std::optional<std::string>();
    }
    Result<std::string> prepared = prepare_build();
    if (!prepared) return fail(std::move(prepared).error());
    if (!prepared->empty()) return std::optional<std::string>(*std::move(prepared));
    std::vector<std::string> packages = source.packages;
    if (wanted_.persistence && std::find(packages.begin(), packages.end(), "nvidia-persistenced") == packages.end()) {
      packages.emplace_back("nvidia-persistenced");
      why_not = why_not_installable(host_, packages);
      if (!why_not) return fail(std::move(why_not).error());
      if (*why_not) packages.pop_back();
    }
    if (Result<void> installed = install(host_, log_, packages); !installed) {
      return fail(
          std::move(installed).error().with_hint("where the module could not be built, /var/lib/dkms/nvidia*/*/build/make.log says why"));
    }
    if (Result<void> built = build_for_running_kernel(); !built) return fail(std::move(built).error());
    return std::optional<std::string>("");
  }

  /// Packages that were there already, from the time of another kernel, build nothing by themselves.
  Result<void> build_for_running_kernel() {
    const std::string& release = host_.facts().kernel;
    if (!module_version(host_, release).empty()) return {};
    const Result<CommandResult> built = host_.act({{"dkms", "autoinstall", "-k", release}, {}, "", "", kBuildLimit, {}}, log_);
    if (!built) return fail(built.error());
    return {};  // whether there is a module now is looked at before it is loaded
  }

  /// In a transaction of its own: the pin decides what the next one takes.
  Result<void> pin(const DriverAnswer::Source& source) {
    const std::string& package = wanted_.driver.pin;
    if (package.empty()) return {};
    const Result<std::string> version = candidate_version(host_, package);
    if (!version) return fail(version.error());
    if (!version->empty()) return install(host_, log_, {package});
    const bool named = std::any_of(source.packages.begin(), source.packages.end(),
                                   [&](const std::string& name) { return name.ends_with("-" + wanted_.driver.branch); });
    log_.say(fmt::format("the repository has no {}{}", package, named ? "; the packages' names keep the branch" : ""));
    return {};
  }

  /// Headers of the running kernel and the compiler that it was built with. Returns why a restart is needed first.
  Result<std::string> prepare_build() {
    const std::string& release = host_.facts().kernel;
    std::vector<std::string> packages;
    if (!exists(host_, "/lib/modules/" + release + "/build/Makefile")) {
      const std::string headers = "linux-headers-" + release;
      const Result<std::optional<Error>> why_not = why_not_installable(host_, {headers});
      if (!why_not) return fail(why_not.error());
      if (*why_not) return newer_kernel_with_headers(**why_not);
      packages.push_back(headers);
    }
    const Result<DpkgStatus> status = DpkgStatus::read(host_);
    if (!status) return fail(status.error());
    if (const std::string compiler = kernel_compiler(host_); !compiler.empty() && status->installed(compiler) == nullptr) {
      const Result<std::optional<Error>> why_not = why_not_installable(host_, {compiler});
      if (!why_not) return fail(why_not.error());
      if (!*why_not) {
        packages.push_back(compiler);
      } else {
        log_.say(fmt::format("the kernel was built with {}, which is not served here: the default compiler is taken", compiler));
      }
    }
    if (packages.empty()) return std::string();
    if (Result<void> installed = install(host_, log_, packages); !installed)
      return fail(std::move(installed).error().in("installing what builds the driver's module"));
    return std::string();
  }

  /// After an update the archive may have no headers of the running kernel any more.
  Result<std::string> newer_kernel_with_headers(const Error& why_not) {
    const std::string& release = host_.facts().kernel;
    const std::string flavour = kernel_name(release).flavour;
    const std::vector<std::string> packages = {"linux-image-" + flavour, "linux-headers-" + flavour};
    const Result<std::optional<Error>> also_not = why_not_installable(host_, packages);
    if (!also_not) return fail(also_not.error());
    const Error no_headers(
        ErrorCode::unsupported,
        fmt::format("the driver's module must be built here, and the headers of the running kernel {} are not to be had: {}", release,
                    why_not.why()),
        fmt::format("install the package with the headers of {}, or run a kernel of the distribution", release));
    if (flavour.empty() || *also_not) return fail(no_headers);
    log_.say(
        fmt::format("the headers of the running kernel {} are no longer served; the newest kernel is installed with its own", release));
    if (Result<void> installed = install(host_, log_, packages); !installed) return fail(std::move(installed).error());
    const std::string newer = newer_kernel(host_);
    if (newer.empty()) return fail(no_headers);
    return fmt::format("the headers of the kernel {} are no longer served, and {} is installed with its own", release, newer);
  }

  Host& host_;
  StepLog& log_;
  const DriverInstallation& wanted_;
  std::optional<Error> why_not_;
};

}  // namespace

Result<std::optional<Error>> why_not_installable(const Host& host, const std::vector<std::string>& packages) {
  Command command;
  command.argv = {"apt-get", "-s", "-q", "-o", "Debug::NoLocking=1", "install", "--allow-downgrades", "--"};
  command.argv.insert(command.argv.end(), packages.begin(), packages.end());
  look_by_apt_mirror(host, command);
  const Result<CommandResult> simulated = host.look(command);
  if (!simulated) return fail(simulated.error());
  if (simulated->exit_code == 0) return std::optional<Error>();
  return std::optional<Error>(apt_error(command, *simulated));
}

Result<std::string> candidate_version(const Host& host, const std::string& package) {
  Command command{{"apt-cache", "policy", "--", package}, {{"LC_ALL", "C"}}, "", "", std::chrono::minutes(1), {}};
  look_by_apt_mirror(host, command);
  const Result<CommandResult> policy = host.look(command);
  if (!policy) return fail(policy.error());
  if (policy->exit_code != 0) return fail(apt_error(command, *policy));
  for (const std::string& line : split(policy->out, '\n')) {
    const std::vector<std::string> fields = words(line);
    if (fields.size() == 2 && fields[0] == "Candidate:") return fields[1] == "(none)" ? std::string() : fields[1];
  }
  return std::string();
}

std::string upstream_version(std::string_view version) {
  if (const std::size_t colon = version.find(':'); colon != std::string_view::npos) version.remove_prefix(colon + 1);
  return std::string(version.substr(0, version.rfind('-')));
}

std::string kernel_compiler(const Host& host) {
  const Result<std::string> text = host.read("/proc/version");
  if (!text) return {};
  // "(x86_64-linux-gnu-gcc-13 (Ubuntu 13.3.0-6ubuntu2) 13.3.0, …", "(gcc-12 (Debian 12.2.0-14) 12.2.0, …"
  const std::size_t at = text->find("gcc-");
  if (at == std::string::npos) return {};
  const std::size_t end = text->find_first_not_of("0123456789", at + 4);
  return end == at + 4 ? std::string() : text->substr(at, end - at);
}

Result<std::string> install_driver_packages(Host& host, StepLog& log, const DriverInstallation& wanted) {
  return Installer(host, log, wanted).run();
}

}  // namespace gpustrap
