#pragma once

#include <sys/types.h>

#include <string>
#include <string_view>
#include <vector>

#include "agent/base/unique_fd.h"
#include "agent/protocol/json_fwd.h"
#include "agent/protocol/line.h"

namespace gpustrap {

/// The path of the agent's program, linked dynamically.
[[nodiscard]] std::string agent_program();

/// The agent's program serving over plain pipes, with its state in a folder of the test's.
class LocalAgent {
 public:
  /// `said`: what stands among the program's arguments of its controller's words.
  explicit LocalAgent(const std::string& state, std::string_view said = {});
  ~LocalAgent();
  LocalAgent(const LocalAgent&) = delete;
  LocalAgent& operator=(const LocalAgent&) = delete;

  void send(const Json& line);
  void send_raw(std::string_view bytes);
  /// The next line; fails the test where none comes in 20 s. Null at the end.
  Json receive();
  /// Reads until a line has `member` (with `value` where given), and returns all lines read.
  std::vector<Json> receive_until(const std::string& member, const std::string& value = "");
  void close_input() { input_.reset(); }
  [[nodiscard]] int wait_for_exit();
  [[nodiscard]] pid_t pid() const { return pid_; }

 private:
  pid_t pid_ = -1;
  UniqueFd input_;
  UniqueFd output_;
  LineReader lines_;
};

}  // namespace gpustrap
