#include "agent/step_process.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <utility>

#include <fmt/format.h>

#include "agent/base/file.h"
#include "agent/base/pipe_size.h"
#include "agent/base/text.h"
#include "agent/fetch.h"
#include "agent/identity.h"
#include "agent/protocol/json.h"
#include "agent/protocol/line.h"
#include "agent/protocol/placeholders.h"
#include "agent/real_host.h"
#include "agent/transfer_rate.h"

namespace gpustrap {
namespace {

/// The child's end of the record pipe.
class RecordLog : public StepLog {
 public:
  explicit RecordLog(int fd) : fd_(fd) {}
  void say(std::string_view line) override {
    Json record;
    record["said"] = std::string(line);
    send(record);
  }
  void progress(std::string_view text, std::uint64_t done, std::uint64_t total) override {
    send_progress(text, done, total, rate_.of(text, done, TransferRate::Clock::now()));
  }
  void share(std::string_view text, double part) override {
    send_progress(text, static_cast<std::uint64_t>(std::clamp(part, 0.0, 1.0) * 1000), 1000, 0);
  }
  void downloaded(std::string_view shown_url, std::uint64_t bytes, std::chrono::milliseconds elapsed) override {
    Json record;
    record["downloaded"] = std::string(shown_url);
    record["bytes"] = bytes;
    record["elapsed_ms"] = elapsed.count();
    send(record);
  }
  void wants_file(const std::string& sha256, std::uint64_t have) { send(Json{{"wanted", sha256}, {"have", have}}); }
  void is_fetched() { send(Json{{"fetched", true}}); }
  void stands_still(bool is_so) { send(Json{{"stands_still", is_so}}); }
  void checked(const StepChecked& checked) {
    Json record;
    record["checked"] = checked.reason;
    record["satisfied"] = checked.satisfied;
    send(record);
  }
  void must_finish() override;
  void wants_reboot(const RebootWish& wish) {
    Json record;
    record["reboot"] = wish.reason;
    record["message"] = wish.message;
    record["limit_ms"] = wish.limit.count();
    send(record);
  }
  void finished(const StepFinished& finished) {
    Json record;
    record["finished"] = outcome_name(finished.outcome);
    record["reason"] = finished.reason;
    if (finished.error) {
      record["error"] = {
          {"code", error_code_name(finished.error->code)}, {"message", finished.error->message}, {"hint", finished.error->hint}};
    }
    send(record);
  }

 private:
  void send_progress(std::string_view text, std::uint64_t done, std::uint64_t total, std::uint64_t bytes_per_s) {
    Json record;
    record["progress"] = std::string(text);
    record["done"] = done;
    record["total"] = total;
    record["bytes_per_s"] = bytes_per_s;
    send(record);
  }
  void send(const Json& record) {
    // A runner that is gone takes this process with it; there is nobody to tell.
    const Result<void> sent = write_all(fd_, to_line(record));
    (void)sent;
  }
  int fd_;
  bool must_finish_ = false;
  TransferRate rate_;
};

constexpr int kRecordFd = 3;
constexpr int kGoAheadFd = 4;
constexpr int kSharesFd = 5;

/// The runner first writes down that the step is about to change something, and makes sure that the run would survive it.
void await_go_ahead() {
  char byte = 0;
  ssize_t got = 0;
  do got = ::read(kGoAheadFd, &byte, 1);
  while (got < 0 && errno == EINTR);
  if (got != 1) ::_exit(1);  // the runner is gone
}

void RecordLog::must_finish() {
  if (must_finish_) return;
  must_finish_ = true;
  Json record;
  record["must_finish"] = true;
  send(record);
  await_go_ahead();  // a runner that is already ending this process does not answer any more
}

using Environment = std::vector<std::pair<std::string, std::string>>;

/// What a step with secrets in it would change is not shown: a diff shows a text in pieces, which no mask finds again.
class UnshownStep : public Step {
 public:
  explicit UnshownStep(std::unique_ptr<Step> step) : step_(std::move(step)) {}
  [[nodiscard]] Result<StepState> check(const Host& host) const override {
    Result<StepState> state = step_->check(host);
    if (state) state->changes.clear();
    return state;
  }
  Result<void> apply(Host& host, StepLog& log) override { return step_->apply(host, log); }
  [[nodiscard]] bool can_verify() const override { return step_->can_verify(); }

