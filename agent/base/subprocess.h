#pragma once

#include <sys/types.h>

#include <chrono>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "agent/base/result.h"

namespace gpustrap {

/// A program to run: argv, never a shell unless argv says so.
struct Subprocess {
  std::vector<std::string> argv;
  std::vector<std::pair<std::string, std::string>> env;                       ///< added to the environment
  std::optional<std::vector<std::pair<std::string, std::string>>> clean_env;  ///< replaces the environment altogether
  std::string cwd;
  std::string input;                                          ///< its whole standard input
  std::chrono::milliseconds timeout{0};                       ///< 0: none; the process group is killed when it runs out
  std::size_t limit = 4U << 20U;                              ///< bytes kept of each stream; the rest is read and dropped
  enum class Keep { beginning, end } keep = Keep::beginning;  ///< which bytes where there are more
  bool own_group = true;           ///< false: stays in the caller's process group, which whoever ends the caller ends as a whole
  std::function<void()> in_child;  ///< runs after fork, before exec: identities
};

struct SubprocessResult {
  int exit_code = 0;  ///< 128 + n where signal n ended it; 127 where argv[0] does not exist
  bool timed_out = false;
  std::string out;
  std::string err;
};

/// Called with "out" or "err" and bytes as they arrive.
using OutputSink = std::function<void(std::string_view stream, std::string_view bytes)>;

/// Runs it to its end and collects (and, with a sink, passes on) what it prints. An error only where no process could be made;
/// a failing exit is a result. Descriptors are close-on-exec and the child dies with its parent.
[[nodiscard]] Result<SubprocessResult> run_subprocess(const Subprocess& subprocess, const OutputSink& sink = {});

}  // namespace gpustrap
