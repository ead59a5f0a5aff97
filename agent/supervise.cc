#include "agent/supervise.h"

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "agent/base/file.h"
#include "agent/base/text.h"
#include "agent/base/unique_fd.h"
#include "agent/identity.h"
#include "agent/service_unit.h"

namespace gpustrap {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

/// The longest pause before a program that keeps ending is started again. One that ran for so long begins with the unit's own pause again.
constexpr auto kLongestPause = std::chrono::seconds(60);
/// What a killed supervisor has left behind has so long to end by itself.
constexpr auto kOrphanLimit = std::chrono::seconds(5);
/// Then the log becomes NAME.log.1: the newest lines are always there, and both together are at most twice this.
constexpr std::size_t kLogLimit = std::size_t{4} << 20U;

struct Files {
  explicit Files(const std::string& file) : unit(file), stem(file.substr(0, file.rfind('.'))) {}
  std::string unit, stem;
  [[nodiscard]] std::string status() const { return stem + ".status"; }
  [[nodiscard]] std::string log() const { return stem + ".log"; }
  [[nodiscard]] std::string name() const { return unit.substr(unit.rfind('/') + 1); }
  /// Stands in the environment of all that the service starts: so they are known after the supervisor was killed, too.
  [[nodiscard]] std::string mark() const { return "GPUSTRAP_SERVICE=" + unit; }
};

/// The fields of /proc/PID/stat from the state on: [1] the parent, [19] the start time. Empty where the process has ended.
std::vector<std::string> stat_of(pid_t pid) {
  const Result<std::string> text = read_file(fmt::format("/proc/{}/stat", pid));
  const std::size_t end = text ? text->rfind(')') : std::string::npos;
  if (end == std::string::npos) return {};
  std::vector<std::string> fields = words(std::string_view(*text).substr(end + 1));
  if (fields.size() < 20 || fields[0] == "Z" || fields[0] == "X") fields.clear();
  return fields;
}

/// The process that this status names, where that still runs and is not another one of the same number; 0 else.
pid_t supervisor_in(const std::string& status) {
  const std::vector<std::string> named = words(status.substr(0, status.find('\n')));
  if (named.size() != 2) return 0;
  const pid_t pid = std::atoi(named[0].c_str());
  const std::vector<std::string> fields = pid > 1 ? stat_of(pid) : std::vector<std::string>();
  return !fields.empty() && fields[19] == named[1] ? pid : 0;
}

/// Sends `signal` to what belongs to the service: what was left to this process, and whatever has its mark. How many there are.
int signal_members(const std::string& mark, int signal) {
  int found = 0;
  DIR* processes = ::opendir("/proc");
  while (const dirent* entry = processes == nullptr ? nullptr : ::readdir(processes)) {
    const pid_t pid = std::atoi(entry->d_name);
    if (pid <= 1 || pid == ::getpid()) continue;
    const std::vector<std::string> fields = stat_of(pid);
    if (fields.empty()) continue;
    bool is_member = std::atoi(fields[1].c_str()) == ::getpid();
    if (!is_member) {
      const Result<std::string> environment = read_file(fmt::format("/proc/{}/environ", pid));
      is_member = environment && ('\0' + *environment).find('\0' + mark + '\0') != std::string::npos;
    }
    if (!is_member) continue;
    ++found;
    ::kill(pid, signal);
  }
  if (processes != nullptr) ::closedir(processes);
  return found;
}

/// What the program prints, in a file that does not grow for ever.
class Output {
 public:
  explicit Output(const Files& files) : files_(files) {
    Result<Pipe> made = make_pipe();
    if (made) pipe_ = std::move(*made);
    (void)set_nonblocking(pipe_.read_end.get());
    open();
  }
  [[nodiscard]] int source() const { return pipe_.read_end.get(); }
  [[nodiscard]] int sink() const { return pipe_.write_end.get(); }

