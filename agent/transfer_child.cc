#include "agent/transfer_child.h"

#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "agent/base/file.h"
#include "agent/base/pipe_size.h"
#include "agent/base/unique_fd.h"
#include "agent/protocol/json.h"

namespace gpustrap {
namespace {

constexpr uid_t kNobody = 65534;
/// The child's largest frame is libcurl's buffer (256 KiB); the reader refuses more than this before it allocates.
constexpr std::uint32_t kMaxFrame = 1U << 20U;

// What the child says: one byte of type, four of length (host order: both ends are this program), the payload.
constexpr char kBegin = 'B', kBytes = 'D', kSay = 'S', kFailed = 'E', kDone = 'F';

/// The child's end. A parent that is gone ends the child.
class FrameWriter : public TransferSink {
 public:
  explicit FrameWriter(int fd) : fd_(fd) {}

  Result<void> begin(const BodyStart& start) override {
    Json body = {{"offset", start.offset}, {"validator", start.validator}, {"modified_s", start.modified_s}};
    if (start.total) body["total"] = *start.total;
    send(kBegin, dump(body));
    return {};
  }
  Result<void> add(std::string_view bytes) override {
    for (; !bytes.empty(); bytes.remove_prefix(std::min<std::size_t>(bytes.size(), kMaxFrame))) send(kBytes, bytes.substr(0, kMaxFrame));
    return {};
  }
  void say(std::string_view line) override { send(kSay, line.substr(0, kMaxFrame)); }
  void done() { send(kDone, {}); }
  void failed(const Error& error) {
    send(kFailed, dump({{"code", error_code_name(error.code())}, {"why", error.sentence()}, {"hint", error.hint()}}));
  }

 private:
  static std::string dump(const Json& value) { return value.dump(-1, ' ', false, Json::error_handler_t::replace); }

  void send(char type, std::string_view payload) {
    std::array<char, 5> head{type};
    const auto length = static_cast<std::uint32_t>(payload.size());
    std::memcpy(head.data() + 1, &length, sizeof length);
    std::array<iovec, 2> parts{iovec{head.data(), head.size()}, iovec{const_cast<char*>(payload.data()), payload.size()}};
    std::size_t left = head.size() + payload.size();
    while (left > 0) {
      const ssize_t put = ::writev(fd_, parts.data(), static_cast<int>(parts.size()));
      if (put < 0 && errno == EINTR) continue;
      if (put < 0) ::_exit(1);
      left -= static_cast<std::size_t>(put);
      auto gone = static_cast<std::size_t>(put);
      for (iovec& part : parts) {
        const std::size_t used = std::min(gone, part.iov_len);
        part.iov_base = static_cast<char*>(part.iov_base) + used;
        part.iov_len -= used;
        gone -= used;
      }
    }
  }

