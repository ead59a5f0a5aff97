#include "agent/control_socket.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

#include "agent/base/file.h"
#include "agent/base/text.h"
#include "agent/private_memory.h"
#include "agent/protocol/json.h"

namespace gpustrap {
namespace {

Result<sockaddr_un> address_of(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof(address.sun_path))
    return fail(ErrorCode::io, "the socket's path is too long: " + path, "give a shorter folder: --runtime=DIR");
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  return address;
}

}  // namespace

Result<ControlSocket> ControlSocket::listen(const std::string& path) {
  Result<sockaddr_un> address = address_of(path);
  if (!address) return fail(std::move(address).error());
  if (Result<void> made = make_directories(parent_of(path), 0700); !made) return fail(std::move(made).error());
  ::unlink(path.c_str());  // of a runner that died: the run lock says that there is no other
  UniqueFd listener(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!listener.valid()) return fail(errno_error(errno, "making " + path));
  const mode_t before = ::umask(0177);
  const int bound = ::bind(listener.get(), reinterpret_cast<const sockaddr*>(&*address), sizeof(*address));
  ::umask(before);
  if (bound != 0 || ::listen(listener.get(), 16) != 0) return fail(errno_error(errno, "listening on " + path));
  return ControlSocket(std::move(listener), path);
}

ControlSocket::~ControlSocket() {
  if (listener_.valid()) ::unlink(path_.c_str());
}

void ControlSocket::descriptors(std::vector<int>& into) const {
  into.push_back(listener_.get());
  for (const auto& [fd, client] : clients_) into.push_back(fd);
}

void ControlSocket::readable(int descriptor, const ControlHandlers& handlers) {
  if (descriptor == listener_.get()) {
    UniqueFd fd(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (fd.valid()) {
      const int number = fd.get();
      clients_[number].fd = std::move(fd);
    }
    return;
  }
  const auto found = clients_.find(descriptor);
  if (found == clients_.end()) return;
  std::array<char, 4096> buffer{};
  const ssize_t got = ::read(descriptor, buffer.data(), buffer.size());
  if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (got <= 0) {
    clients_.erase(found);
    return;
  }
  found->second.lines.add({buffer.data(), static_cast<std::size_t>(got)});
  while (true) {
    Result<std::optional<std::string>> line = found->second.lines.next();
    if (!line) {
      clients_.erase(found);
      return;
    }
    if (!line->has_value()) return;
    Result<Json> request = parse_line(**line);
    if (!request) continue;
    if (request->contains("cancel") && request->at("cancel").is_string())
      handlers.cancel(request->at("cancel").get<std::string>(), request->value("now", Json()) == true);
    if (const auto secrets = request->find("secrets"); secrets != request->end() && secrets->is_object()) {
      SecretValues values;
      for (auto& [name, value] : secrets->items()) {
        if (value.is_string()) values[name] = std::move(value.get_ref<std::string&>());
      }
      handlers.secrets(values);
      clear_text(**line);
      for (auto& [name, value] : values) clear_text(value);
    }
  }
}

Result<void> send_secrets(const std::string& path, const SecretValues& values) {
  Result<UniqueFd> socket = connect_control_socket(path);
  if (!socket) return fail(std::move(socket).error());
  // Longer than a socket takes at once: wait for a runner that is busy for a moment.
  const timeval limit{10, 0};
  const int flags = ::fcntl(socket->get(), F_GETFL);
  if (flags < 0 || ::fcntl(socket->get(), F_SETFL, flags & ~O_NONBLOCK) != 0 ||
      ::setsockopt(socket->get(), SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit) != 0) {
    return fail(errno_error(errno, "speaking to the runner"));
  }
  std::string line = to_line(Json{{"secrets", values}});
  Result<void> sent = write_all(socket->get(), line);
  clear_text(line);
  if (!sent) return fail(std::move(sent).error().in("handing secrets to the runner"));
  return {};
}

void ControlSocket::broadcast(const std::string& line) {
  for (auto& [fd, client] : clients_) {
    // Signals may be dropped, but never in part: what does not fit is not sent. A stream socket takes a short line whole or not at all.
    const ssize_t sent = ::send(fd, line.data(), line.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent >= 0 && static_cast<std::size_t>(sent) < line.size()) ::shutdown(fd, SHUT_RDWR);
  }
}

Result<UniqueFd> connect_control_socket(const std::string& path) {
  Result<sockaddr_un> address = address_of(path);
  if (!address) return fail(std::move(address).error());
  UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd.valid()) return fail(errno_error(errno, "connecting to " + path));
  if (::connect(fd.get(), reinterpret_cast<const sockaddr*>(&*address), sizeof(*address)) != 0) {
    return fail(ErrorCode::not_found, "no run is in progress");
  }
  return fd;
}

}  // namespace gpustrap