  /// Keeps what the pipe holds now.
  void drain() {
    std::array<char, 16 * 1024> buffer{};
    // Not until it is empty: one that prints without end must not keep its supervisor from all else.
    for (int turn = 0; turn < 16; ++turn) {
      const ssize_t got = ::read(source(), buffer.data(), buffer.size());
      if (got <= 0) return;
      keep(std::string_view(buffer.data(), static_cast<std::size_t>(got)));
    }
  }
  void note(const std::string& line) { keep(files_.name() + ": " + line + "\n"); }

 private:
  void open() {
    file_ = UniqueFd(::open(files_.log().c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600));
    struct stat info {};
    size_ = ::fstat(file_.get(), &info) == 0 ? static_cast<std::size_t>(info.st_size) : 0;
  }
  void keep(std::string_view bytes) {
    // A full disk stops neither the program nor its supervisor.
    (void)write_all(file_.get(), bytes);
    size_ += bytes.size();
    if (size_ < kLogLimit) return;
    ::rename(files_.log().c_str(), (files_.log() + ".1").c_str());
    open();
  }

  const Files& files_;
  Pipe pipe_;
  UniqueFd file_;
  std::size_t size_ = 0;
};

/// Ends what belongs to the service: asks, and kills what is left after `limit`. What does not even die is given up.
void end_members(const std::string& mark, milliseconds limit, Output* output) {
  const Clock::time_point late = Clock::now() + limit;
  int left = signal_members(mark, SIGTERM);
  while (left > 0 && Clock::now() < late + kOrphanLimit) {
    if (output != nullptr) output->drain();
    ::poll(nullptr, 0, 50);
    while (::waitpid(-1, nullptr, WNOHANG) > 0) {}
    left = signal_members(mark, Clock::now() < late ? 0 : SIGKILL);
  }
}

/// One supervisor: the process that keeps a service up.
class Supervisor {
 public:
  Supervisor(const Files& files, const ServiceUnit& unit, const Identity& user) : files_(files), unit_(unit), user_(user), output_(files) {
    // Whatever a program of the service leaves behind becomes a child of this process, and ends with the service.
    ::prctl(PR_SET_CHILD_SUBREAPER, 1);
    sigset_t watched;
    sigemptyset(&watched);
    for (const int number : {SIGCHLD, SIGTERM, SIGINT}) sigaddset(&watched, number);
    ::sigprocmask(SIG_SETMASK, &watched, nullptr);
    for (const int number : {SIGHUP, SIGPIPE}) ::signal(number, SIG_IGN);
    signals_ = UniqueFd(::signalfd(-1, &watched, SFD_CLOEXEC));
  }

  /// Until the service is over. `ready` is closed once it runs.
  void run(UniqueFd ready) {
    milliseconds pause = unit_.pause;
    while (true) {
      const Clock::time_point began = Clock::now();
      const pid_t main = spawn();
      report("active", "running", main);
      if (ready.valid()) (void)write_all(ready.get(), "k");
      ready.reset();
      int status = main < 0 ? 0x100 : 0;  // no process could be made: as if it had ended with 1
      const bool asked = wait(main, {}, status);
      end_members(files_.mark(), unit_.patience, &output_);
      output_.drain();
      if (asked) return report("inactive", "dead", 0);
      // What systemd calls a clean end: a signal that asks for it is one.
      const int signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
      const bool clean = signal == 0 ? WEXITSTATUS(status) == 0 : signal == SIGTERM || signal == SIGINT || signal == SIGHUP;
      const bool again = unit_.restart == ServiceUnit::Restart::always || (unit_.restart == ServiceUnit::Restart::on_failure && !clean);
      if (Clock::now() - began >= kLongestPause) pause = unit_.pause;
      output_.note(fmt::format("ended by {} {}{}", signal == 0 ? "itself, exit" : "signal", signal == 0 ? WEXITSTATUS(status) : signal,
                               again ? ", starts again in " + human_duration(pause) : ""));
      if (!again) return clean ? report("inactive", "dead", 0) : report("failed", "failed", 0);
      report("activating", "auto-restart", 0);
      if (wait(0, Clock::now() + pause, status)) return report("inactive", "dead", 0);
      ++restarts_;
      pause = std::min<milliseconds>(std::max<milliseconds>(2 * pause, std::chrono::seconds(1)),
                                     std::max<milliseconds>(kLongestPause, unit_.pause));
    }
  }

