#include "agent/base/subprocess.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "agent/base/file.h"
#include "agent/base/pipe_size.h"
#include "agent/base/unique_fd.h"

namespace gpustrap {
namespace {

using Clock = std::chrono::steady_clock;

/// How long the group has between SIGTERM and SIGKILL.
constexpr auto kGrace = std::chrono::seconds(2);

/// How long the output of a grandchild that writes on and on is still read once the child has ended.
constexpr auto kLastWords = std::chrono::seconds(1);
/// How long one that was killed is waited for. It does not end while the kernel waits for a device, as below a driver that hangs.
constexpr auto kAbandonedAfter = std::chrono::seconds(3);

std::vector<std::string> environment_of(const Subprocess& subprocess) {
  std::vector<std::pair<std::string, std::string>> pairs;
  if (subprocess.clean_env) {
    pairs = *subprocess.clean_env;
  } else {
    for (char** entry = environ; *entry != nullptr; ++entry) {
      const std::string_view text = *entry;
      const std::size_t equals = text.find('=');
      if (equals != std::string_view::npos) pairs.emplace_back(text.substr(0, equals), text.substr(equals + 1));
    }
  }
  for (const auto& [name, value] : subprocess.env) {
    const auto known = std::find_if(pairs.begin(), pairs.end(), [&name = name](const auto& pair) { return pair.first == name; });
    if (known == pairs.end())
      pairs.emplace_back(name, value);
    else
      known->second = value;
  }
  std::vector<std::string> environment;
  for (const auto& [name, value] : pairs) environment.push_back(name + "=" + value);
  return environment;
}

/// The program's path by the child's own PATH; argv[0] itself where nothing is found, so that exec says what is wrong.
std::string program_of(const Subprocess& subprocess, const std::vector<std::string>& environment) {
  const std::string& name = subprocess.argv.front();
  if (name.find('/') != std::string::npos) return name;
  std::string path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
  for (const std::string& entry : environment) {
    if (entry.starts_with("PATH=")) path = entry.substr(5);
  }
  std::size_t begin = 0;
  while (begin <= path.size()) {
    const std::size_t end = std::min(path.find(':', begin), path.size());
    std::string candidate = (end == begin ? "." : path.substr(begin, end - begin)) + "/" + name;
    if (::access(candidate.c_str(), X_OK) == 0) return candidate;
    begin = end + 1;
  }
  return name;
}

std::vector<char*> pointers_to(const std::vector<std::string>& texts) {
  std::vector<char*> pointers;
  for (const std::string& text : texts) pointers.push_back(const_cast<char*>(text.c_str()));
  pointers.push_back(nullptr);
  return pointers;
}

[[noreturn]] void become_program(const Subprocess& subprocess, const std::string& program, char* const* argv, char* const* environment,
                                 int in, int out, int err) {
  if (subprocess.own_group) ::setpgid(0, 0);
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  for (const int number : {SIGPIPE, SIGTERM, SIGINT, SIGHUP, SIGCHLD}) ::signal(number, SIG_DFL);
  sigset_t none;
  sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  ::dup2(in, STDIN_FILENO);
  ::dup2(out, STDOUT_FILENO);
  ::dup2(err, STDERR_FILENO);
  if (subprocess.in_child) subprocess.in_child();
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);  // a change of user clears it
  if (!subprocess.cwd.empty() && ::chdir(subprocess.cwd.c_str()) != 0) {
    const std::string text = subprocess.cwd + ": " + std::strerror(errno) + "\n";
    (void)write_all(STDERR_FILENO, text);
    ::_exit(126);
  }
  ::execve(program.c_str(), argv, environment);
  const int reason = errno;
  const std::string text = subprocess.argv.front() + ": " + std::strerror(reason) + "\n";
  (void)write_all(STDERR_FILENO, text);
  ::_exit(reason == ENOENT ? 127 : 126);
}

/// Adds `bytes` to what is kept of a stream. Where the end counts, up to twice the limit is held for a while: cutting at every
/// read would move the whole text each time.
void keep_some(std::string_view bytes, std::string& kept, const Subprocess& subprocess) {
  if (subprocess.keep == Subprocess::Keep::beginning) {
    if (kept.size() < subprocess.limit) kept += bytes.substr(0, subprocess.limit - kept.size());
    return;
  }
  kept += bytes;
  if (kept.size() > 2 * subprocess.limit) kept.erase(0, kept.size() - subprocess.limit);
}

/// Reads what is there; closes `fd` at its end.
void drain(UniqueFd& fd, std::string_view stream, std::string& kept, const Subprocess& subprocess, const OutputSink& sink) {
  std::array<char, 64 * 1024> buffer{};
  const ssize_t got = ::read(fd.get(), buffer.data(), buffer.size());
  if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (got <= 0) {
    fd.reset();
    return;
  }
  const std::string_view bytes(buffer.data(), static_cast<std::size_t>(got));
  keep_some(bytes, kept, subprocess);
  if (sink) sink(stream, bytes);
}

int exit_code_of(int status) { return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status); }

}  // namespace

