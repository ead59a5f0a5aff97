#include "controller/ssh_session.h"

#include <fcntl.h>
#include <libssh/callbacks.h>
#include <libssh/libssh.h>
#include <libssh/server.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <thread>
#include <utility>

#include <fmt/format.h>

#include "agent/base/file.h"
#include "agent/base/text.h"
#include "agent/base/unique_fd.h"

namespace gpustrap {
namespace {

using Clock = std::chrono::steady_clock;

/// Read in pieces this large, libssh opens its window far enough for a fast link (speed.md: 170 window turns otherwise).
constexpr std::size_t kReadPiece = 4U << 20U;
/// Between attempts to reach a host whose sshd is not up yet.
constexpr auto kRetryPause = std::chrono::milliseconds(1000);
constexpr auto kLoginLimit = std::chrono::seconds(30);

struct SessionFree {
  void operator()(ssh_session session) const {
    ssh_disconnect(session);
    ssh_free(session);
  }
};
struct KeyFree {
  void operator()(ssh_key key) const { ssh_key_free(key); }
};
struct StringFree {
  void operator()(char* text) const { ssh_string_free_char(text); }
};
using SessionHandle = std::unique_ptr<ssh_session_struct, SessionFree>;
using KeyHandle = std::unique_ptr<ssh_key_struct, KeyFree>;

std::string endpoint(const SshTarget& target) {
  return target.port == 22 ? target.host : fmt::format("{} port {}", target.host, target.port);
}

// ---- the connection underneath

Result<UniqueFd> connect_to_address(const addrinfo& address, std::chrono::milliseconds limit) {
  UniqueFd fd(::socket(address.ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd.valid()) return fail(errno_error(errno, ""));
  if (::connect(fd.get(), address.ai_addr, address.ai_addrlen) != 0) {
    if (errno != EINPROGRESS) return fail(errno_error(errno, ""));
    pollfd entry{fd.get(), POLLOUT, 0};
    int ready = 0;
    do ready = ::poll(&entry, 1, static_cast<int>(limit.count()));
    while (ready < 0 && errno == EINTR);
    if (ready == 0) return fail(ErrorCode::timeout, fmt::format("no answer within {}", human_duration(limit)));
    int reason = 0;
    socklen_t size = sizeof reason;
    ::getsockopt(fd.get(), SOL_SOCKET, SO_ERROR, &reason, &size);
    if (reason != 0) return fail(errno_error(reason, ""));
  }
  const int on = 1;
  ::setsockopt(fd.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);  // 45 ms otherwise, from delayed acknowledgements
  ::setsockopt(fd.get(), SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
  return fd;
}

Result<UniqueFd> connect_directly(const SshTarget& target) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  const int looked_up = ::getaddrinfo(target.host.c_str(), fmt::format("{}", target.port).c_str(), &hints, &found);
  if (looked_up != 0) {
    return fail(ErrorCode::unknown_name, fmt::format("the name {} does not resolve ({})", strip_control(target.host), ::gai_strerror(looked_up)),
                "check its spelling; an EC2 instance has a new public name after each stop and start");
  }
  const std::unique_ptr<addrinfo, void (*)(addrinfo*)> addresses(found, ::freeaddrinfo);
  Error last(ErrorCode::unreachable, "it has no address");
  for (const addrinfo* address = addresses.get(); address != nullptr; address = address->ai_next) {
    Result<UniqueFd> fd = connect_to_address(*address, target.connect_timeout);
    if (fd) return fd;
    last = std::move(fd).error();
  }
  const bool silent = last.code() == ErrorCode::timeout;
  return fail(Error(silent ? ErrorCode::timeout : ErrorCode::unreachable, last.why(),
                    silent ? "is the instance running, and does its security group let SSH (TCP 22) in from your address?"
                           : "is the instance running, and is this its SSH port?")
                  .in("connecting to " + endpoint(target)));
}

/// The user's ProxyCommand, speaking on one end of a socket pair.
Result<UniqueFd> connect_by_command(const SshTarget& target) {
  std::array<int, 2> ends{};
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()) != 0) return fail(errno_error(errno, "making a socket pair"));
  UniqueFd ours(ends[0]);
  const UniqueFd theirs(ends[1]);
  const std::string command = "exec " + target.proxy_command;
  const pid_t child = ::fork();
  if (child < 0) return fail(errno_error(errno, "starting the ProxyCommand"));
  if (child == 0) {
    // The second fork leaves it to init: it ends when the connection does.
    if (::fork() != 0) ::_exit(0);
    ::dup2(theirs.get(), STDIN_FILENO);
    ::dup2(theirs.get(), STDOUT_FILENO);
    ::execl("/bin/sh", "sh", "-c", command.c_str(), nullptr);
    ::_exit(127);
  }
  ::waitpid(child, nullptr, 0);
  return ours;
}

// ---- host key

std::string fingerprint_of(ssh_key key) {
  unsigned char* hash = nullptr;
  std::size_t length = 0;
  if (ssh_get_publickey_hash(key, SSH_PUBLICKEY_HASH_SHA256, &hash, &length) != SSH_OK) return {};
  const std::unique_ptr<char, StringFree> text(ssh_get_fingerprint_hash(SSH_PUBLICKEY_HASH_SHA256, hash, length));
  ssh_clean_pubkey_hash(&hash);
  return text ? text.get() : "";
}

Result<void> check_host_key(ssh_session session, const SshTarget& target, const SshPrompts& prompts) {
  ssh_key raw = nullptr;
  if (ssh_get_server_publickey(session, &raw) != SSH_OK) return fail(ErrorCode::host_key, "the host showed no key");
  const KeyHandle key(raw);
  const std::string type = ssh_key_type_to_char(ssh_key_type(key.get()));
  const std::string fingerprint = fingerprint_of(key.get());
  const std::string name = target.host_key_alias.empty() ? target.host : target.host_key_alias;
  const std::string remove_hint = fmt::format(
      "if the host was made anew, remove the old key and connect again: ssh-keygen -f {} -R {}", shell_quote(target.known_hosts),
      shell_quote(target.port == 22 ? name : fmt::format("[{}]:{}", name, target.port)));
  switch (ssh_session_is_known_server(session)) {
    case SSH_KNOWN_HOSTS_OK: return {};
    case SSH_KNOWN_HOSTS_CHANGED:
      return fail(ErrorCode::host_key, fmt::format("the host key of {} has changed: it now shows {} {}. Someone may be in between.", name, type, fingerprint), remove_hint);
    case SSH_KNOWN_HOSTS_OTHER:
      return fail(ErrorCode::host_key, fmt::format("{} is known by a key of another type, and now shows {} {}", name, type, fingerprint), remove_hint);
    case SSH_KNOWN_HOSTS_NOT_FOUND:
    case SSH_KNOWN_HOSTS_UNKNOWN: break;
    case SSH_KNOWN_HOSTS_ERROR: return fail(ErrorCode::host_key, fmt::format("{} cannot be read: {}", target.known_hosts, ssh_get_error(session)));
  }
  const bool accepted = prompts.accept_new_host_key || (prompts.trust_host_key && prompts.trust_host_key(name, type, fingerprint));
  if (!accepted) {
    return fail(ErrorCode::host_key, fmt::format("{} is not known yet; it shows {} {}", name, type, fingerprint),
                "compare the fingerprint with the one in the instance's console output, then add --accept-new-host-key");
  }
  if (Result<void> made = make_directories(parent_of(target.known_hosts), 0700); !made) return made;
  if (ssh_session_update_known_hosts(session) != SSH_OK) {
    return fail(Error(ErrorCode::io, ssh_get_error(session)).in("writing " + target.known_hosts));
  }
  if (prompts.accept_new_host_key && prompts.notice) prompts.notice(fmt::format("Accepted the new host key of {}: {} {}", name, type, fingerprint));
  return {};
}

// ---- login

/// A passphrase question on its way through libssh.
struct PassphraseAsk {
  const SshPrompts* prompts;
  const std::string* path;
  bool asked = false;
};

int ask_passphrase(const char*, char* buffer, std::size_t size, int, int, void* data) {
  auto* ask = static_cast<PassphraseAsk*>(data);
  ask->asked = true;
  if (!ask->prompts->passphrase) return -1;
  const std::optional<std::string> passphrase = ask->prompts->passphrase(*ask->path);
  if (!passphrase || passphrase->size() >= size) return -1;
  std::memcpy(buffer, passphrase->c_str(), passphrase->size() + 1);
  return 0;
}

Result<KeyHandle> load_key(const std::string& path, const SshPrompts& prompts) {
  const std::string doing = "reading the key " + path;
  struct stat info{};
  if (::stat(path.c_str(), &info) != 0) {
    return fail(Error(ErrorCode::usage, ::strerror(errno), "give the path of the .pem file after -i").in(doing));
  }
  const Result<std::string> text = read_file(path, 1U << 20U);
  if (!text) return fail(text.error());
  if (text->starts_with("PuTTY-User-Key-File")) {
    return fail(Error(ErrorCode::authentication, "it is a PuTTY key, which OpenSSH cannot read",
                      fmt::format("convert it: puttygen {} -O private-openssh -o {}.pem", shell_quote(path), shell_quote(path)))
                    .in(doing));
  }
  if ((info.st_mode & 077U) != 0) {
    return fail(Error(ErrorCode::authentication, fmt::format("others can read it (mode {:04o}), so it must not be used", info.st_mode & 0777U),
                      "run: chmod 400 " + shell_quote(path))
                    .in(doing));
  }
  PassphraseAsk ask{&prompts, &path};
  ssh_key raw = nullptr;
  if (ssh_pki_import_privkey_file(path.c_str(), nullptr, ask_passphrase, &ask, &raw) != SSH_OK) {
    if (ask.asked) {
      return fail(Error(ErrorCode::authentication, prompts.passphrase ? "the passphrase is wrong" : "it is encrypted and nobody can be asked for its passphrase",
                        "load it into an agent first: ssh-add " + shell_quote(path))
                      .in(doing));
    }
    const bool is_public = text->starts_with("ssh-") || text->starts_with("ecdsa-");
    return fail(Error(ErrorCode::authentication, is_public ? "it is the public half of a key" : "it is not a private key",
                      is_public ? "give the file without .pub" : "give the .pem file that EC2 let you download, or the private key that ssh uses")
                    .in(doing));
  }
  return KeyHandle(raw);
}

struct Attempts {
  std::vector<std::string> tried;
  std::optional<Error> key_error;  ///< of a default key that could not be used
};

/// True when the login succeeded.
bool try_key(ssh_session session, const std::string& path, ssh_key key, Attempts& attempts) {
  attempts.tried.push_back(path);
  return ssh_userauth_publickey(session, nullptr, key) == SSH_AUTH_SUCCESS;
}

/// Whether the host would take the public half that lies beside a private key: asked before a passphrase is.
bool public_half_is_refused(ssh_session session, const std::string& path) {
  ssh_key raw = nullptr;
  if (ssh_pki_import_pubkey_file((path + ".pub").c_str(), &raw) != SSH_OK) return false;
  const KeyHandle key(raw);
  return ssh_userauth_try_publickey(session, nullptr, key.get()) != SSH_AUTH_SUCCESS;
}

bool is_encrypted(const std::string& path) {
  SshPrompts nobody;
  PassphraseAsk ask{&nobody, &path};
  ssh_key raw = nullptr;
  if (ssh_pki_import_privkey_file(path.c_str(), nullptr, ask_passphrase, &ask, &raw) == SSH_OK) ssh_key_free(raw);
  return ask.asked;
}

Error login_error(ssh_session session, const SshTarget& target, const Attempts& attempts) {
  const std::string tried = attempts.tried.empty() ? "no key was found to try" : "tried " + join(attempts.tried, ", ");
  std::vector<std::string> others;
  for (const char* user : {"ubuntu", "ec2-user", "admin", "root"}) {
    if (target.user != user) others.emplace_back(user);
  }
  std::string why = fmt::format("{} does not let {} in ({})", endpoint(target), target.user, tried);
  if (attempts.key_error) why += "; " + attempts.key_error->sentence();
  if (ssh_is_connected(session) == 0) why += "; the host ended the connection";
  return {ErrorCode::authentication, why,
          fmt::format("is the key right (-i KEY), and the user? Images use {}: gpustrap … {}@{}", join(others, ", "), others.front(), target.given)};
}

Result<void> log_in(ssh_session session, const SshTarget& target, const SshPrompts& prompts) {
  Attempts attempts;
  for (const std::string& path : target.identities) {
    if (path_exists(path) && is_encrypted(path) && public_half_is_refused(session, path)) {
      attempts.tried.push_back(path);
      continue;
    }
    Result<KeyHandle> key = load_key(path, prompts);
    if (!key) return fail(std::move(key).error());
    if (try_key(session, path, key->get(), attempts)) return {};
  }
  if (!target.agent_socket.empty() && (!target.identities_only || target.identities.empty())) {
    ::setenv("SSH_AUTH_SOCK", target.agent_socket.c_str(), 1);
    if (path_exists(target.agent_socket)) {
      attempts.tried.emplace_back("the keys of the SSH agent");
      if (ssh_userauth_agent(session, nullptr) == SSH_AUTH_SUCCESS) return {};
    }
  }
  for (const std::string& path : target.default_identities) {
    if (ssh_is_connected(session) == 0) break;
    if (is_encrypted(path) && (!prompts.passphrase || public_half_is_refused(session, path))) {
      attempts.tried.push_back(path + " (encrypted)");
      continue;
    }
    Result<KeyHandle> key = load_key(path, prompts);
    if (!key) {
      attempts.key_error = std::move(key).error();
      continue;
    }
    if (try_key(session, path, key->get(), attempts)) return {};
  }
  return fail(login_error(session, target, attempts));
}

/// Channels, requests and anything else that the host asks for of its own accord: refused.
int refuse_message(ssh_session, ssh_message, void*) { return 1; }

}  // namespace