 private:
  std::unique_ptr<Step> step_;
};

/// Fills in what the runner has kept out of the plan.
class SecretFiller {
 public:
  explicit SecretFiller(SecretValues values) : values_(std::move(values)) {}

  [[nodiscard]] Environment fill(const Environment& items) const {
    Environment filled;
    for (const auto& [name, text] : items) {
      Json value = text;
      bool is_whole = true;
      std::vector<FieldProblem> problems;
      fill_placeholders(value, "", lookup(is_whole), problems);
      if (is_whole) filled.emplace_back(name, value.get<std::string>());
    }
    return filled;
  }
  [[nodiscard]] Masking masking() const {
    Masking masking;
    for (const auto& [name, value] : values_) masking.add(value);
    return masking;
  }
  [[nodiscard]] StepSpec fill(StepKind kind, Json value) const {
    bool is_whole = true;
    std::vector<FieldProblem> problems;
    fill_step_placeholders(kind, value, "", lookup(is_whole), problems);
    return read_step_spec(kind, value, "", Placeholders::refused, problems);
  }

 private:
  [[nodiscard]] PlaceholderLookup lookup(bool& is_whole) const {
    return [this, &is_whole](const std::string& name) -> Result<std::optional<Json>> {
      const auto found = name.starts_with("secrets.") ? values_.find(name.substr(8)) : values_.end();
      if (found == values_.end()) is_whole = false;
      return found == values_.end() ? std::optional<Json>() : std::optional<Json>(found->second);
    };
  }
  SecretValues values_;
};

std::unique_ptr<Step> make_step(const PlannedStep& step, const SecretFiller& secrets) {
  if (!step.with_secrets) return step.type->make(step.spec);
  return std::make_unique<UnshownStep>(step.type->make(secrets.fill(step.entry.kind, *step.with_secrets)));
}

/// What the step will ask for goes to where it will look for it. An earlier run's part that lies at the target is gone on with by the step
/// itself, and what is there whole is not fetched at all. What goes wrong is said, and left to the step.
void bring_ahead(const Step& step, StepKind kind, RealHost& host, RecordLog& log) {
  const Result<StepState> state = step.check(host);
  if (!state || state->is == StepState::Is::satisfied) return;
  const std::vector<FetchRequest> all = step.downloads(host);
  if (kind == StepKind::pip && !all.empty()) {
    if (const Result<void> noted = host.note_ahead(all); !noted) return log.say(noted.error().sentence() + "; left to the step");
    (void)host.fetch_many_ahead(all, log);  // what does not come is said
    return;
  }
  // One that a step may wait for, or many that it takes as far as they have come.
  const auto begun = [&] {
    if (all.size() == 1) log.is_fetched();
  };
  for (const FetchRequest& wanted : all) {
    const auto there = [&](const std::string& path) {
      const Result<std::optional<FileInfo>> info = host.info(path);
      return !info || *info;
    };
    if (wanted.urls.empty() || there(wanted.to) || there(part_of(wanted.to))) continue;
    if (const Result<void> fetched = host.fetch_ahead(wanted, log, begun); !fetched)
      return log.say(fetched.error().sentence() + "; left to the step");
  }
}

void forbid_core_files() {
  const rlimit none{0, 0};
  ::setrlimit(RLIMIT_CORE, &none);
}

[[noreturn]] void run_in_child(const PlannedStep& step, StepWork work, const Facts& facts, const Identity& login, const Mirror& mirror,
                               SecretStore& given) {
  RecordLog log(kRecordFd);
  StepFinished finished;
  finished.outcome = Outcome::failed;
  try {
    if (Result<void> became = become(step.identity); !became) {
      finished.error = error_text(became.error());
    } else {
      ::umask(022);
      if (::chdir(step.identity.home.c_str()) != 0 && ::chdir("/") != 0) std::perror("chdir");
      // PR_SET_PDEATHSIG is cleared when the uid changes.
      ::prctl(PR_SET_PDEATHSIG, SIGKILL);
      const SecretFiller secrets(given.pick(step.secrets));
      given.clear();
      RealHost host(facts, step.identity, login, step.secrets.empty() ? step.entry.env.items : secrets.fill(step.entry.env.items), mirror);
      host.set_asked_on_boot(step.asked_on_boot);
      host.set_ahead(step.ahead);
      host.set_python_to_come(step.python_to_come);
      if (step.shares >= 0)
        host.set_shared(kSharesFd, [&](const std::string& sha256, std::uint64_t have) { log.wants_file(sha256, have); });
      if (step.with_secrets) host.make_new_files_private();
      host.set_masking(secrets.masking());
      const std::unique_ptr<Step> made = make_step(step, secrets);
      if (work == StepWork::fetch_ahead) {
        bring_ahead(*made, step.entry.kind, host, log);
        ::_exit(0);
      }
      host.set_stands_still([&](bool is_so) { log.stands_still(is_so); });
      finished = perform_step(*made, step.entry.id, work, step.forced ? IfSatisfied::act : IfSatisfied::leave, host, log,
                              [&](const StepChecked& checked) {
                                log.checked(checked);
                                if (!checked.satisfied && work != StepWork::look) await_go_ahead();
                              });
      if (host.reboot_wish() && finished.outcome == Outcome::changed) {
        log.wants_reboot(*host.reboot_wish());
        ::_exit(0);
      }
    }
  } catch (const std::exception& error) {
    finished.error =
        ErrorText{ErrorCode::internal, fmt::format("a defect in gpustrap: {}", error.what()), "please report it with the run's log"};
  }
  log.finished(finished);
  ::_exit(finished.outcome == Outcome::failed ? 1 : 0);
}

}  // namespace

void close_descriptors_from(int first) {
  if (::close_range(static_cast<unsigned>(first), ~0U, 0) == 0) return;
  rlimit limit{};
  const int last = ::getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < 65536 ? static_cast<int>(limit.rlim_cur) : 65536;
  for (int fd = first; fd < last; ++fd) ::close(fd);
}

void begin_step_process(pid_t runner) {
  ::setpgid(0, 0);
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (::getppid() != runner) ::_exit(1);
  sigset_t none;
  sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  for (const int number : {SIGTERM, SIGHUP, SIGINT, SIGCHLD, SIGURG}) ::signal(number, SIG_DFL);
  ::signal(SIGPIPE, SIG_IGN);
  // The runner lowers its own chance of being killed when memory runs out; what steps run must not inherit that.
  const UniqueFd file(::open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC));
  if (file.valid()) (void)write_all(file.get(), "0");
}

