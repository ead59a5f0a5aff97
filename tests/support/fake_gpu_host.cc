#include "tests/support/fake_gpu_host.h"

#include <algorithm>
#include <set>
#include <utility>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "agent/base/text.h"
#include "agent/steps/apt_sources.h"
#include "controller/compat_loader.h"
#include "tests/support/fake_apt.h"

namespace gpustrap {
namespace {

constexpr const char* kStatus = "/var/lib/dpkg/status";
constexpr const char* kKernel = "6.8.0-1029-aws";
constexpr const char* kVersionFile = "/proc/driver/nvidia/version";

using Catalogue = std::map<std::string, FakePackage>;

std::string installed_stanza(const FakeHost& host, const std::string& name) {
  const std::string status = host.content(kStatus);
  const std::size_t at = status.find("Package: " + name + "\n");
  return at == std::string::npos ? "" : status.substr(at, status.find("\n\n", at) + 2 - at);
}

void set_stanza(FakeHost& host, const std::string& name, const std::string& stanza) {
  std::string status = host.content(kStatus);
  if (const std::size_t at = status.find("Package: " + name + "\n"); at != std::string::npos)
    status.erase(at, status.find("\n\n", at) + 2 - at);
  host.put(kStatus, status + stanza);
}

/// The words behind `--`, without what stands behind `=`.
std::vector<std::string> packages_of(const Command& command) {
  const auto begin = std::find(command.argv.begin(), command.argv.end(), "--");
  std::vector<std::string> names;
  for (auto word = begin; word != command.argv.end(); ++word) {
    if (*word != "--") names.push_back(word->substr(0, word->find('=')));
  }
  return names;
}

/// All that comes along, dependencies first; empty where something is missing.
bool collect(const Catalogue& catalogue, const std::string& name, std::vector<std::string>& all, std::string& missing) {
  const auto found = catalogue.find(name);
  if (found == catalogue.end()) {
    missing = name;
    return false;
  }
  if (std::find(all.begin(), all.end(), name) != all.end()) return true;
  for (const std::string& needed : found->second.depends) {
    if (!collect(catalogue, needed, all, missing)) return false;
  }
  all.push_back(name);
  return true;
}

CommandResult apt_get(FakeHost& host, const Command& command, const Catalogue& catalogue) {
  const std::string said = join(command.argv, " ");
  if (said.ends_with(" update")) {
    host.put("/var/lib/apt/lists/archive_InRelease", "");
    for (const std::string& word : command.argv) {
      if (!word.starts_with("Dir::Etc::sourcelist=")) continue;
      for (const std::string& line : split(host.content(word.substr(21)), '\n')) {
        if (line.starts_with("URIs: ")) host.put("/var/lib/apt/lists/" + list_name_prefix(line.substr(6)) + "InRelease", "");
      }
    }
    return {};
  }
  std::vector<std::string> all;
  for (const std::string& name : packages_of(command)) {
    std::string missing;
    if (!collect(catalogue, name, all, missing)) return {100, "", "E: Unable to locate package " + missing + "\n"};
  }
  std::string out;
  for (const std::string& name : all) {
    if (installed_stanza(host, name).find("Status: hold") != std::string::npos)
      return {100, "", "E: Held packages were changed and -y was used without --allow-change-held-packages.\n"};
    out += fmt::format("Inst {} ({})\n", name, catalogue.at(name).version);
  }
  if (std::find(command.argv.begin(), command.argv.end(), "-s") != command.argv.end()) return {0, out, ""};
  for (const std::string& name : all) {
    set_stanza(host, name, dpkg_stanza(name, catalogue.at(name).version));
    if (catalogue.at(name).installed) catalogue.at(name).installed(host);
  }
  return {};
}

CommandResult apt_mark(FakeHost& host, const Command& command) {
  for (const std::string& name : packages_of(command)) {
    std::string stanza = installed_stanza(host, name);
    const std::size_t at = stanza.find("Status: ") + 8;
    stanza.replace(at, stanza.find(' ', at) - at, command.argv[1] == "hold" ? "hold" : "install");
    set_stanza(host, name, stanza);
  }
  return {};
}

CommandResult modprobe(FakeHost& host, const Command& command) {
  if (command.argv[1] == "nvidia") {
    const std::string version = host.content(fmt::format("/lib/modules/{}/nvidia", host.facts().kernel));
    if (version == "<no file>") return {1, "", "modprobe: FATAL: Module nvidia not found\n"};
    put_loaded(host, version);
  }
  if (command.argv[1] == "-r") {
    if (command.argv.back() == "nvidia") host.take_away(kVersionFile);
    host.put("/proc/modules", "");
  }
  return {};
}

/// systemd's units here are files below /etc/systemd/fake: "enabled active".
CommandResult systemctl(FakeHost& host, const Command& command) {
  const std::string unit = "/etc/systemd/fake/" + command.argv.back();
  const std::vector<std::string> state = words(host.content(unit));
  const bool exists = state.size() == 2 && state[0] != "<no";
  if (command.argv[1] == "show") {
    if (!exists) return {0, "LoadState=not-found\n", ""};
    return {0, fmt::format("LoadState=loaded\nUnitFileState={}\nActiveState={}\n", state[0], state[1]), ""};
  }
  if (command.argv[1] == "is-active") return {exists && state[1] == "active" ? 0 : 3, "", ""};
  if (!exists) return {5, "", "Unit not found.\n"};
  if (command.argv[1] == "enable") host.put(unit, "enabled " + state[1]);
  if (command.argv[1] == "restart") host.put(unit, state[0] + " active");
  if (command.argv[1] == "stop") host.put(unit, state[0] + " inactive");
  return {};
}

/// A package's unit; where it is there already, it goes on as it was.
void bring_unit(FakeHost& host, const std::string& name, const std::string& state) {
  const std::string path = "/etc/systemd/fake/" + name + ".service";
  if (!host.at(path)) host.put(path, state);
}

CommandResult nvidia_smi(FakeHost& host, const Command& command) {
  const std::string text = host.content(kVersionFile);
  if (text == "<no file>") return {9, "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.\n", ""};
  if (command.argv[1].starts_with("--query-compute-apps")) {
    const std::string programs = host.content("/run/fake-gpu-programs");
    return {0, programs == "<no file>" ? "" : programs, ""};
  }
  const std::string version = words(text).back();
  std::string rows;
  for (std::size_t i = 0; i < host.facts().gpus.size(); ++i)
    rows += fmt::format("{0}, GPU-{0}, Tesla T4, 00000000:00:1E.{0}, {1}, 15360, [N/A]\n", i, version);
  return {0, rows, ""};
}

}  // namespace

const char* const kStandInKey =
    "-----BEGIN PGP PUBLIC KEY BLOCK-----\n"
    "\n"
    "mDMEawG0WBYJKwYBBAHaRw8BAQdA9awv+KJBUxCxX9zoJNIp4CSzDgVUp2+Dbu5C\n"
    "SQX98li0NEEgc3RhbmQtaW4gZm9yIE5WSURJQSAodGhyb3ctYXdheSkgPGtleUBl\n"
    "eGFtcGxlLm9yZz6IkAQTFggAOBYhBPwaFEImQr3rERhT4hcsYH0N+mNFBQJrAbRY\n"
    "AhsDBQsJCAcCBhUKCQgLAgQWAgMBAh4BAheAAAoJEBcsYH0N+mNFoHoBALgXNdFJ\n"
    "EvY9UJNNUaO71+Tmg1KGBrVmUnut4hGgGC4cAQD4Zdk22aSh4AxA5LxlLN+UitZC\n"
    "2gx0p3dsMaPfifIRDg==\n"
    "=exc6\n"
    "-----END PGP PUBLIC KEY BLOCK-----\n";
const char* const kStandInFingerprint = "FC1A14422642BDEB111853E2172C607D0DFA6345";

std::shared_ptr<const Compat> builtin_tables() {
  static const std::shared_ptr<const Compat> tables = [] {
    Result<Compat> compat = load_builtin_compat();
    EXPECT_TRUE(compat.has_value()) << compat.error().sentence();
    return std::make_shared<const Compat>(*std::move(compat));
  }();
  return tables;
}

void put_module(FakeHost& host, const std::string& kernel, const std::string& version) {
  host.put("/lib/modules/" + kernel + "/nvidia", version);
}

void put_loaded(FakeHost& host, const std::string& version) {
  host.put(kVersionFile, "NVRM version: NVIDIA UNIX x86_64 Kernel Module  " + version);
}

void put_libraries(FakeHost& host, const std::string& version) {
  host.take_away("/usr/lib/x86_64-linux-gnu/libnvidia-ml.so.1");
  host.put_symlink("/usr/lib/x86_64-linux-gnu/libnvidia-ml.so.1", "libnvidia-ml.so." + version);
}

void put_toolkit(FakeHost& host, const std::string& version) { host.put(fmt::format("/usr/local/cuda-{}/bin/nvcc", version), "", 0755); }

std::vector<FakePackage> ubuntu_driver(const std::string& flavour, const std::string& version) {
  const std::string branch = version.substr(0, version.find('.'));
  const std::string modules = fmt::format("linux-modules-nvidia-{}-server{}-", branch, flavour);
  return {{modules + kKernel, "6.8.0-1029.31", {}, [version](FakeHost& host) { put_module(host, kKernel, version); }},
          {modules + "aws", "6.8.0-1029.31", {modules + kKernel}, {}},
          {fmt::format("nvidia-headless-no-dkms-{}-server{}", branch, flavour), version + "-0ubuntu0.24.04.1", {}, {}},
          {fmt::format("nvidia-utils-{}-server", branch), version + "-0ubuntu0.24.04.1", {}, [version](FakeHost& host) {
             put_libraries(host, version);
             bring_unit(host, "nvidia-persistenced", "static inactive");
           }}};
}

std::vector<FakePackage> nvidia_driver_packages(const std::string& version) {
  const std::string branch = version.substr(0, version.find('.'));
  const auto build = [version](FakeHost& host) {
    put_module(host, host.facts().kernel, version);
    put_libraries(host, version);
  };
  return {{"nvidia-driver-pinning-" + branch, "1", {}, {}},
          {"nvidia-open-" + branch, version + "-1ubuntu1", {}, build},
          {"cuda-drivers-" + branch, version + "-1ubuntu1", {}, build},
          {"nvidia-persistenced",
           version + "-1ubuntu1",
           {},
           [](FakeHost& host) { bring_unit(host, "nvidia-persistenced", "disabled inactive"); }},
          {"gcc-13", "13.3.0-6ubuntu2", {}, {}}};
}

FakePackage toolkit_package(const std::string& version) {
  const std::vector<std::string> parts = split(version, '.');
  return {fmt::format("cuda-toolkit-{}-{}", parts.at(0), parts.at(1)), version + ".1-1", {}, [version](FakeHost& host) {
            put_toolkit(host, version);
            host.take_away("/usr/local/cuda");
            host.put_symlink("/usr/local/cuda", "/usr/local/cuda-" + version);
          }};
}

FakeHost gpu_host(const std::vector<std::string>& gpu_ids, const std::vector<FakePackage>& packages) {
  FakeHost host(
      {{kStatus, dpkg_stanza("linux-image-aws", "6.8.0-1029.31") + dpkg_stanza(std::string("linux-image-") + kKernel, "6.8.0-1029.31")},
       {"/etc/apt/sources.list", "deb http://archive.example.org/ubuntu noble main\n"},
       {"/proc/version", "Linux version 6.8.0-1029-aws (buildd@x) (x86_64-linux-gnu-gcc-13 (Ubuntu 13.3.0-6ubuntu2) 13.3.0, GNU ld) #31\n"},
       {"/proc/modules", ""}});
  for (const char* folder : {"/var/lib/apt/lists", "/etc/apt/sources.list.d", "/etc/apt/preferences.d"}) host.put_directory(folder);
  int slot = 0;
  for (const std::string& id : gpu_ids) host.edit_facts().gpus.push_back({fmt::format("0000:00:{:02x}.0", ++slot), id, "0000", ""});
  Catalogue catalogue;
  for (const FakePackage& package : packages) catalogue[package.name] = package;
  host.on({"apt-get"}, [catalogue](FakeHost& fake, const Command& command) { return apt_get(fake, command, catalogue); });
  host.answer({"apt-get", "-q", "-y", "-o", "Debug::NoLocking=1", "-o", "Acquire::ForceHash=SHA256", "--print-uris"}, {});
  host.on({"apt-cache", "policy"}, [catalogue](FakeHost&, const Command& command) -> CommandResult {
    const auto found = catalogue.find(command.argv.back());
    return {0, fmt::format("x:\n  Candidate: {}\n", found == catalogue.end() ? "(none)" : found->second.version), ""};
  });
  host.on({"apt-cache", "madison"}, [catalogue](FakeHost&, const Command& command) -> CommandResult {
    const auto found = catalogue.find(command.argv.back());
    if (found == catalogue.end()) return {0, "", ""};
    return {0, fmt::format(" {} | {} | https://example.org Packages\n", found->first, found->second.version), ""};
  });
  host.on({"apt-mark"}, apt_mark);
  host.on({"modprobe"}, modprobe);
  host.on({"modinfo"}, [](FakeHost& fake, const Command& command) -> CommandResult {
    const std::string version = fake.content(fmt::format("/lib/modules/{}/nvidia", command.argv[2]));
    return version == "<no file>" ? CommandResult{1, "", "modinfo: ERROR: Module nvidia not found.\n"}
                                  : CommandResult{0, version + "\n", ""};
  });
  host.on({"systemctl"}, systemctl);
  host.on({"nvidia-smi"}, nvidia_smi);
  host.answer({"loginctl"}, {0, "", ""});
  host.answer({"update-initramfs"}, {0, "", ""});
  return host;
}

}  // namespace gpustrap
