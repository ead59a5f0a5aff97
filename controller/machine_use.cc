#include "controller/machine_use.h"

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdlib>
#include <future>
#include <optional>
#include <string_view>
#include <utility>

#include "agent/base/text.h"
#include "controller/known_instance.h"
#include "controller/remote_command.h"
#include "controller/ssh_session.h"

namespace gpustrap {
namespace {

/// To reach it, and again to be answered: a list is looked at, and no machine of it is worth a minute.
constexpr auto kWithin = std::chrono::seconds(5);
constexpr std::size_t kLongest = std::size_t{64} << 10U;

Result<IdleStatus> ask(const SshTarget& target) {
  Result<SshSession> session = SshSession::connect(target, SshPrompts{});
  if (!session) return fail(std::move(session).error());
  const Result<RemoteResult> told = run_remote(*session, "cat /proc/uptime /run/gpustrap/idle.json", "", RemoteLimits{kWithin, kLongest});
  if (!told) return fail(told.error());
  const std::size_t line = std::min(told->out.find('\n'), told->out.size());
  std::optional<IdleStatus> status =
      read_idle_status(std::string_view(told->out).substr(line), std::strtoull(told->out.c_str(), nullptr, 10));
  if (status) return *std::move(status);
  return fail(ErrorCode::not_found, "nothing there tells whether it is in use", "gpustrap up idle-stop HOST");
}

}  // namespace

std::map<std::string, Result<IdleStatus>> use_of_machines(const std::string& state, const std::vector<Ec2Instance>& all) {
  std::vector<std::pair<std::string, std::future<Result<IdleStatus>>>> asked;
  for (const Ec2Instance& one : all) {
    const std::optional<InstanceRecord> record = load_instance(state, one.id);
    if (!record || one.state != "running" || one.address.empty()) continue;
    Result<SshTarget> target = target_of(one.address, record->user, record->identity);
    if (!target) continue;
    target->connect_timeout = target->greeting_timeout = kWithin;
    asked.emplace_back(one.id, std::async(std::launch::async, ask, *std::move(target)));
  }
  std::map<std::string, Result<IdleStatus>> use;
  for (auto& [id, answer] : asked) use.emplace(id, answer.get());
  return use;
}

std::string use_text(const Result<IdleStatus>& use) {
  if (!use) return use.error().code() == ErrorCode::not_found ? "no idle_stop" : "not reached";
  if (use->state == "busy" || !use->idle_for_s) return use->busy_with.empty() ? "busy" : "busy: " + use->busy_with;
  return use->state == "quiet" || use->state == "off" ? "idle " + idle_word(*use) : idle_word(*use);
}

}  // namespace gpustrap
