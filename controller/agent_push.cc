#include "controller/agent_push.h"

#include <sys/random.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <chrono>
#include <system_error>
#include <utility>

#include <fmt/format.h>

#include "agent/base/text.h"
#include "agent/protocol/json.h"
#include "agent/protocol/line.h"
#include "controller/host_shell.h"
#include "controller/login_shell.h"
#include "controller/ssh_link.h"

namespace gpustrap {
namespace {

using Clock = std::chrono::steady_clock;

/// From the exec to hello: a slow host's sudo, PAM and profile.
constexpr auto kHelloLimit = std::chrono::seconds(30);
/// What may come before hello: message of the day, a profile's chatter.
constexpr std::size_t kChatterLimit = 64U << 10U;
/// No byte of an upload taken for this long.
constexpr auto kUploadStall = std::chrono::seconds(60);
/// From the end of a command's output to its exit status, which sshd sends as a message of its own.
constexpr auto kStatusLimit = std::chrono::seconds(2);

constexpr std::string_view kSystemFolder = "/usr/local/lib/gpustrap";
constexpr std::string_view kUserFolder = "$HOME/.local/lib/gpustrap";

/// What the start text printed instead of starting an agent.
struct Absent {
  std::string arch;
  bool root = false;
  bool has_gzip = true;
  bool user = false;
  bool takes = false;    ///< the same command waits for the packed agent, and starts it
  std::size_t kept = 0;  ///< its first bytes are there, from an upload that was cut
};

std::optional<Absent> absent_in(const std::string& line) {
  const std::vector<std::string> parts = words(line);
  if (parts.size() != 7 || parts[0] != "gpustrap-absent") return std::nullopt;
  std::size_t kept = 0;
  const std::string& number = parts[6];
  // No number: refused as more than there is.
  if (std::from_chars(number.data(), number.data() + number.size(), kept).ec != std::errc()) kept = std::string::npos;
  return Absent{parts[1], parts[2] == "0", parts[3] != "raw", parts[4] == "user", parts[5] == "takes", kept};
}

/// The user that a host asks for: `Please login as the user "ubuntu" rather than the user "root".`
std::string user_asked_for(std::string_view text) {
  constexpr std::string_view kPhrase = "login as the user \"";
  const std::size_t at = text.find(kPhrase);
  if (at == std::string_view::npos) return {};
  const std::string_view rest = text.substr(at + kPhrase.size());
  const std::string name(rest.substr(0, rest.find('"')));
  const bool plain =
      !name.empty() && name.size() <= 32 && name.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789_-") == std::string::npos;
  return plain ? name : std::string();
}

Error sudo_error(const std::string& words) {
  if (words.find("must have a tty") != std::string::npos)
    return {ErrorCode::authentication,
            "the recipe needs root, and sudo works at a terminal alone: " + first_line(strip_control(last_lines(words, 1))),
            "`Defaults:USER !requiretty` in a file of /etc/sudoers.d lets programs use it: `gpustrap doctor HOST` has the command"};
  const bool wants_password =
      words.find("password is required") != std::string::npos || words.find("terminal is required") != std::string::npos;
  return {ErrorCode::authentication, "the recipe needs root, and sudo refuses: " + first_line(strip_control(last_lines(words, 1))),
          wants_password ? "add --ask-sudo-password, or log in as a user who needs none"
                         : "log in as root or as a user in the sudoers file; a recipe whose steps are all `as: login` needs no sudo"};
}

Error no_hello(const std::string& out, const std::string& err, std::optional<int> status) {
  const std::string all = out + err;
  if (std::optional<Error> wrong = wrong_user(all)) return *std::move(wrong);
  if (err.find("sudo:") != std::string::npos || err.find("sudoers") != std::string::npos) return sudo_error(err);
  const std::string said = first_line(strip_control(trim(err.empty() ? out : err)));
  if (err.find("No space left") != std::string::npos)
    return {ErrorCode::no_space, said, "make room on the host (df -h), then run the same command again"};
  // The command says something whatever becomes of it.
  if (said.empty()) return login_shell_error(ShellFault::ended, status, "");
  return {ErrorCode::protocol,
          fmt::format("the agent did not say hello{}; the host said: {}", status ? fmt::format(" (exit {})", *status) : "", said),
          "where these are words of a login file (~/.bashrc, ~/.zshenv, config.fish), it ends what it should let pass: `gpustrap doctor "
          "HOST` says more"};
}

/// A channel whose command is to say hello, or what else.
struct Start {
  SshSession& session;
  SshChannel channel;
  std::string out{};
  std::string err{};