struct SshSession::State {
  SessionHandle handle;
};

struct SshChannel::State {
  std::shared_ptr<void> keep;  // the connection lives for as long as a channel does
  ssh_session session = nullptr;
  ssh_channel channel = nullptr;
  ~State() {
    if (channel != nullptr) ssh_channel_free(channel);
  }
};

// ---- SshSession

SshSession::SshSession(std::shared_ptr<State> state) : state_(std::move(state)) {}
SshSession::~SshSession() = default;
SshSession::SshSession(SshSession&&) noexcept = default;
SshSession& SshSession::operator=(SshSession&&) noexcept = default;

Result<SshSession> SshSession::connect(const SshTarget& target, const SshPrompts& prompts) {
  ::signal(SIGPIPE, SIG_IGN);
  Result<UniqueFd> socket = target.proxy_command.empty() ? connect_directly(target) : connect_by_command(target);
  if (!socket) return fail(std::move(socket).error());
  auto state = std::make_shared<State>();
  state->handle.reset(ssh_new());
  ssh_session session = state->handle.get();
  if (session == nullptr) return fail(ErrorCode::internal, "libssh has no memory for a session");
  const std::string& name = target.host_key_alias.empty() ? target.host : target.host_key_alias;
  const unsigned port = target.port;
  const long limit = kLoginLimit.count();
  const int off = 0;
  ssh_options_set(session, SSH_OPTIONS_PROCESS_CONFIG, &off);
  ssh_options_set(session, SSH_OPTIONS_HOST, name.c_str());  // what known_hosts is asked for; the socket is ours already
  ssh_options_set(session, SSH_OPTIONS_PORT, &port);
  ssh_options_set(session, SSH_OPTIONS_USER, target.user.c_str());
  ssh_options_set(session, SSH_OPTIONS_KNOWNHOSTS, target.known_hosts.c_str());
  ssh_options_set(session, SSH_OPTIONS_GLOBAL_KNOWNHOSTS, target.global_known_hosts.c_str());
  ssh_options_set(session, SSH_OPTIONS_TIMEOUT, &limit);
  if (Result<void> blocking = [&]() -> Result<void> {
        const int flags = ::fcntl(socket->get(), F_GETFL);
        if (flags < 0 || ::fcntl(socket->get(), F_SETFL, flags & ~O_NONBLOCK) != 0) return fail(errno_error(errno, "fcntl"));
        return {};
      }();
      !blocking) {
    return fail(std::move(blocking).error());
  }
  const socket_t fd = socket->release();
  ssh_options_set(session, SSH_OPTIONS_FD, &fd);
  ssh_set_message_callback(session, refuse_message, nullptr);
  if (ssh_connect(session) != SSH_OK) {
    return fail(Error(ErrorCode::unreachable, strip_control(ssh_get_error(session)), "does an SSH server answer there? try: ssh -v " + shell_quote(target.given))
                    .in("greeting " + endpoint(target)));
  }
  if (Result<void> checked = check_host_key(session, target, prompts); !checked) return fail(std::move(checked).error());
  if (Result<void> logged_in = log_in(session, target, prompts); !logged_in) return fail(std::move(logged_in).error());
  ssh_set_blocking(session, 0);
  return SshSession(std::move(state));
}