  int fd_;
};

/// Closes every descriptor but standard error (for crash reports) and `kept`; standard input and output become the null device.
void keep_only(int kept) {
  const int null = ::open("/dev/null", O_RDWR | O_CLOEXEC);
  if (null >= 0) {
    ::dup2(null, STDIN_FILENO);
    ::dup2(null, STDOUT_FILENO);
  }
  constexpr int kPlace = 3;
  if (kept != kPlace) ::dup2(kept, kPlace);
#ifdef SYS_close_range
  if (::syscall(SYS_close_range, kPlace + 1, ~0U, 0) == 0) return;
#endif
  rlimit limit{};
  int last = 65536;  // kernels before 5.9; nobody here opens more
  if (::getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < 65536) last = static_cast<int>(limit.rlim_cur);
  for (int fd = kPlace + 1; fd < last; ++fd) ::close(fd);
}

/// Root becomes nobody, for good; so does a process that only acts as another user and could be root again.
/// "" when done, else why it could not be.
std::string give_up_root() {
  uid_t real = 0, effective = 0, saved = 0;
  ::getresuid(&real, &effective, &saved);
  if (real != 0 && effective != 0 && saved != 0) return {};
  if ((effective != 0 && ::seteuid(0) != 0) || ::setgroups(0, nullptr) != 0 || ::setresgid(kNobody, kNobody, kNobody) != 0 ||
      ::setresuid(kNobody, kNobody, kNobody) != 0) {
    return std::strerror(errno);
  }
  return {};
}

[[noreturn]] void be_the_child(const TransferRequest& request, const FetchOptions& options, const Authorities& authorities, int fd,
                               pid_t parent) {
  for (const int number : {SIGTERM, SIGINT, SIGHUP, SIGCHLD}) ::signal(number, SIG_DFL);
  ::signal(SIGPIPE, SIG_IGN);
  sigset_t none;
  sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  keep_only(fd);
  FrameWriter writer(3);
  const std::string kept_root = give_up_root();
  // A container without that user (an unmapped uid) or without the right to change users. Refusing would make such a box useless.
  if (!kept_root.empty()) writer.say("fetching as root: uid 65534 is not to be had here (" + kept_root + ")");
  ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);  // after the change of user, which clears it
  if (::getppid() != parent) ::_exit(1);
  if (Result<void> got = http_transfer(request, options, authorities, writer); got) {
    writer.done();
  } else {
    writer.failed(got.error());
  }
  ::_exit(0);
}

/// Fills `buffer`; false at the end of the pipe.
Result<bool> read_whole(int fd, char* buffer, std::size_t size) {
  while (size > 0) {
    const ssize_t got = ::read(fd, buffer, size);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return fail(errno_error(errno, "reading from the transfer"));
    if (got == 0) return false;
    buffer += got;
    size -= static_cast<std::size_t>(got);
  }
  return true;
}

Error broken_frame() { return {ErrorCode::internal, "the transfer process sent something unreadable"}; }

/// Passes frames on until the child says how it ended. nullopt: the pipe ended before that.
std::optional<Result<void>> relay(int fd, TransferSink& sink) {
  std::vector<char> payload;
  while (true) {
    std::array<char, 5> head{};
    Result<bool> more = read_whole(fd, head.data(), head.size());
    if (!more) return fail(std::move(more).error());
    if (!*more) return std::nullopt;
    std::uint32_t length = 0;
    std::memcpy(&length, head.data() + 1, sizeof length);
    if (length > kMaxFrame) return fail(broken_frame());
    payload.resize(length);
    more = read_whole(fd, payload.data(), length);
    if (!more) return fail(std::move(more).error());
    if (!*more) return std::nullopt;
    const std::string_view text(payload.data(), payload.size());
    if (head[0] == kBytes) {
      if (Result<void> added = sink.add(text); !added) return added;
      continue;
    }
    if (head[0] == kSay) {
      sink.say(text);
      continue;
    }
    if (head[0] == kDone) return Result<void>();
    const Json body = Json::parse(text, nullptr, false);
    if (!body.is_object()) return fail(broken_frame());
    const auto text_of = [&body](const char* name) {
      const auto found = body.find(name);
      return found != body.end() && found->is_string() ? found->get<std::string>() : std::string();
    };
    if (head[0] == kFailed) return fail(error_code_from_name(text_of("code")), text_of("why"), text_of("hint"));
    if (head[0] != kBegin) return fail(broken_frame());
    BodyStart start;
    start.validator = text_of("validator");
    const auto offset = body.find("offset");
    if (offset == body.end() || !offset->is_number_unsigned()) return fail(broken_frame());
    start.offset = offset->get<std::uint64_t>();
    if (const auto modified = body.find("modified_s"); modified != body.end() && modified->is_number_integer())
      start.modified_s = modified->get<std::int64_t>();
    if (const auto total = body.find("total"); total != body.end() && total->is_number_unsigned())
      start.total = total->get<std::uint64_t>();
    if (Result<void> begun = sink.begin(start); !begun) return begun;
  }
}

}  // namespace

Result<void> transfer_in_child(const TransferRequest& request, const FetchOptions& options, const Authorities& authorities,
                               TransferSink& sink) {
  Result<Pipe> pipe = make_pipe();
  if (!pipe) return fail(std::move(pipe).error());
  hold_more(pipe->write_end.get());
  const pid_t parent = ::getpid();
  const pid_t child = ::fork();
  if (child < 0) return fail(errno_error(errno, "starting the transfer process"));
  if (child == 0) be_the_child(request, options, authorities, pipe->write_end.get(), parent);
  pipe->write_end.reset();
  std::optional<Result<void>> outcome = relay(pipe->read_end.get(), sink);
  if (outcome) ::kill(child, SIGKILL);  // it has said all it had to say, or is not to go on
  pipe->read_end.reset();
  int status = 0;
  while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {}
  if (outcome) return std::move(*outcome);
  const std::string how =
      WIFSIGNALED(status) ? fmt::format("by signal {}", WTERMSIG(status)) : fmt::format("with exit {}", WEXITSTATUS(status));
  return fail(ErrorCode::network, "the transfer process ended " + how + " before the file was complete",
              "try again; if it happens again, name a mirror and report the address");
}

}  // namespace gpustrap
