#include "agent/transfer_child.h"

#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
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
constexpr char kBegin = 'B', kBytes = 'D', kSay = 'S', kFailed = 'E', kDone = 'F', kAway = 'A';
/// What a child that is kept is told, in the same way.
constexpr char kRequest = 'R';

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
  void ended(TransferEnd end) { send(end == TransferEnd::whole ? kDone : kAway, {}); }
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

constexpr int kAnswers = 3, kRequests = 4;

/// Closes every descriptor but standard error (for crash reports) and these, which get their places; standard input and output become the
/// null device. Where no requests come, there is none for them.
void keep_only(int answers, int requests) {
  const int null = ::open("/dev/null", O_RDWR | O_CLOEXEC);
  if (null >= 0) {
    ::dup2(null, STDIN_FILENO);
    ::dup2(null, STDOUT_FILENO);
  }
  // By way of places where neither stands in the other's.
  constexpr int kClear = 16;
  const int answers_there = ::fcntl(answers, F_DUPFD, kClear), requests_there = requests < 0 ? -1 : ::fcntl(requests, F_DUPFD, kClear);
  ::dup2(answers_there, kAnswers);
  ::close(kRequests);
  if (requests >= 0) ::dup2(requests_there, kRequests);
  constexpr int kFirst = kRequests + 1;
#ifdef SYS_close_range
  if (::syscall(SYS_close_range, kFirst, ~0U, 0) == 0) return;
#endif
  rlimit limit{};
  int last = 65536;  // kernels before 5.9; nobody here opens more
  if (::getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < 65536) last = static_cast<int>(limit.rlim_cur);
  for (int fd = kFirst; fd < last; ++fd) ::close(fd);
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

struct Frame {
  char type = 0;
  std::vector<char> payload;
  [[nodiscard]] std::string_view text() const { return {payload.data(), payload.size()}; }
};

/// false at the end of the pipe.
Result<bool> read_frame(int fd, Frame& frame) {
  std::array<char, 5> head{};
  if (Result<bool> more = read_whole(fd, head.data(), head.size()); !more || !*more) return more;
  std::uint32_t length = 0;
  std::memcpy(&length, head.data() + 1, sizeof length);
  if (length > kMaxFrame) return fail(broken_frame());
  frame.type = head[0];
  frame.payload.resize(length);
  return read_whole(fd, frame.payload.data(), length);
}

std::string text_of(const Json& body, const char* name) {
  const auto found = body.find(name);
  return found != body.end() && found->is_string() ? found->get<std::string>() : std::string();
}

std::optional<std::uint64_t> number_of(const Json& body, const char* name) {
  const auto found = body.find(name);
  return found != body.end() && found->is_number_unsigned() ? std::optional(found->get<std::uint64_t>()) : std::nullopt;
}

/// Of the parent, which is believed. nullopt: there is nothing more to do.
std::optional<TransferRequest> read_request(int fd) {
  Frame frame;
  const Result<bool> more = read_frame(fd, frame);
  if (!more || !*more || frame.type != kRequest) return std::nullopt;
  const Json body = Json::parse(frame.text(), nullptr, false);
  if (!body.is_object()) return std::nullopt;
  TransferRequest request;
  request.url = text_of(body, "url");
  request.validator = text_of(body, "validator");
  request.have = number_of(body, "have").value_or(0);
  request.total = number_of(body, "total");
  if (body.contains("checked_later")) request.resume = TransferRequest::Resume::checked_later;
  request.redirects = TransferRequest::Redirects::within_origin;
  return request;
}

/// false where the child is gone.
bool send_request(int fd, const TransferRequest& request) {
  Json body = {{"url", request.url}, {"validator", request.validator}, {"have", request.have}};
  if (request.total) body["total"] = *request.total;
  if (request.resume == TransferRequest::Resume::checked_later) body["checked_later"] = true;
  const std::string payload = body.dump(-1, ' ', false, Json::error_handler_t::replace);
  const auto length = static_cast<std::uint32_t>(payload.size());
  std::string frame(1, kRequest);
  frame.append(reinterpret_cast<const char*>(&length), sizeof length) += payload;
  for (std::string_view left = frame; !left.empty();) {
    const ssize_t put = ::send(fd, left.data(), left.size(), MSG_NOSIGNAL);
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) return false;
    left.remove_prefix(static_cast<std::size_t>(put));
  }
  return true;
}

