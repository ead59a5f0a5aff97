#include "agent/steps/nvidia_module.h"

#include <array>
#include <chrono>
#include <optional>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "agent/base/text.h"
#include "agent/driver_facts.h"
#include "agent/steps/host_restart.h"
#include "agent/steps/nvidia_diagnosis.h"
#include "agent/steps/nvidia_query.h"

namespace gpustrap {
namespace {

constexpr auto kLookLimit = std::chrono::seconds(30);
/// modprobe waits for the GPU's own firmware: most of a minute on a machine with eight.
constexpr auto kLoadLimit = std::chrono::minutes(5);
/// Enough for whoever upgrades kernels and never removes one.
constexpr std::size_t kMostKernels = 8;
constexpr const char* kBlacklist = "/etc/modprobe.d/gpustrap-blacklist-nouveau.conf";
constexpr const char* kBlacklistText =
    "# Written by gpustrap: nouveau would take the GPU before NVIDIA's driver.\n"
    "blacklist nouveau\n"
    "options nouveau modeset=0\n";

Result<CommandResult> run(Host& host, StepLog& log, std::vector<std::string> argv) {
  return host.act({std::move(argv), {}, "", "", kLoadLimit, {}}, log);
}

/// Takes modules out of the kernel; false where something uses them.
Result<bool> unload(Host& host, StepLog& log, const std::vector<std::string>& modules) {
  std::vector<std::string> argv = {"modprobe", "-r"};
  for (const std::string& module : modules) {
    if (is_module_loaded(host, module)) argv.push_back(module);
  }
  if (argv.size() == 2) return true;
  const Result<CommandResult> result = run(host, log, argv);
  if (!result) return fail(result.error());
  return result->exit_code == 0;
}

/// Daemons that hold the device files open. They are started again with the new driver.
Result<void> stop_daemons(Host& host, StepLog& log) {
  if (!host.facts().systemd) return {};
  for (const char* unit : {"nvidia-persistenced.service", "nvidia-fabricmanager.service", "nvidia-dcgm.service"}) {
    const Result<CommandResult> active = host.look({{"systemctl", "is-active", "--quiet", unit}, {}, "", "", kLookLimit, {}});
    if (!active) return fail(active.error());
    if (active->exit_code != 0) continue;
    const Result<CommandResult> stopped = run(host, log, {"systemctl", "stop", unit});
    if (!stopped) return fail(stopped.error());
  }
  return {};
}

}  // namespace

bool is_module_loaded(const Host& host, std::string_view module) {
  const Result<std::string> modules = host.read("/proc/modules");
  if (!modules) return false;
  for (const std::string& line : split(*modules, '\n')) {
    if (line.starts_with(std::string(module) + " ")) return true;
  }
  return false;
}

std::string module_version(const Host& host, const std::string& kernel) {
  const Result<CommandResult> result = host.look({{"modinfo", "-k", kernel, "-F", "version", "nvidia"}, {}, "", "", kLookLimit, {}});
  return result && result->exit_code == 0 ? std::string(trim(result->out)) : std::string();
}

std::string kernel_with_module(const Host& host) {
  const Result<std::vector<std::string>> kernels = host.list("/lib/modules");
  if (!kernels) return {};
  std::size_t asked = 0;
  for (auto kernel = kernels->rbegin(); kernel != kernels->rend() && asked < kMostKernels; ++kernel) {
    if (*kernel == host.facts().kernel) continue;
    ++asked;
    if (!module_version(host, *kernel).empty()) return *kernel;
  }
  return {};
}

std::string library_version(const Host& host) {
  const std::string triplet = host.facts().arch + "-linux-gnu";
  for (const std::string& folder : {"/usr/lib/" + triplet, "/usr/lib/" + triplet + "/nvidia/current", std::string("/usr/lib64")}) {
    const Result<std::string> target = host.read_link(folder + "/libnvidia-ml.so.1");
    if (!target) continue;
    const std::size_t at = target->rfind(".so.");
    const std::string version = at == std::string::npos ? std::string() : target->substr(at + 4);
    if (version.find('.') != std::string::npos) return version;
  }
  return {};
}

Result<void> blacklist_nouveau(Host& host, StepLog& log) {
  const Result<std::string> there = host.read(kBlacklist);
  if (there && *there == kBlacklistText) return {};
  log.say(fmt::format("nouveau is loaded; it is kept away from the GPU by {}", kBlacklist));
  FileAttributes readable;
  readable.mode = 0644;
  if (Result<void> made = host.make_directory("/etc/modprobe.d", {}); !made) return made;
  if (Result<void> wrote = host.write(kBlacklist, kBlacklistText, readable); !wrote) return wrote;
  // It is loaded from the initial ramdisk, before that file could be read. Systems without update-initramfs have none to update.
  const Result<CommandResult> updated = run(host, log, {"update-initramfs", "-u"});
  if (!updated) return fail(updated.error());
  if (updated->exit_code != 0 && updated->exit_code != 127)
    return fail(command_error({{"update-initramfs", "-u"}, {}, "", "", kLoadLimit, {}}, *updated));
  return {};
}

Result<LoadedModule> load_module(Host& host, StepLog& log) {
  const std::string& kernel = host.facts().kernel;
  const std::string disk = module_version(host, kernel);
  const std::string loaded = gather_driver_facts(host).loaded;
  if (disk.empty()) {
    const std::string other = kernel_with_module(host);
    if (!other.empty() && kernel_name(other).numbers > kernel_name(kernel).numbers)
      return LoadedModule{loaded, fmt::format("the driver's module is installed for the kernel {}, and {} is running", other, kernel)};
    return fail(
        ErrorCode::unsupported, fmt::format("the driver's packages are installed, but there is no nvidia module for the kernel {}", kernel),
        "where it was to be built here, /var/lib/dkms/nvidia*/*/build/make.log says what went wrong; `dkms status` lists what is built");
  }
  if (loaded == disk) return LoadedModule{loaded, ""};
  if (!loaded.empty()) {
    if (Result<void> stopped = stop_daemons(host, log); !stopped) return fail(std::move(stopped).error());
    const Result<bool> gone = unload(host, log, {"nvidia_uvm", "nvidia_drm", "nvidia_modeset", "nvidia_peermem", "nvidia"});
    if (!gone) return fail(gone.error());
    if (!*gone || !gather_driver_facts(host).loaded.empty())
      return LoadedModule{loaded, fmt::format("driver {} is loaded and in use, and {} is installed", loaded, disk)};
  }
  const Result<bool> free = unload(host, log, {"nouveau"});
  if (!free) return fail(free.error());
  if (!*free) return LoadedModule{"", "nouveau holds the GPU, and does not let go of it before a restart"};
  const Result<CommandResult> result = run(host, log, {"modprobe", "nvidia"});
  if (!result) return fail(result.error());
  if (result->exit_code != 0) {
    const std::string said = first_line(strip_control(last_lines(result->err, 1)), 200);
    if (const std::string newer = newer_kernel(host); !newer.empty())
      return LoadedModule{"", fmt::format("the module cannot be loaded ({}), and the newer kernel {} is installed", said, newer)};
    const Result<SmiAnswer> answer = ask_nvidia_smi(host);
    if (!answer) return fail(answer.error());
    return fail(Error(diagnose_nvidia_smi(host, *answer)).in(fmt::format("loading the module ({})", said)));
  }
  // What computes needs this one too; nvidia-modprobe loads it on first use where this fails.
  if (const Result<CommandResult> uvm = run(host, log, {"modprobe", "nvidia-uvm"}); !uvm) return fail(uvm.error());
  return LoadedModule{gather_driver_facts(host).loaded, ""};
}

}  // namespace gpustrap
