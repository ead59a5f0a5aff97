#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "agent/protocol/compat.h"
#include "tests/support/fake_host.h"

namespace gpustrap {

/// A throw-away key, and its fingerprint: a stand-in for NVIDIA's.
extern const char* const kStandInKey;
extern const char* const kStandInFingerprint;

/// The tables that come with gpustrap.
[[nodiscard]] std::shared_ptr<const Compat> builtin_tables();

/// What apt on the fake host can install: name → version, and what installing it puts there besides dpkg's record.
struct FakePackage {
  std::string name, version;
  std::vector<std::string> depends = {};
  std::function<void(FakeHost& host)> installed = {};
};

/// Ubuntu 24.04 on EC2 (kernel 6.8.0-1029-aws) with these GPUs on its PCI bus and no driver: a dpkg, an apt that knows `packages`,
/// modprobe, modinfo, nvidia-smi and systemctl as far as steps see them. What packages bring are stand-ins: a module is its version below
/// /lib/modules/KERNEL/nvidia, a loaded one its version in /proc/driver/nvidia/version.
[[nodiscard]] FakeHost gpu_host(const std::vector<std::string>& gpu_ids, const std::vector<FakePackage>& packages);

/// Ubuntu's own packages of driver branch 580 with open or proprietary modules, for the running kernel and its flavour.
[[nodiscard]] std::vector<FakePackage> ubuntu_driver(const std::string& flavour = "-open", const std::string& version = "580.95.05");
/// NVIDIA's packages of it, whose module is built on the host.
[[nodiscard]] std::vector<FakePackage> nvidia_driver_packages(const std::string& version = "580.95.05");
/// A toolkit's package.
[[nodiscard]] FakePackage toolkit_package(const std::string& version);

/// The module of a version lies on the disk for a kernel; a driver is loaded; its libraries are there.
void put_module(FakeHost& host, const std::string& kernel, const std::string& version);
void put_loaded(FakeHost& host, const std::string& version);
void put_libraries(FakeHost& host, const std::string& version);
/// A toolkit as it lies below /usr/local.
void put_toolkit(FakeHost& host, const std::string& version);

}  // namespace gpustrap
