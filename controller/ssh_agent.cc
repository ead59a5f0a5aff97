#include "controller/ssh_agent.h"

#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <optional>
#include <utility>

#include <fmt/format.h>

#include "agent/base/file.h"
#include "controller/ssh_wire.h"
#include "controller/unix_socket.h"

namespace gpustrap {
namespace {

/// Messages of the protocol: what begins one.
constexpr char kAskKeys = 11, kKeys = 12;
/// As long as OpenSSH's own agent allows one to be.
constexpr std::size_t kLongestMessage = 256U << 10U;

/// `size` bytes; nothing where the other side ends before.
std::optional<std::string> read_exactly(int fd, std::size_t size) {
  std::string bytes(size, '\0');
  for (std::size_t have = 0; have < size;) {
    const ssize_t got = ::read(fd, bytes.data() + have, size - have);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return std::nullopt;
    have += static_cast<std::size_t>(got);
  }
  return bytes;
}

std::optional<std::string> read_message(int fd) {
  const std::optional<std::string> front = read_exactly(fd, 4);
  if (!front) return std::nullopt;
  std::size_t size = 0;
  for (const char byte : *front) size = size << 8U | static_cast<unsigned char>(byte);
  return size > kLongestMessage ? std::nullopt : read_exactly(fd, size);
}

/// Waits until something is to be had from `fd`; false where the view ends first.
bool wait_for(int fd, int stopped) {
  std::array<pollfd, 2> entries{pollfd{fd, POLLIN, 0}, pollfd{stopped, POLLIN, 0}};
  while (::poll(entries.data(), entries.size(), -1) < 0 && errno == EINTR) {}
  return entries[1].revents == 0;
}

}  // namespace

Result<std::vector<std::string>> agent_keys_in(std::string_view answer) {
  const Error wrong(ErrorCode::protocol, "the SSH agent's answer is none of its protocol's", "does ssh-add -l list its keys?");
  if (answer.size() < 5 || answer[0] != kKeys) return fail(wrong);
  answer.remove_prefix(5);  // and the number of keys, which the bytes tell as well
  std::vector<std::string> keys;
  while (!answer.empty()) {
    const std::optional<std::string_view> key = take_ssh_string(answer);
    if (!key || !take_ssh_string(answer)) return fail(wrong);  // a comment stands behind each
    keys.emplace_back(*key);
  }
  return keys;
}

Result<SshAgent> SshAgent::connect(const std::string& socket) {
  UniqueFd fd = unix_stream_socket();
  const sockaddr_un address = unix_address(socket);
  if (!fd.valid() || ::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0)
    return fail(errno_error(errno, "asking the SSH agent at " + socket));
  return SshAgent(std::move(fd));
}

Result<std::string> SshAgent::ask(std::string_view message) {
  if (Result<void> sent = write_all(fd_.get(), ssh_string(message)); !sent) return fail(std::move(sent).error());
  std::optional<std::string> answer = read_message(fd_.get());
  if (!answer) return fail(ErrorCode::io, "the SSH agent ended without an answer", "does ssh-add -l list its keys?");
  return *std::move(answer);
}

Result<std::vector<std::string>> SshAgent::keys() {
  const Result<std::string> answer = ask({&kAskKeys, 1});
  if (!answer) return fail(answer.error());
  return agent_keys_in(*answer);
}

Result<std::unique_ptr<SshAgentView>> SshAgentView::open(SshAgent agent, const std::vector<std::string>& keys) {
  std::string answer = kKeys + ssh_number(keys.size());
  for (const std::string& key : keys) answer += ssh_string(key) + ssh_string("");
  std::unique_ptr<SshAgentView> view(new SshAgentView(std::move(agent), std::move(answer)));
  std::string folder = "/tmp/gpustrap-XXXXXX";
  if (::mkdtemp(folder.data()) == nullptr) return fail(errno_error(errno, "making a folder in /tmp"));
  view->folder_ = folder;
  view->listener_ = unix_stream_socket();
  const sockaddr_un address = unix_address(view->socket());
  if (!view->listener_.valid() || ::bind(view->listener_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 ||
      ::listen(view->listener_.get(), 1) != 0)
    return fail(errno_error(errno, "listening at " + view->socket()));
  Result<Pipe> pipe = make_pipe();
  if (!pipe) return fail(std::move(pipe).error());
  view->stop_ = std::move(pipe->write_end);
  view->stopped_ = std::move(pipe->read_end);
  view->thread_ = std::thread([of = view.get()] { of->serve(); });
  return view;
}

SshAgentView::~SshAgentView() {
  stop_.reset();
  if (thread_.joinable()) thread_.join();
  if (!folder_.empty()) (void)remove_tree_at(AT_FDCWD, folder_);
}

void SshAgentView::serve() {
  if (!wait_for(listener_.get(), stopped_.get())) return;
  const UniqueFd asking(::accept(listener_.get(), nullptr, nullptr));
  if (asking.valid()) (void)::fcntl(asking.get(), F_SETFD, FD_CLOEXEC);
  while (asking.valid() && wait_for(asking.get(), stopped_.get())) {
    const std::optional<std::string> message = read_message(asking.get());
    if (!message) return;
    const Result<std::string> answer = message->starts_with(kAskKeys) ? Result<std::string>(answer_) : agent_.ask(*message);
    if (!answer || !write_all(asking.get(), ssh_string(*answer))) return;
  }
}

}  // namespace gpustrap
