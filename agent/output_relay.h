#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "agent/base/result.h"
#include "agent/masking.h"
#include "agent/protocol/event.h"
#include "agent/step_process.h"

namespace gpustrap {

/// What a step's process writes, on its way to the journal: output as whole lines of bounded length, up to a cap for the whole step, and
/// the records by which the process tells the runner what it does.
class OutputRelay {
 public:
  using Say = std::function<Result<void>(decltype(Event::body) body)>;
  /// Output kept per step, in bytes; what comes after is counted as truncated.
  static constexpr std::uint64_t kCap = std::uint64_t{256} << 20U;
  /// `masking`, which must outlive this, says where a line that is too long may be cut: never within a secret, since what is cut in two
  /// cannot be masked any more.
  OutputRelay(std::string step, Say say, std::uint64_t cap = kCap, const Masking* masking = nullptr)
      : step_(std::move(step)), say_(std::move(say)), cap_(cap), masking_(masking) {}

  /// Another attempt begins: what the last one left unfinished is forgotten. What was said counts on.
  void begin();
  /// Says what has come, and adds the records to `records`. Never waits, and takes a few pieces at most, so that one loud step does not
  /// keep the others waiting. Returns whether anything came.
  [[nodiscard]] Result<bool> read(StepProcess& process, std::vector<StepRecord>& records);
  /// After the process has ended: what is still in its pipes, and the last line where it has no end.
  [[nodiscard]] Result<void> drain(StepProcess& process);
  /// Text of the runner's or the step's own: stream "log".
  [[nodiscard]] Result<void> say(std::string_view stream, std::string_view text);

 private:
  Result<void> read_output(UniqueFd& fd, std::string_view stream, std::string& rest, bool& came);
  Result<void> say_piece(std::string_view stream, std::string_view text);
  Result<void> say_whole_lines(std::string_view stream, std::string& rest);

  std::string step_;
  Say say_;
  std::uint64_t cap_;
  const Masking* masking_;
  std::string out_rest_, err_rest_, record_rest_;
  std::uint64_t bytes_ = 0;
  bool truncated_ = false;
};

}  // namespace gpustrap