Result<SshSession> SshSession::connect_patiently(const SshTarget& target, const SshPrompts& prompts, std::chrono::seconds wait,
                                                 const std::function<void(const Error&)>& waiting) {
  const Clock::time_point deadline = Clock::now() + wait;
  while (true) {
    Result<SshSession> session = connect(target, prompts);
    if (session) return session;
    const ErrorCode code = session.error().code();
    const bool may_come = code == ErrorCode::unreachable || code == ErrorCode::timeout;
    if (!may_come || Clock::now() + kRetryPause >= deadline) return session;
    if (waiting) waiting(session.error());
    std::this_thread::sleep_for(kRetryPause);
  }
}

Result<SshChannel> SshSession::exec(const std::string& command, std::string_view input) {
  auto state = std::make_unique<SshChannel::State>();
  ssh_session session = state_->handle.get();
  state->keep = state_;
  state->session = session;
  state->channel = ssh_channel_new(session);
  if (state->channel == nullptr) return fail(ErrorCode::unreachable, "the connection is gone");
  ssh_set_blocking(session, 1);
  const int opened = ssh_channel_open_session(state->channel);
  ssh_set_blocking(session, 0);
  if (opened != SSH_OK) return fail(ErrorCode::unreachable, fmt::format("the host opened no channel: {}", strip_control(ssh_get_error(session))));
  int asked = ssh_channel_request_exec(state->channel, command.c_str());
  SshChannel channel(std::move(state));
  // Not awaited: the first bytes are on their way while the request is.
  while (!input.empty()) {
    Result<std::size_t> sent = channel.write(input);
    if (!sent) return fail(std::move(sent).error());
    input.remove_prefix(*sent);
    if (*sent == 0) {
      pollfd entry{descriptor(), poll_events(), 0};
      ::poll(&entry, 1, 1000);
      pump();
      if (!connected()) return fail(ErrorCode::unreachable, "the connection ended");
    }
  }
  const Clock::time_point deadline = Clock::now() + kLoginLimit;
  while (asked == SSH_AGAIN && Clock::now() < deadline) {
    pollfd entry{descriptor(), poll_events(), 0};
    ::poll(&entry, 1, 1000);
    asked = ssh_channel_request_exec(channel.state_->channel, command.c_str());
  }
  if (asked != SSH_OK) return fail(ErrorCode::unreachable, fmt::format("the host starts no command: {}", strip_control(ssh_get_error(session))));
  return channel;
}

