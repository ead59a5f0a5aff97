#pragma once

#include <functional>
#include <initializer_list>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "agent/host.h"

namespace gpustrap {

struct FakeFile {
  FileType type = FileType::regular;
  std::string content;  ///< of a link: its target
  unsigned mode = 0644;
  uid_t uid = 0;
  gid_t gid = 0;
  std::int64_t mtime_s = 0;  ///< grows with every change of anything
};

/// Keeps what a step said.
class RecordingLog : public StepLog {
 public:
  void say(std::string_view line) override { lines.emplace_back(line); }
  void progress(std::string_view text, std::uint64_t done, std::uint64_t total) override {
    last_progress = {std::string(text), {done, total}};
  }
  void share(std::string_view text, double part) override { last_share = {std::string(text), part}; }
  void must_finish() override { finishes = true; }
  bool finishes = false;
  std::vector<std::string> lines;
  std::pair<std::string, std::pair<std::uint64_t, std::uint64_t>> last_progress;
  std::pair<std::string, double> last_share;
};

/// A machine in memory that records what is done to it: Ubuntu 24.04 on x86_64 with systemd, users root and ubuntu (uid 1000), the
/// usual directories, nothing else. Steps run as root unless as_user() is used. Permissions count: who is not root can neither
/// write into directories of others nor read their 0600 files, nor give files away.
///
///   FakeHost host({{"/etc/motd", "old\n"}});
///   host.on({"systemctl", "start"}, [](FakeHost& fake, const Command&) { fake.listen(8888); return CommandResult{}; });
class FakeHost : public Host {
 public:
  using Handler = std::function<CommandResult(FakeHost& host, const Command& command)>;

  FakeHost();
  /// The same with these files (path, content), owned by root or, below /home/ubuntu, by ubuntu.
  FakeHost(std::initializer_list<std::pair<std::string, std::string>> files);
  ~FakeHost() override;
  FakeHost(FakeHost&&) noexcept;
  FakeHost& operator=(FakeHost&&) noexcept;

  // ---- preparing; none of this is recorded. Missing parent directories are made, with the owner of the closest one.
  FakeHost& put(const std::string& path, std::string content, unsigned mode = 0644);
  FakeHost& put(const std::string& path, FakeFile file);
  FakeHost& put_directory(const std::string& path, unsigned mode = 0755);
  FakeHost& put_symlink(const std::string& path, const std::string& target);
  FakeHost& take_away(const std::string& path);  ///< with everything below
  /// What a command does whose argv begins with these words; the longest match counts. A program that matches nothing is not
  /// there: exit 127. The handler may prepare the host anew (put, listen …), which is how an act() changes it; nullptr: it hangs.
  FakeHost& on(std::vector<std::string> argv_prefix, Handler handler);
  /// The same for a constant answer.
  FakeHost& answer(std::vector<std::string> argv_prefix, CommandResult result);
  FakeHost& listen(std::uint16_t port, int http_status = 200);
  /// Answers 200 to a query that ends with this token, and 403 without it.
  FakeHost& require_token(std::uint16_t port, const std::string& token);
  FakeHost& unlisten(std::uint16_t port);
  FakeHost& add_user(const std::string& name, uid_t uid, gid_t gid);
  FakeHost& set_disk_free(std::uint64_t bytes);
  FakeHost& set_clock_back(std::int64_t seconds);
  /// What a URL serves, and what an archive (told by its content) unpacks to: relative path → file.
  FakeHost& serve(const std::string& url, std::string content);
  FakeHost& archive(const std::string& content, std::vector<std::pair<std::string, FakeFile>> entries);
  /// Every later change of (or look at) this path, or below it for a directory, fails with this errno: ENOSPC, EACCES, …
  FakeHost& fail_changes(const std::string& path, int error_number);
  FakeHost& fail_looks(const std::string& path, int error_number);
  /// Steps run as the login user from now on.
  FakeHost& as_user();
  [[nodiscard]] Facts& edit_facts();
  [[nodiscard]] Identity& edit_login();
  [[nodiscard]] Mirror& edit_mirror();
  /// Called for every pause instead of sleeping: lets a wait come to its end. The default advances nothing.
  FakeHost& on_pause(std::function<void(FakeHost& host)> hook);
  /// Called while a fetch is under way: what else happens on the machine meanwhile.
  FakeHost& on_fetch(std::function<void(FakeHost& host)> hook);

