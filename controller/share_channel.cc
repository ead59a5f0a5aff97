#include "controller/share_channel.h"

#include <string>
#include <utility>

#include "agent/protocol/json.h"
#include "agent/protocol/line.h"

namespace gpustrap {
namespace {

/// The end of what the agent's process writes to stderr: sudo's prompt.
constexpr std::size_t kKeptErrors = 4096;

class SshShareChannel : public ShareChannel {
 public:
  /// `password`: for sudo, which asks for it by `nonce`.
  SshShareChannel(SshSession session, SshChannel channel, std::string nonce, std::optional<std::string> password)
      : session_(std::move(session)), channel_(std::move(channel)), nonce_(std::move(nonce)), password_(std::move(password)) {}

  Result<std::size_t> read(std::string& into) override {
    Result<std::size_t> got = channel_.read(SshChannel::Stream::out, into);
    if (got) (void)channel_.read(SshChannel::Stream::err, errors_);
    if (password_ && errors_.find(nonce_) != std::string::npos) {
      const std::string line = *std::exchange(password_, std::nullopt) + "\n";
      if (const Result<std::size_t> put = channel_.write(line); !put || *put != line.size())
        return fail(ErrorCode::authentication, "sudo does not take the password", "`gpustrap doctor HOST` says more");
    }
    if (errors_.size() > kKeptErrors) errors_.erase(0, errors_.size() - kKeptErrors);
    return got;
  }
  Result<std::size_t> write(std::string_view bytes) override { return channel_.write(bytes); }
  void send_end() override { (void)channel_.send_end(); }
  [[nodiscard]] bool at_end() const override { return channel_.at_end() || !session_.connected(); }

 private:
  SshSession session_;
  SshChannel channel_;
  std::string nonce_, errors_;
  std::optional<std::string> password_;
};

}  // namespace

Result<std::unique_ptr<ShareChannel>> open_share_channel(const SshSession& session, const PushOptions& options,
                                                         const ShareRequest& request) {
  const std::string nonce = make_nonce();
  const AgentRights rights = options.sudo_password ? AgentRights::password
                             : options.needs_root  ? AgentRights::system
                                                   : AgentRights::system_or_user;
  // Nothing is packed here: what follows the reply is the file.
  const std::string lines =
      to_line(to_json(Hello{kProtocolVersion, "gpustrap " GPUSTRAP_VERSION, {}})) + to_line(to_json(Request{1, request}));
  SshSession there = session;
  Result<SshChannel> channel = there.exec(start_text(options.agents, rights, nonce, as_word(lines)), "");
  if (!channel) return fail(std::move(channel).error());
  return std::unique_ptr<ShareChannel>(
      std::make_unique<SshShareChannel>(std::move(there), *std::move(channel), nonce, options.sudo_password));
}

}  // namespace gpustrap