StepFinished perform_step(Step& step, const std::string& id, StepWork work, IfSatisfied if_satisfied, Host& host, StepLog& log,
                          const std::function<void(const StepChecked&)>& report) {
  StepFinished finished;
  finished.step = id;
  const auto failed = [&](Error error) {
    finished.outcome = Outcome::failed;
    finished.reason = error.sentence();
    finished.error = error_text(error);
    return finished;
  };
  const Host& look_only = host;
  if (work == StepWork::done_before && !step.can_verify()) {
    finished.outcome = Outcome::unchanged;
    finished.reason = "it has run in this run already";
    report({id, true, finished.reason});
    return finished;
  }
  Result<StepState> before = step.check(look_only);
  if (!before) return failed(Error(before.error()).in("checking"));
  if (if_satisfied == IfSatisfied::act && work != StepWork::done_before && before->is == StepState::Is::satisfied) {
    before->is = StepState::Is::unsatisfied;
    before->reason = "forced; it was: " + before->reason;
  }
  finished.reason = before->reason;
  report({id, before->is == StepState::Is::satisfied, before->reason});
  if (before->is == StepState::Is::satisfied) {
    finished.outcome = Outcome::unchanged;
    return finished;
  }
  if (work == StepWork::look) {
    finished.outcome = before->is == StepState::Is::unknown ? Outcome::unknown : Outcome::would_change;
    for (const std::string& text : {before->changes, step.planned(look_only)}) {
      if (!text.empty()) log.say(text);
    }
    return finished;
  }
  if (!before->changes.empty()) log.say(before->changes);
  if (Result<void> applied = step.apply(host, log); !applied) return failed(std::move(applied).error());
  finished.outcome = Outcome::changed;
  if (!step.can_verify() || host.awaits_reboot()) return finished;
  const Result<StepState> after = step.check(look_only);
  if (!after) return failed(Error(after.error()).in("verifying"));
  if (after->is != StepState::Is::satisfied) {
    return failed(Error(ErrorCode::command, fmt::format("it was applied without an error, but: {}", after->reason),
                        "look at the step's output for what went wrong"));
  }
  finished.reason = after->reason;
  return finished;
}

