#include "controller/host_access.h"

#include <filesystem>
#include <system_error>
#include <thread>
#include <utility>

#include <fmt/format.h>

#include "agent/base/text.h"
#include "controller/hosts_file.h"
#include "controller/kept_link.h"
#include "controller/leaving.h"
#include "controller/recipe_sources.h"
#include "controller/share_channel.h"

namespace gpustrap {
namespace {

/// An instance that was just started answers within a minute or two.
constexpr std::chrono::seconds kDefaultWait{120};
/// Between two attempts to reach a host that does not answer yet, and between two looks whether to stop.
constexpr std::chrono::milliseconds kKnockPause{1000}, kLook{100};
/// For an attempt to come back: to the connection, and from there to the login. Round trips of half a second fit in.
constexpr std::chrono::seconds kKnockLimit{3}, kGreetingLimit{8};

/// Takes the screen away while it asks.
class AtTerminal : public Person {
 public:
  explicit AtTerminal(Status& status) : status_(status) {}
  bool is_there() override { return can_ask(); }
  bool yes_no(const std::string& question) override {
    status_.pause();
    return ask_yes_no(question);
  }
  std::optional<std::string> secret(const std::string& question) override {
    status_.pause();
    return ask_secret(question);
  }

 private:
  Status& status_;
};

/// A key stays the same key when the next command is given in another folder.
std::string absolute(const std::string& path) {
  std::error_code error;
  const std::filesystem::path whole = std::filesystem::absolute(path, error);
  return error || path.starts_with("~") ? path : whole.lexically_normal().string();
}

/// Before anything is asked or sent: the mistake is here, and a wrong host would hide it.
Result<void> check_keys_exist(const std::vector<std::string>& identities) {
  for (const std::string& identity : identities) {
    std::error_code ignored;
    const bool is_folder = std::filesystem::is_directory(identity, ignored);
    if (identity.starts_with("~") || (!is_folder && std::filesystem::exists(identity, ignored))) continue;
    return fail(Error(ErrorCode::usage, is_folder ? "this is a folder" : "there is no such file",
                      "give the path of the private key behind -i, such as the .pem file that EC2 let you download")
                    .in("reading the key " + identity));
  }
  return {};
}

/// Changes the remembered entry of a host, or makes one.
void update_memory(const std::string& host, Status& status, const std::function<void(RememberedHost& entry)>& change) {
  const Result<void> done = HostsFile::open().and_then([&](const HostsFile& file) { return file.update(host, change); });
  if (!done) status.notice("This host is not remembered: " + done.error().sentence());
}

}  // namespace

Result<Options> with_memory(Options options) {
  if (options.host.empty()) return options;
  fill_in(options, options.environment);
  if (const Result<HostsFile> file = HostsFile::open()) {  // without a home there is no memory
    const Result<std::optional<RememberedHost>> found = file->find(options.host);
    if (!found) return fail(found.error());
    if (found->has_value()) {
      fill_in(options, HostDefaults{(*found)->user, (*found)->port, (*found)->identities});
      options.last_local_port = (*found)->local_port;
      options.address = (*found)->address;
    }
  }
  fill_in(options, options.usual);
  return options;
}

void remember_local_port(const std::string& host, std::uint16_t port, Status& status) {
  update_memory(host, status, [&](RememberedHost& entry) { entry.local_port = port; });
}

SshRequest ssh_request_of(const Options& options) {
  SshRequest request;
  request.host = options.address.empty() ? options.host : options.address;
  request.user = options.user;
  request.port = options.port;
  request.identities = options.identities;
  return request;
}

HostAccess::HostAccess(const Options& options, Rights rights, Status& status, AccessSurroundings around)
    : options_(options), rights_(rights), status_(status), around_(std::move(around)) {
  if (around_.person != nullptr) return;
  at_terminal_ = std::make_unique<AtTerminal>(status);
  around_.person = at_terminal_.get();
}

SshPrompts HostAccess::prompts() {
  SshPrompts prompts;
  prompts.accept_new_host_key = options_.accept_new_host_key;
  prompts.notice = [this](const std::string& sentence) { status_.notice(sentence); };
  if (!around_.person->is_there()) return prompts;
  prompts.trust_host_key = [this](const std::string& host, const std::string& type, const std::string& fingerprint) {
    asked_ = true;
    return around_.person->yes_no(fmt::format("The host key of {} is not known yet: {} {}\nIs that its key, and go on?",
                                              strip_control(host), strip_control(type), strip_control(fingerprint)));
  };
  prompts.passphrase = [this](const std::string& path) -> std::optional<std::string> {
    const auto known = passphrases_.find(path);
    if (known != passphrases_.end()) return known->second;
    asked_ = true;
    std::optional<std::string> passphrase = around_.person->secret(fmt::format("Passphrase of {}: ", strip_control(path)));
    if (passphrase) passphrases_[path] = *passphrase;
    return passphrase;
  };
  return prompts;
}

/// As connect_patiently(), and gives up where the surroundings say so.
Result<SshSession> HostAccess::reach(std::chrono::seconds wait) {
  const auto tell = [this](const Error& why) {
    status_.activity({fmt::format("waiting for {}: {}", target_->given, first_line(why.why())), 0, 0});
  };
  if (!around_.stop) return SshSession::connect_patiently(*target_, prompts(), wait, tell);
  const auto deadline = std::chrono::steady_clock::now() + wait;
  bool once_more = true;
  while (true) {
    asked_ = false;
    Result<SshSession> session = SshSession::connect(*target_, prompts());
    if (session || around_.stop()) return session;
    // Other hosts were asked about first, and sshd has not waited that long; the answer is known now.
    if (asked_ && session.error().code() != ErrorCode::host_key && std::exchange(once_more, false)) continue;
    const bool may_come = session.error().code() == ErrorCode::unreachable || session.error().code() == ErrorCode::timeout;
    if (!may_come || std::chrono::steady_clock::now() + kKnockPause >= deadline) return session;
    tell(session.error());
    for (auto left = kKnockPause; left.count() > 0 && !around_.stop(); left -= kLook) std::this_thread::sleep_for(kLook);
  }
}

Result<void> HostAccess::log_in(std::chrono::seconds wait) {
  session_.reset();
  Result<SshSession> session = reach(wait);
  if (!session) return fail(std::move(session).error());
  session_.emplace(*std::move(session));
  was_connected_ = true;
  return {};
}

/// What was said on the command line, not what ssh's configuration adds: that may change, and then counts.
void HostAccess::remember() {
  if (!around_.remember || std::exchange(is_remembered_, true)) return;
  update_memory(options_.host, status_, [&](RememberedHost& entry) {
    const HostDefaults said = worth_remembering(options_);
    entry.user = said.user;
    entry.port = said.port;
    entry.identities.clear();
    for (const std::string& identity : said.identities) entry.identities.push_back(absolute(identity));
    if (!options_.recipe.empty()) entry.recipe = is_recipe_file(options_.recipe) ? absolute(options_.recipe) : options_.recipe;
  });
}

Result<void> HostAccess::connect() {
  Result<void> reached = come_near();
  if (reached) remember();
  return reached;
}

/// Asks ssh's configuration, once.
Result<void> HostAccess::resolve() {
  if (target_) return {};
  const SshRequest request = ssh_request_of(options_);
  Result<SshTarget> target = around_.resolver != nullptr ? around_.resolver->resolve(request) : resolve_target(request);
  if (!target) return fail(std::move(target).error());
  target_ = *std::move(target);
  return {};
}

Result<void> HostAccess::come_near() {
  if (session_ && session_->connected()) return {};
  if (std::exchange(has_tried_, true) && was_connected_) {
    // A host that was restarted may have another address by now. Where the configuration cannot be read just now, the old one counts.
    if (Result<SshTarget> again = resolve_target(ssh_request_of(options_))) target_ = *std::move(again);
    // Each attempt knocks anew; one that was begun while the host was away would wait for longer and longer between two knocks.
    target_->connect_timeout = std::min(target_->connect_timeout, kKnockLimit);
    target_->greeting_timeout = std::min(target_->greeting_timeout, kGreetingLimit);
    return log_in(std::chrono::seconds(0));  // the caller has its own patience
  }
  if (Result<void> there = check_keys_exist(options_.identities); !there) return there;
  const LeavesAtOnce leaves(fmt::format("gpustrap: left before {} let anybody in; nothing was begun there", options_.destination()));
  if (Result<void> resolved = resolve(); !resolved) return resolved;
  for (const std::string& notice : target_->notices) around_.notice ? around_.notice(notice) : status_.notice(notice);
  status_.activity({"connecting to " + options_.destination(), 0, 0});
  return log_in(options_.wait.value_or(kDefaultWait));
}

/// Whatever makes it another connection, or another agent at its end; ssh's configuration may have changed since.
Result<std::string> HostAccess::kept_path(Rights rights) const {
  const SshTarget& to = *target_;
  std::string key = fmt::format("{}\n{}\n{}\n{}\n{}\n{}\n{}\n", to.given, to.host, to.user, to.port, to.proxy_command, to.host_key_alias,
                                rights == Rights::root);
  for (const std::string& identity : to.identities) key += absolute(identity) + "\n";
  for (const EmbeddedAgent& agent : embedded_agents()) key += std::string(agent.digest) + "\n";
  return kept_link_path(key);
}

/// For the first connection of a command about one host. Where it breaks, the command comes back over one of its own.
std::unique_ptr<AgentLink> HostAccess::borrow(const Request& first) {
  if (was_connected_ || options_.ask_sudo_password || around_.stop || !resolve()) return nullptr;
  for (const Rights rights : {Rights::root, Rights::whatever}) {
    const Result<std::string> path = kept_path(rights);
    if (!path) return nullptr;
    if (options_.keep && options_.keep->count() == 0) {
      end_kept_link(*path);
      continue;
    }
    // Whoever takes whatever rights there are takes root's.
    if (rights_ == Rights::root && rights != Rights::root) continue;
    Result<std::unique_ptr<KeptLink>> link = KeptLink::borrow(*path);
    if (!link || !(*link)->send(first)) continue;
    was_connected_ = true;
    return std::move(*link);
  }
  return nullptr;
}

PushOptions HostAccess::push_options() const {
  PushOptions push;
  push.needs_root = rights_ == Rights::root;
  push.sudo_password = around_.sudo_password;
  push.agents = embedded_agents();
  push.if_absent = if_absent_;
  return push;
}

Result<std::unique_ptr<ShareChannel>> HostAccess::share(const ShareRequest& request) {
  if (!session_ || !session_->connected()) return fail(ErrorCode::unreachable, "there is no connection");
  return open_share_channel(*session_, push_options(), request);
}

Result<std::unique_ptr<AgentLink>> HostAccess::start_agent(const Request& first) {
  if (std::unique_ptr<AgentLink> link = borrow(first)) return link;
  const bool was_begun = was_connected_;
  if (Result<void> connected = come_near(); !connected) return fail(std::move(connected).error());
  if (!was_begun && around_.stop && around_.stop()) return fail(ErrorCode::cancelled, "interrupted before anything was begun");
  if (options_.ask_sudo_password && !around_.sudo_password) {
    around_.sudo_password = around_.person->secret(fmt::format("Password of sudo for {}: ", options_.destination()));
    if (!around_.sudo_password)
      return fail(ErrorCode::authentication, "no sudo password was given", "--ask-sudo-password needs a terminal to ask at");
  }
  PushOptions push = push_options();
  push.uploading = [this](std::size_t done, std::size_t total) { status_.activity({"sending the agent", done, total}); };
  std::optional<LeavesAtOnce> leaves;
  leaves.emplace(
      fmt::format("gpustrap: left while an agent was started on {0}; `gpustrap status {0}` says whether it was", options_.destination()));
  Result<std::unique_ptr<AgentLink>> link = gpustrap::start_agent(*session_, push, first);
  leaves.reset();
  // While the agent is at work. Not a user that the host lets in to say that another one is meant.
  if (link || link.error().code() != ErrorCode::authentication) remember();
  const bool is_kept = link && !was_begun && options_.keep && options_.keep->count() > 0 && !push.sudo_password;
  if (!is_kept) return link;
  const Result<std::string> path = kept_path(rights_);
  Result<std::unique_ptr<AgentLink>> kept =
      path ? keep_link(*std::move(link), session_->descriptor(), *path, *options_.keep, first) : fail(path.error());
  if (kept) {
    session_.reset();  // it is the keeper's now
    return kept;
  }
  return fail(std::move(kept).error().in("keeping the connection").with_hint("leave --keep out"));
}

}  // namespace gpustrap
