#include "tests/support/local_agent.h"

#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <utility>

#include "agent/base/file.h"
#include "agent/protocol/json.h"
#include "agent/protocol/request.h"

namespace gpustrap {

std::string agent_program() { return GPUSTRAP_AGENT; }

LocalAgent::LocalAgent(const std::string& state, std::string_view said) {
  ::signal(SIGPIPE, SIG_IGN);
  Pipe in = std::move(*make_pipe());
  Pipe out = std::move(*make_pipe());
  const std::string state_option = "--state=" + state;
  const std::string runtime_option = "--runtime=" + state + "/runtime";
  const std::string said_option = "--said=" + as_word(said);
  pid_ = ::fork();
  if (pid_ == 0) {
    ::dup2(in.read_end.get(), STDIN_FILENO);
    ::dup2(out.write_end.get(), STDOUT_FILENO);
    ::execl(GPUSTRAP_AGENT, "gpustrap-agent", "serve", state_option.c_str(), runtime_option.c_str(), said_option.c_str(), nullptr);
    ::_exit(127);
  }
  input_ = std::move(in.write_end);
  output_ = std::move(out.read_end);
}

LocalAgent::~LocalAgent() {
  if (pid_ <= 0) return;
  ::kill(pid_, SIGKILL);
  ::waitpid(pid_, nullptr, 0);
}

void LocalAgent::send(const Json& line) { send_raw(to_line(line)); }

void LocalAgent::send_raw(std::string_view bytes) {
  const Result<void> sent = write_all(input_.get(), bytes);
  EXPECT_TRUE(sent.has_value()) << sent.error().sentence();
}

Json LocalAgent::receive() {
  while (true) {
    auto line = lines_.next();
    if (!line) {
      ADD_FAILURE() << line.error().sentence();
      return nullptr;
    }
    if (line->has_value()) return *parse_line(**line);
    pollfd entry{output_.get(), POLLIN, 0};
    if (::poll(&entry, 1, 20'000) <= 0) {
      ADD_FAILURE() << "the agent was silent for 20 s";
      return nullptr;
    }
    std::array<char, 65536> buffer{};
    const ssize_t got = ::read(output_.get(), buffer.data(), buffer.size());
    if (got <= 0) return nullptr;
    lines_.add({buffer.data(), static_cast<std::size_t>(got)});
  }
}

std::vector<Json> LocalAgent::receive_until(const std::string& member, const std::string& value) {
  std::vector<Json> lines;
  while (true) {
    lines.push_back(receive());
    if (lines.back().is_null()) return lines;
    if (lines.back().contains(member) && (value.empty() || lines.back().at(member) == value)) return lines;
  }
}

int LocalAgent::wait_for_exit() {
  int status = 0;
  ::waitpid(pid_, &status, 0);
  pid_ = -1;
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

}  // namespace gpustrap