 private:
  /// In the words of `systemctl show`.
  void report(const char* active, const char* sub, pid_t main) const {
    std::array<char, 40> now{};
    const std::time_t seconds = std::time(nullptr);
    std::tm time{};
    std::strftime(now.data(), now.size(), "%a %Y-%m-%d %H:%M:%S UTC", ::gmtime_r(&seconds, &time));
    const std::vector<std::string> self = stat_of(::getpid());
    (void)write_file_atomically(files_.status(), fmt::format("{} {}\nActiveState={}\nSubState={}\nMainPID={}\nNRestarts={}\n{}={}\n",
                                                             ::getpid(), self.empty() ? "" : self[19], active, sub, main, restarts_,
                                                             main > 0 ? "ActiveEnterTimestamp" : "InactiveEnterTimestamp", now.data()));
  }

  /// Waits for the end of `main` and its status, or, where that is none, for the time. True where it was asked to stop.
  bool wait(pid_t main, Clock::time_point until, int& status) {
    while (true) {
      bool ended = false;
      int how = 0;
      while (const pid_t child = ::waitpid(-1, &how, WNOHANG)) {
        if (child < 0) break;
        if (child == main) status = how, ended = true;
      }
      output_.drain();
      const auto left = std::chrono::ceil<milliseconds>(until - Clock::now()).count();
      if (ended || (main <= 0 && left <= 0)) return false;
      std::array<pollfd, 2> sources = {pollfd{signals_.get(), POLLIN, 0}, pollfd{output_.source(), POLLIN, 0}};
      ::poll(sources.data(), sources.size(), main > 0 ? -1 : static_cast<int>(left));
      signalfd_siginfo info{};
      if (sources[0].revents != 0 && ::read(signals_.get(), &info, sizeof info) == sizeof info && info.ssi_signo != SIGCHLD) return true;
    }
  }

  [[nodiscard]] pid_t spawn() const {
    // As systemd does: nothing of the environment that this was started from.
    std::vector<std::string> environment = {"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                                            "LANG=C.UTF-8",
                                            "HOME=" + user_.home,
                                            "USER=" + user_.name,
                                            "LOGNAME=" + user_.name,
                                            "SHELL=" + user_.shell,
                                            files_.mark()};
    const pid_t supervisor = ::getpid();
    const pid_t child = ::fork();
    if (child != 0) return child;
    ::clearenv();
    environment.insert(environment.end(), unit_.environment.begin(), unit_.environment.end());
    for (std::string& entry : environment) ::putenv(entry.data());
    std::vector<char*> argv;
    for (const std::string& word : unit_.command) argv.push_back(const_cast<char*>(word.c_str()));
    argv.push_back(nullptr);
    ::setsid();
    ::dup2(output_.sink(), STDOUT_FILENO);
    ::dup2(output_.sink(), STDERR_FILENO);
    for (const int number : {SIGHUP, SIGPIPE}) ::signal(number, SIG_DFL);
    sigset_t none;
    sigemptyset(&none);
    ::sigprocmask(SIG_SETMASK, &none, nullptr);
    const std::string folder = unit_.directory == "~" ? user_.home : unit_.directory.empty() ? "/" : unit_.directory;
    std::string why;
    if (const Result<void> became = become(user_); !became) why = became.error().sentence();
    // After the change of user, which would clear it: a server without its supervisor would keep the port.
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (::getppid() != supervisor) ::_exit(1);
    if (why.empty() && ::chdir(folder.c_str()) != 0) why = folder + ": " + std::strerror(errno);
    if (why.empty()) {
      ::execvp(argv[0], argv.data());
      why = unit_.command[0] + ": " + std::strerror(errno);
    }
    (void)write_all(STDERR_FILENO, files_.name() + ": Failed to start " + why + "\n");
    ::_exit(203);  // systemd's number for it
  }

