#include "agent/runner_process.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <exception>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "agent/base/file.h"
#include "agent/base/text.h"
#include "agent/control_socket.h"
#include "agent/gather_facts.h"
#include "agent/host_power.h"
#include "agent/identity.h"
#include "agent/log.h"
#include "agent/private_memory.h"
#include "agent/process_title.h"
#include "agent/protocol/json.h"
#include "agent/protocol/line.h"
#include "agent/resume_unit.h"
#include "agent/run_store.h"
#include "agent/run_units.h"
#include "agent/runner.h"

namespace gpustrap {
namespace {

constexpr auto kStartLimit = std::chrono::seconds(10);
/// Journals of older runs are removed when a new one begins.
constexpr std::size_t kRunsKept = 20;

/// Only root's own runs on a host with systemd can be taken up at boot.
bool can_resume_at_boot(const AgentPaths& paths) {
  return ::geteuid() == 0 && paths.state == system_paths().state && path_exists("/run/systemd/system");
}

void prepare_to_resume(const AgentPaths& paths) {
  if (!can_resume_at_boot(paths)) return;
  if (const Result<void> installed = ResumeUnit().install(); !installed)
    log_note("a restart of the host would end this run: " + installed.error().sentence());
}

/// When the run is over, nothing of it may start at the next boot, or be remembered by systemd. A run that one runner has seen through
/// without changing anything has left nothing there, and does not pay for the question.
void forget_resuming(const AgentPaths& paths, bool was_taken_up) {
  if (!can_resume_at_boot(paths)) return;
  const bool may_be_known = was_taken_up || ResumeUnit().is_there();
  if (const Result<void> removed = ResumeUnit().remove(); !removed) log_note(removed.error().sentence());
  if (may_be_known) forget_run_units();
}

Result<void> restart_and_resume(const AgentPaths& paths, const RebootWish& wish) {
  if (!can_resume_at_boot(paths) || !ResumeUnit().is_there()) {
    return fail(ErrorCode::unsupported, std::string(ResumeUnit::kName) + " could not be set up, so the run would not go on by itself",
                "look at " + paths.state + "/agent.log on the host");
  }
  return restart_host(wish.message);
}

ControlHandlers handlers_of(Runner* runner) {
  return {[runner](const std::string& by, bool now) { runner->cancel(by, now); },
          [runner](const SecretValues& values) { runner->take_secrets(values); }};
}

/// The runner is the last that should go when memory runs out; its steps put this back.
void lower_oom_score() {
  const UniqueFd file(::open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC));
  if (file.valid()) (void)write_all(file.get(), "-500");
}

volatile std::sig_atomic_t told_to_leave = 0;  ///< by which signal

/// systemd's own way of ending a scope, a service or a session must not end the runner before dpkg has come to its end.
void take_leave_signals() {
  struct sigaction action {};
  action.sa_handler = [](int number) { told_to_leave = number; };
  for (const int number : {SIGTERM, SIGINT, kLeaveSignal}) ::sigaction(number, &action, nullptr);
}

std::string error_line(const Error& error) {
  Json document;
  document["code"] = error_code_name(error.code());
  document["message"] = error.sentence();
  document["hint"] = error.hint();
  return to_line(document);
}

/// In a process that was forked for it: nothing of the agent that it was is kept, and nothing of that agent's ends is run.
[[noreturn]] void become_runner(const AgentPaths& paths, const std::string& run, const std::string& from, int ready, int shares,
                                const RunDescription* stored) {
  constexpr int kReady = 3, kShares = 4;
  const int null = ::open("/dev/null", O_RDWR);
  // By way of places above those that they get; a login may be allowed as few as 64 (limits.conf).
  constexpr int kClear = 16;
  const int moved = ::fcntl(ready, F_DUPFD, kClear);
  const int kept = shares < 0 ? -1 : ::fcntl(shares, F_DUPFD, kClear);
  if (moved < 0 || (shares >= 0 && kept < 0)) {
    Error why = errno_error(errno, "taking the runner's descriptors");
    (void)write_all(ready,
                    error_line(std::move(why).with_hint("`ulimit -n` of the login on the host is too low: see /etc/security/limits.conf")));
    ::_exit(1);
  }
  for (const int standard : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) ::dup2(null, standard);
  ::dup3(moved, kReady, O_CLOEXEC);
  if (kept >= 0) ::dup3(kept, kShares, O_CLOEXEC);
  ::close_range(kept < 0 ? kShares : kShares + 1, ~0U, 0);
  set_process_title("gpustrap-agent runner --run=" + run);
  int code = 1;
  try {
    open_log(paths.state + "/agent.log");
    code = runner_main(paths, run, from, kReady, kept < 0 ? -1 : kShares, stored);
  } catch (const std::exception& error) { log_note(fmt::format("run {} came to grief: {}", run, error.what())); }
  ::_exit(code);
}

}  // namespace

