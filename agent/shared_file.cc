#include "agent/shared_file.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <vector>

#include "agent/base/file.h"
#include "agent/base/sha256.h"
#include "agent/protocol/request.h"
#include "agent/safe_directory.h"

namespace gpustrap {
namespace {

using Clock = std::chrono::steady_clock;

/// Between two looks at a file that grows: what is added to its end at most.
constexpr int kLookEveryMs = 20;
constexpr int kSilenceMs = static_cast<int>(std::chrono::milliseconds(kSilenceLimit).count());
constexpr char kGives = 'g', kTakes = 't', kWhole = 'w';
/// What may be asked for and not be there yet: more than hosts run at once.
constexpr std::size_t kMostAsked = 4096;

std::string socket_path(const std::string& folder, const std::string& sha256) { return folder + "/" + sha256.substr(0, 40); }

bool address_of(const std::string& path, sockaddr_un& address) {
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) return false;
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  return true;
}

UniqueFd new_socket() { return UniqueFd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)); }

/// Until `fd` can do what is asked; false where `other` has something to say, or `limit_ms` is over.
bool await(int fd, short events, int other, int limit_ms) {
  std::array<pollfd, 2> polled = {pollfd{fd, events, 0}, pollfd{other, 0, 0}};
  int ready = 0;
  do ready = ::poll(polled.data(), polled.size(), limit_ms);
  while (ready < 0 && errno == EINTR);
  return ready > 0 && polled[1].revents == 0;
}

ssize_t read_some(int fd, char* into, std::size_t size) {
  ssize_t got = 0;
  do got = ::read(fd, into, size);
  while (got < 0 && errno == EINTR);
  return got;
}

/// What the agent says first: that it gives, or that it takes, and from where.
bool read_how(SharedAnswer& answer, const SharedFiles& files, std::uint64_t have) {
  char how = 0;
  if (!await_shared(answer, files) || read_some(answer.socket.get(), &how, 1) != 1) return false;
  answer.brings = how == kTakes;
  if (!answer.brings) return how == kGives;
  std::array<char, sizeof answer.from> from{};
  if (::recv(answer.socket.get(), from.data(), from.size(), MSG_WAITALL) != static_cast<ssize_t>(from.size())) return false;
  std::memcpy(&answer.from, from.data(), from.size());
  return answer.from <= have;
}

/// A message of one byte; with it the descriptor, where there is one.
struct Message {
  char byte = 0;
  iovec part{&byte, 1};
  alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int))> room{};
  msghdr header{};
  Message() {
    header.msg_iov = &part;
    header.msg_iovlen = 1;
    header.msg_control = room.data();
    header.msg_controllen = room.size();
  }
};

UniqueFd receive_file(int socket) {
  Message message;
  ssize_t got = 0;
  do got = ::recvmsg(socket, &message.header, MSG_CMSG_CLOEXEC);
  while (got < 0 && errno == EINTR);
  const cmsghdr* about = got == 1 ? CMSG_FIRSTHDR(&message.header) : nullptr;
  if (about == nullptr || about->cmsg_type != SCM_RIGHTS) return {};
  int file = -1;
  std::memcpy(&file, CMSG_DATA(about), sizeof file);
  return UniqueFd(file);
}

bool write_patiently(int fd, const char* bytes, std::size_t size) {
  while (size > 0) {
    const ssize_t put = ::write(fd, bytes, size);
    if (put < 0 && errno != EAGAIN && errno != EINTR) return false;
    if (put < 0 && !await(fd, POLLOUT, -1, kSilenceMs)) return false;
    if (put <= 0) continue;
    bytes += put;
    size -= static_cast<std::size_t>(put);
  }
  return true;
}

}  // namespace