Result<SshChannel> SshSession::forward(std::uint16_t port) {
  auto state = std::make_unique<SshChannel::State>();
  ssh_session session = state_->handle.get();
  state->keep = state_;
  state->session = session;
  state->channel = ssh_channel_new(session);
  if (state->channel == nullptr) return fail(ErrorCode::unreachable, "the connection is gone");
  ssh_set_blocking(session, 1);
  const int opened = ssh_channel_open_forward(state->channel, "127.0.0.1", port, "127.0.0.1", 0);
  ssh_set_blocking(session, 0);
  if (opened != SSH_OK) {
    if (ssh_is_connected(session) == 0) return fail(ErrorCode::unreachable, "the connection ended");
    return fail(ErrorCode::not_found, fmt::format("nothing answers on port {} of the host", port));
  }
  return SshChannel(std::move(state));
}

int SshSession::descriptor() const { return ssh_get_fd(state_->handle.get()); }

short SshSession::poll_events() const {
  const int flags = ssh_get_poll_flags(state_->handle.get());
  return static_cast<short>(POLLIN | ((flags & SSH_WRITE_PENDING) != 0 ? POLLOUT : 0));
}

void SshSession::pump() {
  // An event context without other members reads and dispatches everything that is there, and flushes.
  const std::unique_ptr<ssh_event_struct, void (*)(ssh_event)> event(ssh_event_new(), ssh_event_free);
  if (!event) return;
  if (ssh_event_add_session(event.get(), state_->handle.get()) != SSH_OK) return;
  ssh_event_dopoll(event.get(), 0);
  ssh_event_remove_session(event.get(), state_->handle.get());
}