  /// Called when a step asks for a restart, which then has happened at once: another boot id, an empty /run, this hook.
  FakeHost& on_reboot(std::function<void(FakeHost& host, const RebootWish& wish)> hook);

  // ---- what happened
  /// "write /etc/motd", "act systemctl start x", "fetch https://…": in order. Done through as_login() by a root step: "ubuntu: write …".
  [[nodiscard]] const std::vector<std::string>& changes() const;
  /// "info /etc/motd", "look dpkg-query -W".
  [[nodiscard]] const std::vector<std::string>& looks() const;
  void forget();                                                            ///< empties both records
  [[nodiscard]] std::optional<FakeFile> at(const std::string& path) const;  ///< not recorded, follows no link
  [[nodiscard]] std::string content(const std::string& path) const;         ///< "<no file>" where there is none
  /// Everything there is, as text: two equal snapshots mean that nothing was changed.
  [[nodiscard]] std::string snapshot() const;
  [[nodiscard]] std::chrono::milliseconds paused() const;

  // ---- Host
  [[nodiscard]] const Facts& facts() const override;
  [[nodiscard]] const Identity& self() const override;
  [[nodiscard]] const Identity& login() const override;
  [[nodiscard]] const Mirror& mirror() const override;
  [[nodiscard]] Result<std::optional<FileInfo>> info(const std::string& path) const override;
  [[nodiscard]] Result<std::string> read(const std::string& path) const override;
  [[nodiscard]] Result<std::vector<std::string>> list(const std::string& directory) const override;
  [[nodiscard]] Result<std::string> read_link(const std::string& path) const override;
  [[nodiscard]] Result<std::string> digest(const std::string& path) const override;
  [[nodiscard]] Result<CommandResult> look(const Command& command) const override;
  [[nodiscard]] Result<std::uint64_t> disk_free(const std::string& path) const override;
  [[nodiscard]] Result<std::optional<uid_t>> user_id(const std::string& name) const override;
  [[nodiscard]] Result<std::optional<gid_t>> group_id(const std::string& name) const override;
  [[nodiscard]] std::int64_t now() const override;
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
  Result<void> reboot(RebootWish wish) override;
  [[nodiscard]] std::string asked_on_boot() const override;
  void pause(std::chrono::milliseconds time) override;
  [[nodiscard]] Host& as_login() override;
  [[nodiscard]] const Host& as_login() const override;

 private:
  struct Machine;
  explicit FakeHost(std::shared_ptr<Machine> machine);
  void note_look(const std::string& what) const;
  void note_change(const std::string& what);
  [[nodiscard]] Result<std::string> resolve(const std::string& path, bool follow_last) const;
  [[nodiscard]] Result<void> may_look(const std::string& path, const std::string& doing) const;
  /// The resolved path of an entry that this user may make, replace or remove in its directory.
  [[nodiscard]] Result<std::string> may_change(const std::string& path, const std::string& doing) const;
  [[nodiscard]] Result<void> may_give(const FileAttributes& attributes, const std::string& doing) const;
  [[nodiscard]] CommandResult run(const Command& command) const;
  FakeFile& place(const std::string& resolved, FakeFile file);

  std::shared_ptr<Machine> machine_;
  bool acts_as_login_ = false;  ///< the view of as_login()
  mutable std::unique_ptr<FakeHost> login_view_;
};

}  // namespace gpustrap
