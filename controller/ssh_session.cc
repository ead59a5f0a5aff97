#include "controller/ssh_session.h"

#include <libssh/callbacks.h>
#include <libssh/libssh.h>
#include <libssh/server.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <thread>
#include <utility>

#include <fmt/format.h>

#include "agent/base/file.h"
#include "agent/base/text.h"
#include "agent/base/unique_fd.h"
#include "controller/known_hosts.h"
#include "controller/ssh_agent.h"
#include "controller/ssh_transport.h"

namespace gpustrap {
namespace {

using Clock = std::chrono::steady_clock;

/// How far ahead the host may send on a command's output: 16 MiB is 2.7 Gbit/s at a round trip of 50 ms, where libssh's own window
/// would wait 170 times for 100 MB. Forwarded connections get less: there may be many of them, and a slow browser holds its share.
constexpr std::size_t kCommandWindow = 16U << 20U;
constexpr std::size_t kForwardWindow = 1U << 20U;
/// Most that a read() asks for where nothing is there yet: libssh widens the window to what is asked for.
constexpr std::size_t kReadPiece = 256U << 10U;
/// As long as no more than this has come, libssh's own window of 64000 bytes does, and saying nothing about it saves a packet each way.
constexpr std::size_t kLittle = 16U << 10U;
/// Most that is handed to libssh at once: what the socket does not take, libssh would keep in memory.
constexpr std::size_t kWritePiece = 128U << 10U;
/// Reads of the socket in one pump(), 4 KiB each: others get their turn.
constexpr int kPumpRounds = 256;
/// Between attempts to reach a host whose sshd is not up yet.
constexpr auto kRetryPause = std::chrono::milliseconds(1000);
constexpr auto kLoginLimit = std::chrono::seconds(30);
constexpr std::uint16_t kSshPort = 22;
constexpr const char* kSshdSaysWhy = "does `ssh HOST true` work? if not, sshd's log there says why: journalctl -u ssh";

struct SessionFree {
  void operator()(ssh_session session) const {
    // ssh_disconnect() forgets a socket that it was given, without closing it; this closes it.
    ssh_silent_disconnect(session);
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

// ---- host key

std::string fingerprint_of(ssh_key key) {
  unsigned char* hash = nullptr;
  std::size_t length = 0;
  if (ssh_get_publickey_hash(key, SSH_PUBLICKEY_HASH_SHA256, &hash, &length) != SSH_OK) return {};
  const std::unique_ptr<char, StringFree> text(ssh_get_fingerprint_hash(SSH_PUBLICKEY_HASH_SHA256, hash, length));
  ssh_clean_pubkey_hash(&hash);
  return text ? text.get() : "";
}

std::string base64_of(ssh_key key) {
  char* raw = nullptr;
  if (ssh_pki_export_pubkey_base64(key, &raw) != SSH_OK) return {};
  const std::unique_ptr<char, StringFree> text(raw);
  return text.get();
}

/// As the host stands in known_hosts: an alias without a port.
std::string known_hosts_name(const SshTarget& target) {
  if (!target.host_key_alias.empty()) return target.host_key_alias;
  return target.port == kSshPort ? target.host : fmt::format("[{}]:{}", target.host, target.port);
}

Result<KnownHosts> known_hosts_of(const SshTarget& target) {
  std::vector<std::string> files = {target.known_hosts};
  files.insert(files.end(), target.more_known_hosts.begin(), target.more_known_hosts.end());
  return KnownHosts::read(files, known_hosts_name(target));
}

/// libssh's own algorithms, those first that go with keys the host is known by: it may have keys of other types, too.
std::string host_key_algorithms(const std::vector<std::string>& types) {
  std::vector<std::string> names = {"ssh-ed25519",
                                    "ecdsa-sha2-nistp521",
                                    "ecdsa-sha2-nistp384",
                                    "ecdsa-sha2-nistp256",
                                    "sk-ssh-ed25519@openssh.com",
                                    "sk-ecdsa-sha2-nistp256@openssh.com",
                                    "rsa-sha2-512",
                                    "rsa-sha2-256"};
  std::stable_partition(names.begin(), names.end(), [&](const std::string& name) {
    const std::string type = name.starts_with("rsa-") ? "ssh-rsa" : name;
    return std::find(types.begin(), types.end(), type) != types.end();
  });
  return join(names, ",");
}

Result<void> check_host_key(ssh_session session, const SshTarget& target, const KnownHosts& known, const SshPrompts& prompts) {
  ssh_key raw = nullptr;
  if (ssh_get_server_publickey(session, &raw) != SSH_OK)
    return fail(ErrorCode::internal, "libssh keeps no host key of an exchange that it let pass");
  const KeyHandle key(raw);
  const std::string shown = base64_of(key.get());
  const std::string type = key_type_of(shown);
  const std::string fingerprint = fingerprint_of(key.get());
  const std::string name = target.host_key_alias.empty() ? target.host : target.host_key_alias;
  const KnownHosts::Answer answer = known.ask(shown);
  const std::string remove_hint = fmt::format("if the host was made anew, remove the old key and connect again: ssh-keygen -f {} -R {}",
                                              shell_quote(answer.file), shell_quote(known_hosts_name(target)));
  switch (answer.verdict) {
    case KnownHosts::Verdict::known: return {};
    case KnownHosts::Verdict::revoked:
      return fail(
          ErrorCode::host_key,
          fmt::format("{} shows a key that is marked @revoked in line {} of {}: {} {}", name, answer.line, answer.file, type, fingerprint),
          "it must not be trusted any more: someone else may have it. Ask whoever runs the host for a new key");
    case KnownHosts::Verdict::changed:
      return fail(ErrorCode::host_key,
                  fmt::format("the host key of {} has changed: it now shows {} {}. Someone may be in between.", name, type, fingerprint),
                  remove_hint);
    case KnownHosts::Verdict::other_type:
      return fail(ErrorCode::host_key, fmt::format("{} is known by a key of another type, and now shows {} {}", name, type, fingerprint),
                  remove_hint);
    case KnownHosts::Verdict::unknown: break;
  }
  const bool accepted = prompts.accept_new_host_key || (prompts.trust_host_key && prompts.trust_host_key(name, type, fingerprint));
  if (!accepted) {
    return fail(ErrorCode::host_key, fmt::format("{} is not known yet; it shows {} {}", name, type, fingerprint),
                "compare the fingerprint with the one in the instance's console output, then add --accept-new-host-key");
  }
  if (Result<void> added = add_known_host(target.known_hosts, known_hosts_name(target), shown); !added) return added;
  if (prompts.accept_new_host_key && prompts.notice)
    prompts.notice(fmt::format("Accepted the new host key of {}: {} {}", name, type, fingerprint));
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

/// `opened`: as far as it is known already; a private key takes libcrypto up to a millisecond to read.
Result<KeyHandle> load_key(const std::string& path, const SshPrompts& prompts, KeyHandle opened = nullptr) {
  const std::string doing = "reading the key " + path;
  struct stat info {};
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
    return fail(Error(ErrorCode::authentication,
                      fmt::format("others can read it (mode {:04o}), so it must not be used", info.st_mode & 0777U),
                      "run: chmod 400 " + shell_quote(path))
                    .in(doing));
  }
  if (opened) return opened;
  PassphraseAsk ask{&prompts, &path};
  ssh_key raw = nullptr;
  if (ssh_pki_import_privkey_file(path.c_str(), nullptr, ask_passphrase, &ask, &raw) != SSH_OK) {
    if (ask.asked) {
      return fail(Error(ErrorCode::authentication,
                        prompts.passphrase ? "the passphrase is wrong" : "it is encrypted and nobody can be asked for its passphrase",
                        "load it into an agent first: ssh-add " + shell_quote(path))
                      .in(doing));
    }
    const bool is_public = text->starts_with("ssh-") || text->starts_with("ecdsa-");
    return fail(
        Error(ErrorCode::authentication, is_public ? "it is the public half of a key" : "it is not a private key",
              is_public ? "give the file without .pub" : "give the .pem file that EC2 let you download, or the private key that ssh uses")
            .in(doing));
  }
  return KeyHandle(raw);
}

struct Attempts {
  std::vector<std::string> tried;
  std::optional<Error> key_error;  ///< of a default key that could not be used
  std::optional<Error> locked;     ///< of a key given by -i: it has a passphrase, and nobody can be asked
};

/// True when the login succeeded.
bool try_key(ssh_session session, const std::string& path, ssh_key key, Attempts& attempts) {
  attempts.tried.push_back(path);
  return ssh_userauth_publickey(session, nullptr, key) == SSH_AUTH_SUCCESS;
}

/// What is known of a key without its passphrase: from the file beside it, or its own, where it is in the form of OpenSSH.
KeyHandle public_half_of(const std::string& path) {
  ssh_key raw = nullptr;
  if (ssh_pki_import_pubkey_file((path + ".pub").c_str(), &raw) != SSH_OK && ssh_pki_import_pubkey_file(path.c_str(), &raw) != SSH_OK)
    return nullptr;
  return KeyHandle(raw);
}

/// Whether the host says so of the public half of a key: asked before a passphrase is.
bool public_half_is_refused(ssh_session session, const std::string& path) {
  const KeyHandle key = public_half_of(path);
  return key && ssh_userauth_try_publickey(session, nullptr, key.get()) != SSH_AUTH_SUCCESS;
}

/// How far a key file goes by itself.
struct KeyFile {
  KeyHandle key;              ///< none: it does not open
  bool is_encrypted = false;  ///< it would with a passphrase
};
KeyFile open_key(const std::string& path) {
  SshPrompts nobody;
  PassphraseAsk ask{&nobody, &path};
  ssh_key raw = nullptr;
  if (ssh_pki_import_privkey_file(path.c_str(), nullptr, ask_passphrase, &ask, &raw) == SSH_OK) return {KeyHandle(raw), false};
  return {nullptr, ask.asked};
}

/// What the host said while it was logged in to: its greeting, or why it lets nobody in (pam_nologin).
std::string said_at_login(ssh_session session) {
  const std::unique_ptr<char, StringFree> text(ssh_get_issue_banner(session));
  return text ? first_line(trim(strip_control(text.get()))) : "";
}

/// pam_nologin's words while a host starts or goes down, as systemd writes them: "System is booting up. Unprivileged users are not
/// permitted to log in yet. …", "System is going down. Unprivileged users are not permitted to log in anymore. …".
bool is_starting_or_stopping(std::string_view said) { return said.find("are not permitted to log in") != std::string_view::npos; }

Error login_error(ssh_session session, const SshTarget& target, const Attempts& attempts) {
  const std::string said = said_at_login(session);
  if (is_starting_or_stopping(said))
    return {ErrorCode::unreachable, fmt::format("{} lets nobody in yet: \"{}\"", endpoint_of(target), said),
            "give the same command again in a moment, or let it wait: --wait 5m"};
  const std::string tried = attempts.tried.empty() ? "no key was found to try" : "tried " + join(attempts.tried, ", ");
  std::vector<std::string> others;
  for (const char* user : {"ubuntu", "ec2-user", "admin", "root"}) {
    if (target.user != user) others.emplace_back(user);
  }
  std::string why = fmt::format("{} does not let {} in ({})", endpoint_of(target), target.user, tried);
  if (attempts.key_error) why += "; " + attempts.key_error->sentence();
  if (ssh_is_connected(session) == 0) why += "; the host ended the connection";
  if (!said.empty()) why += fmt::format("; it says: \"{}\"", said);
  return {ErrorCode::authentication, why,
          fmt::format("is the key right (-i KEY), and the user? Images use {}: gpustrap … {}@{}\nof a key that was good before: sshd "
                      "refuses it while others may write to the home or ~/.ssh; there: chmod go-w ~ && chmod 700 ~/.ssh",
                      join(others, ", "), others.front(), target.given)};
}

/// The user's SSH agent, asked for its keys when one of them may be the private half of a file that cannot be used by itself. A file that
/// can is the shorter way: it signs at once, where an agent's key costs a turn to hear whether it is wanted.
class AgentKeys {
 public:
  explicit AgentKeys(const SshTarget& target) : target_(target) {}

  /// Whether the agent has this key, to be offered before others.
  bool hold(const std::string& path) {
    const KeyHandle key = target_.agent_socket.empty() ? nullptr : public_half_of(path);
    const std::string bytes = key ? key_bytes_of(base64_of(key.get())) : "";
    if (!key || std::find(all().begin(), all().end(), bytes) == all().end()) return false;
    wanted_.push_back(bytes);
    paths_.push_back(path);
    return true;
  }

  /// True when the login succeeded.
  bool try_them(ssh_session session, Attempts& attempts) {
    if (target_.agent_socket.empty() || !path_exists(target_.agent_socket) || (target_.identities_only && wanted_.empty())) return false;
    attempts.tried.insert(attempts.tried.end(), paths_.begin(), paths_.end());
    std::unique_ptr<SshAgentView> view;
    if (!wanted_.empty()) {
      Result<SshAgent> agent = SshAgent::connect(target_.agent_socket);
      Result<std::unique_ptr<SshAgentView>> opened = agent ? SshAgentView::open(*std::move(agent), shown()) : fail(agent.error());
      if (!opened) {
        attempts.key_error = std::move(opened).error();
        return false;
      }
      view = *std::move(opened);
    }
    if (!target_.identities_only) attempts.tried.emplace_back("the keys of the SSH agent");
    ssh_options_set(session, SSH_OPTIONS_IDENTITY_AGENT, view ? view->socket().c_str() : target_.agent_socket.c_str());
    return ssh_userauth_agent(session, nullptr) == SSH_AUTH_SUCCESS;
  }

 private:
  const std::vector<std::string>& all() {
    if (all_) return *all_;
    Result<SshAgent> agent = SshAgent::connect(target_.agent_socket);
    all_ = agent ? agent->keys().value_or(std::vector<std::string>()) : std::vector<std::string>();
    return *all_;
  }

  /// Those that go first, and behind them the others, unless the configuration says IdentitiesOnly.
  std::vector<std::string> shown() {
    std::vector<std::string> keys = wanted_;
    for (const std::string& key : all()) {
      if (!target_.identities_only && std::find(wanted_.begin(), wanted_.end(), key) == wanted_.end()) keys.push_back(key);
    }
    return keys;
  }

  const SshTarget& target_;
  std::optional<std::vector<std::string>> all_;
  std::vector<std::string> wanted_, paths_;
};

Result<void> log_in(ssh_session session, const SshTarget& target, const SshPrompts& prompts) {
  Attempts attempts;
  AgentKeys agent(target);
  for (const std::string& path : target.identities) {
    KeyFile file = open_key(path);
    if (!file.key) {
      if (agent.hold(path)) continue;
      const bool is_locked = file.is_encrypted;
      if (is_locked && public_half_is_refused(session, path)) {
        attempts.tried.push_back(path);
        continue;
      }
      if (is_locked && !prompts.passphrase) {
        attempts.locked = load_key(path, prompts).error();
        continue;
      }
    }
    Result<KeyHandle> key = load_key(path, prompts, std::move(file.key));
    if (!key) return fail(std::move(key).error());
    if (try_key(session, path, key->get(), attempts)) return {};
  }
  // A key that the configuration names comes before the agent's others, of which there may be more than the host is willing to hear of.
  std::vector<std::string> later;
  for (const std::string& path : target.configured_identities) {
    if (KeyFile file = open_key(path); file.key) {
      const Result<KeyHandle> key = load_key(path, prompts, std::move(file.key));
      if (key && try_key(session, path, key->get(), attempts)) return {};
      if (!key) attempts.key_error = key.error();
    } else if (!agent.hold(path)) {
      later.push_back(path);
    }
  }
  for (const std::string& path : target.default_identities) {
    if (!target.identities_only || open_key(path).key || !agent.hold(path)) later.push_back(path);
  }
  if (ssh_is_connected(session) != 0 && agent.try_them(session, attempts)) return {};
  for (const std::string& path : later) {
    if (ssh_is_connected(session) == 0) break;
    KeyFile file = open_key(path);
    if (file.is_encrypted && (!prompts.passphrase || public_half_is_refused(session, path))) {
      attempts.tried.push_back(path + " (encrypted)");
      continue;
    }
    Result<KeyHandle> key = load_key(path, prompts, std::move(file.key));
    if (!key) {
      attempts.key_error = std::move(key).error();
      continue;
    }
    if (try_key(session, path, key->get(), attempts)) return {};
  }
  if (attempts.locked) return fail(*std::move(attempts.locked));
  return fail(login_error(session, target, attempts));
}

/// Channels, requests and anything else that the host asks for of its own accord: refused.
int refuse_message(ssh_session, ssh_message, void*) { return 1; }

}  // namespace

struct EventFree {
  void operator()(ssh_event event) const { ssh_event_free(event); }
};

struct SshSession::State {
  SessionHandle handle;
  /// Reads and dispatches what is there for any channel, and flushes. Goes first: it gives the socket back to the session.
  std::unique_ptr<ssh_event_struct, EventFree> event;
  ssh_counter_struct traffic{};  ///< of the socket, kept by libssh
  bool flooded = false;          ///< the host sent more than it was allowed to, and is not listened to any longer
  /// Where a read() puts its bytes first: libssh widens a channel's window to the size that is asked for, and only what has come is
  /// ever touched.
  std::unique_ptr<char[]> scratch{new char[kCommandWindow]};
};

struct SshChannel::State {
  std::shared_ptr<SshSession::State> session;  // the connection lives for as long as a channel does
  ssh_channel channel = nullptr;
  ssh_channel_callbacks_struct callbacks{};
  std::size_t window = kForwardWindow;
  std::size_t taken = kForwardWindow;  ///< bytes read since the window was widened; all of it: widen at the next read
  std::size_t so_far = 0;              ///< bytes read
  bool opening = false;
  std::uint16_t port = 0;  ///< forwarded to