int runner_main(const AgentPaths& paths, const std::string& run, const std::string& from, int ready_fd, int shares,
                const RunDescription* stored) {
  UniqueFd ready(ready_fd);
  const UniqueFd controller(shares);
  if (controller.valid()) (void)::fcntl(shares, F_SETFD, FD_CLOEXEC);
  ::signal(SIGPIPE, SIG_IGN);
  ::signal(SIGHUP, SIG_IGN);
  take_leave_signals();
  const auto refuse = [&](const Error& error) {
    log_note("run " + run + " did not start: " + error.sentence());
    if (ready.valid()) (void)write_all(ready.get(), error_line(error));
    return 1;
  };
  Result<std::optional<RunLock>> lock = RunLock::take(paths, run, from);
  if (!lock) return refuse(lock.error());
  if (!lock->has_value()) return refuse({ErrorCode::busy, "another run is in progress"});
  // Behind the lock: what is read before may be another runner's work in progress, and done by now.
  const bool is_new = stored != nullptr && !path_exists(journal_path(paths, run));
  Result<RunDescription> description = is_new ? *stored : load_run(paths, run);
  if (!description) return refuse(description.error());
  if (description->history.finished) return refuse({ErrorCode::busy, "the run is over"});
  Result<Journal> journal = Journal::open(journal_path(paths, run));
  if (!journal) return refuse(journal.error());
  Result<ControlSocket> control = ControlSocket::listen(paths.socket());
  if (!control) return refuse(control.error());
  lower_oom_score();
  close_process_to_others();

  description->shares = shares;
  const bool was_taken_up = description->history.incarnations > 0;
  Runner* runner_pointer = nullptr;
  RunnerHooks hooks;
  hooks.on_event = [&](const std::string&) {
    // The first event is in the journal: whoever waits can begin to read it.
    if (ready.valid()) (void)write_all(ready.get(), "ok\n");
    ready.reset();
  };
  hooks.on_end = [&] { control->let_go(); };
  hooks.on_signal = [&](const std::string& line) { control->broadcast(line); };
  hooks.watched = [&](std::vector<int>& into) { control->descriptors(into); };
  hooks.on_readable = [&](int fd) { control->readable(fd, handlers_of(runner_pointer)); };
  hooks.before_first_change = [&](const std::vector<pid_t>& steps) {
    leave_login_session(run, steps);
    sync_run(paths, run);
    prepare_to_resume(paths);
  };
  hooks.reboot = [&](const RebootWish& wish) { return restart_and_resume(paths, wish); };
  hooks.is_shutting_down = host_is_shutting_down;
  hooks.is_told_to_leave = [] { return told_to_leave != 0; };
  Runner runner(std::move(*description), std::move(*journal), std::move(hooks));
  runner_pointer = &runner;
  const Facts facts = gather_facts();
  const Result<RunFinished> finished = runner.run(facts, identity_of_self());
  if (!finished) {
    log_note("run " + run + " broke off: " + finished.error().sentence());
    if (told_to_leave == 0) return refuse(finished.error());
    if (told_to_leave == kLeaveSignal) end_leftovers();  // systemd waits for all of the scope
    return 0;
  }
  release_leftovers();
  forget_resuming(paths, was_taken_up);
  prune_runs(paths, kRunsKept);
  return finished->end == RunFinished::End::ok ? 0 : 1;
}

