#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "agent/fetched_ahead.h"
#include "agent/host.h"
#include "agent/masking.h"
#include "agent/shared_file.h"

namespace gpustrap {

class TransferChild;

/// The machine itself, as a step's process sees it: the process runs as `self` already. as_login() is the same machine with every
/// file operation done with the login user's rights and every command run as that user, so that a root step's work in a home
/// cannot be led elsewhere by a planted link. Single-threaded.
class RealHost : public Host {
 public:
  using Environment = std::vector<std::pair<std::string, std::string>>;
  /// `env`: the step's own variables, for every command.
  RealHost(const Facts& facts, Identity self, Identity login, Environment env, Mirror mirror = {});
  ~RealHost() override;

  [[nodiscard]] const Facts& facts() const override { return facts_; }
  [[nodiscard]] const Identity& self() const override { return self_; }
  [[nodiscard]] const Identity& login() const override { return login_; }
  [[nodiscard]] const Mirror& mirror() const override { return mirror_; }

  [[nodiscard]] Result<std::optional<FileInfo>> info(const std::string& path) const override;
  [[nodiscard]] Result<std::string> read(const std::string& path) const override;
  [[nodiscard]] Result<std::vector<std::string>> list(const std::string& directory) const override;
  [[nodiscard]] Result<std::string> read_link(const std::string& path) const override;
  [[nodiscard]] Result<std::string> digest(const std::string& path) const override;
  [[nodiscard]] Result<CommandResult> look(const Command& command) const override;
  [[nodiscard]] Result<std::uint64_t> disk_free(const std::string& path) const override;
  [[nodiscard]] Result<std::optional<uid_t>> user_id(const std::string& name) const override;
  [[nodiscard]] Result<std::optional<gid_t>> group_id(const std::string& name) const override;
  [[nodiscard]] bool port_answers(std::uint16_t port) const override;
  [[nodiscard]] Result<int> http_status(std::uint16_t port, const std::string& path_and_query) const override;

  Result<void> write(const std::string& path, std::string_view content, const FileAttributes& attributes) override;
  Result<void> make_directory(const std::string& path, const FileAttributes& attributes) override;
  Result<void> make_symlink(const std::string& path, const std::string& target) override;
  Result<void> set_attributes(const std::string& path, const FileAttributes& attributes) override;
  Result<void> rename(const std::string& from, const std::string& to) override;
  Result<void> remove(const std::string& path) override;
  Result<void> remove_tree(const std::string& path) override;
  Result<CommandResult> act(const Command& command, StepLog& log) override;
  Result<FetchResult> fetch(const FetchRequest& request, StepLog& log) override;
  Result<std::vector<UnpackedEntry>> unpack(const UnpackRequest& request, StepLog& log) override;
  Result<FetchedArchive> fetch_and_unpack(const FetchRequest& request, const UnpackRequest& unpack, StepLog& log) override;
  std::size_t fetch_many(const std::vector<FetchRequest>& requests, StepLog& log) override;
  std::optional<FetchResult> take_fetched(const FetchRequest& request, StepLog& log) override;
  Result<void> reboot(RebootWish wish) override;
  [[nodiscard]] std::string asked_on_boot() const override { return asked_on_boot_; }
  void set_asked_on_boot(std::string boot) { asked_on_boot_ = std::move(boot); }
  /// Where files that were fetched ahead of this step lie; fetch() takes them from there.
  void set_ahead(AheadPlace place) { ahead_ = std::move(place); }
  /// Files with a digest come from another host where there is one that has them; `say_wanted` tells the runner.
  void set_shared(int controller, std::function<void(const std::string& sha256, std::uint64_t have)> say_wanted) {
    shared_ = {ahead_.folder, controller, std::move(say_wanted)};
  }
  /// Told when this process begins to stand still for a file, and when it goes on.
  void set_stands_still(std::function<void(bool is_so)> say) { say_stands_still_ = std::move(say); }
  /// See agent_looks.h.
  void set_python_to_come(std::string python) { python_to_come_ = std::move(python); }
  /// What the step's own process is told to have been found ahead.
  [[nodiscard]] Result<void> note_ahead(const std::vector<FetchRequest>& requests);
  /// Fetches into that place what a step will ask for; see fetched_ahead.h.
  [[nodiscard]] Result<void> fetch_ahead(const FetchRequest& request, StepLog& log, const std::function<void()>& begun);
  /// The same for many, several at once; returns how many came.
  std::size_t fetch_many_ahead(std::vector<FetchRequest> requests, StepLog& log);
  /// Files that write() makes are for their owner alone where nothing else is asked for.
  void make_new_files_private() { private_files_ = true; }
  /// What programs that failed have said is masked before anything is made of it: a secret that was cut cannot be found any more.
  void set_masking(Masking masking) { masking_ = std::move(masking); }
  [[nodiscard]] bool awaits_reboot() const override { return reboot_wish_.has_value(); }
  /// What reboot() was asked for.
  [[nodiscard]] const std::optional<RebootWish>& reboot_wish() const { return reboot_wish_; }
  void pause(std::chrono::milliseconds time) override;

  [[nodiscard]] Host& as_login() override;
  [[nodiscard]] const Host& as_login() const override;

 private:
  class ActingAs;
  [[nodiscard]] Environment command_environment() const;
  [[nodiscard]] Result<CommandResult> run(const Command& command, bool shown) const;
  [[nodiscard]] CommandResult ask_agent(const Command& command) const;
  enum class Ahead { no, yes };
  class StandsStill;
  [[nodiscard]] Result<FetchResult> fetch_now(const FetchRequest& request, StepLog& log, Ahead ahead,
                                              TransferChild* transfers = nullptr) const;

  const Facts& facts_;
  Identity self_;
  Identity login_;
  Environment env_;
  Mirror mirror_;
  std::string asked_on_boot_;
  AheadPlace ahead_;
  std::function<void(bool is_so)> say_stands_still_;
  std::string python_to_come_;
  SharedFiles shared_;
  bool private_files_ = false;
  Masking masking_;
  std::optional<RebootWish> reboot_wish_;
  mutable std::unique_ptr<RealHost> as_login_;
};

}  // namespace gpustrap