Result<SubprocessResult> run_subprocess(const Subprocess& subprocess, const OutputSink& sink) {
  if (subprocess.argv.empty()) return fail(ErrorCode::internal, "a command without words");
  Result<Pipe> in = make_pipe();
  Result<Pipe> out = make_pipe();
  Result<Pipe> err = make_pipe();
  for (const Result<Pipe>* pipe : {&in, &out, &err})
    if (!*pipe) return fail(Error(pipe->error()).in("starting " + subprocess.argv.front()));
  if (sink) hold_more(out->write_end.get());
  const std::vector<std::string> environment = environment_of(subprocess);
  const std::string program = program_of(subprocess, environment);
  const std::vector<char*> argv = pointers_to(subprocess.argv);
  const std::vector<char*> environment_pointers = pointers_to(environment);
  const pid_t pid = ::fork();
  if (pid < 0) return fail(errno_error(errno, "starting " + subprocess.argv.front()));
  if (pid == 0) {
    become_program(subprocess, program, argv.data(), environment_pointers.data(), in->read_end.get(), out->write_end.get(),
                   err->write_end.get());
  }
  if (subprocess.own_group) ::setpgid(pid, pid);
  const pid_t killed = subprocess.own_group ? -pid : pid;
  in->read_end.reset();
  out->write_end.reset();
  err->write_end.reset();
  if (subprocess.input.empty())
    in->write_end.reset();
  else if (Result<void> set = set_nonblocking(in->write_end.get()); !set)
    return fail(std::move(set).error());

  SubprocessResult result;
  std::string_view unsent = subprocess.input;
  const Clock::time_point deadline = Clock::now() + subprocess.timeout;
  const bool limited = subprocess.timeout.count() > 0;
  Clock::time_point kill_at{};
  Clock::time_point read_until{};
  int status = 0;
  bool reaped = false;
  struct sigaction old_action {};
  struct sigaction ignore {};
  ignore.sa_handler = SIG_IGN;
  ::sigaction(SIGPIPE, &ignore, &old_action);
  while (true) {
    std::array<pollfd, 3> polled = {pollfd{out->read_end.get(), POLLIN, 0}, pollfd{err->read_end.get(), POLLIN, 0},
                                    pollfd{in->write_end.get(), POLLOUT, 0}};
    // A grandchild may keep the pipes after the child has ended: what is there is read, and no more is waited for.
    const bool closed = !out->read_end.valid() && !err->read_end.valid();
    const int ready = ::poll(polled.data(), polled.size(), reaped ? 0 : closed ? 1 : 100);
    if (ready > 0 && polled[0].revents != 0) drain(out->read_end, "out", result.out, subprocess, sink);
    if (ready > 0 && polled[1].revents != 0) drain(err->read_end, "err", result.err, subprocess, sink);
    if (ready > 0 && polled[2].revents != 0) {
      const ssize_t put = ::write(in->write_end.get(), unsent.data(), unsent.size());
      if (put > 0) unsent.remove_prefix(static_cast<std::size_t>(put));
      if (unsent.empty() || (put < 0 && errno != EAGAIN && errno != EINTR)) in->write_end.reset();
    }
    const Clock::time_point now = Clock::now();
    if (reaped && (ready <= 0 || now >= read_until || (polled[0].revents == 0 && polled[1].revents == 0))) break;
    if (!reaped) {
      reaped = ::waitpid(pid, &status, WNOHANG) == pid;
      read_until = now + kLastWords;
    }
    if (!reaped && limited && !result.timed_out && now >= deadline) {
      result.timed_out = true;
      kill_at = now + kGrace;
      ::kill(killed, SIGTERM);
    }
    if (!reaped && result.timed_out && now >= kill_at) ::kill(killed, SIGKILL);
    if (!reaped && result.timed_out && now >= kill_at + kAbandonedAfter) break;
  }
  if (result.timed_out) ::kill(killed, SIGKILL);
  for (std::string* kept : {&result.out, &result.err}) {
    if (kept->size() > subprocess.limit) kept->erase(0, kept->size() - subprocess.limit);
  }
  ::sigaction(SIGPIPE, &old_action, nullptr);
  result.exit_code = reaped ? exit_code_of(status) : 128 + SIGKILL;
  return result;
}

}  // namespace gpustrap
