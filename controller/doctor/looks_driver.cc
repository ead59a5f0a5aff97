#include "controller/doctor/looks.h"

#include <algorithm>
#include <initializer_list>

#include <fmt/format.h>

#include "agent/base/text.h"

// The driver: whether there is one, whether it is the right one, whether the kernel has it and programs get at it.

namespace gpustrap {
namespace {

constexpr const char* kInstall = "# from your own machine: gpustrap up cuda HOST";

std::vector<std::string> pci_lines(const Patient& p) {
  std::vector<std::string> lines;
  for (const PciGpu& gpu : p.facts.gpus)
    lines.push_back(fmt::format("{} 10de:{}{}", gpu.address, gpu.device, gpu.driver.empty() ? "" : ", bound to " + gpu.driver));
  return lines;
}

bool bound_to(const Patient& p, std::string_view driver) {
  return std::any_of(p.facts.gpus.begin(), p.facts.gpus.end(), [&](const PciGpu& gpu) { return gpu.driver == driver; });
}

std::vector<std::string> first_matching(const Patient& p, std::initializer_list<std::string_view> whats) {
  for (const std::string_view what : whats) {
    if (std::vector<std::string> lines = p.kernel_log(what); !lines.empty()) return lines;
  }
  return {};
}

std::vector<std::string> refusals(const Patient& p) {
  return first_matching(p, {"key was rejected", "unavailable key", "unsigned module loading is restricted", "loading of unsigned module"});
}

bool secure_boot_is_on(const Patient& p) {
  const std::string& text = p.evidence.text("secure-boot");
  return contains(text, "SecureBoot enabled") || contains(text, "variable 1");
}

bool has_dkms_driver(const Patient& p) { return contains(p.evidence.text("dkms"), "nvidia") || p.package_like("nvidia-dkms") != nullptr; }

/// Whether anything of a driver is installed.
bool has_driver_packages(const Patient& p) {
  for (const char* prefix :
       {"nvidia-driver", "nvidia-dkms", "nvidia-kernel", "nvidia-headless", "nvidia-open", "linux-modules-nvidia", "cuda-drivers"}) {
    if (p.package_like(prefix) != nullptr) return true;
  }
  const Section* smi = p.evidence.find("smi");
  return contains(p.evidence.text("runfile"), "nvidia-uninstall") || (smi != nullptr && smi->status != Section::kAbsent);
}

/// The version that libNAME.so.1 has by its file's name: "580.95.05"; empty where ld.so knows none.
std::string library_version(const Patient& p, std::string_view name) {
  for (const std::string& line : p.evidence.lines("libraries")) {
    const std::vector<std::string> parts = words(line);
    if (parts.size() < 3 || parts[0] != std::string(name) + ".so.1") continue;
    const std::size_t at = parts[2].rfind(".so.");
    if (at != std::string::npos && !contains(parts[2], "/compat/")) return parts[2].substr(at + 4);
  }
  return {};
}

/// What runs needs a fabric manager: enough switches, or GPUs that are known to be joined by switches that show nowhere.
bool needs_fabric(const Patient& p) {
  if (p.nvswitches > static_cast<std::size_t>(std::max<std::int64_t>(p.compat.fabric_above, 0))) return true;
  for (const PciGpu& gpu : p.facts.gpus) {
    const GpuRow* row = find_gpu(p.compat, gpu);
    if (row != nullptr && !row->nvswitch_on_pci && row->nvswitch_gpus > 0 &&
        p.facts.gpus.size() >= static_cast<std::size_t>(row->nvswitch_gpus))
      return true;
  }
  return false;
}

std::string unit_state(const Patient& p, std::string_view unit) { return p.evidence.value("units", unit); }

}  // namespace

Verdict look_no_gpu(const Patient& p) {
  if (!p.evidence.was_seen("pci")) return unseen(p, "pci");
  if (p.has_gpu() || !p.answering.empty() || p.wsl) return fine();
  if (p.facts.container)
    return found({}, "this is a container that has been given no GPU; all that needs none was looked at",
                 {"# start it with the GPUs of its machine: --gpus all, with the NVIDIA Container Toolkit there"});
  return found({}, "no NVIDIA GPU is on this machine's PCI bus; all that needs none was looked at",
               {"# for work on a GPU choose an instance type that has one; `lspci -d 10de:` lists what there is"});
}

Verdict look_gpu_vfio(const Patient& p) {
  if (!p.has_gpu()) return irrelevant();
  if (!bound_to(p, "vfio-pci")) return fine();
  return found(
      pci_lines(p), "the GPU is set aside for virtual machines: vfio-pci holds it",
      {"grep -rn vfio /etc/modprobe.d /proc/cmdline", "# take it out there and in the boot loader's settings, then:", "sudo reboot"});
}

Verdict look_nouveau(const Patient& p) {
  if (!p.has_gpu()) return irrelevant();
  if (!bound_to(p, "nouveau") && (!p.nouveau_loaded || p.nvidia_loaded)) return fine();
  std::vector<std::string> evidence = matching(p.evidence.lines("modules"), "nouveau");
  for (const std::string& line : matching(pci_lines(p), "nouveau")) evidence.push_back(line);
  return found(std::move(evidence), "nouveau, the free driver that cannot compute, holds the GPU",
               {"printf 'blacklist nouveau\\noptions nouveau modeset=0\\n' | sudo tee /etc/modprobe.d/blacklist-nouveau.conf",
                "sudo update-initramfs -u", "sudo reboot"},
               driver_steps());
}

Verdict look_driver_missing(const Patient& p) {
  if (!p.has_gpu()) return irrelevant();
  if (p.nvidia_loaded || !p.module_version.empty() || !p.other_kernels.empty() || has_driver_packages(p)) return fine();
  if (p.facts.container) {
    return found(pci_lines(p), "this container was given no driver by its machine",
                 {"# start it with --gpus all, with the NVIDIA Container Toolkit on its machine"});
  }
  return found(pci_lines(p), "no NVIDIA driver is installed", {kInstall}, driver_steps());
}

Verdict look_driver_too_new(const Patient& p) {
  if (!p.has_gpu() || !p.nvidia_loaded) {
    if (p.has_gpu() && !p.kernel_log("Legacy drivers").empty())
      return found(p.kernel_log("NVRM"), "the installed driver no longer supports this GPU",
                   {"# 580 is the last branch for Maxwell to Volta, 470 for Kepler", kInstall}, driver_steps());
    return irrelevant();
  }
  for (const PciGpu& gpu : p.facts.gpus) {
    const GpuRow* row = find_gpu(p.compat, gpu);
    const std::string branch = branch_of(p.facts.driver);
    if (row == nullptr || branch.empty()) continue;
    if (!row->last_branch.empty() && compare_versions(branch, row->last_branch) > 0)
      return found(
          {fmt::format("{} 10de:{} ({})", gpu.address, gpu.device, row->name), "loaded driver " + p.facts.driver},
          fmt::format("driver {} no longer supports {}: {} is the last branch that does", p.facts.driver, row->name, row->last_branch),
          {kInstall}, driver_steps());
    if (!row->first_driver.empty() && compare_versions(p.facts.driver, row->first_driver) < 0)
      return found({fmt::format("{} 10de:{} ({})", gpu.address, gpu.device, row->name), "loaded driver " + p.facts.driver},
                   fmt::format("driver {} is older than {}: {} is the first that knows it", p.facts.driver, row->name, row->first_driver),
                   {kInstall}, driver_steps());
  }
  if (std::vector<std::string> lines = first_matching(p, {"Legacy drivers", "is not supported by the NVIDIA"}); !lines.empty())
    return found(std::move(lines), "the installed driver no longer supports this GPU", {kInstall}, driver_steps());
  return fine();
}

Verdict look_wrong_modules(const Patient& p) {
  if (!p.has_gpu()) return irrelevant();
  const std::string licence = p.module_licence;
  const bool known = p.nvidia_loaded || !licence.empty();
  const bool open = p.nvidia_loaded ? p.loaded_is_open : contains(licence, "MIT");
  std::vector<std::string> evidence = p.kernel_log("requires use of the NVIDIA open kernel modules");
  bool open_wanted = !evidence.empty();
  bool proprietary_wanted = false;
  if (evidence.empty()) {
    evidence = p.kernel_log("is not supported by open");
    proprietary_wanted = !evidence.empty();
  }
  for (const PciGpu& gpu : p.facts.gpus) {
    const GpuRow* row = find_gpu(p.compat, gpu);
    if (row == nullptr || !known || open_wanted || proprietary_wanted) continue;
    open_wanted = row->modules == GpuModules::open_required && !open;
    proprietary_wanted = row->modules == GpuModules::proprietary && open;
    if (open_wanted || proprietary_wanted)
      evidence = {fmt::format("{} 10de:{} ({})", gpu.address, gpu.device, row->name),
                  p.nvidia_loaded ? first_line(p.evidence.text("driver")) : "license: " + licence};
  }
  if (open_wanted)
    return found(std::move(evidence), "the proprietary kernel modules are installed, and this GPU works with the open ones alone",
                 {"# install the driver's -open packages instead", kInstall, "sudo reboot"}, driver_steps());
  if (proprietary_wanted)
    return found(std::move(evidence), "the open kernel modules are installed, and this GPU is too old for them",
                 {"# install the proprietary modules, branch 580 or older", kInstall, "sudo reboot"}, driver_steps());
  return known || p.evidence.was_seen("kernel-log") ? fine() : unseen(p, "kernel-log");
}

Verdict look_secure_boot(const Patient& p) {
  if (!p.has_gpu()) return irrelevant();
  std::vector<std::string> refused = refusals(p);
  const bool is_waiting = !p.nvidia_loaded && !p.module_version.empty();
  if (p.nvidia_loaded || (refused.empty() && !(secure_boot_is_on(p) && is_waiting))) return fine();
  if (refused.empty()) refused = {first_line(p.evidence.text("secure-boot")), "module on the disk: " + p.module_version};
  return found(std::move(refused), "Secure Boot is on, and the kernel refuses a driver module whose signature it does not trust",
               {"# Ubuntu's own modules are signed: linux-modules-nvidia-…; or enrol the key that signs yours:",
                "sudo mokutil --import /var/lib/shim-signed/mok/MOK.der", "sudo reboot   # and confirm the key on the console"});
}

Verdict look_headers_missing(const Patient& p) {
  if (!p.has_gpu() || !has_dkms_driver(p)) return irrelevant();
  if (!p.module_version.empty() || p.evidence.value("headers", "headers " + p.facts.kernel) != "no") return fine();
  const std::string package = "linux-headers-" + p.facts.kernel;
  return found(
      {"headers " + p.facts.kernel + ": none in /lib/modules/" + p.facts.kernel + "/build", first_line(p.evidence.text("dkms"))},
      fmt::format("the driver's module must be built here, and the headers of the running kernel {} are not installed", p.facts.kernel),
      {"sudo apt-get update", "sudo apt-get install " + shell_quote(package), "sudo dkms autoinstall", "sudo modprobe nvidia"},
      {step_of("headers", "apt", {{"packages", Json::array({package})}, {"update", true}}),
       step_of("build", "command", {{"run", "dkms autoinstall && modprobe nvidia"}, {"unless", "test -e /proc/driver/nvidia/version"}})});
}

Verdict look_dkms_failed(const Patient& p) {
  if (!p.has_gpu() || !has_dkms_driver(p)) return irrelevant();
  if (!p.module_version.empty() || p.nvidia_loaded) return fine();
  for (const std::string& line : matching(p.evidence.lines("dkms"), p.facts.kernel)) {
    if (contains(line, "nvidia") && contains(line, "installed")) return fine();
  }
  std::vector<std::string> evidence = p.evidence.lines("dkms");
  std::string log;
  for (const std::string& line : p.evidence.lines("headers")) {
    if (line.starts_with("log ")) log = line.substr(4);
    if (!log.empty() && !line.starts_with("headers ")) evidence.push_back(line);
  }
  if (evidence.empty()) evidence.push_back("no module of the driver's for " + p.facts.kernel);
  return found(std::move(evidence), fmt::format("the driver's module could not be built for the running kernel {}", p.facts.kernel),
               {"sudo dkms autoinstall", "tail -n 40 " + (log.empty() ? "/var/lib/dkms/nvidia*/*/build/make.log" : shell_quote(log)),
                "# an old branch does not build on a new kernel; one that does:", kInstall},
               driver_steps());
}

Verdict look_module_other_kernel(const Patient& p) {
  if (!p.has_gpu()) return irrelevant();
  if (!p.module_version.empty() || p.nvidia_loaded || p.other_kernels.empty()) return fine();
  const std::string& other = p.other_kernels.back();
  std::string dotted = other, running = p.facts.kernel;  // "6.8.0-1021-aws": compared by its numbers
  for (std::string* one : {&dotted, &running}) std::replace(one->begin(), one->end(), '-', '.');
  const bool is_newer = compare_versions(dotted, running) > 0;
  std::vector<std::string> evidence = {"running kernel " + p.facts.kernel};
  for (const std::string& line : p.evidence.lines("module-files")) evidence.push_back(line);
  return found(std::move(evidence),
               fmt::format("the driver's module is installed for the kernel {}, and {} is running", other, p.facts.kernel),
               is_newer ? std::vector<std::string>{"sudo reboot"}
                        : std::vector<std::string>{"sudo apt-get install " + shell_quote("linux-headers-" + p.facts.kernel),
                                                   "sudo dkms autoinstall", "sudo modprobe nvidia"},
               is_newer ? reboot_steps() : driver_steps());
}

Verdict look_sources_mixed(const Patient& p) {
  if (!p.has_gpu()) return irrelevant();
  std::vector<std::string> runfile = matching(p.evidence.lines("runfile"), "nvidia-uninstall");
  std::vector<std::string> packages;
  for (const InstalledPackage& one : p.packages) {
    const bool is_library = one.name.starts_with("libnvidia-compute") || one.name == "libcuda1" || one.name.starts_with("nvidia-utils");
    if (is_library && one.state.size() > 1 && one.state[1] == 'i') packages.push_back(one.state + " " + one.name + " " + one.version);
  }
  const bool two_branches = std::any_of(packages.begin(), packages.end(), [&](const std::string& one) {
    return words(one).size() > 2 && branch_of(words(one)[2]) != branch_of(words(packages.front())[2]);
  });
  if ((runfile.empty() || packages.empty()) && !two_branches) return fine();
  std::vector<std::string> evidence = std::move(runfile);
  evidence.insert(evidence.end(), packages.begin(), packages.end());
  return found(std::move(evidence),
               two_branches ? "packages of two driver branches are installed side by side"
                            : "the driver was installed twice: by NVIDIA's installer (runfile) and by packages",
               two_branches ? std::vector<std::string>{"dpkg -l '*nvidia*' | grep ^.i",
                                                       "# remove one branch: sudo apt-get purge '*-BRANCH*', then", "sudo reboot"}
                            : std::vector<std::string>{"sudo nvidia-uninstall",
                                                       "# then the packages again, whose files it has taken along:", kInstall});
}

Verdict look_blacklisted(const Patient& p) {
  if (p.facts.container) return irrelevant();
  if (!p.evidence.was_seen("module-settings") && p.evidence.find("module-settings") != nullptr) return unseen(p, "module-settings");
  std::vector<std::string> evidence, commands;
  for (const std::string& line : p.evidence.lines("module-settings")) {
    const std::vector<std::string> place = split(line, ':');
    if (!line.starts_with("/") || place.size() < 3) continue;
    evidence.push_back(line);
    commands.push_back(fmt::format("sudo sed -i.bak '{}s/^/# /' {}", place[1], shell_quote(place[0])));
  }
  for (const std::string& word : words(p.evidence.text("cmdline"))) {
    if (!word.starts_with("modprobe.blacklist=") || !contains("," + word.substr(19) + ",", ",nvidia,")) continue;
    evidence.push_back("/proc/cmdline: " + word);
    commands.emplace_back("# take it out of GRUB_CMDLINE_LINUX in /etc/default/grub, then: sudo update-grub");
  }
  if (evidence.empty()) return fine();
  commands.emplace_back("sudo update-initramfs -u || sudo dracut -f");
  commands.emplace_back("sudo modprobe nvidia");
  Verdict verdict = found(std::move(evidence), "NVIDIA's module is kept from being loaded at the next start, by a setting of modprobe's",
                          std::move(commands));
  if (!p.has_gpu() || p.nvidia_loaded) verdict.severity = Severity::warning;
  return verdict;
}

Verdict look_driver_not_loaded(const Patient& p) {
  if (!p.has_gpu() || p.facts.container) return irrelevant();
  if (p.nvidia_loaded || (p.module_version.empty() && !has_driver_packages(p))) return fine();
  if (p.module_version.empty())
    return found({"modinfo: " + first_line(p.evidence.text("modinfo"))},
                 fmt::format("a driver is installed, but it has no module for the running kernel {}", p.facts.kernel), {kInstall},
                 driver_steps());
  return found({"module on the disk: " + p.module_version, "/proc/driver/nvidia/version: none"},
               "the driver's module is installed, but not loaded",
               {"sudo modprobe nvidia", "sudo dmesg | grep -i nvrm   # says why, where that fails"}, driver_steps());
}

Verdict look_driver_mismatch(const Patient& p) {
  if (!p.has_gpu()) return irrelevant();
  const Section* smi = p.evidence.find("smi");
  const bool said = smi != nullptr && (smi->status == 18 || contains(smi->text, "version mismatch"));
  if (!p.nvidia_loaded && !said) return irrelevant();
  const std::string library = library_version(p, "libnvidia-ml");
  if (!said && (library.empty() || p.facts.driver.empty() || library == p.facts.driver)) return fine();
  std::vector<std::string> evidence = {"loaded module " + (p.facts.driver.empty() ? "not known" : p.facts.driver)};
  if (!p.module_version.empty()) evidence.push_back("module on the disk " + p.module_version);
  if (!library.empty()) evidence.push_back("libnvidia-ml.so.1 " + library);
  if (said) evidence.push_back("nvidia-smi: " + first_line(smi->text));
  const bool disk_fits = p.module_version.empty() || library.empty() || p.module_version == library;
  if (!disk_fits)
    return found(std::move(evidence), "the loaded module, the one on the disk and the driver's libraries are of different versions",
                 {"dpkg -l '*nvidia*' | grep ^.i   # two sources or versions are mixed: remove one", kInstall}, driver_steps());
  return found(std::move(evidence), "the driver was upgraded while the old one was loaded: module and libraries differ", {"sudo reboot"},
               reboot_steps());
}

Verdict look_driver_library_missing(const Patient& p) {
  if (!p.has_gpu() || !p.nvidia_loaded) return irrelevant();
  const Section* smi = p.evidence.find("smi");
  if (!p.evidence.was_seen("libraries") || matching(p.evidence.lines("libraries"), "looked").empty()) return unseen(p, "libraries");
  const bool has = !library_version(p, "libnvidia-ml").empty() && !library_version(p, "libcuda").empty();
  if (has && (smi == nullptr || smi->status != 12)) return fine();
  const std::string branch = branch_of(p.facts.driver);
  return found(
      {"loaded module " + p.facts.driver, "ldconfig -p: no libcuda.so.1 and libnvidia-ml.so.1 of it"},
      "the driver is loaded, but its libraries are not installed or not known to ld.so",
      {"sudo ldconfig", fmt::format("sudo apt-get install {}   # of the driver's own version", shell_quote("libnvidia-compute-" + branch)),
       kInstall},
      driver_steps());
}

Verdict look_smi_missing(const Patient& p) {
  if (!p.has_gpu() || !p.nvidia_loaded) return irrelevant();
  const Section* smi = p.evidence.find("smi");
  if (smi == nullptr) return unseen(p, "smi");
  if (smi->status != Section::kAbsent) return fine();
  const std::string branch = branch_of(p.facts.driver);
  return found({first_line(smi->text), "loaded module " + p.facts.driver}, "the driver is loaded, but nvidia-smi is not installed",
               {fmt::format("sudo apt-get install {}   # or nvidia-utils-{}-server: of the driver's own version",
                            shell_quote("nvidia-utils-" + branch), branch)},
               driver_steps());
}

Verdict look_device_files(const Patient& p) {
  if (!p.has_gpu() || !p.nvidia_loaded || p.wsl) return irrelevant();
  if (matching(p.evidence.lines("devices"), "looked").empty()) return unseen(p, "devices");
  if (contains(p.evidence.text("devices"), "/dev/nvidiactl")) return fine();
  if (p.facts.container)
    return found({"ls /dev/nvidia*: none"}, "the container was given no device files of the GPU", {"# start it with --gpus all"});
  return found({"ls /dev/nvidia*: none", "loaded module " + p.facts.driver}, "the driver is loaded, but its device files are missing",
               {"sudo nvidia-modprobe -c 0 -u   # package nvidia-modprobe",
                "sudo systemctl enable --now nvidia-persistenced   # makes them at every boot"},
               {step_of("devices", "command", {{"run", "nvidia-modprobe -c 0 -u || nvidia-smi"}, {"unless", "test -e /dev/nvidiactl"}})});
}

Verdict look_driver_silent(const Patient& p) {
  if (!p.has_gpu()) return irrelevant();
  const Section* smi = p.evidence.find("smi");
  if (smi == nullptr) return unseen(p, "smi");
  // Asked for what it does not know, an old nvidia-smi is a working one.
  if (smi->status == 0 || smi->status == 2 || smi->status == Section::kNotRun || smi->status == Section::kAbsent) return fine();
  if (smi->status == Section::kLate || smi->status == 137)
    return found({"nvidia-smi: no answer within 20 s"}, "nvidia-smi does not come back: the driver or a GPU hangs",
                 {"sudo dmesg | grep -i nvrm", "sudo reboot",
                  "# where it happens again: stop and start the instance, which gives it other hardware"});
  return found({fmt::format("nvidia-smi (exit {}): {}", smi->status, first_line(smi->text))},
               smi->status == 4 ? "the GPU's device files may not be used" : "the driver is loaded, but does not answer",
               {"sudo dmesg | grep -i nvrm   # says why", "sudo reboot"});
}

Verdict look_fabric_missing(const Patient& p) {
  if (!p.has_gpu() || !needs_fabric(p) || p.facts.container) return irrelevant();
  if (!p.evidence.was_seen("packages")) return unseen(p, "packages");
  if (p.package_like("nvidia-fabricmanager") != nullptr || p.package_like("nvidia-fabric-manager") != nullptr) return fine();
  const std::string branch = branch_of(p.facts.driver);
  return found({fmt::format("{} NVSwitches, {} GPUs", p.nvswitches, p.facts.gpus.size()), "no package nvidia-fabricmanager"},
               "NVSwitches join the GPUs, and their fabric manager is not installed: CUDA fails with error 802",
               {fmt::format("sudo apt-get install nvidia-fabricmanager{}   # at exactly the driver's version",
                            compare_versions(branch, "580") < 0 && !branch.empty() ? "-" + branch : "=" + p.facts.driver + "-1ubuntu1"),
                "sudo systemctl enable --now nvidia-fabricmanager"},
               driver_steps());
}

Verdict look_fabric_version(const Patient& p) {
  if (!p.has_gpu() || !needs_fabric(p) || p.facts.driver.empty()) return irrelevant();
  const InstalledPackage* package = p.package_like("nvidia-fabricmanager");
  if (package == nullptr) return irrelevant();
  std::string version = package->version.substr(package->version.find(':') == std::string::npos ? 0 : package->version.find(':') + 1);
  version = version.substr(0, version.find('-'));
  if (version == p.facts.driver) return fine();
  return found(
      {package->name + " " + package->version, "loaded driver " + p.facts.driver},
      "the fabric manager is of another version than the driver, and then does not start: CUDA fails with error 802",
      {fmt::format("sudo apt-get install {}={}-1ubuntu1", package->name, p.facts.driver), "sudo systemctl restart nvidia-fabricmanager"},
      driver_steps());
}

Verdict look_fabric_stopped(const Patient& p) {
  if (!p.has_gpu() || !needs_fabric(p) || p.facts.container || p.package_like("nvidia-fabricmanager") == nullptr) return irrelevant();
  if (!p.evidence.was_seen("units")) return unseen(p, "units");
  const std::string state = unit_state(p, "nvidia-fabricmanager.service");
  if (contains(" " + state, " active")) return fine();
  return found({"nvidia-fabricmanager.service: " + state}, "the fabric manager does not run: CUDA fails with error 802",
               {"sudo systemctl enable --now nvidia-fabricmanager", "journalctl -u nvidia-fabricmanager -n 30   # where it does not stay"},
               {step_of("fabric", "service", {{"name", "nvidia-fabricmanager"}})});
}

Verdict look_persistence_off(const Patient& p) {
  if (p.answering.empty() || p.facts.container || p.wsl) return irrelevant();
  std::vector<std::string> evidence;
  for (const SmiGpu& gpu : p.answering) {
    if (gpu.persistence == "Disabled")
      evidence.push_back(fmt::format("GPU {} ({}): persistence mode {}", gpu.index, gpu.name, gpu.persistence));
  }
  const std::string state = unit_state(p, "nvidia-persistenced.service");
  if (evidence.empty() || contains(" " + state, " active")) return fine();
  if (!state.empty()) evidence.push_back("nvidia-persistenced.service: " + state);
  const bool has_unit = contains(state, "loaded");
  return found(std::move(evidence), "persistence is off: an idle GPU is shut down, and each program waits seconds for it to start again",
               {has_unit ? "sudo systemctl enable --now nvidia-persistenced"
                         : "sudo apt-get install nvidia-persistenced && sudo systemctl enable --now nvidia-persistenced"},
               has_unit ? std::vector<Json>{step_of("persistence", "service", {{"name", "nvidia-persistenced"}})} : driver_steps());
}

}  // namespace gpustrap