[[noreturn]] void be_the_child(const TransferRequest& request, const FetchOptions& options, const Authorities& authorities, int answers,
                               int requests, pid_t parent) {
  for (const int number : {SIGTERM, SIGINT, SIGHUP, SIGCHLD}) ::signal(number, SIG_DFL);
  ::signal(SIGPIPE, SIG_IGN);
  sigset_t none;
  sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  keep_only(answers, requests);
  FrameWriter writer(kAnswers);
  const std::string kept_root = give_up_root();
  // A container without that user (an unmapped uid) or without the right to change users. Refusing would make such a box useless.
  if (!kept_root.empty()) writer.say("fetching as root: uid 65534 is not to be had here (" + kept_root + ")");
  ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);  // after the change of user, which clears it
  if (::getppid() != parent) ::_exit(1);
  HttpClient client;
  for (std::optional<TransferRequest> next = request; next; next = requests < 0 ? std::nullopt : read_request(kRequests)) {
    if (const Result<TransferEnd> got = client.transfer(*next, options, authorities, writer); got) {
      writer.ended(*got);
    } else {
      writer.failed(got.error());
    }
  }
  ::_exit(0);
}

/// How a transfer ended: by what the child said, which may then be asked for another, or because the sink or a frame was no good.
struct Ended {
  Result<TransferEnd> end;
  enum class By { child, parent } by = By::parent;
};

/// Passes frames on until the child says how the transfer ended. nullopt: the pipe ended before that.
std::optional<Ended> relay(int fd, TransferSink& sink) {
  Frame frame;
  while (true) {
    const Result<bool> more = read_frame(fd, frame);
    if (!more) return Ended{fail(more.error())};
    if (!*more) return std::nullopt;
    if (frame.type == kBytes) {
      if (Result<void> added = sink.add(frame.text()); !added) return Ended{fail(std::move(added).error())};
      continue;
    }
    if (frame.type == kSay) {
      sink.say(frame.text());
      continue;
    }
    if (frame.type == kDone) return Ended{TransferEnd::whole, Ended::By::child};
    if (frame.type == kAway) return Ended{TransferEnd::leads_away, Ended::By::child};
    const Json body = Json::parse(frame.text(), nullptr, false);
    if (!body.is_object()) return Ended{fail(broken_frame())};
    if (frame.type == kFailed)
      return Ended{fail(error_code_from_name(text_of(body, "code")), text_of(body, "why"), text_of(body, "hint")), Ended::By::child};
    const std::optional<std::uint64_t> offset = number_of(body, "offset");
    if (frame.type != kBegin || !offset) return Ended{fail(broken_frame())};
    BodyStart start;
    start.validator = text_of(body, "validator");
    start.offset = *offset;
    if (const auto modified = body.find("modified_s"); modified != body.end() && modified->is_number_integer())
      start.modified_s = modified->get<std::int64_t>();
    start.total = number_of(body, "total");
    if (Result<void> begun = sink.begin(start); !begun) return Ended{fail(std::move(begun).error())};
  }
}

/// A child that begins with `request` and says its answers into the pipe; what it may be asked after that comes by `requests`, if any.
Result<pid_t> start_child(const TransferRequest& request, const FetchOptions& options, const Authorities& authorities, const Pipe& answers,
                          int requests) {
  hold_more(answers.write_end.get());
  const pid_t parent = ::getpid();
  const pid_t child = ::fork();
  if (child < 0) return fail(errno_error(errno, "starting the transfer process"));
  if (child == 0) be_the_child(request, options, authorities, answers.write_end.get(), requests, parent);
  return child;
}

