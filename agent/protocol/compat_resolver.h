#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "agent/base/result.h"
#include "agent/protocol/compat.h"
#include "agent/protocol/facts.h"

namespace gpustrap {

enum class ModulesWish { automatic, open, proprietary };
enum class ToolkitFrom { any, repository, runfile };

/// What is known of a machine, and what is wanted there.
struct CompatQuestion {
  std::vector<PciGpu> gpus;
  std::optional<std::uint64_t> nvswitches;  ///< counted on the PCI bus; not given: presumed from the GPUs
  std::string os, os_version;               ///< ID and VERSION_ID of os-release; empty: say nothing of packages
  std::string arch = "x86_64";              ///< uname -m
  std::string driver;                       ///< version of the driver that is loaded; empty: none is
  bool secure_boot = false;
  bool container = false;  ///< the driver comes from outside and cannot be changed

  std::string cuda = "auto";    ///< "auto", "12", "12.4", "12.4.1", or empty where no toolkit is wanted
  std::string branch = "auto";  ///< "auto" or the number of a driver branch
  ModulesWish modules = ModulesWish::automatic;
  ToolkitFrom toolkit = ToolkitFrom::any;
  std::string source;  ///< whose driver packages: "ubuntu", "nvidia", "debian"; empty: the best but `debian`, which is for who asks
};
/// The question of a host; what is wanted there is left to say.
[[nodiscard]] CompatQuestion question_of(const Facts& facts);

struct DriverAnswer {
  enum class How { install, keep, outside } how = How::install;
  std::string branch;
  std::string version;   ///< of the loaded driver where it stays
  std::string at_least;  ///< oldest version that serves all GPUs, where the branch alone does not say so; else empty
  bool open = false;     ///< kernel modules; means nothing where the driver stays
  std::string pin;       ///< package to install first, in a transaction of its own; else empty
  /// Where it may come from, best first. `packages` may hold {flavour}, the kernel's.
  struct Source {
    std::string from;
    bool is_signed = false;
    std::vector<std::string> packages;
  };
  std::vector<Source> sources;
  std::vector<std::string> fabric_packages;  ///< fabric manager and company, at exactly the driver's version; empty where not needed
};

struct CudaAnswer {
  std::string version;
  enum class Runs { natively, minor_version, forward } runs = Runs::natively;
  bool from_repository = false;  ///< else by runfile
  std::string package;           ///< of the toolkit, from the repository
  std::string compat_package;    ///< of forward compatibility; else empty
};

struct RepositoryAnswer {
  std::string name, url, keyring_url, key;
  std::string fingerprint;  ///< of the key; empty where it is not recorded
};

struct CompatAnswer {
  DriverAnswer driver;
  std::optional<CudaAnswer> cuda;
  std::optional<RepositoryAnswer> repository;
  std::string reason;                 ///< "Tesla T4 (sm_75): driver branch 580, open modules; CUDA 13.0 is the newest …"
  std::vector<std::string> warnings;  ///< what is not certain, and what to know before
};

/// Which driver and CUDA serve all GPUs of a machine. An error (unsupported; recipe for a version that does not exist) says why nothing
/// does: "CUDA 12.4 cannot run on Tesla K80 (sm_37): the last is 11.8 with driver branch 470".
[[nodiscard]] Result<CompatAnswer> resolve_compat(const Compat& compat, const CompatQuestion& question);

/// Which build of a framework runs on all GPUs with this driver (a version or a branch); nothing where the tables do not know `package`.
/// "torch 2.14: cu132 (CUDA 13.2, by minor-version compatibility)". An error says why no build does.
[[nodiscard]] Result<std::optional<std::string>> resolve_framework(const Compat& compat, const std::string& package,
                                                                   const CompatQuestion& question, const std::string& driver);

}  // namespace gpustrap
