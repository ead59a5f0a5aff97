#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "agent/base/result.h"
#include "agent/host.h"

// What every step that may restart its host has to know first.

namespace gpustrap {

/// "6.8.0-1008-aws" is 6, 8, 0, 1008 and its flavour aws; "6.1.0-28-cloud-amd64" has the flavour cloud-amd64.
struct KernelName {
  std::vector<std::uint64_t> numbers;
  std::string flavour;
};
[[nodiscard]] KernelName kernel_name(const std::string& release);

/// A kernel of the running one's flavour that is newer and can be booted; empty where there is none, and in a container.
[[nodiscard]] std::string newer_kernel(const Host& host);

/// Whether a restart would bring this host back, and the run with it. The error says why not.
[[nodiscard]] Result<void> can_restart(const Host& host);
/// Whether a shutdown from inside ends what is paid for, and a timer can ask for it.
[[nodiscard]] Result<void> can_power_off(const Host& host);

/// People at work on this host who are not the run's own login: names, each once.
[[nodiscard]] Result<std::vector<std::string>> other_users(const Host& host);
/// Programs that compute on NVIDIA's GPUs now: "812 (python3)".
[[nodiscard]] Result<std::vector<std::string>> programs_on_gpus(const Host& host);

/// Nobody's work is ended unasked: error busy, which names the users and programs, where there are any and `may_disrupt` is false; where
/// it is true they are named in the log. `consequence`: "a restart would end that".
[[nodiscard]] Result<void> expect_quiet(const Host& host, StepLog& log, std::string_view consequence, bool may_disrupt);

}  // namespace gpustrap