  const Files& files_;
  const ServiceUnit& unit_;
  const Identity& user_;
  Output output_;
  UniqueFd signals_;
  std::uint64_t restarts_ = 0;
};

/// A process that belongs to no session keeps the service up; returns once the program runs.
Result<void> start(const Files& files, const ServiceUnit& unit, UniqueFd lock) {
  Result<Identity> user = unit.user.empty() ? Result<Identity>(identity_of_self()) : identity_of_name(unit.user);
  if (!user) return fail(std::move(user).error().in("looking for whom " + files.name() + " runs as"));
  Result<Pipe> ready = make_pipe();
  if (!ready) return fail(std::move(ready).error());
  const pid_t child = ::fork();
  if (child < 0) return fail(errno_error(errno, "starting the supervisor of " + files.name()));
  if (child == 0) {
    // A second fork leaves the supervisor to init.
    if (::setsid() < 0 || ::fork() != 0) ::_exit(0);
    lock.reset();
    if (ready->write_end.get() != 3) ::dup3(ready->write_end.get(), 3, O_CLOEXEC);
    ::close_range(4, ~0U, 0);
    const int null = ::open("/dev/null", O_RDWR);
    for (const int standard : {0, 1, 2}) ::dup2(null, standard);
    ::close(null);
    // A step's variables may be secrets, and this process goes on without a program of its own: /proc/PID/environ would keep them.
    for (char** entry = environ; *entry != nullptr; ++entry) std::fill_n(*entry, std::strlen(*entry), '\0');
    ::umask(022);
    if (::chdir("/") != 0) ::_exit(1);
    Supervisor(files, unit, *user).run(UniqueFd(3));
    ::_exit(0);
  }
  ::waitpid(child, nullptr, 0);
  ready->write_end.reset();
  char answer = 0;
  if (::read(ready->read_end.get(), &answer, 1) == 1) return {};
  return fail(ErrorCode::internal, "the supervisor of " + files.name() + " ended before it began", "look at " + files.log());
}

}  // namespace

Result<std::string> supervise(const std::string& verb, const std::string& unit) {
  const Files files(unit);
  const std::string status = read_file(files.status()).value_or("");
  const pid_t running = supervisor_in(status);
  if (verb == "show") {
    // How it ended is true after its supervisor's end too; that it runs is not.
    const bool known = running != 0 || status.find("ActiveState=failed") != std::string::npos;
    return std::string("Type=simple\nLoadState=") + (path_exists(unit) ? "loaded\n" : "not-found\n") +
           (known ? status.substr(status.find('\n') + 1) : "ActiveState=inactive\nSubState=dead\n");
  }
  // One at a time: two starts at once would be two supervisors.
  UniqueFd lock(::open(parent_of(unit).c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!lock.valid() || ::flock(lock.get(), LOCK_EX) != 0) return fail(errno_error(errno, "opening " + parent_of(unit)));
  ServiceUnit wanted;
  if (verb != "stop") {
    const Result<std::string> text = read_file(unit);
    if (!text) return fail(text.error());
    Result<ServiceUnit> read = read_service_unit(*text);
    if (!read) return fail(std::move(read).error().in(files.name()));
    wanted = *std::move(read);
  }
  if (verb == "start" && running != 0) return std::string();
  if (running != 0 && ::kill(running, SIGTERM) != 0 && errno != ESRCH) return fail(errno_error(errno, "stopping " + files.name()));
  while (running != 0 && supervisor_in(status) != 0) ::poll(nullptr, 0, 50);
  end_members(files.mark(), kOrphanLimit, nullptr);
  if (verb == "stop") return std::string();
  if (Result<void> started = start(files, wanted, std::move(lock)); !started) return fail(std::move(started).error());
  return std::string();
}

}  // namespace gpustrap