bool SshSession::connected() const { return ssh_is_connected(state_->handle.get()) != 0; }

std::string SshSession::banner() const {
  const std::unique_ptr<char, StringFree> text(ssh_get_issue_banner(state_->handle.get()));
  return text ? text.get() : "";
}

// ---- SshChannel

SshChannel::SshChannel(std::unique_ptr<State> state) : state_(std::move(state)) {}
SshChannel::~SshChannel() = default;
SshChannel::SshChannel(SshChannel&&) noexcept = default;
SshChannel& SshChannel::operator=(SshChannel&&) noexcept = default;

Result<std::size_t> SshChannel::read(Stream stream, std::string& into) {
  const std::size_t before = into.size();
  into.resize(before + kReadPiece);
  const int got = ssh_channel_read_nonblocking(state_->channel, into.data() + before, kReadPiece, stream == Stream::err ? 1 : 0);
  into.resize(before + static_cast<std::size_t>(std::max(got, 0)));
  if (got == SSH_ERROR) {
    return fail(ErrorCode::unreachable, fmt::format("the connection ended: {}", strip_control(ssh_get_error(state_->session))));
  }
  return static_cast<std::size_t>(std::max(got, 0));  // SSH_EOF is negative, and at_end() says so
}

Result<std::size_t> SshChannel::write(std::string_view bytes) {
  const std::size_t window = ssh_channel_window_size(state_->channel);
  const std::size_t size = std::min(bytes.size(), window);
  if (size == 0) return std::size_t{0};
  const int put = ssh_channel_write(state_->channel, bytes.data(), static_cast<std::uint32_t>(size));
  if (put == SSH_ERROR) {
    return fail(ErrorCode::unreachable, fmt::format("the connection ended: {}", strip_control(ssh_get_error(state_->session))));
  }
  return static_cast<std::size_t>(std::max(put, 0));
}

Result<void> SshChannel::send_end() {
  if (ssh_channel_send_eof(state_->channel) == SSH_ERROR) return fail(ErrorCode::unreachable, "the connection ended");
  return {};
}

bool SshChannel::at_end() const { return ssh_channel_is_eof(state_->channel) != 0 || ssh_channel_is_closed(state_->channel) != 0; }

std::optional<int> SshChannel::exit_status() const {
  const int status = ssh_channel_get_exit_status(state_->channel);
  return status < 0 ? std::nullopt : std::optional<int>(status);
}

}  // namespace gpustrap