  /// Takes what has arrived; the number of bytes. Error protocol for endless messages: a host's words are no reason to keep for ever.
  Result<std::size_t> take() {
    const Result<std::size_t> said = channel.read(SshChannel::Stream::out, out);
    if (!said) return said;
    const Result<std::size_t> words = channel.read(SshChannel::Stream::err, err);
    if (!words) return words;
    // What came beside them may be the hello, which is for the caller to see.
    if (err.size() > kChatterLimit && *said == 0) {
      return fail(ErrorCode::protocol, "more than 64 KiB of messages came instead of an agent's hello: " + first_line(strip_control(err)),
                  "a login script or sudo prints without end: ~/.bashrc (bash), ~/.zshenv (zsh), config.fish (fish)");
    }
    return *said + *words;
  }

  /// Waits for more; false at the end of the command. Error timeout where `deadline` has passed, however much is being said.
  Result<bool> more(Clock::time_point deadline) {
    while (true) {
      const std::uint64_t seen = session.arrivals();
      const Result<std::size_t> taken = take();
      if (!taken) return fail(taken.error());
      if (Clock::now() >= deadline) {
        const std::string& said = err.empty() ? out : err;
        if (said.empty()) return fail(login_shell_error(ShellFault::waits, std::nullopt, ""));
        return fail(ErrorCode::timeout, "the host did not start the agent in time; it said: " + first_line(strip_control(said)),
                    "a login file or sudo waits for something: `gpustrap doctor HOST` says more");
      }
      if (*taken > 0) return true;
      if (channel.at_end() || !session.connected()) return false;
      session.wait(seen, std::chrono::milliseconds(200));
    }
  }

