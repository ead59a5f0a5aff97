#include "agent/scout.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <exception>
#include <memory>
#include <utility>

#include "agent/base/file.h"
#include "agent/identity.h"
#include "agent/protocol/json.h"
#include "agent/protocol/line.h"
#include "agent/real_host.h"
#include "agent/step_process.h"

namespace gpustrap {
namespace {

/// A quick look takes milliseconds. What takes longer is looked at by a process of its own, with the step's own limits.
constexpr std::chrono::seconds kLongestLook{2};

/// Kinds whose look reads a few files or asks systemd once.
bool looks_quickly(const PlannedStep& step) {
  switch (step.entry.kind) {
    case StepKind::apt:
    case StepKind::file:
    case StepKind::block:
    case StepKind::directory:
    case StepKind::symlink:
    case StepKind::environment:
    case StepKind::service: return true;
    case StepKind::command: {
      const auto* command = std::get_if<CommandSpec>(&step.spec);
      return command != nullptr && command->unless.empty() && !command->creates.items.empty();
    }
    default: return false;
  }
}

bool are_same(const Identity& one, const Identity& other) {
  return one.uid == other.uid && one.gid == other.gid && one.groups == other.groups && one.home == other.home;
}

[[noreturn]] void look_at(const LiveSteps& steps, const std::vector<std::size_t>& looked_at, const Facts& facts, const Identity& login,
                          const Mirror& mirror, int records) {
  const Identity& identity = steps[looked_at.front()]->plan.identity;
  if (!become(identity)) ::_exit(1);
  ::umask(022);
  if (::chdir(identity.home.c_str()) != 0 && ::chdir("/") != 0) ::_exit(1);
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);  // cleared when the uid changed
  try {
    for (const std::size_t index : looked_at) {
      const PlannedStep& plan = steps[index]->plan;
      const RealHost host(facts, plan.identity, login, plan.entry.env.items, mirror);
      const Result<StepState> state = plan.type->make(plan.spec)->check(host);
      if (!state || state->is != StepState::Is::satisfied) break;
      Json record;
      record["step"] = index;
      record["reason"] = state->reason;
      if (!write_all(records, to_line(record))) break;
    }
  } catch (const std::exception&) {}  // a defect shows itself, with its words, in the step's own process
  ::_exit(0);
}

}  // namespace

std::vector<std::size_t> steps_to_scout(const LiveSteps& steps, std::ptrdiff_t after) {
  std::vector<std::size_t> chosen;
  std::vector<bool> will_be_over(steps.size(), false);
  for (std::size_t i = 0; i < steps.size(); ++i) {
    const LiveStep& step = *steps[i];
    if (step.is(StepPhase::ended)) {
      will_be_over[i] = true;
      continue;
    }
    const PlannedStep& plan = step.plan;
    const bool may_look = step.is(StepPhase::waiting) &&
                          std::all_of(plan.after.begin(), plan.after.end(), [&](std::size_t needed) { return will_be_over[needed]; });
    if (!may_look) continue;
    if (!plan.skip_reason.empty()) {
      will_be_over[i] = true;
      continue;
    }
    const bool is_ours = static_cast<std::ptrdiff_t>(i) > after && looks_quickly(plan) && !plan.forced && plan.secrets.empty() &&
                         !plan.with_secrets && (chosen.empty() || are_same(plan.identity, steps[chosen.front()]->plan.identity));
    if (!is_ours) continue;
    chosen.push_back(i);
    will_be_over[i] = true;
  }
  return chosen;
}

Result<Scout> Scout::send(const LiveSteps& steps, const std::vector<std::size_t>& looked_at, const Facts& facts, const Identity& login,
                          const Mirror& mirror) {
  Result<Pipe> records = make_pipe();
  if (!records) return fail(std::move(records).error());
  if (Result<void> set = set_nonblocking(records->read_end.get()); !set) return fail(std::move(set).error());
  const pid_t runner = ::getpid();
  const pid_t pid = ::fork();
  if (pid < 0) return fail(errno_error(errno, "starting the process that looks ahead"));
  if (pid == 0) {
    begin_step_process(runner);
    const int null = ::open("/dev/null", O_RDWR | O_CLOEXEC);
    constexpr int kRecordFd = 3;
    const int record = ::fcntl(records->write_end.get(), F_DUPFD_CLOEXEC, 16);
    if (null < 0 || record < 0) ::_exit(1);
    for (const int standard : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) ::dup2(null, standard);
    ::dup3(record, kRecordFd, O_CLOEXEC);
    close_descriptors_from(kRecordFd + 1);
    look_at(steps, looked_at, facts, login, mirror, kRecordFd);
  }
  ::setpgid(pid, pid);
  return Scout(pid, std::move(records->read_end));
}

Scout::Scout(Scout&& other) noexcept
    : pid_(std::exchange(other.pid_, -1)),
      records_(std::move(other.records_)),
      rest_(std::move(other.rest_)),
      last_sign_(other.last_sign_) {}

Scout::~Scout() {
  if (pid_ < 0) return;
  ::kill(-pid_, SIGKILL);
  ::waitpid(pid_, nullptr, 0);
}

std::vector<Scout::Found> Scout::found() {
  std::array<char, 16 * 1024> buffer{};
  while (records_.valid()) {
    const ssize_t got = ::read(records_.get(), buffer.data(), buffer.size());
    if (got < 0) break;
    if (got == 0) {
      records_.reset();
      break;
    }
    last_sign_ = std::chrono::steady_clock::now();
    rest_.append(buffer.data(), static_cast<std::size_t>(got));
  }
  std::vector<Found> all;
  std::size_t begin = 0;
  for (std::size_t newline = rest_.find('\n'); newline != std::string::npos; newline = rest_.find('\n', begin)) {
    const Result<Json> record = parse_line(std::string_view(rest_).substr(begin, newline - begin));
    begin = newline + 1;
    if (record) all.push_back({record->value("step", std::size_t{0}), record->value("reason", std::string())});
  }
  rest_.erase(0, begin);
  return all;
}

bool Scout::is_over() const { return !records_.valid() || std::chrono::steady_clock::now() - last_sign_ > kLongestLook; }

}  // namespace gpustrap