Result<StepRecord> step_record_from_line(std::string_view line, const std::string& step) {
  Result<Json> document = parse_line(line);
  if (!document) return fail(std::move(document).error());
  try {
    if (document->contains("said")) return StepRecord{StepSaid{document->at("said").get<std::string>()}};
    if (document->contains("progress")) {
      return StepRecord{Progress{step, document->at("progress").get<std::string>(), document->at("done").get<std::uint64_t>(),
                                 document->at("total").get<std::uint64_t>(), document->at("bytes_per_s").get<std::uint64_t>()}};
    }
    if (document->contains("wanted"))
      return StepRecord{FileWanted{step, document->at("wanted").get<std::string>(), document->at("have").get<std::uint64_t>()}};
    if (document->contains("fetched")) return StepRecord{StepIsFetched{}};
    if (document->contains("stands_still")) return StepRecord{StepStandsStill{document->at("stands_still").get<bool>()}};
    if (document->contains("downloaded")) {
      return StepRecord{Downloaded{step, document->at("downloaded").get<std::string>(), document->at("bytes").get<std::uint64_t>(),
                                   std::chrono::milliseconds(document->at("elapsed_ms").get<std::int64_t>()), false}};
    }
    if (document->contains("must_finish")) return StepRecord{StepMustFinish{}};
    if (document->contains("checked")) {
      return StepRecord{StepChecked{step, document->at("satisfied").get<bool>(), document->at("checked").get<std::string>()}};
    }
    if (document->contains("reboot")) {
      return StepRecord{RebootWish{document->at("reboot").get<std::string>(), document->at("message").get<std::string>(),
                                   std::chrono::milliseconds(document->at("limit_ms").get<std::int64_t>())}};
    }
    StepFinished finished;
    finished.step = step;
    const std::string outcome = document->at("finished").get<std::string>();
    finished.outcome = Outcome::failed;
    for (const Outcome known : {Outcome::unchanged, Outcome::changed, Outcome::would_change, Outcome::unknown, Outcome::skipped}) {
      if (outcome_name(known) == outcome) finished.outcome = known;
    }
    finished.reason = document->at("reason").get<std::string>();
    if (const auto error = document->find("error"); error != document->end()) {
      finished.error = ErrorText{error_code_from_name(error->at("code").get<std::string>()), error->at("message").get<std::string>(),
                                 error->at("hint").get<std::string>()};
    }
    return StepRecord{std::move(finished)};
  } catch (const Json::exception& error) {
    return fail(ErrorCode::internal, fmt::format("a step's process said something odd: {}", error.what()));
  }
}

