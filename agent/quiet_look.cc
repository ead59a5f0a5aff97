#include "agent/quiet_look.h"

#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <string>

#include "agent/base/text.h"
#include "agent/step_process.h"

namespace gpustrap {
namespace {

constexpr auto kQuietLookLimit = std::chrono::seconds(30);

}  // namespace

Outcome look_quietly(const PlannedStep& plan, const Facts& facts, const Identity& login, const Mirror& mirror, SecretStore& secrets) {
  using Clock = std::chrono::steady_clock;
  if (plan.looks_with_secrets && !secrets.missing(plan.secrets).empty()) return Outcome::unknown;
  Result<StepProcess> process = start_step_process(plan, StepWork::look, facts, login, mirror, secrets);
  if (!process) return Outcome::failed;
  const Clock::time_point deadline = Clock::now() + kQuietLookLimit;
  std::string records;
  std::array<char, 16 * 1024> buffer{};
  while (Clock::now() < deadline) {
    std::array<pollfd, 3> polled = {pollfd{process->records.get(), POLLIN, 0}, pollfd{process->output.get(), POLLIN, 0},
                                    pollfd{process->errors.get(), POLLIN, 0}};
    if (::poll(polled.data(), polled.size(), 1000) < 0 && errno != EINTR) break;
    for (UniqueFd* unread : {&process->output, &process->errors}) {
      if (unread->valid() && ::read(unread->get(), buffer.data(), buffer.size()) == 0) unread->reset();
    }
    const ssize_t got = ::read(process->records.get(), buffer.data(), buffer.size());
    if (got == 0) break;
    if (got > 0) records.append(buffer.data(), static_cast<std::size_t>(got));
  }
  ::kill(-process->pid, SIGKILL);
  ::waitpid(process->pid, nullptr, 0);
  for (const std::string& line : split(records, '\n')) {
    const Result<StepRecord> record = step_record_from_line(line, plan.entry.id);
    if (!record) continue;
    if (const auto* finished = std::get_if<StepFinished>(&record->body)) return finished->outcome;
  }
  return Outcome::failed;
}

}  // namespace gpustrap
