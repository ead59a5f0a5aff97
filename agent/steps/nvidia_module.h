#pragma once

#include <string>
#include <string_view>

#include "agent/base/result.h"
#include "agent/host.h"

// The kernel's side of the driver: which module is loaded, which lies on the disk, and how the one replaces the other.

namespace gpustrap {

[[nodiscard]] bool is_module_loaded(const Host& host, std::string_view module);
/// Version of the nvidia module for a kernel as it lies on the disk; empty where there is none.
[[nodiscard]] std::string module_version(const Host& host, const std::string& kernel);
/// A kernel other than the running one that has an nvidia module; empty where there is none.
[[nodiscard]] std::string kernel_with_module(const Host& host);
/// Version of the driver's libraries, by the file that libnvidia-ml.so.1 leads to; empty where that does not tell.
[[nodiscard]] std::string library_version(const Host& host);

/// Keeps nouveau from taking the GPU at the next boot. Writes nothing where that is done already.
[[nodiscard]] Result<void> blacklist_nouveau(Host& host, StepLog& log);

/// How far loading got: `version` is the driver's that is loaded now; where it is another than the one on the disk,
/// `needs_restart` says why only a restart changes that.
struct LoadedModule {
  std::string version, needs_restart;
};
/// Loads the module on the disk into the running kernel, in place of nouveau or another version where those let go. An error where it
/// cannot be loaded, and a restart would not change that.
[[nodiscard]] Result<LoadedModule> load_module(Host& host, StepLog& log);

}  // namespace gpustrap