Result<StepProcess> start_step_process(const PlannedStep& step, StepWork work, const Facts& facts, const Identity& login,
                                       const Mirror& mirror, SecretStore& secrets) {
  Result<Pipe> output = make_pipe();
  if (!output) return fail(std::move(output).error());
  Result<Pipe> errors = make_pipe();
  if (!errors) return fail(std::move(errors).error());
  Result<Pipe> records = make_pipe();
  if (!records) return fail(std::move(records).error());
  Result<Pipe> go_ahead = make_pipe();
  if (!go_ahead) return fail(std::move(go_ahead).error());
  hold_more(output->write_end.get());
  const UniqueFd null(::open("/dev/null", O_RDONLY));
  if (!null.valid()) return fail(errno_error(errno, "opening /dev/null"));
  const pid_t runner = ::getpid();
  const pid_t pid = ::fork();
  if (pid < 0) return fail(errno_error(errno, "starting the step's process"));
  if (pid == 0) {
    begin_step_process(runner);
    // A program that crashes with a secret in its environment must not leave it in a core file.
    if (!step.secrets.empty()) forbid_core_files();
    // The record pipe first moves out of the way of 0..2, where any of these may lie.
    constexpr int kClear = 16;  // above the places that they get; a login may be allowed as few as 64 descriptors
    const int record = ::fcntl(records->write_end.get(), F_DUPFD_CLOEXEC, kClear);
    const int out = ::fcntl(output->write_end.get(), F_DUPFD_CLOEXEC, kClear);
    const int err = ::fcntl(errors->write_end.get(), F_DUPFD_CLOEXEC, kClear);
    const int go = ::fcntl(go_ahead->read_end.get(), F_DUPFD_CLOEXEC, kClear);
    const int shares = step.shares < 0 ? -1 : ::fcntl(step.shares, F_DUPFD_CLOEXEC, kClear);
    if (record < 0 || out < 0 || err < 0 || go < 0) ::_exit(1);
    ::dup2(null.get(), STDIN_FILENO);
    ::dup2(out, STDOUT_FILENO);
    ::dup2(err, STDERR_FILENO);
    ::dup3(record, kRecordFd, O_CLOEXEC);
    ::dup3(go, kGoAheadFd, O_CLOEXEC);
    if (shares >= 0) ::dup3(shares, kSharesFd, O_CLOEXEC);
    close_descriptors_from(shares < 0 ? kSharesFd : kSharesFd + 1);
    run_in_child(step, work, facts, login, mirror, secrets);
  }
  ::setpgid(pid, pid);
  StepProcess process;
  process.pid = pid;
  process.output = std::move(output->read_end);
  process.errors = std::move(errors->read_end);
  process.records = std::move(records->read_end);
  process.go_ahead = std::move(go_ahead->write_end);
  for (const int fd : {process.output.get(), process.errors.get(), process.records.get()}) {
    if (Result<void> set = set_nonblocking(fd); !set) return fail(std::move(set).error());
  }
  return process;
}

bool await_end(std::vector<pid_t>& pids, std::chrono::milliseconds limit) {
  const auto deadline = std::chrono::steady_clock::now() + limit;
  while (true) {
    std::erase_if(pids, [](pid_t pid) {
      const pid_t ended = ::waitpid(pid, nullptr, WNOHANG);
      return ended == pid || (ended < 0 && errno == ECHILD);
    });
    if (pids.empty()) return true;
    if (std::chrono::steady_clock::now() >= deadline) return false;
    ::poll(nullptr, 0, 1);
  }
}

void await_end_unheard(StepProcess& process) {
  // It may be about to ask whether it is known that it must finish.
  (void)write_all(process.go_ahead.get(), "+");
  std::array<char, 16 * 1024> buffer{};
  while (::waitpid(process.pid, nullptr, WNOHANG) == 0) {
    std::array<pollfd, 3> polled = {pollfd{process.output.get(), POLLIN, 0}, pollfd{process.errors.get(), POLLIN, 0},
                                    pollfd{process.records.get(), POLLIN, 0}};
    // Half a second: it may end while something that it started keeps its pipes.
    if (::poll(polled.data(), polled.size(), 500) < 0 && errno != EINTR) break;
    for (UniqueFd* unread : {&process.output, &process.errors, &process.records}) {
      if (unread->valid() && ::read(unread->get(), buffer.data(), buffer.size()) == 0) unread->reset();
    }
  }
}

}  // namespace gpustrap