  ssh_session handle() const { return session->handle.get(); }
  bool alive() const { return ssh_is_connected(handle()) != 0 && !session->flooded; }
  Error gone() const {
    if (session->flooded)
      return {ErrorCode::protocol, "the host sends more than it may, without waiting until it is read",
              "this is no SSH server that can be trusted"};
    return {ErrorCode::unreachable, fmt::format("the connection ended: {}", first_line(strip_control(ssh_get_error(handle()))))};
  }

  /// Something came for a channel: `unread` bytes are there now. They stay with libssh until read() takes them. libssh keeps what
  /// goes beyond the window, too, without limit; a host that respects the window never comes to twice its size.
  static int note_data(ssh_session, ssh_channel, void*, std::uint32_t unread, int, void* of) {
    const auto* state = static_cast<const State*>(of);
    if (unread > 2 * state->window) state->session->flooded = true;
    return 0;
  }

  ~State() {
    if (channel == nullptr) return;
    // libssh may keep the channel until the host has closed it, too; it must not call into what is gone.
    ssh_remove_channel_callbacks(channel, &callbacks);
    ssh_channel_free(channel);
  }
};

// ---- SshSession

SshSession::SshSession(std::shared_ptr<State> state) : state_(std::move(state)) {}

Result<SshSession> SshSession::connect(const SshTarget& target, const SshPrompts& prompts) {
  ::signal(SIGPIPE, SIG_IGN);
  const Result<KnownHosts> known = known_hosts_of(target);
  if (!known) return fail(known.error());
  Result<Transport> transport = connect_transport(target);
  if (!transport) return fail(std::move(transport).error());
  auto state = std::make_shared<State>();
  state->handle.reset(ssh_new());
  ssh_session session = state->handle.get();
  if (session == nullptr) return fail(ErrorCode::internal, "libssh has no memory for a session");
  const long limit = kLoginLimit.count();
  const long greeting_limit = std::min(kLoginLimit, target.greeting_timeout).count();
  const int off = 0;
  ssh_options_set(session, SSH_OPTIONS_PROCESS_CONFIG, &off);
  ssh_options_set(session, SSH_OPTIONS_HOST, target.host.c_str());  // wants one, though the socket is ours already
  ssh_options_set(session, SSH_OPTIONS_USER, target.user.c_str());
  ssh_options_set(session, SSH_OPTIONS_KNOWNHOSTS, "/dev/null");  // ours are read by KnownHosts
  ssh_options_set(session, SSH_OPTIONS_GLOBAL_KNOWNHOSTS, "/dev/null");
  if (const std::vector<std::string> types = known->types(); !types.empty())
    ssh_options_set(session, SSH_OPTIONS_HOSTKEYS, host_key_algorithms(types).c_str());
  ssh_options_set(session, SSH_OPTIONS_TIMEOUT, &greeting_limit);
  const socket_t fd = transport->fd.release();
  ssh_options_set(session, SSH_OPTIONS_FD, &fd);
  ssh_set_message_callback(session, refuse_message, nullptr);
  if (ssh_connect(session) != SSH_OK) {
    return fail(Error(ErrorCode::unreachable, first_line(strip_control(ssh_get_error(session))),
                      "does an SSH server answer there? try: ssh -v " + shell_quote(target.given))
                    .in("greeting " + endpoint_of(target)));
  }
  ssh_options_set(session, SSH_OPTIONS_TIMEOUT, &limit);
  if (Result<void> checked = check_host_key(session, target, *known, prompts); !checked) return fail(std::move(checked).error());
  if (Result<void> logged_in = log_in(session, target, prompts); !logged_in) return fail(std::move(logged_in).error());
  ssh_set_blocking(session, 0);
  ssh_set_counters(session, &state->traffic, nullptr);
  state->event.reset(ssh_event_new());
  if (!state->event || ssh_event_add_session(state->event.get(), session) != SSH_OK)
    return fail(ErrorCode::internal, "libssh gives no poll context");
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

Result<SshChannel> SshSession::new_channel() {
  auto state = std::make_unique<SshChannel::State>();
  state->session = state_;
  state->channel = ssh_channel_new(state_->handle.get());
  if (state->channel == nullptr) return fail(ErrorCode::internal, "libssh has no memory for a channel");
  state->callbacks.userdata = state.get();
  state->callbacks.channel_data_function = SshChannel::State::note_data;
  ssh_callbacks_init(&state->callbacks);
  ssh_set_channel_callbacks(state->channel, &state->callbacks);
  return SshChannel(std::move(state));
}

Result<SshChannel> SshSession::exec(const std::string& command, std::string_view input) {
  Result<SshChannel> channel = new_channel();
  if (!channel) return channel;
  ssh_session session = state_->handle.get();
  ssh_channel raw = channel->state_->channel;
  channel->state_->window = channel->state_->taken = kCommandWindow;
  ssh_set_blocking(session, 1);
  const int opened = ssh_channel_open_session(raw);
  ssh_set_blocking(session, 0);
  if (opened != SSH_OK)
    return fail(ErrorCode::unreachable, fmt::format("the host opened no channel: {}", first_line(strip_control(ssh_get_error(session)))),
                kSshdSaysWhy);
  const Clock::time_point deadline = Clock::now() + kLoginLimit;
  int asked = ssh_channel_request_exec(raw, command.c_str());
  // Not awaited: the first bytes are on their way while the request is.
  while (!input.empty()) {
    const std::uint64_t before = arrivals();
    Result<std::size_t> sent = channel->write(input);
    if (!sent) return fail(std::move(sent).error());
    input.remove_prefix(*sent);
    if (*sent > 0) continue;
    if (channel->at_end()) break;  // it ended early; its words say why
    if (Clock::now() > deadline) return fail(ErrorCode::timeout, "the command takes no input", kSshdSaysWhy);
    wait(before, std::chrono::milliseconds(1000));
  }
  while (asked == SSH_AGAIN) {
    const std::uint64_t before = arrivals();
    if (!connected()) return fail(ErrorCode::unreachable, "the connection ended before the command began", "run the same command again");
    if (Clock::now() > deadline) return fail(ErrorCode::timeout, "the host did not say whether it starts the command", kSshdSaysWhy);
    asked = ssh_channel_request_exec(raw, command.c_str());
    if (asked == SSH_AGAIN) wait(before, std::chrono::milliseconds(1000));
  }
  if (asked != SSH_OK)
    return fail(ErrorCode::unreachable, fmt::format("the host starts no command: {}", first_line(strip_control(ssh_get_error(session)))),
                kSshdSaysWhy);
  return channel;
}

Result<SshChannel> SshSession::forward(std::uint16_t port) {
  Result<SshChannel> channel = new_channel();
  if (!channel) return channel;
  channel->state_->opening = true;
  channel->state_->port = port;
  if (Result<bool> opened = channel->is_open(); !opened) return fail(std::move(opened).error());
  return channel;
}

int SshSession::descriptor() const { return ssh_get_fd(state_->handle.get()); }

short SshSession::poll_events() const {
  const int flags = ssh_get_poll_flags(state_->handle.get());
  return static_cast<short>(POLLIN | ((flags & SSH_WRITE_PENDING) != 0 ? POLLOUT : 0));
}

void SshSession::pump() {
  for (int round = 0; round < kPumpRounds; ++round) {
    if (!connected() || ssh_event_dopoll(state_->event.get(), 0) != SSH_OK) return;
  }
}

std::uint64_t SshSession::arrivals() const { return state_->traffic.in_bytes; }

void SshSession::wait(std::uint64_t seen, std::chrono::milliseconds limit) {
  pump();
  if (arrivals() != seen || !connected()) return;
  pollfd entry{descriptor(), poll_events(), 0};
  if (::poll(&entry, 1, static_cast<int>(limit.count())) > 0) pump();
}

void SshSession::ask_for_a_sign() { ssh_send_keepalive(state_->handle.get()); }

void SshSession::give_up() {
  ::shutdown(descriptor(), SHUT_RDWR);
  pump();  // libssh sees the end
}

bool SshSession::connected() const { return ssh_is_connected(state_->handle.get()) != 0 && !state_->flooded; }

// ---- SshChannel

SshChannel::SshChannel(std::unique_ptr<State> state) : state_(std::move(state)) {}
SshChannel::~SshChannel() = default;
SshChannel::SshChannel(SshChannel&&) noexcept = default;
SshChannel& SshChannel::operator=(SshChannel&&) noexcept = default;

Result<bool> SshChannel::is_open() {
  if (!state_->opening) return true;
  // Sends the request the first time, and looks for the answer each time.
  const int opened = ssh_channel_open_forward(state_->channel, "127.0.0.1", state_->port, "127.0.0.1", 0);
  if (opened == SSH_AGAIN) return false;
  state_->opening = false;
  if (opened == SSH_OK) return true;
  if (!state_->alive()) return fail(state_->gone());
  return fail(ErrorCode::not_found, fmt::format("nothing answers on port {} of the host", state_->port));
}

Result<std::size_t> SshChannel::read(Stream stream, std::string& into) {
  if (state_->opening) return std::size_t{0};
  const int is_err = stream == Stream::err ? 1 : 0;
  // All that is there is taken: with every read libssh lets the host send another 1.25 MiB, whatever still waits to be read. A caller
  // that took pieces would fill the memory.
  const int there = ssh_channel_poll(state_->channel, is_err);
  const bool is_little = state_->so_far < kLittle && there < static_cast<int>(kLittle);
  const std::size_t all =
      is_little ? kLittle : std::min(kCommandWindow, std::max(kReadPiece, static_cast<std::size_t>(std::max(there, 0))));
  const bool widen = !is_little && state_->taken >= state_->window / 4;
  char* scratch = state_->session->scratch.get();
  const int got = ssh_channel_read_timeout(state_->channel, scratch,
                                           static_cast<std::uint32_t>(widen ? std::max(all, state_->window) : all), is_err, 0);
  if (got < 0) {
    // A channel that the host has closed without saying that its output ends is simply over.
    if (state_->alive() && ssh_channel_is_closed(state_->channel) != 0) return std::size_t{0};
    return fail(state_->gone());
  }
  if (got == 0 && !state_->alive() && ssh_channel_is_eof(state_->channel) == 0) return fail(state_->gone());
  if (widen) state_->taken = 0;
  state_->taken += static_cast<std::size_t>(got);
  state_->so_far += static_cast<std::size_t>(got);
  into.append(scratch, static_cast<std::size_t>(got));
  return static_cast<std::size_t>(got);
}

Result<std::size_t> SshChannel::write(std::string_view bytes) {
  if (state_->opening) return std::size_t{0};
  if (!state_->alive()) return fail(state_->gone());
  // What the socket has not taken yet waits inside libssh, without limit; so nothing is added to it.
  if ((ssh_get_poll_flags(state_->handle()) & SSH_WRITE_PENDING) != 0) {
    ssh_event_dopoll(state_->session->event.get(), 0);
    if ((ssh_get_poll_flags(state_->handle()) & SSH_WRITE_PENDING) != 0) return std::size_t{0};
  }
  if (!state_->alive()) return fail(state_->gone());
  if (ssh_channel_is_closed(state_->channel) != 0) return fail(ErrorCode::command, "the host has closed the channel");
  const std::size_t window = ssh_channel_window_size(state_->channel);
  const std::size_t size = std::min({bytes.size(), window, kWritePiece});
  if (size == 0) return std::size_t{0};
  const int put = ssh_channel_write(state_->channel, bytes.data(), static_cast<std::uint32_t>(size));
  if (put == SSH_ERROR) return fail(state_->gone());
  return static_cast<std::size_t>(std::max(put, 0));
}

Result<void> SshChannel::send_end() {
  if (ssh_channel_send_eof(state_->channel) == SSH_ERROR) return fail(state_->gone());
  return {};
}

bool SshChannel::at_end() const {
  return !state_->opening && (ssh_channel_is_eof(state_->channel) != 0 || ssh_channel_is_closed(state_->channel) != 0);
}

bool SshChannel::is_closed() const { return !state_->opening && ssh_channel_is_closed(state_->channel) != 0; }

std::optional<int> SshChannel::exit_status() const {
  const int status = ssh_channel_get_exit_status(state_->channel);
  return status < 0 ? std::nullopt : std::optional<int>(status);
}

}  // namespace gpustrap
