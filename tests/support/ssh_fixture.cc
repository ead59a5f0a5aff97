#include "tests/support/ssh_fixture.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <pwd.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdlib>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "agent/base/file.h"
#include "agent/base/subprocess.h"
#include "agent/base/text.h"

namespace gpustrap {
namespace {

constexpr const char* kSshd = "/usr/sbin/sshd";  // sshd wants to be started by its whole path
constexpr char kDrop = 'd', kFreeze = 'f', kStop = 's', kListen = 'l';

void must(bool condition, const std::string& what) {
  if (condition) return;
  ADD_FAILURE() << "the SSH fixture: " << what;
  std::abort();  // a test that went on without its server would tell nothing
}

std::string output_of(const std::vector<std::string>& argv) {
  Subprocess command;
  command.argv = argv;
  const Result<SubprocessResult> result = run_subprocess(command);
  must(result.has_value() && result->exit_code == 0, join(argv, " ") + ": " + (result ? result->err : result.error().sentence()));
  return result->out;
}

void must_write(const std::string& path, const std::string& text, mode_t mode) {
  const UniqueFd fd(::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode));
  must(fd.valid() && ::write(fd.get(), text.data(), text.size()) == static_cast<ssize_t>(text.size()), "writing " + path);
}

std::string must_read(const std::string& path) {
  Result<std::string> text = read_file(path, 1U << 20U);
  must(text.has_value(), "reading " + path);
  return *std::move(text);
}

/// A socket at 127.0.0.1:port, which listens only when it is told to.
UniqueFd bound_socket(std::uint16_t port) {
  UniqueFd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const int on = 1;
  ::setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  must(::bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0, "binding a loopback port");
  return fd;
}

struct Link {
  UniqueFd socket;
  pid_t sshd;
};

Link start_sshd(UniqueFd socket, const std::string& folder) {
  const std::string config = folder + "/sshd_config", log = folder + "/sshd.log";
  const pid_t pid = ::fork();
  if (pid == 0) {
    ::setpgid(0, 0);  // so that all of it can be ended together
    ::signal(SIGPIPE, SIG_DFL);
    ::dup2(socket.get(), STDIN_FILENO);
    ::dup2(socket.get(), STDOUT_FILENO);
    ::execl(kSshd, kSshd, "-i", "-f", config.c_str(), "-E", log.c_str(), nullptr);
    ::_exit(127);
  }
  ::setpgid(pid, pid);
  return {std::move(socket), pid};
}

/// Every process that came of this one. Those that sshd starts have sessions of their own, where no signal to its group reaches them;
/// but whose parent is gone becomes a child of the accepting process.
void end_descendants() {
  const std::string list = fmt::format("/proc/self/task/{}/children", ::getpid());
  for (std::vector<std::string> children = words(must_read(list)); !children.empty(); children = words(must_read(list))) {
    for (const std::string& child : children) ::kill(std::stoi(child), SIGKILL);
    ::waitpid(-1, nullptr, 0);
  }
}

/// The process that accepts. Ends, with every sshd, when the test's end of `orders` is closed.
[[noreturn]] void serve(UniqueFd listener, std::uint16_t port, const UniqueFd& orders, const UniqueFd& answers, const std::string& folder) {
  ::prctl(PR_SET_CHILD_SUBREAPER, 1);
  std::vector<Link> links;
  while (true) {
    std::array<pollfd, 2> waiting{pollfd{orders.get(), POLLIN, 0}, pollfd{listener.get(), POLLIN, 0}};
    ::poll(waiting.data(), waiting.size(), -1);
    while (::waitpid(-1, nullptr, WNOHANG) > 0) {}
    if (waiting[0].revents != 0) {
      char what = 0;
      if (::read(orders.get(), &what, 1) != 1) break;
      if (what == kDrop) {
        for (const Link& link : links) ::shutdown(link.socket.get(), SHUT_RDWR);
      } else if (what == kFreeze) {
        for (const Link& link : links) ::kill(-link.sshd, SIGSTOP);
      } else if (what == kStop) {
        listener.reset();
      } else if (what == kListen) {
        listener = bound_socket(port);
        ::listen(listener.get(), 64);
      }
      if (::write(answers.get(), &what, 1) != 1) break;
    }
    if (listener.valid() && (waiting[1].revents & POLLIN) != 0) {
      UniqueFd socket(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
      if (socket.valid()) links.push_back(start_sshd(std::move(socket), folder));
    }
  }
  for (const Link& link : links) ::kill(-link.sshd, SIGKILL);
  end_descendants();
  ::_exit(0);
}

}  // namespace

SshFixture::SshFixture() {
  must(::access(kSshd, X_OK) == 0, "there is no /usr/sbin/sshd: install openssh-server");
  // sshd drops its rights into this folder, and will not start without it. Only root's sshd has rights to drop.
  if (::geteuid() == 0) ::mkdir("/run/sshd", 0755);
  const passwd* entry = ::getpwuid(::geteuid());
  must(entry != nullptr, "this user has no name");
  user_ = entry->pw_name;
  change_host_key();
  (void)make_key("key");
  authorize(key());
  write_config("");

  UniqueFd listener = bound_socket(0);
  sockaddr_in address{};
  socklen_t size = sizeof address;
  must(::getsockname(listener.get(), reinterpret_cast<sockaddr*>(&address), &size) == 0 && ::listen(listener.get(), 64) == 0, "listening");
  port_ = ntohs(address.sin_port);
  std::array<int, 2> orders{}, answers{};
  must(::pipe2(orders.data(), O_CLOEXEC) == 0 && ::pipe2(answers.data(), O_CLOEXEC) == 0, "making pipes");
  pid_ = ::fork();
  must(pid_ >= 0, "fork");
  UniqueFd orders_read(orders[0]), answers_write(answers[1]);
  orders_.reset(orders[1]);
  answers_.reset(answers[0]);
  if (pid_ > 0) return;
  ::signal(SIGPIPE, SIG_IGN);
  orders_.reset();
  answers_.reset();
  serve(std::move(listener), port_, orders_read, answers_write, directory_.path());
}

SshFixture::~SshFixture() {
  orders_.reset();
  ::waitpid(pid_, nullptr, 0);
}

void SshFixture::order(char what) {
  char done = 0;
  must(::write(orders_.get(), &what, 1) == 1 && ::read(answers_.get(), &done, 1) == 1 && done == what, "an order was not followed");
}

void SshFixture::drop_links() { order(kDrop); }
void SshFixture::freeze_links() { order(kFreeze); }
void SshFixture::stop_listening() { order(kStop); }
void SshFixture::listen_again() { order(kListen); }

void SshFixture::write_config(const std::string& lines) const {
  // A home of its own: what this machine's login files do or print is not part of a test.
  must_write(
      directory_ / "sshd_config",
      fmt::format(
          "{}\nHostKey {}\nAuthorizedKeysFile {}\nStrictModes no\nUsePAM no\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n"
          "PermitRootLogin yes\nPidFile none\nLogLevel VERBOSE\nMaxStartups 200\nMaxSessions 200\nPrintMotd no\n"
          "SetEnv \"HOME={}\"\n",
          lines, directory_ / "host_key", directory_ / "authorized_keys", directory_.path()),
      0600);
}

void SshFixture::configure(const std::string& lines) { write_config(lines); }

void SshFixture::force(const std::string& script) {
  must_write(directory_ / "forced.sh", script, 0700);
  configure("ForceCommand /bin/sh " + shell_quote(directory_ / "forced.sh"));
}

void SshFixture::change_host_key() {
  ::unlink((directory_ / "host_key").c_str());
  (void)make_key("host_key");
}

std::string SshFixture::make_key(const std::string& name, const std::string& passphrase, const std::string& type) const {
  output_of({"ssh-keygen", "-q", "-t", type, "-N", passphrase, "-C", "a test's own", "-f", directory_ / name});
  return directory_ / name;
}

void SshFixture::lock(const std::string& key, const std::string& passphrase) const {
  output_of({"ssh-keygen", "-q", "-p", "-P", "", "-N", passphrase, "-f", key});
}

std::string SshFixture::public_half(const std::string& name) const {
  const std::vector<std::string> fields = words(must_read(directory_ / (name + ".pub")));
  return fields.at(0) + " " + fields.at(1);
}

void SshFixture::write(const std::string& name, const std::string& text) const { must_write(directory_ / name, text, 0600); }

void SshFixture::authorize(const std::string& key) const {
  const std::string path = directory_ / "authorized_keys";
  must_write(path, (path_exists(path) ? must_read(path) : std::string()) + must_read(key + ".pub"), 0600);
}

std::string SshFixture::fingerprint() const { return words(output_of({"ssh-keygen", "-l", "-f", directory_ / "host_key.pub"})).at(1); }

void SshFixture::trust() const {
  must_write(known_hosts(), fmt::format("[127.0.0.1]:{} {}", port_, must_read(directory_ / "host_key.pub")), 0600);
}

SshTarget SshFixture::target() const {
  SshTarget target;
  target.given = target.host = "127.0.0.1";
  target.user = user_;
  target.port = port_;
  target.identities = {key()};
  target.known_hosts = known_hosts();
  return target;
}

std::string SshFixture::log() const {
  return path_exists(directory_ / "sshd.log") ? must_read(directory_ / "sshd.log") : "sshd logged nothing";
}

SshAgentFixture::SshAgentFixture(const std::string& folder) : socket_(folder + "/agent.sock") {
  pid_ = ::fork();
  must(pid_ >= 0, "fork");
  if (pid_ == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    const int null = ::open("/dev/null", O_RDWR | O_CLOEXEC);
    ::dup2(null, STDOUT_FILENO);
    ::execlp("ssh-agent", "ssh-agent", "-D", "-a", socket_.c_str(), nullptr);
    ::_exit(127);
  }
  // ssh-agent says nothing when it is ready; a connection that is accepted does. ssh-add exits with 2 while there is none.
  Subprocess ask;
  ask.argv = {"ssh-add", "-l"};
  ask.env = {{"SSH_AUTH_SOCK", socket_}};
  int answer = 2;
  while (answer == 2) {
    must(::waitpid(pid_, nullptr, WNOHANG) == 0, "ssh-agent ended");
    const Result<SubprocessResult> asked = run_subprocess(ask);
    must(asked.has_value() && asked->exit_code != 127, "there is no ssh-add");
    answer = asked->exit_code;
  }
}

SshAgentFixture::~SshAgentFixture() {
  ::kill(pid_, SIGTERM);
  ::waitpid(pid_, nullptr, 0);
}

void SshAgentFixture::add(const std::string& key) const {
  Subprocess command;
  command.argv = {"ssh-add", "-q", key};
  command.env = {{"SSH_AUTH_SOCK", socket_}};
  const Result<SubprocessResult> added = run_subprocess(command);
  must(added.has_value() && added->exit_code == 0, "ssh-add " + key);
}

}  // namespace gpustrap
