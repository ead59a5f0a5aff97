#include "controller/notebook.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <memory>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <openssl/ssl.h>

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

struct SslFree {
  void operator()(SSL* ssl) const { SSL_free(ssl); }
  void operator()(SSL_CTX* context) const { SSL_CTX_free(context); }
};

/// A connection to the tunnel's end, which never blocks: bytes move only while the tunnel is pumped.
class Connection {
 public:
  static Result<Connection> open(std::uint16_t port, Transport transport) {
    Connection connection;
    connection.fd_ = UniqueFd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    const int fd = connection.fd_.get();
    if (fd < 0) return fail(errno_error(errno, "making a socket"));
    if (Result<void> set = set_nonblocking(fd); !set) return fail(std::move(set).error());
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (::connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 && errno != EINPROGRESS) {
      return fail(errno_error(errno, fmt::format("connecting to 127.0.0.1:{}", port)));
    }
    if (transport == Transport::plain) return connection;
    const std::unique_ptr<SSL_CTX, SslFree> context(SSL_CTX_new(TLS_client_method()));
    connection.ssl_.reset(context ? SSL_new(context.get()) : nullptr);
    if (!connection.ssl_ || SSL_set_fd(connection.ssl_.get(), fd) != 1) return fail(ErrorCode::internal, "TLS cannot be used here");
    SSL_set_connect_state(connection.ssl_.get());
    return connection;
  }

  /// How many bytes went out; 0 where none can yet.
  Result<std::size_t> send(std::string_view bytes) {
    if (ssl_) {
      std::size_t put = 0;
      if (SSL_write_ex(ssl_.get(), bytes.data(), bytes.size(), &put) == 1) return put;
      if (waits()) return std::size_t{0};
      return fail(ErrorCode::tls, "it does not speak TLS");
    }
    const ssize_t put = ::send(fd_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (put > 0) return static_cast<std::size_t>(put);
    if (errno == EAGAIN || errno == ENOTCONN || errno == EINTR) return std::size_t{0};
    return fail(errno_error(errno, "asking the notebook"));
  }

  /// Adds what is there; false at the end.
  Result<bool> receive(std::string& into) {
    std::array<char, 1024> buffer{};
    if (ssl_) {
      std::size_t got = 0;
      const bool any = SSL_read_ex(ssl_.get(), buffer.data(), buffer.size(), &got) == 1;
      into.append(buffer.data(), got);
      return any || waits();
    }
    const ssize_t got = ::recv(fd_.get(), buffer.data(), buffer.size(), 0);
    if (got > 0) into.append(buffer.data(), static_cast<std::size_t>(got));
    if (got < 0 && errno != EAGAIN && errno != EINTR) return fail(errno_error(errno, "reading the notebook's answer"));
    return got != 0;
  }

 private:
  Connection() = default;
  [[nodiscard]] bool waits() const {
    const int why = SSL_get_error(ssl_.get(), 0);
    return why == SSL_ERROR_WANT_READ || why == SSL_ERROR_WANT_WRITE;
  }

  UniqueFd fd_;
  std::unique_ptr<SSL, SslFree> ssl_;
};

/// The first line of the answer to one GET; bytes move only while `pump` runs.
Result<std::string> ask_once(std::uint16_t port, const std::string& token, Transport transport, Clock::time_point deadline,
                             const std::function<Result<void>(milliseconds)>& pump) {
  Result<Connection> connection = Connection::open(port, transport);
  if (!connection) return fail(std::move(connection).error());
  std::string unsent =
      fmt::format("GET /api/status HTTP/1.1\r\nHost: localhost:{}\r\nAuthorization: token {}\r\nConnection: close\r\n\r\n", port, token);
  std::string answer;
  while (Clock::now() < deadline) {
    if (Result<void> carried = pump(milliseconds(50)); !carried) return fail(std::move(carried).error());
    if (!unsent.empty()) {
      const Result<std::size_t> put = connection->send(unsent);
      if (!put) return fail(put.error());
      unsent.erase(0, *put);
      continue;
    }
    const Result<bool> more = connection->receive(answer);
    if (!more) return fail(more.error());
    if (answer.find('\n') != std::string::npos || answer.size() > kAnswerLimit) return strip_control(first_line(answer, 100));
    if (!*more) return fail(ErrorCode::network, "the connection was closed without an answer");
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
    return NotebookPlace{jupyter.name, jupyter.port.number, jupyter.is_public};
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
  const auto tls = reply.find("tls");
  read.place.tls = tls != reply.end() && tls->is_boolean() && tls->get<bool>();
  return read;
}

Notebook notebook_at(std::uint16_t local_port, const std::string& token, Transport transport) {
  const std::string url = fmt::format("http{}://localhost:{}/lab", transport == Transport::tls ? "s" : "", local_port);
  return Notebook{url + "?token=" + token, url, false, ""};
}

Result<void> prove_notebook(std::uint16_t port, const std::string& token, Transport transport, milliseconds limit,
                            const std::function<Result<void>(milliseconds)>& pump) {
  const Clock::time_point deadline = Clock::now() + limit;
  Error last(ErrorCode::timeout, "no answer in time");
  while (Clock::now() < deadline) {
    const Result<std::string> line = ask_once(port, token, transport, deadline, pump);
    if (line) {
      const std::vector<std::string> parts = words(*line);
      if (parts.size() >= 2 && parts[0].starts_with("HTTP/") && parts[1] == "200") return {};
      // 401 and 403 will not become better by asking again.
      last = Error(ErrorCode::network, fmt::format("it answered `{}`", *line));
      if (parts.size() >= 2 && (parts[1] == "401" || parts[1] == "403")) break;
    } else {
      // What was seen before says more than that there was no time for another look.
      if (line.error().code() != ErrorCode::timeout || last.code() == ErrorCode::timeout) last = line.error();
      if (last.code() == ErrorCode::unreachable) break;
    }
    const Clock::time_point again = std::min(deadline, Clock::now() + milliseconds(300));
    while (Clock::now() < again) {
      if (Result<void> carried = pump(milliseconds(50)); !carried) return fail(std::move(carried).error());
    }
  }
  return fail(std::move(last)
                  .in(fmt::format("asking the notebook through the tunnel on port {}", port))
                  .with_hint("the same `gpustrap up` again looks after its service; `gpustrap logs HOST` shows what became of it"));
}

}  // namespace gpustrap
