#include "controller/kept_link.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <utility>

#include <fmt/format.h>

#include "agent/base/file.h"
#include "agent/base/sha256.h"
#include "agent/base/text.h"
#include "agent/protocol/event_line.h"
#include "agent/protocol/json.h"
#include "controller/run_log.h"
#include "controller/unix_socket.h"

namespace gpustrap {
namespace {

using std::chrono::milliseconds;

/// What a keeper says to a command that it lends its link to. It is no line of the protocol.
constexpr std::string_view kLent = "lent\n";
/// A keeper answers at once or not at all.
constexpr milliseconds kLendLimit{500};
/// What a command is slow to read waits here up to this; then it waits with the agent.
constexpr std::size_t kUnsentLimit = 1U << 20U;
constexpr const char* kOwnConnection = "the same command again makes a connection of its own";

bool connect_to(int fd, const std::string& path) {
  const sockaddr_un address = unix_address(path);
  return ::connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0;
}

/// A folder that only its owner can look into, or put anything in.
Result<void> make_private_folder(const std::string& folder) {
  if (Result<void> made = make_directories(folder, 0700); !made) return fail(std::move(made).error());
  struct stat info {};
  if (::lstat(folder.c_str(), &info) != 0 || !S_ISDIR(info.st_mode) || info.st_uid != ::geteuid() || (info.st_mode & 077U) != 0)
    return fail(ErrorCode::io, folder + " is open to others, so no connection is kept there", "run: chmod 700 " + shell_quote(folder));
  return {};
}

Result<UniqueFd> listen_at(const std::string& path) {
  if (Result<void> made = make_private_folder(parent_of(path)); !made) return fail(std::move(made).error());
  UniqueFd listener = unix_stream_socket();
  const sockaddr_un address = unix_address(path);
  ::unlink(path.c_str());
  const mode_t before = ::umask(0177);
  const bool bound = listener.valid() && ::bind(listener.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0;
  ::umask(before);
  if (!bound || ::listen(listener.get(), 4) != 0) return fail(errno_error(errno, "keeping the connection at " + path));
  return listener;
}

/// The keeper's process has nothing of the command that made it: not its terminal, not its files.
void leave_command(int connection, int listener, int borrower) {
  ::setsid();
  for (const int number : {SIGINT, SIGHUP, SIGTERM, SIGQUIT, SIGTSTP}) ::signal(number, SIG_DFL);
  ::signal(SIGPIPE, SIG_IGN);
  sigset_t none;
  sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  const int null = ::open("/dev/null", O_RDWR);
  for (const int standard : {0, 1, 2}) ::dup2(null, standard);
  const long most = std::min(::sysconf(_SC_OPEN_MAX), 65536L);
  for (int fd = 3; fd < most; ++fd) {
    if (fd != connection && fd != listener && fd != borrower) ::close(fd);
  }
  if (::chdir("/") != 0) ::_exit(1);
}

}  // namespace

Result<std::string> kept_link_path(const std::string& key) {
  std::string folder;
  if (const char* runtime = std::getenv("XDG_RUNTIME_DIR"); runtime != nullptr && runtime[0] == '/') {
    folder = std::string(runtime) + "/gpustrap";
  } else {
    Result<std::string> state = state_directory();
    if (!state) return state;
    folder = *state + "/kept";
  }
  std::string path = folder + "/" + sha256_hex(key).substr(0, 16);
  if (path.size() >= sizeof(sockaddr_un::sun_path)) {
    return fail(ErrorCode::io, fmt::format("{} is too long a name for a socket", path),
                "set XDG_RUNTIME_DIR to a folder with a shorter name");
  }
  return path;
}

// ---- borrowing

Result<std::unique_ptr<KeptLink>> KeptLink::borrow(const std::string& path) {
  const Error none(ErrorCode::not_found, "no connection is kept");
  UniqueFd fd = unix_stream_socket();
  if (!fd.valid() || !connect_to(fd.get(), path)) return fail(none);
  std::string said;
  while (said.size() < kLent.size()) {
    pollfd entry{fd.get(), POLLIN, 0};
    if (::poll(&entry, 1, static_cast<int>(kLendLimit.count())) <= 0) return fail(none);
    std::array<char, 16> buffer{};
    const ssize_t got = ::read(fd.get(), buffer.data(), kLent.size() - said.size());
    if (got <= 0) return fail(none);
    said.append(buffer.data(), static_cast<std::size_t>(got));
  }
  if (said != kLent || !set_nonblocking(fd.get())) return fail(none);
  return std::make_unique<KeptLink>(std::move(fd));
}

Result<void> KeptLink::send(const Request& request) {
  std::string line = to_line(to_json(request));
  while (!line.empty()) {
    const ssize_t put = ::send(fd_.get(), line.data(), line.size(), MSG_NOSIGNAL);
    if (put > 0) {
      line.erase(0, static_cast<std::size_t>(put));
      continue;
    }
    if (errno != EAGAIN && errno != EINTR) return fail(ErrorCode::unreachable, "the kept connection ended", kOwnConnection);
    pollfd entry{fd_.get(), POLLOUT, 0};
    if (::poll(&entry, 1, 10'000) <= 0 && errno != EINTR)
      return fail(ErrorCode::unreachable, "the kept connection takes nothing", kOwnConnection);
  }
  return {};
}

Result<std::optional<AgentLine>> KeptLink::receive(milliseconds wait) {
  const Clock::time_point deadline = Clock::now() + wait;
  while (true) {
    const Result<std::optional<std::string>> line = lines_.next();
    if (!line) return fail(Error(line.error()).in("reading from the agent"));
    if (line->has_value()) {
      Result<AgentLine> parsed = agent_line_from(**line);
      if (!parsed) return fail(std::move(parsed).error().in("reading from the agent"));
      return std::optional<AgentLine>(std::move(*parsed));
    }
    const auto left = std::chrono::duration_cast<milliseconds>(deadline - Clock::now());
    pollfd entry{fd_.get(), POLLIN, 0};
    const int ready = ::poll(&entry, 1, static_cast<int>(std::max<std::int64_t>(left.count(), 0)));
    if (ready > 0) {
      std::array<char, 64 * 1024> buffer{};
      const ssize_t got = ::read(fd_.get(), buffer.data(), buffer.size());
      if (got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR))
        return fail(ErrorCode::unreachable, "the kept connection ended", kOwnConnection);
      if (got > 0) {
        last_heard_ = Clock::now();
        lines_.add({buffer.data(), static_cast<std::size_t>(got)});
      }
      continue;
    }
    if (Clock::now() - last_heard_ > kSilenceLimit)
      return fail(ErrorCode::unreachable, fmt::format("nothing was heard from the host for {} s", kSilenceLimit.count()), kOwnConnection);
    if (left.count() <= 0) return std::optional<AgentLine>();
  }
}

// ---- keeping

namespace {

bool is_a_runs(const Request& request) {
  return std::holds_alternative<RunRequest>(request.body) || std::holds_alternative<AttachRequest>(request.body);
}

}  // namespace

LinkKeeper::LinkKeeper(AgentLink& link, UniqueFd listener, UniqueFd first, const Request& asked, std::chrono::seconds limit,
                       std::function<bool()> is_wanted)
    : link_(link),
      listener_(std::move(listener)),
      borrower_(std::move(first)),
      limit_(limit),
      is_wanted_(std::move(is_wanted)),
      is_followed_(is_a_runs(asked)) {}

void LinkKeeper::run() {
  while (true) {
    if (!borrower_.valid() && (Clock::now() - idle_since_ > limit_ || !is_wanted_())) return;
    if (!flush()) return;
    const bool may_read = unsent_.size() < kUnsentLimit;
    std::array<pollfd, 3> polled = {pollfd{may_read ? link_.descriptor() : -1, POLLIN, 0}, pollfd{listener_.get(), POLLIN, 0},
                                    pollfd{borrower_.get(), static_cast<short>(POLLIN | (unsent_.empty() ? 0 : POLLOUT)), 0}};
    if (::poll(polled.data(), polled.size(), 1000) < 0 && errno != EINTR) return;
    if (may_read && !pass_to_borrower()) return;
    if (polled[1].revents != 0) lend();
    if (borrower_.valid() && polled[2].revents != 0 && !pass_to_link()) return;
  }
}

/// False where the link is gone, or says what nobody asked for.
bool LinkKeeper::pass_to_borrower() {
  while (unsent_.size() < kUnsentLimit) {
    const Result<std::optional<AgentLine>> line = link_.receive(milliseconds(0));
    if (!line) return false;
    if (!line->has_value()) return true;
    const auto* event = std::get_if<Event>(&**line);
    const auto* reply = std::get_if<Reply>(&**line);
    if (!borrower_.valid() && (event != nullptr || reply != nullptr)) return false;
    if (!borrower_.valid()) continue;
    if (event != nullptr && std::holds_alternative<RunFinished>(event->body)) is_talking_ = is_followed_ = false;
    if (reply != nullptr && (!is_followed_ || reply->error)) is_talking_ = is_followed_ = false;
    unsent_ += event != nullptr ? to_line(*event) : to_line(std::visit([](const auto& body) { return to_json(body); }, **line));
    if (!flush()) return false;
  }
  return true;
}

/// False where the borrower left in the middle of its talk.
bool LinkKeeper::pass_to_link() {
  std::array<char, 64 * 1024> buffer{};
  const ssize_t got = ::read(borrower_.get(), buffer.data(), buffer.size());
  if (got < 0 && (errno == EAGAIN || errno == EINTR)) return true;
  if (got <= 0) {
    borrower_.reset();
    asked_ = LineReader();
    unsent_.clear();
    idle_since_ = Clock::now();
    return !is_talking_;
  }
  asked_.add({buffer.data(), static_cast<std::size_t>(got)});
  while (true) {
    const Result<std::optional<std::string>> line = asked_.next();
    if (!line) return false;
    if (!line->has_value()) return true;
    const Result<Json> document = parse_line(**line);
    const Result<ControllerLine> said = document ? controller_line_from_json(*document) : Result<ControllerLine>(fail(document.error()));
    const auto* request = said ? std::get_if<Request>(&*said) : nullptr;
    if (request == nullptr) return false;
    is_talking_ = true;
    is_followed_ = is_followed_ || is_a_runs(*request);
    if (!link_.send(*request)) return false;
  }
}

void LinkKeeper::lend() {
  UniqueFd comer(::accept(listener_.get(), nullptr, nullptr));
  // Closed at once where the link is in use: that command connects by itself.
  if (!comer.valid() || borrower_.valid() || !set_nonblocking(comer.get()) || !write_all(comer.get(), kLent)) return;
  borrower_ = std::move(comer);
  is_talking_ = is_followed_ = false;
}

/// False where a borrower left in the middle of its talk.
bool LinkKeeper::flush() {
  while (borrower_.valid() && !unsent_.empty()) {
    const ssize_t put = ::send(borrower_.get(), unsent_.data(), unsent_.size(), MSG_NOSIGNAL);
    if (put < 0 && errno == EINTR) continue;
    if (put < 0 && errno == EAGAIN) return true;
    if (put < 0) return true;  // its end is seen by reading
    unsent_.erase(0, static_cast<std::size_t>(put));
  }
  return true;
}

Result<std::unique_ptr<AgentLink>> keep_link(std::unique_ptr<AgentLink> link, int connection, const std::string& path,
                                             std::chrono::seconds limit, const Request& asked) {
  Result<UniqueFd> listener = listen_at(path);
  if (!listener) return fail(std::move(listener).error());
  std::array<int, 2> pair{};
  if (::socketpair(AF_UNIX, SOCK_STREAM, 0, pair.data()) != 0) return fail(errno_error(errno, "keeping the connection"));
  UniqueFd ours(pair[0]), theirs(pair[1]);
  for (const int fd : pair) {
    (void)::fcntl(fd, F_SETFD, FD_CLOEXEC);
    if (Result<void> set = set_nonblocking(fd); !set) return fail(std::move(set).error());
  }
  const int null = ::open("/dev/null", O_RDWR | O_CLOEXEC);
  if (null < 0) return fail(errno_error(errno, "opening /dev/null"));
  const UniqueFd nowhere(null);
  struct stat socket {};
  const bool is_there = ::lstat(path.c_str(), &socket) == 0;
  const pid_t child = ::fork();
  if (child < 0) return fail(errno_error(errno, "starting the process that keeps the connection"));
  if (child == 0) {
    // Another command may have put a socket of its own there meanwhile.
    const auto still_ours = [&] {
      struct stat now {};
      return is_there && ::lstat(path.c_str(), &now) == 0 && now.st_ino == socket.st_ino;
    };
    leave_command(connection, listener->get(), theirs.get());
    LinkKeeper(*link, std::move(*listener), std::move(theirs), asked, limit, still_ours).run();
    if (still_ours()) ::unlink(path.c_str());
    ::_exit(0);
  }
  ::dup2(nowhere.get(), connection);
  return std::make_unique<KeptLink>(std::move(ours));
}

void end_kept_link(const std::string& path) { ::unlink(path.c_str()); }

}  // namespace gpustrap