  /// The exit status of a command whose output has ended; none where the host does not say it in time.
  std::optional<int> status() {
    const Clock::time_point deadline = Clock::now() + kStatusLimit;
    while (true) {
      const std::uint64_t seen = session.arrivals();
      const std::optional<int> status = channel.exit_status();
      if (status || channel.is_closed() || !session.connected() || Clock::now() >= deadline) return status;
      session.wait(seen, std::chrono::milliseconds(200));
    }
  }
};

using Uploading = std::function<void(std::size_t done, std::size_t total)>;

/// Also returns where the command ended before it took everything: then its words say why. `before`: what the host had already.
Result<void> send_all(Start& start, std::string_view bytes, const Uploading& progress, std::size_t before = 0) {
  SshSession& session = start.session;
  SshChannel& channel = start.channel;
  const std::size_t total = before + bytes.size();
  Clock::time_point last = Clock::now();
  while (!bytes.empty()) {
    const std::uint64_t seen = session.arrivals();
    Result<std::size_t> put = channel.write(bytes);
    if (!put && session.connected()) return {};  // this channel alone is closed
    if (!put) return fail(std::move(put).error());
    bytes.remove_prefix(*put);
    if (*put > 0) {
      last = Clock::now();
      if (progress) progress(total - bytes.size(), total);
      continue;
    }
    // A channel counts as open for as long as it holds words that nobody took.
    if (const Result<std::size_t> taken = start.take(); !taken) return fail(taken.error());
    if (channel.at_end() || start.out.size() > kChatterLimit) return {};
    if (Clock::now() - last > kUploadStall)
      return fail(ErrorCode::timeout, "the host took no byte of the agent for a minute",
                  "its disk or its network is stuck: `gpustrap doctor HOST` says more");
    session.wait(seen, std::chrono::milliseconds(200));
  }
  return {};
}

/// Answers sudo's prompt: the password is written only after the nonce has been seen, and a second prompt means that it was wrong.
Result<void> answer_sudo(Start& start, const std::string& nonce, const std::string& password) {
  const Clock::time_point deadline = Clock::now() + kHelloLimit;
  while (start.err.find(nonce) == std::string::npos) {
    Result<bool> more = start.more(deadline);
    if (!more) return fail(std::move(more).error());
    if (!*more || start.out.find("gpustrap-absent") != std::string::npos || start.out.size() > kChatterLimit) return {};
  }
  start.err.erase(0, start.err.find(nonce) + nonce.size());
  return send_all(start, password + "\n", {});
}

/// Why an agent that was sent is not there, by what the host said.
Error upload_error(const Start& start) {
  if (start.err.find("sudo:") != std::string::npos) return sudo_error(start.err);
  const bool full = start.err.find("No space left") != std::string::npos;
  return Error(full ? ErrorCode::no_space : ErrorCode::io,
               first_line(strip_control(start.err.empty() ? "the host did not confirm it" : last_lines(start.err, 1))),
               full ? "make room on the host (df -h), then run the same command again"
                    : "is /usr/local writable? a mount with noexec or ro would do this")
      .in("uploading the agent");
}

Result<void> upload(SshSession& session, const PushOptions& options, const EmbeddedAgent& agent, const Absent& absent) {
  UploadPlan plan;
  plan.digest = agent.digest;
  plan.nonce = make_nonce();
  plan.packed = absent.has_gzip;
  plan.user = absent.user;
  plan.by_sudo = !absent.root && !absent.user;
  plan.by_password = plan.by_sudo && options.sudo_password.has_value();
  std::string raw;
  if (!plan.packed) {
    Result<std::string> unpacked = gunzip(agent.gzipped);
    if (!unpacked) return fail(std::move(unpacked).error());
    raw = std::move(*unpacked);
  }
  Result<SshChannel> channel = session.exec(upload_text(plan), "");
  if (!channel) return fail(std::move(channel).error());
  Start start{session, std::move(*channel)};
  if (plan.by_password) {
    if (Result<void> answered = answer_sudo(start, plan.nonce, *options.sudo_password); !answered) return answered;
  }
  if (Result<void> sent = send_all(start, plan.packed ? agent.gzipped : std::string_view(raw), options.uploading); !sent) return sent;
  (void)start.channel.send_end();
  const Clock::time_point deadline = Clock::now() + kUploadStall;
  while (true) {
    Result<bool> more = start.more(deadline);
    if (!more) return fail(std::move(more).error().in("uploading the agent"));
    if (start.out.find("gpustrap-ready") != std::string::npos) return {};
    if (!*more || start.out.size() > kChatterLimit) break;
  }
  return fail(upload_error(start));
}

struct Hello1 {
  std::unique_ptr<AgentLink> link;
  std::optional<Absent> absent;
};

/// What the controller says first: with the command, where everybody on the host may know it, else behind it.
struct Opening {
  std::string word;   ///< for the command; empty: none
  std::string lines;  ///< behind it
  std::string whole;  ///< for an agent that was only just brought there
};

const EmbeddedAgent* agent_for(const std::vector<EmbeddedAgent>& agents, const std::string& arch) {
  const auto found = std::find_if(agents.begin(), agents.end(), [&](const EmbeddedAgent& one) { return one.arch == arch; });
  return found == agents.end() ? nullptr : &*found;
}

/// Sends the agent to a command that waits for it, or what it lacks of it, and right behind it what is to be said first.
Result<void> send_agent(Start& start, const PushOptions& options, const Absent& absent, const std::string& nonce,
                        const std::string& lines) {
  const EmbeddedAgent* agent = agent_for(options.agents, absent.arch);
  if (agent == nullptr)
    return fail(ErrorCode::protocol, "the host waits for an agent that it has not named",
                "something there answers in the agent's place: `gpustrap doctor HOST` says more");
  const bool by_password = options.sudo_password && !absent.root;
  if (by_password) {
    if (Result<void> answered = answer_sudo(start, nonce, *options.sudo_password); !answered) return answered;
  }
  const std::string_view packed = agent->gzipped;
  if (absent.kept >= packed.size()) return fail(ErrorCode::protocol, "the host says that it has more of the agent than there is");
  if (Result<void> sent = send_all(start, packed.substr(absent.kept), options.uploading, absent.kept); !sent) return sent;
  return send_all(start, lines, {});
}

/// One exec of the start text: ends with a link, or with what the host says instead. `went_on`: whether a cut upload was gone on with.
Result<Hello1> try_start(SshSession& session, const PushOptions& options, AgentRights rights, const Opening& opening, bool& went_on) {
  const std::string nonce = make_nonce();
  const bool by_password = rights == AgentRights::password;
  Result<SshChannel> channel = session.exec(start_text(options.agents, rights, nonce, opening.word, options.if_absent),
                                            by_password ? std::string_view() : std::string_view(opening.lines));
  if (!channel) return fail(std::move(channel).error());
  Start start{session, std::move(*channel)};
  if (by_password) {
    if (Result<void> answered = answer_sudo(start, nonce, *options.sudo_password); !answered) return fail(std::move(answered).error());
  }
  Clock::time_point deadline = Clock::now() + kHelloLimit;
  bool opened = !by_password;
  bool is_sent = false;
  while (true) {
    // Whole lines; what is not ours before hello is somebody's greeting.
    std::size_t begin = 0;
    for (std::size_t newline = start.out.find('\n'); newline != std::string::npos; newline = start.out.find('\n', begin)) {
      const std::string line = start.out.substr(begin, newline - begin);
      if (std::optional<Absent> absent = absent_in(line); absent && !is_sent) {
        if (!absent->takes || options.if_absent == IfAbsent::tell) return Hello1{nullptr, std::move(absent)};
        start.out.clear();  // it says no more until it has the agent
        went_on = absent->kept > 0;
        if (Result<void> sent = send_agent(start, options, *absent, nonce, opening.whole); !sent)
          return fail(std::move(sent).error().in("uploading the agent"));
        is_sent = opened = true;
        deadline = Clock::now() + kUploadStall;
        begin = 0;
        continue;
      }
      if (line.starts_with("{\"hello\"")) {
        Result<Json> document = parse_line(line);
        if (!document) return fail(std::move(document).error());
        Result<Hello> hello = hello_from_json(*document);
        if (!hello) return fail(std::move(hello).error());
        if (hello->protocol != kProtocolVersion) {
          return fail(ErrorCode::protocol, fmt::format("the agent speaks protocol {}, this program {}", hello->protocol, kProtocolVersion));
        }
        if (!opened) {
          if (Result<void> sent = send_all(start, opening.lines, {}); !sent) return fail(std::move(sent).error());
        }
        return Hello1{std::make_unique<SshLink>(session, std::move(start.channel), start.out.substr(newline + 1), std::move(start.err)),
                      std::nullopt};
      }
      begin = newline + 1;
    }
    if (by_password && start.err.find(nonce) != std::string::npos) {
      return fail(ErrorCode::authentication, "sudo did not accept the password",
                  "try again; the password is that of the login user on the host");
    }
    if (start.out.size() > kChatterLimit) {
      return fail(ErrorCode::protocol,
                  "more than 64 KiB of other text came before the agent's hello: " + first_line(strip_control(start.out)),
                  "a login script prints without end; it should be silent where there is no terminal");
    }
    Result<bool> more = start.more(deadline);
    if (!more) return fail(std::move(more).error());
    if (!*more) return fail(is_sent ? upload_error(start) : no_hello(start.out, start.err, start.status()));
  }
}

}  // namespace

std::optional<Error> wrong_user(std::string_view said) {
  const std::string user = user_asked_for(said);
  if (user.empty()) return std::nullopt;
  return Error(ErrorCode::authentication, fmt::format("the host wants another user: {}", first_line(strip_control(said))),
               fmt::format("write that user before the host: {}@HOST", user));
}

std::string make_nonce() {
  std::array<unsigned char, 12> bytes{};
  if (::getrandom(bytes.data(), bytes.size(), 0) != static_cast<ssize_t>(bytes.size())) bytes.fill(7);
  std::string text;
  for (const unsigned char byte : bytes) text += fmt::format("{:02x}", byte);
  return text;
}

namespace {

struct InstallText {
  std::string_view folder;
  std::string_view nonce;
  std::string_view digest;
  std::string_view input;        ///< leaves the agent on its stdout
  std::string_view then;         ///< follows where all went well
  std::string_view otherwise{};  ///< follows where not
};

/// The text that takes `input`, checks it and leaves it as the agent. sha256sum where there is one; else the agent looks at itself, which
/// finds a cut upload just as well.
std::string install_text(const InstallText& text) {
  return fmt::format(
      "umask 022; mkdir -p {0} && {3} > {0}/upload-{1} && chmod 755 {0}/upload-{1} && "
      "{{ echo {2} *{0}/upload-{1} | sha256sum -c >/dev/null 2>&1 || {0}/upload-{1} --self-digest={2}; }} && "
      "mv -f {0}/upload-{1} {0}/agent-{2} && {4} || {{ rm -f {0}/upload-{1}; {5}exit 1; }}",
      text.folder, text.nonce, text.digest, text.input, text.then, text.otherwise);
}

/// The same for a packed agent of $z bytes, of which the first $h are in the file $n and the others come on stdin. What has come is kept
/// where the connection is cut, for the next attempt to go on with; where it was wrong or did not fit, nothing is. `dollar`: how a dollar
/// sign of this text's own shell is written.
std::string take_text(std::string_view folder, std::string_view nonce, std::string_view dollar, std::string_view then) {
  const std::string part = fmt::format("{}/part-$s.{}", folder, nonce);
  // GNU head takes not a byte more than it is told to: what follows the agent is for the agent. Where something follows although this
  // has failed, nothing was cut.
  const std::string input = fmt::format("{{ head -c $h $n; head -c $r; }} | tee {} | gzip -dc", part);
  const std::string success = fmt::format("{{ rm -f {}/part-*; {}; }}", folder, then);
  const std::string otherwise = fmt::format(
      "test {1}(head -c 1 | wc -c) = 0 && case {1}(wc -c <{2}) in 0|$z) false;; esac || rm -f {0}/part-*; ", folder, dollar, part);
  return install_text({folder, nonce, "$s", input, success, otherwise});
}

/// The words that make root run what follows.
std::string sudo_text(bool by_password, const std::string& nonce) {
  return by_password ? fmt::format("sudo -k -S -p {}", nonce) : "sudo -n";
}

}  // namespace

std::string start_text(const std::vector<EmbeddedAgent>& agents, AgentRights rights, const std::string& nonce, const std::string& said,
                       IfAbsent if_absent) {
  // Read from /proc where it can be: each program that is started for a word of it costs a millisecond or two.
  std::string text =
      std::string(kHostShell) +
      "while read k v r; do case $k in Uid:) u=$v;; Gid:) g=$v;; Groups:) p=\"$v $r\"; break;; esac; done </proc/self/status; "
      "test -n \"$p\" || { u=$(id -u); g=$(id -g); p=$(id -G); }; "
      "test -r /proc/sys/kernel/arch && read m </proc/sys/kernel/arch || m=$(uname -m); "
      "IFS=; w=system; case $m in ";
  for (const EmbeddedAgent& agent : agents) text += fmt::format("{}) s={} z={};; ", agent.arch, agent.digest, agent.gzipped.size());
  text += "*) s=none;; esac; ";
  text += fmt::format("a={}/agent-$s; ", kSystemFolder);
  // With an empty IFS nothing is split, so that no value needs quotes.
  const std::string login = "--login-uid=$u --login-gid=$g --login-groups=$p --login-home=$HOME --login-shell=$SHELL";
  const std::string serve = said.empty() ? "serve" : "serve --said=" + said;
  const std::string sudo = sudo_text(rights == AgentRights::password, nonce);
  text += fmt::format("if test $u = 0; then test -x $a && exec $a {}; ", serve);
  if (rights == AgentRights::system_or_user) {
    text += fmt::format(
        "elif sudo -n true >$nu 2>&1; then test -x $a && exec sudo -n $a {0} {1}; "
        "else w=user; a={2}/agent-$s; test -x $a && exec $a {0} --user; fi; ",
        serve, login, kUserFolder);
  } else {
    text += fmt::format("else test -x $a && exec {} $a {} {}; fi; ", sudo, serve, login);
  }
  // An upload that was cut may have left its first bytes, and several may have: the longest is gone on with.
  text +=
      "g=raw; command -v gzip >$nu 2>&1 && g=gzip; t=asks; case $s-$g-$(head --version 2>$nu) in none*) ;; *-gzip-*GNU*) "
      "t=takes;; esac; h=0; n=/dev/null; for f in ${a%/*}/part-$s.*; do test -r $f || continue; k=$(wc -c <$f); "
      "test $k -gt $h && test $k -lt $z && h=$k n=$f; done; r=$(($z-$h)); "
      "echo gpustrap-absent $m $u $g $w $t $h; test $t = takes || exit 0; ";
  if (if_absent == IfAbsent::tell) return text + "exit 0'";
  if (rights == AgentRights::system_or_user)
    text += fmt::format("if test $w = user; then {}; fi; ", take_text(kUserFolder, nonce, "$", "exec $a serve --user"));
  // Root's shell gets the words of its program in double quotes, in which a $ of its own cannot stand; who has logged in it gets as
  // arguments, which are not to be taken for patterns.
  text += fmt::format("if test $u = 0; then {}; fi; d=\"$\"; exec {} sh -c \"IFS=; {}\" sh {}'",
                      take_text(kSystemFolder, nonce, "$", "exec $a serve"), sudo,
                      take_text(kSystemFolder, nonce, "${d}", "set -f; exec $a serve ${d}@"), login);
  return text;
}

std::string upload_text(const UploadPlan& plan) {
  const std::string body = install_text(
      {plan.user ? kUserFolder : kSystemFolder, plan.nonce, plan.digest, plan.packed ? "gzip -dc" : "cat", "echo gpustrap-ready"});
  if (!plan.by_sudo) return fmt::format("{}{}'", kHostShell, body);
  // Root's shell gets the same words. They hold nothing that the outer shell would expand.
  return fmt::format("{}exec {} sh -c \"{}\"'", kHostShell, sudo_text(plan.by_password, plan.nonce), body);
}

Result<std::unique_ptr<AgentLink>> start_agent(SshSession& session, const PushOptions& options, const Request& first) {
  if (options.agents.empty()) { return fail(ErrorCode::internal, "this gpustrap was built without agents", "build it with ./dev build"); }
  const std::string hello = to_line(to_json(Hello{kProtocolVersion, "gpustrap " GPUSTRAP_VERSION, {std::string(kZlibFeature)}}));
  const std::optional<Request> known = public_form(first);
  const std::string lines = hello + to_line(to_json(first));
  const Opening brief{known ? as_word(hello + to_line(to_json(*known))) : "", known ? "" : lines, lines};
  const Opening whole{"", lines, lines};
  const AgentRights rights = options.sudo_password ? AgentRights::password
                             : options.needs_root  ? AgentRights::system
                                                   : AgentRights::system_or_user;
  bool went_on = false;
  Result<Hello1> started = try_start(session, options, rights, brief, went_on);
  // What an earlier upload had left was not what it should be; it is gone now.
  if (!started && went_on && started.error().code() == ErrorCode::io && session.connected())
    started = try_start(session, options, rights, brief, went_on);
  if (!started) return fail(std::move(started).error());
  if (started->link) return std::move(started->link);
  if (options.if_absent == IfAbsent::tell)
    return fail(ErrorCode::not_found, "this gpustrap's agent is not on the host", "`gpustrap up RECIPE HOST` brings it there");

  const EmbeddedAgent* agent = agent_for(options.agents, started->absent->arch);
  if (agent == nullptr) {
    return fail(ErrorCode::unsupported, fmt::format("the host is {}, and there is no agent for it", strip_control(started->absent->arch)),
                "gpustrap runs on x86_64 and aarch64 hosts");
  }
  if (Result<void> uploaded = upload(session, options, *agent, *started->absent); !uploaded) return fail(std::move(uploaded).error());
  started = try_start(session, options, rights, whole, went_on);
  if (!started) return fail(std::move(started).error());
  if (!started->link)
    return fail(ErrorCode::internal, "the agent was uploaded, and the host does not find it",
                "is /usr/local/lib/gpustrap on a file system that keeps files?");
  return std::move(started->link);
}

}  // namespace gpustrap
