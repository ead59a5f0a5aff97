#include "controller/notebook.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "agent/base/file.h"
#include "agent/base/text.h"
#include "agent/base/unique_fd.h"
#include "agent/protocol/json.h"

namespace gpustrap {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

/// Of an answer only the first line matters; a server that sends endless headers is not read to their end.
constexpr std::size_t kAnswerLimit = 4096;

bool is_token(std::string_view token) {
  const auto allowed = [](char c) {
    return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '.' || c == '_' || c == '-';
  };
  return token.size() >= 16 && token.size() <= 128 && std::all_of(token.begin(), token.end(), allowed);
}

/// The first line of the answer to one GET; bytes move only while `pump` runs.
Result<std::string> ask_once(std::uint16_t port, const std::string& token, Clock::time_point deadline,
                             const std::function<Result<void>(milliseconds)>& pump) {
  const UniqueFd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!fd.valid()) return fail(errno_error(errno, "making a socket"));
  if (Result<void> set = set_nonblocking(fd.get()); !set) return fail(std::move(set).error());
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 && errno != EINPROGRESS) {
    return fail(errno_error(errno, fmt::format("connecting to 127.0.0.1:{}", port)));
  }
  std::string unsent =
      fmt::format("GET /api/status HTTP/1.1\r\nHost: localhost:{}\r\nAuthorization: token {}\r\nConnection: close\r\n\r\n", port, token);
  std::string answer;
  while (Clock::now() < deadline) {
    if (Result<void> carried = pump(milliseconds(50)); !carried) return fail(std::move(carried).error());
    if (!unsent.empty()) {
      const ssize_t put = ::send(fd.get(), unsent.data(), unsent.size(), MSG_NOSIGNAL);
      if (put > 0)
        unsent.erase(0, static_cast<std::size_t>(put));
      else if (errno != EAGAIN && errno != ENOTCONN && errno != EINTR)
        return fail(errno_error(errno, "asking the notebook"));
      continue;
    }
    std::array<char, 1024> buffer{};
    const ssize_t got = ::recv(fd.get(), buffer.data(), buffer.size(), 0);
    if (got > 0) answer.append(buffer.data(), static_cast<std::size_t>(got));
    if (got == 0 && answer.find('\n') == std::string::npos) return fail(ErrorCode::network, "the connection was closed without an answer");
    if (got < 0 && errno != EAGAIN && errno != EINTR) return fail(errno_error(errno, "reading the notebook's answer"));
    if (answer.find('\n') != std::string::npos || answer.size() > kAnswerLimit) return strip_control(first_line(answer, 100));
  }
  return fail(ErrorCode::timeout, "no answer in time");
}

}  // namespace

std::optional<NotebookPlace> notebook_of(const Recipe& recipe) {
  for (const StepEntry& step : recipe.steps) {
    if (step.kind != StepKind::jupyter || !step.spec) continue;
    std::vector<FieldProblem> problems;
    const StepSpec spec = read_step_spec(step.kind, *step.spec, "", Placeholders::allowed, problems);
    const auto& jupyter = std::get<JupyterSpec>(spec);
    return NotebookPlace{jupyter.name, jupyter.port.number};
  }
  return std::nullopt;
}

Result<NotebookToken> read_token(const Json& reply) {
  NotebookToken read;
  const auto text = [&](const char* name) {
    const auto member = reply.find(name);
    return member != reply.end() && member->is_string() ? member->get<std::string>() : std::string();
  };
  read.token = text("token");
  if (!is_token(read.token)) {
    return fail(ErrorCode::protocol, "the host's token is not one: 16 to 128 letters, digits, '.', '_' or '-' were expected",
                "run `gpustrap up` again; it writes a new one");
  }
  read.place.service = text("service");
  const auto port = reply.find("port");
  const std::uint64_t number = port != reply.end() && port->is_number_unsigned() ? port->get<std::uint64_t>() : 0;
  if (number == 0 || number > 65535) return fail(ErrorCode::protocol, "the host did not say its notebook's port");
  read.place.port = static_cast<std::uint16_t>(number);
  return read;
}

Notebook notebook_at(std::uint16_t local_port, const std::string& token) {
  const std::string url = fmt::format("http://localhost:{}/lab", local_port);
  return Notebook{url + "?token=" + token, url, false};
}

Result<void> prove_notebook(std::uint16_t port, const std::string& token, milliseconds limit,
                            const std::function<Result<void>(milliseconds)>& pump) {
  const Clock::time_point deadline = Clock::now() + limit;
  Error last(ErrorCode::timeout, "no answer in time");
  while (Clock::now() < deadline) {
    const Result<std::string> line = ask_once(port, token, deadline, pump);
    if (line) {
      const std::vector<std::string> parts = words(*line);
      if (parts.size() >= 2 && parts[0].starts_with("HTTP/") && parts[1] == "200") return {};
      // 401 and 403 will not become better by asking again.
      last = Error(ErrorCode::network, fmt::format("it answered `{}`", *line));
      if (parts.size() >= 2 && (parts[1] == "401" || parts[1] == "403")) break;
    } else {
      last = line.error();
      if (last.code() == ErrorCode::unreachable) break;
    }
    const Clock::time_point again = std::min(deadline, Clock::now() + milliseconds(300));
    while (Clock::now() < again) {
      if (Result<void> carried = pump(milliseconds(50)); !carried) return fail(std::move(carried).error());
    }
  }
  return fail(std::move(last).in(fmt::format("asking the notebook through the tunnel on port {}", port)));
}

}  // namespace gpustrap