SharedAnswer ask_for_shared(const SharedFiles& files, const std::string& sha256, std::uint64_t have) {
  SharedAnswer answer;
  sockaddr_un address{};
  const std::string path = socket_path(files.folder, sha256), locked = path + ".lock";
  if (!address_of(path, address) || !open_directory(files.folder, MissingParents::make)) return answer;
  const UniqueFd lock(::open(locked.c_str(), O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600));
  // Who holds it listens there; a socket that nobody holds is of a process that died.
  if (::chmod(files.folder.c_str(), 0700) != 0 || !lock.valid() || ::flock(lock.get(), LOCK_EX | LOCK_NB) != 0) return answer;
  ::unlink(path.c_str());
  const UniqueFd listener = new_socket();
  if (::bind(listener.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) == 0 && ::listen(listener.get(), 1) == 0) {
    files.say_wanted(sha256, have);
    if (await(listener.get(), POLLIN, files.controller, -1)) answer.socket.reset(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
    if (!read_how(answer, files, have)) answer = {};
  }
  ::unlink(path.c_str());
  ::unlink(locked.c_str());
  ::rmdir(files.folder.c_str());  // where nothing else was fetched ahead
  return answer;
}

bool await_shared(const SharedAnswer& answer, const SharedFiles& files) {
  return answer.socket.valid() && await(answer.socket.get(), POLLIN, files.controller, -1);
}

void hand_over(const SharedAnswer& answer, int file) {
  // Opened anew: the other side is to read only, and not to hold the lock that comes with this one.
  const UniqueFd readable(::open(("/proc/self/fd/" + std::to_string(file)).c_str(), O_RDONLY | O_CLOEXEC));
  if (!readable.valid()) return;
  file = readable.get();
  Message message;
  cmsghdr* about = CMSG_FIRSTHDR(&message.header);
  about->cmsg_level = SOL_SOCKET;
  about->cmsg_type = SCM_RIGHTS;
  about->cmsg_len = CMSG_LEN(sizeof file);
  std::memcpy(CMSG_DATA(about), &file, sizeof file);
  (void)::sendmsg(answer.socket.get(), &message.header, MSG_NOSIGNAL);  // who is gone wants nothing
}

void say_whole(const SharedAnswer& answer) {
  if (answer.socket.valid()) (void)::send(answer.socket.get(), &kWhole, 1, MSG_NOSIGNAL);
}

Result<UniqueFd> connect_to_wanted(const std::string& folder, const std::string& sha256) {
  sockaddr_un address{};
  UniqueFd socket = new_socket();
  if (!is_sha256(sha256) || !address_of(socket_path(folder, sha256), address) ||
      ::connect(socket.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0)
    return fail(ErrorCode::not_found, "no step waits for this file");
  return socket;
}

void give_shared(UniqueFd step, int in, int out) {
  if (!write_patiently(step.get(), &kGives, 1)) return;
  const UniqueFd file = receive_file(step.get());
  std::array<char, 4096> buffer{};
  std::string words, block(kShareBlock, '\0');
  std::vector<std::uint64_t> asked;  // not in the order of the file: who goes on far ahead keeps nobody waiting
  Clock::time_point heard = Clock::now();
  while (true) {
    // The step says when the file is whole.
    std::array<pollfd, 2> polled = {pollfd{in, POLLIN, 0}, pollfd{step.get(), POLLIN, 0}};
    const int ready = ::poll(polled.data(), polled.size(), asked.empty() || !step.valid() ? kSilenceMs : kLookEveryMs);
    if (ready < 0 && errno != EINTR) return;
    if (ready > 0 && polled[1].revents != 0) {
      char word = 0;
      if (read_some(step.get(), &word, 1) != 1 || word != kWhole) return;
      step.reset();
    }
    if (ready > 0 && polled[0].revents != 0) {
      const ssize_t got = read_some(in, buffer.data(), buffer.size());
      if (got <= 0 || words.size() > buffer.size()) return;
      heard = Clock::now();
      words.append(buffer.data(), static_cast<std::size_t>(got));
    }
    if (Clock::now() - heard > kSilenceLimit) return;
    for (std::size_t end = 0; (end = words.find('\n')) != std::string::npos; words.erase(0, end + 1)) {
      std::uint64_t from = 0;
      // An empty line only says that somebody is there.
      if (std::from_chars(words.data(), words.data() + end, from).ptr == words.data()) continue;
      if (asked.size() == kMostAsked) return;
      asked.push_back(from);
    }
    const bool is_final = !step.valid();
    bool is_gone = false;
    std::erase_if(asked, [&](std::uint64_t from) {
      std::size_t there = 0;
      ssize_t got = 1;
      while (got > 0 && there < block.size() && !is_gone) {
        got = ::pread(file.get(), block.data() + there, block.size() - there, static_cast<off_t>(from + there));
        if (got > 0) there += static_cast<std::size_t>(got);
      }
      if (is_gone || (there < block.size() && !is_final)) return false;  // the rest of it is still to come
      const std::string head = std::to_string(from) + " " + std::to_string(there) + "\n";
      is_gone = !write_patiently(out, head.data(), head.size()) || !write_patiently(out, block.data(), there);
      return true;
    });
    if (is_gone) return;
  }
}

void take_shared(UniqueFd step, int in, std::uint64_t from) {
  std::array<char, 64 * 1024> buffer{};
  buffer[0] = kTakes;
  std::memcpy(buffer.data() + 1, &from, sizeof from);
  if (!write_patiently(step.get(), buffer.data(), 1 + sizeof from)) return;
  while (await(in, POLLIN, step.get(), -1)) {
    const ssize_t got = read_some(in, buffer.data(), buffer.size());
    if (got <= 0 || !write_patiently(step.get(), buffer.data(), static_cast<std::size_t>(got))) return;
  }
}

}  // namespace gpustrap