int await_end(pid_t child) {
  int status = 0;
  while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {}
  return status;
}

Error ended_early(int status) {
  const std::string how =
      WIFSIGNALED(status) ? fmt::format("by signal {}", WTERMSIG(status)) : fmt::format("with exit {}", WEXITSTATUS(status));
  return {ErrorCode::network, "the transfer process ended " + how + " before the file was complete",
          "try again; if it happens again, name a mirror and report the address"};
}

/// All that a child was made with, and the server that it speaks with: as it stands in the URL, login included, up to the path.
std::string what_it_serves(const std::string& url, const FetchOptions& options, const Authorities& authorities) {
  const std::size_t host = url.find("://");
  std::string all = host == std::string::npos ? url : url.substr(0, url.find('/', host + 3));
  all +=
      fmt::format("\n{} {} {} {}\n", options.connect_timeout.count(), options.stall.count(), options.first_pause.count(), options.attempts);
  for (const auto& [name, value] : options.proxy) all += fmt::format("{}={}\n", name, value);
  return all + (authorities ? *authorities : authorities.error().sentence());
}

}  // namespace

Result<void> transfer_in_child(const TransferRequest& request, const FetchOptions& options, const Authorities& authorities,
                               TransferSink& sink) {
  Result<Pipe> answers = make_pipe();
  if (!answers) return fail(std::move(answers).error());
  const Result<pid_t> child = start_child(request, options, authorities, *answers, -1);
  if (!child) return fail(child.error());
  answers->write_end.reset();
  const std::optional<Ended> outcome = relay(answers->read_end.get(), sink);
  if (outcome) ::kill(*child, SIGKILL);  // it has said all it had to say, or is not to go on
  answers->read_end.reset();
  const int status = await_end(*child);
  if (!outcome) return fail(ended_early(status));
  return outcome->end ? Result<void>() : fail(outcome->end.error());
}

Result<void> TransferChild::transfer(const TransferRequest& request, const FetchOptions& options, const Authorities& authorities,
                                     TransferSink& sink) {
  if (std::string serves = what_it_serves(request.url, options, authorities); serves != serves_) {
    end();
    serves_ = std::move(serves);
    leads_away_ = false;
  }
  if (leads_away_) return transfer_in_child(request, options, authorities, sink);
  if (pid_ > 0 && !send_request(requests_.get(), request)) end();
  if (pid_ < 0) {
    Result<Pipe> answers = make_pipe();
    if (!answers) return fail(std::move(answers).error());
    std::array<int, 2> ends{};
    if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()) != 0)
      return fail(errno_error(errno, "starting the transfer process"));
    requests_.reset(ends[0]);
    const UniqueFd far_end(ends[1]);
    TransferRequest first = request;
    first.redirects = TransferRequest::Redirects::within_origin;
    const Result<pid_t> child = start_child(first, options, authorities, *answers, far_end.get());
    if (!child) return fail(child.error());
    pid_ = *child;
    answers_ = std::move(answers->read_end);
  }
  const std::optional<Ended> outcome = relay(answers_.get(), sink);
  if (!outcome) {
    answers_.reset();
    return fail(ended_early(await_end(std::exchange(pid_, -1))));
  }
  if (outcome->by == Ended::By::parent) end();
  if (!outcome->end) return fail(outcome->end.error());
  if (*outcome->end == TransferEnd::whole) return {};
  end();
  // From here on it would hear of several servers: each file by a child of its own.
  leads_away_ = true;
  return transfer_in_child(request, options, authorities, sink);
}

void TransferChild::end() {
  if (pid_ < 0) return;
  ::kill(pid_, SIGKILL);
  await_end(std::exchange(pid_, -1));
  requests_.reset();
  answers_.reset();
}

}  // namespace gpustrap