Result<void> start_runner_process(const AgentPaths& paths, const std::string& run, const std::string& from, int shares,
                                  const RunDescription* stored) {
  Result<Pipe> ready = make_pipe();
  if (!ready) return fail(std::move(ready).error());
  const pid_t child = ::fork();
  if (child < 0) return fail(errno_error(errno, "starting the runner"));
  if (child == 0) {
    // A second fork leaves the runner to init, so that this agent need not wait for it.
    if (::setsid() < 0 || ::fork() != 0) ::_exit(0);
    // A copy of this process is there at once; a program that is started anew needs milliseconds until it knows what this one does.
    become_runner(paths, run, from, ready->write_end.get(), shares, stored);
  }
  ::waitpid(child, nullptr, 0);
  ready->write_end.reset();
  pollfd entry{ready->read_end.get(), POLLIN, 0};
  const auto limit = std::chrono::duration_cast<std::chrono::milliseconds>(kStartLimit).count();
  int polled = 0;
  do polled = ::poll(&entry, 1, static_cast<int>(limit));
  while (polled < 0 && errno == EINTR);
  if (polled == 0)
    return fail(ErrorCode::timeout, "the runner did not begin within 10 s", "look at " + paths.state + "/agent.log on the host");
  std::array<char, 4096> buffer{};
  const ssize_t got = ::read(ready->read_end.get(), buffer.data(), buffer.size());
  const std::string answer(buffer.data(), got > 0 ? static_cast<std::size_t>(got) : 0);
  if (answer == "ok\n") return {};
  if (Result<Json> error = parse_line(trim(answer)); error && error->contains("message")) {
    return fail(Error(error_code_from_name(error->value("code", "")), error->value("message", ""), error->value("hint", "")));
  }
  return fail(ErrorCode::internal, "the runner ended before it began", "look at " + paths.state + "/agent.log on the host");
}

Result<RunFinished> run_here(const AgentPaths& paths, const std::string& run, int out_fd, const SecretValues& secrets) {
  Result<RunDescription> description = load_run(paths, run);
  if (!description) return fail(std::move(description).error());
  Result<std::optional<RunLock>> lock = RunLock::take(paths, run, "standalone");
  if (!lock) return fail(std::move(lock).error());
  if (!lock->has_value()) {
    const std::optional<RunLock::Holder> holder = RunLock::holder(paths);
    return fail(ErrorCode::busy, fmt::format("run {} is in progress", holder ? holder->run : "of another agent"),
                "wait for it, or stop it with `gpustrap cancel`");
  }
  Result<Journal> journal = Journal::open(journal_path(paths, run));
  if (!journal) return fail(std::move(journal).error());
  Result<ControlSocket> control = ControlSocket::listen(paths.socket());
  if (!control) return fail(std::move(control).error());
  const bool was_taken_up = description->history.incarnations > 0;
  Runner* runner_pointer = nullptr;
  RunnerHooks hooks;
  // Nobody may be listening any more: the journal is what counts.
  hooks.on_event = [&](const std::string& line) { (void)write_all(out_fd, line); };
  hooks.on_signal = [&](const std::string& line) { control->broadcast(line); };
  hooks.watched = [&](std::vector<int>& into) { control->descriptors(into); };
  hooks.on_readable = [&](int fd) { control->readable(fd, handlers_of(runner_pointer)); };
  // Whoever started the agent by hand keeps it in their session; only a restart needs to be prepared for.
  hooks.before_first_change = [&](const std::vector<pid_t>&) {
    sync_run(paths, run);
    prepare_to_resume(paths);
  };
  hooks.reboot = [&](const RebootWish& wish) { return restart_and_resume(paths, wish); };
  hooks.is_shutting_down = host_is_shutting_down;
  take_leave_signals();
  hooks.is_told_to_leave = [] { return told_to_leave != 0; };
  Runner runner(std::move(*description), std::move(*journal), std::move(hooks));
  runner_pointer = &runner;
  runner.take_secrets(secrets);
  Result<RunFinished> finished = runner.run(gather_facts(), identity_of_self());
  if (finished) forget_resuming(paths, was_taken_up);
  return finished;
}

}  // namespace gpustrap
