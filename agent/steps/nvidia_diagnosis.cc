#include "agent/steps/nvidia_diagnosis.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <chrono>
#include <optional>
#include <string_view>
#include <utility>

#include <fmt/format.h>

#include "agent/base/text.h"
#include "agent/steps/nvidia_module.h"

namespace gpustrap {
namespace {

constexpr auto kLookLimit = std::chrono::seconds(30);
constexpr const char* kGuide = "https://docs.nvidia.com/datacenter/tesla/driver-installation-guide/";
constexpr std::string_view kByRecipe =
    "`gpustrap up cuda HOST` installs one that fits, as a step `nvidia_driver: auto` does in a recipe of yours";

// ---- looking at the host

std::string text_of(const Host& host, const std::string& path) {
  const Result<std::string> text = host.read(path);
  return text ? std::string(trim(*text)) : std::string();
}

bool exists(const Host& host, const std::string& path) {
  const Result<std::optional<FileInfo>> info = host.info(path);
  return info && info->has_value();
}

/// What a program prints, where it succeeds.
std::string answer_of(const Host& host, std::vector<std::string> argv) {
  const Result<CommandResult> result = host.look({std::move(argv), {}, "", "", kLookLimit, {}});
  return result && result->exit_code == 0 ? result->out : std::string();
}

/// The kernel's own log: dmesg may be root's alone, and the journal is then for members of adm.
std::string kernel_log(const Host& host) {
  std::string log = answer_of(host, {"dmesg"});
  if (log.empty()) log = answer_of(host, {"journalctl", "-k", "-b", "-q", "-o", "cat", "--no-pager"});
  return strip_control(log);
}

bool has(std::string_view text, std::string_view what) { return text.find(what) != std::string_view::npos; }

std::string loaded_version(const Host& host) { return text_of(host, "/sys/module/nvidia/version"); }

bool secure_boot_is_on(const Host& host) {
  const Result<std::string> variable = host.read("/sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c");
  return variable && variable->size() == 5 && variable->back() == '\1';  // four bytes of attributes, then the value
}

/// The kernel driver that a GPU is bound to now; facts are older than this run's own steps.
std::string bound_driver(const Host& host, const PciGpu& gpu) {
  const Result<std::string> link = host.read_link("/sys/bus/pci/devices/" + gpu.address + "/driver");
  return link ? link->substr(link->rfind('/') + 1) : std::string();
}

bool any_bound_to(const Host& host, const std::string& driver) {
  return std::any_of(host.facts().gpus.begin(), host.facts().gpus.end(),
                     [&](const PciGpu& gpu) { return bound_driver(host, gpu) == driver; });
}

bool any_is_one_of(const Host& host, std::initializer_list<std::string_view> devices) {
  return std::any_of(host.facts().gpus.begin(), host.facts().gpus.end(),
                     [&](const PciGpu& gpu) { return std::find(devices.begin(), devices.end(), gpu.device) != devices.end(); });
}

/// An L4 that the provider has cut up: 3, 6 or 12 GB of it.
bool any_is_fraction(const Host& host) {
  return std::any_of(host.facts().gpus.begin(), host.facts().gpus.end(), [](const PciGpu& gpu) {
    return gpu.device == "27b8" && (gpu.subsystem == "1733" || gpu.subsystem == "1735" || gpu.subsystem == "1737");
  });
}

// ---- what to do

/// How the driver that fits this GPU and this system is installed.
std::string install_advice(const Host& host) {
  if (any_is_fraction(host))
    return "this is a fraction of an L4, which only the provider's own GRID driver knows; follow the provider's guide, or take a whole GPU";
  // K520, K80: 470 was the last. M60, V100: 580 is, and the open modules never knew them.
  if (any_is_one_of(host, {"118a", "102d"}))
    return "this GPU was last supported by driver 470, which current kernels do not take; choose an instance with a newer GPU";
  const bool before_turing = any_is_one_of(host, {"13f2", "1db1", "1db5"});
  if (host.facts().os != "ubuntu") {
    return fmt::format("{}; by hand: the driver, branch 580{}, as {} says", kByRecipe,
                       before_turing ? " with the proprietary modules" : " or newer", kGuide);
  }
  const std::string& kernel = host.facts().kernel;
  const std::string flavour = kernel.find('-') == std::string::npos ? "generic" : kernel.substr(kernel.rfind('-') + 1);
  const std::string open = before_turing ? "" : "-open";
  return fmt::format(
      "{2}; by hand: sudo apt-get install linux-modules-nvidia-580-server{0}-{1} nvidia-headless-no-dkms-580-server{0} "
      "nvidia-utils-580-server && sudo modprobe nvidia",
      open, flavour, kByRecipe);
}

constexpr const char* kStopAndStart =
    "stop and start the instance (a reboot keeps it on the same, perhaps broken, hardware); where it comes back, report it to the provider";

Error no_gpu() {
  return {ErrorCode::unsupported, "no NVIDIA GPU is on this machine's PCI bus",
          "choose an instance type with a GPU; `lspci -d 10de:` on the host lists what there is"};
}

Error in_container() {
  return {ErrorCode::unsupported, "this is a container that has been given no GPU",
          "start it with the GPUs of its host: `--gpus all`, with the NVIDIA Container Toolkit on that host"};
}

// ---- classes

Error command_is_absent(const Host& host) {
  const std::string loaded = loaded_version(host);
  if (!loaded.empty()) {
    const std::string branch = loaded.substr(0, loaded.find('.'));
    return {ErrorCode::not_found, fmt::format("nvidia-smi is not installed, though the driver {} is loaded", loaded),
            host.facts().container ? "start the container with NVIDIA_DRIVER_CAPABILITIES=compute,utility"
                                   : fmt::format("install the tools of the same version: nvidia-utils-{0}-server or nvidia-utils-{0}; "
                                                 "`dpkg -l '*nvidia*'` shows where the driver came from",
                                                 branch)};
  }
  if (host.facts().gpus.empty()) return host.facts().container ? in_container() : no_gpu();
  if (host.facts().container) return in_container();
  return {ErrorCode::not_found, "no NVIDIA driver is installed: there is no nvidia-smi", install_advice(host)};
}

Error library_is_missing(const Host& host) {
  const std::string loaded = loaded_version(host);
  return {ErrorCode::not_found,
          fmt::format("nvidia-smi is there, but the driver's library libnvidia-ml.so is not{}",
                      loaded.empty() ? "" : fmt::format(" (the kernel module is {})", loaded)),
          "install the libnvidia-compute package of the driver's own version, then run sudo ldconfig; `dpkg -l 'libnvidia*'` shows what is "
          "installed"};
}

/// The kernel's words on a GPU that the loaded driver does not want.
std::optional<Error> driver_refuses_gpu(const std::string& log) {
  if (has(log, "requires use of the NVIDIA open kernel modules")) {
    return Error(ErrorCode::unsupported, "the proprietary kernel modules are installed, and this GPU works with the open ones only",
                 "install the driver's -open packages instead, then reboot");
  }
  if (has(log, "is not supported by open")) {
    return Error(ErrorCode::unsupported, "the open kernel modules are installed, and this GPU is too old for them",
                 "install the proprietary driver, branch 580 or older, then reboot");
  }
  if (has(log, "Legacy drivers") || has(log, "is not supported by the NVIDIA")) {
    return Error(ErrorCode::unsupported, "the installed driver no longer supports this GPU",
                 "install an older branch: 580 for Maxwell to Volta (V100), 470 for Kepler; then reboot");
  }
  return std::nullopt;
}

std::optional<Error> hardware_fault(const Host& host) {
  const std::vector<Xid> xids = logged_xids(host);
  for (auto xid = xids.rbegin(); xid != xids.rend(); ++xid) {
    const std::string meaning = xid_meaning(xid->number);
    if (!meaning.empty())
      return Error(ErrorCode::io, fmt::format("{} (Xid {}): {}", meaning, xid->number, first_line(xid->line, 160)), kStopAndStart);
  }
  return std::nullopt;
}

Error module_is_not_loaded(const Host& host, const std::string& log) {
  const std::string& kernel = host.facts().kernel;
  const std::string here = module_version(host, kernel);
  if (here.empty()) {
    const std::string other = kernel_with_module(host);
    if (!other.empty()) {
      return {ErrorCode::unsupported, fmt::format("the driver's module is installed for the kernel {}, and {} is running", other, kernel),
              exists(host, "/run/reboot-required") || exists(host, "/var/run/reboot-required")
                  ? "reboot into the kernel that it is for: sudo reboot"
                  : fmt::format(
                        "sudo reboot, where {} is the newer one; otherwise: sudo apt-get install linux-headers-{} && sudo dkms autoinstall",
                        other, kernel)};
    }
    if (exists(host, "/var/lib/dkms/nvidia") || exists(host, "/var/lib/dkms/nvidia-open")) {
      return {ErrorCode::unsupported, fmt::format("the driver's module could not be built for the running kernel {}", kernel),
              fmt::format("sudo apt-get install linux-headers-{} && sudo dkms autoinstall; what went wrong is in "
                          "/var/lib/dkms/nvidia*/*/build/make.log",
                          kernel)};
    }
    return {ErrorCode::unsupported,
            fmt::format("the driver's tools are installed, but there is no nvidia module for the kernel {}", kernel), install_advice(host)};
  }
  const bool refused = has(log, "Key was rejected") || has(log, "module with unavailable key is rejected") ||
                       has(log, "unsigned module loading is restricted") || has(log, "Loading of unsigned module is rejected");
  if (refused || secure_boot_is_on(host)) {
    return {ErrorCode::unsupported,
            fmt::format("the module {} is installed, and {}", here,
                        refused ? "the kernel refuses it: its signature is not trusted (Secure Boot)"
                                : "not loaded; Secure Boot is on, which refuses modules that are not signed"),
            "use the distribution's signed modules (on Ubuntu linux-modules-nvidia-…), or enrol the key that signs yours (sudo mokutil "
            "--import /var/lib/shim-signed/mok/MOK.der, then reboot), or turn Secure Boot off"};
  }
  if (exists(host, "/run/reboot-required") || exists(host, "/var/run/reboot-required")) {
    return {ErrorCode::unsupported, fmt::format("the module {} is installed but not loaded, and the system waits for a reboot", here),
            "sudo reboot, then run the same command again"};
  }
  return {ErrorCode::unsupported, fmt::format("the module {} is installed but not loaded", here),
          "sudo modprobe nvidia; what that says is the cause, and `sudo dmesg | grep -i nvrm` says more"};
}

Error driver_does_not_answer(const Host& host) {
  const Facts& facts = host.facts();
  if (facts.gpus.empty()) return facts.container ? in_container() : no_gpu();
  if (any_bound_to(host, "vfio-pci")) {
    return {ErrorCode::unsupported, "the GPU is set aside for virtual machines (bound to vfio-pci)",
            "take it out of the vfio-pci options in /etc/modprobe.d and the kernel command line, then reboot"};
  }
  if (any_bound_to(host, "nouveau") || (is_module_loaded(host, "nouveau") && !is_module_loaded(host, "nvidia"))) {
    return {ErrorCode::unsupported, "the GPU is held by nouveau, the free driver that cannot compute",
            "printf 'blacklist nouveau\\noptions nouveau modeset=0\\n' | sudo tee /etc/modprobe.d/blacklist-nouveau.conf && sudo "
            "update-initramfs -u && sudo reboot"};
  }
  const std::string log = kernel_log(host);
  if (!is_module_loaded(host, "nvidia")) {
    if (std::optional<Error> refused = driver_refuses_gpu(log))
      return *std::move(refused);  // it loads and goes again where it wants no GPU
    return facts.container ? in_container() : module_is_not_loaded(host, log);
  }
  if (std::optional<Error> fault = hardware_fault(host)) return *std::move(fault);
  if (std::optional<Error> refused = driver_refuses_gpu(log)) return *std::move(refused);
  if (!exists(host, "/dev/nvidiactl")) {
    return {ErrorCode::not_found, "the driver is loaded, but its device files (/dev/nvidiactl) are missing",
            facts.container ? "start the container with `--gpus all`" : "sudo nvidia-modprobe -c 0 -u (package nvidia-modprobe)"};
  }
  return {ErrorCode::io, fmt::format("the driver {} is loaded, but does not answer", loaded_version(host)),
          "`sudo dmesg | grep -i nvrm` says why; a reboot helps where it hangs"};
}

Error versions_differ(const Host& host, const SmiAnswer& answer) {
  const std::string loaded = loaded_version(host);
  std::string library;
  for (const std::string& line : split(answer.said, '\n')) {
    const std::size_t at = line.find("NVML library version:");
    if (at != std::string::npos) library = std::string(trim(std::string_view(line).substr(at + 21)));
  }
  const std::string disk = module_version(host, host.facts().kernel);
  const std::string why = fmt::format("the loaded kernel module ({}) and the driver's libraries ({}) are of different versions",
                                      loaded.empty() ? "unknown" : loaded, library.empty() ? "unknown" : library);
  // NVML's own version is cut to two parts ("535.309" of 535.309.01).
  const bool disk_fits = !disk.empty() && !library.empty() && (disk == library || disk.starts_with(library + "."));
  if (disk.empty() || disk_fits || library.empty()) {
    return {ErrorCode::unsupported, why + ": the driver was upgraded while the old one was loaded",
            "sudo reboot, then run the same command again"};
  }
  return {ErrorCode::unsupported, fmt::format("{}, and so is the module on the disk ({})", why, disk),
          "packages of two sources or versions are mixed (`dpkg -l '*nvidia*'`): remove one set, install module and libraries of one "
          "version, reboot"};
}

Error no_devices(const Host& host) {
  if (host.facts().gpus.empty()) return host.facts().container ? in_container() : no_gpu();
  if (std::optional<Error> fault = hardware_fault(host)) return *std::move(fault);
  const std::string log = kernel_log(host);
  if (std::optional<Error> refused = driver_refuses_gpu(log)) return *std::move(refused);
  if (host.facts().container) return in_container();
  if (any_is_fraction(host)) return {ErrorCode::unsupported, "the driver does not know this GPU", install_advice(host)};
  if (has(log, "RmInitAdapter failed")) {
    return {ErrorCode::io, "the driver could not start the GPU (RmInitAdapter failed)",
            fmt::format("{}. With driver 580 and the proprietary modules NVreg_EnableGpuFirmware=0 is a known way round", kStopAndStart)};
  }
  return {ErrorCode::unsupported, fmt::format("the driver {} is loaded and finds no GPU that it can use", loaded_version(host)),
          "`sudo dmesg | grep -i nvrm` says why"};
}

Error unknown_error(const Host& host, const SmiAnswer& answer) {
  if (std::optional<Error> fault = hardware_fault(host)) return *std::move(fault);
  if (host.facts().container) {
    return {ErrorCode::permission, "the container has lost its GPU: its host has reset the container's device rights",
            "restart the container; with Docker's systemd cgroup driver name the devices as well (--device /dev/nvidia0 …)"};
  }
  return {ErrorCode::command, "nvidia-smi failed: " + first_line(answer.said),
          "`sudo dmesg | grep -i nvrm` says why; a reboot helps where the driver hangs"};
}

}  // namespace

std::string xid_meaning(int number) {
  struct Row {
    int number;
    const char* meaning;
  };
  // Those that a user's own program cannot cause.
  static constexpr std::array kRows = {Row{48, "a memory error that could not be corrected"},
                                       Row{62, "the GPU's own controller has stopped"},
                                       Row{64, "a memory row could not be replaced"},
                                       Row{74, "an NVLink error"},
                                       Row{79, "the GPU has fallen off the bus"},
                                       Row{95, "a memory error that was not contained"},
                                       Row{119, "the GPU's system processor (GSP) does not answer"},
                                       Row{120, "the GPU's system processor (GSP) has failed"},
                                       Row{140, "a memory error that could not be corrected"}};
  for (const Row& row : kRows) {
    if (row.number == number) return row.meaning;
  }
  return {};
}

std::vector<Xid> logged_xids(const Host& host) {
  std::vector<Xid> xids;
  for (const std::string& line : split(kernel_log(host), '\n')) {
    const std::size_t start = line.find("NVRM: Xid (");
    const std::size_t close = start == std::string::npos ? start : line.find("): ", start);
    if (close == std::string::npos) continue;
    Xid xid;
    const char* digits = line.data() + close + 3;
    if (std::from_chars(digits, line.data() + line.size(), xid.number).ec != std::errc()) continue;
    xid.line = line.substr(start + 6);
    xids.push_back(std::move(xid));
  }
  return xids;
}

Error diagnose_nvidia_smi(const Host& host, const SmiAnswer& answer) {
  if (answer.timed_out) {
    if (std::optional<Error> fault = hardware_fault(host)) return *std::move(fault);
    return {ErrorCode::timeout, "nvidia-smi does not come back: the driver or a GPU hangs",
            "reboot; where it happens again, " + std::string(kStopAndStart)};
  }
  switch (answer.exit_code) {
    case 0:
    case 6: return no_devices(host);
    case 2:
      return {ErrorCode::unsupported, "this nvidia-smi does not know the question: its driver is older than 450", install_advice(host)};
    case 4:
      return {ErrorCode::permission, fmt::format("{} may not use the GPU's device files", host.self().name),
              host.facts().container ? "start the container with `--gpus all`"
                                     : "ls -l /dev/nvidia* shows who may; add the user to that group, or give the step `as: root`"};
    case 8: return {ErrorCode::io, "a GPU's power cables are not connected as they should be", "shut the machine down and check them"};
    case 9: return driver_does_not_answer(host);
    case 10: return {ErrorCode::io, "the kernel gets no interrupts from a GPU", kStopAndStart};
    case 12: return library_is_missing(host);
    case 13:
      return {ErrorCode::unsupported, "nvidia-smi is newer than the driver's library libnvidia-ml.so",
              "packages of two versions are mixed (`dpkg -l '*nvidia*'`): install nvidia-utils and libnvidia-compute of one version"};
    case 14: return {ErrorCode::io, "a GPU's infoROM is corrupted", kStopAndStart};
    case 15: {
      if (std::optional<Error> fault = hardware_fault(host)) return *std::move(fault);
      return {ErrorCode::io, "the GPU is lost: it has fallen off the bus or cannot be reached", kStopAndStart};
    }
    case 18: return versions_differ(host, answer);
    case 126:
      return {ErrorCode::permission, "nvidia-smi may not be executed: " + first_line(answer.said),
              "check its mode and that of its file system (`ls -l $(command -v nvidia-smi)`)"};
    case 127: return command_is_absent(host);
    default: break;
  }
  // The same states under other numbers, as other versions have them.
  if (has(answer.said, "version mismatch")) return versions_differ(host, answer);
  if (has(answer.said, "couldn't communicate with the NVIDIA driver")) return driver_does_not_answer(host);
  if (has(answer.said, "GPU is lost"))
    return {ErrorCode::io, "the GPU is lost: it has fallen off the bus or cannot be reached", kStopAndStart};
  return unknown_error(host, answer);
}

Error diagnose_missing_gpus(const Host& host, const SmiAnswer& answer, std::int64_t wanted) {
  const std::size_t on_bus = host.facts().gpus.size();
  const std::string count = fmt::format("{} GPU{} answer{}, {} wanted", answer.gpus.size(), answer.gpus.size() == 1 ? "" : "s",
                                        answer.gpus.size() == 1 ? "s" : "", wanted);
  if (on_bus <= answer.gpus.size()) return {ErrorCode::unsupported, count, "choose a larger instance type, or ask for fewer in `min_gpus`"};
  const std::string why = fmt::format("{}, and {} are on the PCI bus", count, on_bus);
  if (std::optional<Error> fault = hardware_fault(host)) return {ErrorCode::io, fmt::format("{}: {}", why, fault->why()), kStopAndStart};
  return {ErrorCode::io, why, "`sudo dmesg | grep -i nvrm` says why the others do not; " + std::string(kStopAndStart)};
}

}  // namespace gpustrap
