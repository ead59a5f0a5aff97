#include "agent/steps/git_repository.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <charconv>
#include <utility>

#include <fmt/format.h>

#include "agent/base/file.h"
#include "agent/base/text.h"
#include "agent/shown_url.h"

namespace gpustrap {
namespace {

/// For a look that speaks to another machine. A run waits for it, a plan too.
constexpr auto kRemoteLimit = std::chrono::seconds(30);

bool is_over_ssh(std::string_view url) {
  if (url.starts_with("ssh://")) return true;
  return url.find("://") == std::string_view::npos && !url.starts_with('/');
}

/// "https://Git.Example.org/a/b.git/" and "git@git.example.org:a/b" are both "git.example.org/a/b".
std::string plain_name(std::string_view url) {
  std::string name;
  const std::size_t scheme = url.find("://");
  if (scheme == std::string_view::npos && url.starts_with('/')) {
    name = url;
  } else if (url.starts_with("file://")) {
    name = url.substr(7);
  } else {
    if (scheme != std::string_view::npos) url.remove_prefix(scheme + 3);
    std::size_t end = url.find(scheme == std::string_view::npos ? ':' : '/');
    end = std::min(end, url.size());
    std::string host(url.substr(0, end));
    if (const std::size_t at = host.rfind('@'); at != std::string::npos) host.erase(0, at + 1);
    std::transform(host.begin(), host.end(), host.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    std::string_view path = url.substr(std::min(end + 1, url.size()));
    while (path.starts_with('/')) path.remove_prefix(1);
    name = host + "/" + std::string(path);
  }
  while (name.size() > 1 && name.ends_with('/')) name.pop_back();
  if (name.ends_with(".git")) name.erase(name.size() - 4);
  while (name.size() > 1 && name.ends_with('/')) name.pop_back();
  return name;
}

std::optional<std::int64_t> whole_number(std::string_view text) {
  std::int64_t number = 0;
  const auto parsed = std::from_chars(text.data(), text.data() + text.size(), number);
  if (parsed.ec != std::errc() || parsed.ptr != text.data() + text.size()) return std::nullopt;
  return number;
}

/// The path at the end of a line of `git status --porcelain=v2`; of a rename, the new one.
std::string path_of_entry(std::string_view line) {
  // "1 XY sub mH mI mW hH hI path", "2 … X<score> path<tab>old path", "u XY sub m1 m2 m3 mW h1 h2 h3 path"
  const int fields = line[0] == '1' ? 8 : line[0] == '2' ? 9 : 10;
  std::size_t at = 0;
  for (int field = 0; field < fields && at != std::string_view::npos; ++field) at = line.find(' ', at + (field > 0 ? 1 : 0));
  if (at == std::string_view::npos) return std::string(line);
  const std::string_view rest = line.substr(at + 1);
  return std::string(rest.substr(0, rest.find('\t')));
}

/// The line in which git says why: "fatal: …" and "error: …" before the advice around them.
std::string reason_of(const CommandResult& result) {
  std::string last;
  for (const std::string_view sign : {"fatal: ", "error: ", "ERROR: "}) {
    for (const std::string& line : split(result.err, '\n')) {
      const std::string shown = strip_control(line);
      if (shown.starts_with(sign)) return first_line(shown.substr(sign.size()));
      if (!trim(shown).empty()) last = first_line(shown);
    }
  }
  return last;
}

bool has(const std::string& text, std::string_view sign) { return text.find(sign) != std::string::npos; }

/// Of ssh's words the last line before git's own "Could not read from remote repository".
std::string ssh_reason(const CommandResult& result) {
  std::string words;
  for (const std::string& line : split(result.err, '\n')) {
    if (line.starts_with("fatal: ")) break;
    if (!trim(strip_control(line)).empty()) words = first_line(strip_control(line));
  }
  return words;
}

}  // namespace

Command git_command(const std::string& folder, std::vector<std::string> words_after) {
  Command command;
  command.argv = {"git"};
  if (!folder.empty()) command.argv.insert(command.argv.end(), {"-C", folder});
  command.argv.insert(command.argv.end(), words_after.begin(), words_after.end());
  command.env = {{"GIT_TERMINAL_PROMPT", "0"}, {"GCM_INTERACTIVE", "never"}};
  // A folder whose own repository is broken must not make git work on a repository above it: a home may be one.
  if (!folder.empty()) command.env.emplace_back("GIT_CEILING_DIRECTORIES", parent_of(folder));
  return command;
}

Command git_transfer(const Host& host, const std::string& folder, const std::string& url, std::vector<std::string> words_after) {
  std::vector<std::string> words = {"-c", "http.lowSpeedLimit=100", "-c", "http.lowSpeedTime=60"};
  if (is_over_ssh(url)) {
    // GIT_SSH_COMMAND of the step's `env` counts more than this, as it does for git.
    const Result<CommandResult> own = host.look(git_command("", {"config", "--get", "core.sshCommand"}));
    std::string ssh = own && own->exit_code == 0 ? std::string(trim(own->out)) : std::string();
    if (ssh.empty()) ssh = "ssh";
    words.insert(words.end(), {"-c", "core.sshCommand=" + ssh + " -o BatchMode=yes -o ConnectTimeout=20"});
  }
  words.insert(words.end(), words_after.begin(), words_after.end());
  return git_command(folder, std::move(words));
}

Error git_error(const Command& command, const CommandResult& result, const std::string& url) {
  if (result.exit_code == 127 && !command.argv.empty() && command.argv.front() == "git") {
    return {ErrorCode::not_found, "`git` is not on this host", "add a step before this one: apt: [git]"};
  }
  const std::string& said = result.err;
  const std::string where = shown_url(url);
  const bool ssh = is_over_ssh(url);
  std::string why = reason_of(result);
  if (why.empty()) return command_error(command, result);
  if (has(said, "Host key verification failed")) {
    return {ErrorCode::host_key, fmt::format("the host does not know the SSH key of {}", where),
            "add it on the host, after comparing it: ssh-keyscan NAME >>~/.ssh/known_hosts; or use the https:// address"};
  }
  if (has(said, "Permission denied (") || has(said, "Permission denied, please try again")) {
    return {ErrorCode::authentication, fmt::format("{} refused the login: {}", where, ssh_reason(result)),
            "put a deploy key into ~/.ssh of the user that runs this step, or use the https:// address of a public repository"};
  }
  if (has(said, "could not read Username") || has(said, "could not read Password") || has(said, "Authentication failed") ||
      has(said, "terminal prompts disabled") || has(said, "returned error: 403")) {
    return {ErrorCode::authentication, fmt::format("{} asks for a login", where),
            "is the address right? A private repository needs a deploy key and its ssh address (git@HOST:PATH), or a credential helper "
            "of the user that runs this step"};
  }
  if (has(said, "dubious ownership")) {
    return {ErrorCode::permission, why, "run the step as the user that owns the repository: `as: USER`"};
  }
  if (has(said, "No space left on device") || has(said, "Disk quota exceeded")) {
    return {ErrorCode::no_space, "No space left on device", "make room (df -h), or fetch less history with `depth: 1`"};
  }
  if (has(said, ".lock': File exists")) {
    return {ErrorCode::busy, why, "if no git is at work there any more (an earlier one was cut short), remove that file and run again"};
  }
  if (has(said, "SSL certificate problem") || has(said, "certificate verification failed") || has(said, "server verification failed") ||
      has(said, "server certificate")) {
    return {ErrorCode::tls, why, "does the host's clock run right, and does it have ca-certificates (apt: [ca-certificates])?"};
  }
  if (has(said, "Could not resolve host") || has(said, "Could not resolve hostname") || has(said, "unable to look up")) {
    return {ErrorCode::unknown_name, why, "check the address, and the host's name server and proxy"};
  }
  static constexpr std::array kNetworkSigns = {
      "Failed to connect",    "Connection timed out", "Connection refused",  "Connection reset",
      "Connection was reset", "Connection closed by", "early EOF",           "unexpected disconnect",
      "RPC failed",           "Operation too slow",   "Operation timed out", "Recv failure",
      "returned error: 5",    "transfer closed",      "Empty reply",         "the remote end hung up",
      "gnutls_handshake",     "GnuTLS recv error",    "SSL_ERROR_SYSCALL",   "Network is unreachable",
      "No route to host"};
  if (std::any_of(kNetworkSigns.begin(), kNetworkSigns.end(), [&](const char* sign) { return has(said, sign); })) {
    return {ErrorCode::network, why, "run the same command again; behind a firewall, set the host's proxy"};
  }
  if (has(said, "not found") || has(said, "does not appear to be a git repository") || has(said, "does not exist") ||
      has(said, "returned error: 404")) {
    return {ErrorCode::not_found, fmt::format("there is no repository {}, or it is private", where),
            ssh ? "check the address, and that this host's key may read it"
                : "check the address; a private repository needs a deploy key and its ssh address"};
  }
  return {ErrorCode::command, fmt::format("`git` failed (exit {}): {}", result.exit_code, why), "the step's output has all that git said"};
}

bool same_repository(std::string_view one, std::string_view other) { return plain_name(one) == plain_name(other); }

Result<std::optional<GitRepository>> look_at_repository(const Host& host, const std::string& folder) {
  Command status = git_command(folder, {"status", "--porcelain=v2", "--branch", "--untracked-files=no", "--ignore-submodules=untracked"});
  // status would like to write the index that it has refreshed: a look must not.
  status.env.emplace_back("GIT_OPTIONAL_LOCKS", "0");
  const Result<CommandResult> looked = host.look(status);
  if (!looked) return fail(looked.error());
  GitRepository repository;
  const Result<std::vector<std::string>> names = host.list(folder);
  repository.only_git = names && names->size() == 1 && names->front() == ".git";
  if (looked->exit_code != 0) {
    if (has(looked->err, "not a git repository")) return std::optional<GitRepository>();
    return fail(git_error(status, *looked, ""));
  }
  for (const std::string& line : split(looked->out, '\n')) {
    const std::vector<std::string> parts = words(line);
    if (parts.size() == 3 && parts[1] == "branch.oid" && parts[2] != "(initial)") repository.head = parts[2];
    if (parts.size() == 3 && parts[1] == "branch.head" && parts[2] != "(detached)") repository.branch = parts[2];
    if (!line.empty() && (line[0] == '1' || line[0] == '2' || line[0] == 'u')) repository.changed.push_back(path_of_entry(line));
  }
  const Result<CommandResult> config = host.look(git_command(folder, {"config", "--get-regexp", R"(^remote\..*\.url$)"}));
  if (!config) return fail(config.error());
  for (const std::string& line : split(config->out, '\n')) {
    const std::size_t space = line.find(' ');
    if (space == std::string::npos || space < 11) continue;
    repository.remotes.emplace(line.substr(7, space - 11), line.substr(space + 1));  // "remote.origin.url https://…"
  }
  return std::optional<GitRepository>(std::move(repository));
}

Result<std::string> commit_of(const Host& host, const std::string& folder, const std::string& name) {
  const Command command = git_command(folder, {"rev-parse", "--quiet", "--verify", name + "^{commit}"});
  const Result<CommandResult> result = host.look(command);
  if (!result) return fail(result.error());
  if (result->exit_code == 127) return fail(git_error(command, *result, ""));
  return result->exit_code == 0 ? std::string(trim(result->out)) : std::string();
}

Result<std::optional<GitDistance>> distance_to(const Host& host, const std::string& folder, const std::string& commit) {
  const Result<CommandResult> result = host.look(git_command(folder, {"rev-list", "--left-right", "--count", "HEAD..." + commit}));
  if (!result) return fail(result.error());
  if (result->exit_code != 0) return std::optional<GitDistance>();
  const std::vector<std::string> counts = words(result->out);
  if (counts.size() != 2) return std::optional<GitDistance>();
  return std::optional<GitDistance>(GitDistance{whole_number(counts[0]).value_or(0), whole_number(counts[1]).value_or(0)});
}

Result<GitRemoteRefs> look_at_remote(const Host& host, const std::string& folder, const std::string& url, const std::string& name) {
  std::vector<std::string> words_after = {"ls-remote", "--symref", "--", url};
  if (!name.empty()) {
    words_after.insert(words_after.end(), {"HEAD", "refs/heads/" + name, "refs/tags/" + name, "refs/tags/" + name + "^{}"});
  }
  Command command = git_transfer(host, folder, url, std::move(words_after));
  command.timeout = kRemoteLimit;
  const Result<CommandResult> result = host.look(command);
  if (!result) return fail(result.error());
  if (result->exit_code != 0) return fail(git_error(command, *result, url));
  GitRemoteRefs refs;
  for (const std::string& line : split(result->out, '\n')) {
    const std::size_t tab = line.find('\t');
    if (tab == std::string::npos) continue;
    const std::string value = line.substr(0, tab);
    std::string ref = line.substr(tab + 1);
    const bool peeled = ref.ends_with("^{}");
    if (peeled) ref.erase(ref.size() - 3);
    if (ref == "HEAD" && value.starts_with("ref: refs/heads/")) {
      refs.default_branch = value.substr(16);
    } else if (ref == "HEAD") {
      refs.head = value;
    } else if (ref.starts_with("refs/heads/")) {
      refs.branches[ref.substr(11)] = value;
    } else if (ref.starts_with("refs/tags/")) {
      // An annotated tag has a line of its own for the commit behind it, and that one comes later.
      refs.tags[ref.substr(10)] = value;
    }
  }
  return refs;
}

Result<std::vector<std::string>> missing_submodules(const Host& host, const std::string& folder) {
  const Command command = git_command(folder, {"submodule", "status", "--recursive"});
  const Result<CommandResult> result = host.look(command);
  if (!result) return fail(result.error());
  if (result->exit_code != 0) return fail(git_error(command, *result, ""));
  std::vector<std::string> missing;
  for (const std::string& line : split(result->out, '\n')) {
    const std::vector<std::string> parts = words(line);  // "-1a2b3c… path": a dash for one that is not there
    if (line.starts_with('-') && parts.size() > 1) missing.push_back(parts[1]);
  }
  return missing;
}

std::string short_commit(std::string_view commit) { return std::string(commit.substr(0, 7)); }

bool take_git_progress(std::string_view line, StepLog& log) {
  if (line.starts_with("remote: ")) line.remove_prefix(8);
  const std::size_t colon = line.find(": ");
  const std::size_t percent = line.find("% (");
  if (colon == std::string_view::npos || percent == std::string_view::npos || percent < colon) return false;
  const std::optional<std::int64_t> part = whole_number(trim(line.substr(colon + 2, percent - colon - 2)));
  if (!part) return false;
  log.share(line.substr(0, colon), static_cast<double>(*part) / 100);
  return true;
}

}  // namespace gpustrap
