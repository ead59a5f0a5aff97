#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "agent/host.h"
#include "agent/idle_rules.h"
#include "agent/paths.h"
#include "agent/steps/nvidia_query.h"

// How a host is seen to be used: a sample of what it does, and what has happened between two of them.

namespace gpustrap {

/// More than this of one core, over the time between two looks: something computes. Work keeps a core busy; a host that nobody uses, with
/// an open notebook, an agent of the cloud's and a timer or two, stays below a twentieth of one.
constexpr double kBusyCore = 0.25;
/// More than this over one network interface: something is fetched or served. A slow download brings 100 KiB/s; the tab of an open
/// JupyterLab, a tunnel's heartbeats and a cloud's agent together a few.
constexpr double kBusyBytesPerSecond = 50 * 1024;
/// More than this of a GPU: it computes. Drivers tell a few percent for a GPU that only holds memory or draws a console.
constexpr unsigned kBusyGpuPercent = 5;

/// What one process has computed since it began, in ticks of the kernel.
struct ProcessTime {
  int pid = 0, parent = 0;
  std::uint64_t start = 0;     ///< when, which tells it from another with its number
  std::uint64_t own = 0;       ///< itself
  std::uint64_t children = 0;  ///< those that have ended
  std::string name;
};
/// Something that changes when it is used: the time at which a terminal was typed at.
struct UseMark {
  UseSign sign;
  std::string value;
};

struct IdleSample {
  std::string boot;
  std::chrono::milliseconds at{0};  ///< steady clock
  std::vector<ProcessTime> processes;
  std::vector<std::pair<std::string, std::uint64_t>> network;  ///< bytes that each interface has carried
  std::vector<UseMark> marks;
  std::vector<UseSign> now;  ///< what is at work at this moment
};

/// All signs of use: what is at work now, what was used between the two, what computed and was carried on average. `ticks`: of the kernel,
/// in a second.
[[nodiscard]] std::vector<UseSign> signs_of_use(const IdleSample& before, const IdleSample& now, double ticks);

/// Looks at all but notebooks; `self` is the guard's own process, which does not count.
[[nodiscard]] IdleSample take_sample(const Host& host, const AgentPaths& paths, int self);

// The parts of it that read what others write.
/// A line of /proc/PID/stat; nullopt for one of the kernel's own threads, too.
[[nodiscard]] std::optional<ProcessTime> process_in(std::string_view stat);
/// /proc/net/dev without the loopback.
[[nodiscard]] std::vector<std::pair<std::string, std::uint64_t>> interfaces_in(std::string_view text);
/// What `busctl --json=short call … ListInhibitors` prints: those that block a shutdown.
[[nodiscard]] std::vector<UseSign> inhibitors_in(std::string_view text);
[[nodiscard]] std::vector<UseSign> signs_of_gpus(const std::vector<GpuUse>& gpus, const std::vector<std::string>& programs);

}  // namespace gpustrap
