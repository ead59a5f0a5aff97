#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <ctime>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "agent/base/result.h"
#include "agent/protocol/facts.h"
#include "agent/protocol/network.h"

namespace gpustrap {

/// A user as the operating system knows it; taken before sudo for the login user.
struct Identity {
  uid_t uid = 0;
  gid_t gid = 0;
  std::vector<gid_t> groups;
  std::string name, home, shell;
  std::vector<std::pair<std::string, std::string>> proxy;  ///< http_proxy, https_proxy, no_proxy … of the login
};

enum class FileType { regular, directory, symlink, other };
struct FileInfo {
  FileType type = FileType::other;
  unsigned mode = 0;  ///< permission bits
  uid_t uid = 0;
  gid_t gid = 0;
  std::uint64_t size = 0;
  std::int64_t mtime_s = 0;
  std::uint64_t inode = 0;
  std::int64_t atime_s = 0;  ///< of a terminal: when somebody last typed there
};
/// What a written file or directory is to have; what is not given stays as it is or follows umask.
struct FileAttributes {
  std::optional<unsigned> mode;
  std::optional<uid_t> uid;
  std::optional<gid_t> gid;
};

struct Command {
  std::vector<std::string> argv;
  std::vector<std::pair<std::string, std::string>> env;  ///< added to the step's environment
  std::string cwd;
  std::string input;
  std::chrono::milliseconds timeout{0};  ///< 0: the step's own limit only
  /// For act(): sees every whole line of standard output; a line for which it returns true is taken, and not shown. The program then
  /// has descriptor 3 as a second way into its standard output: apt closes the one that it reports on for the programs that it starts.
  std::function<bool(std::string_view line)> takes_line;
  /// takes_line sees the lines of standard error too, which may end with a carriage return: git's progress. There is no descriptor 3.
  bool takes_errors = false;
};
struct CommandResult {
  int exit_code = 0;  ///< 127 where the program does not exist
  std::string out, err;
};

/// Where a step says what it is doing. Lines are events; progress is a signal.
class StepLog {
 public:
  virtual ~StepLog() = default;
  /// One line of the step's own words ("waiting for process 812 (unattended-upgr) to release the dpkg lock").
  virtual void say(std::string_view line) = 0;
  /// Bytes; total 0 where unknown.
  virtual void progress(std::string_view text, std::uint64_t done, std::uint64_t total) = 0;
  /// What is not counted in bytes: the part that is done, 0 to 1.
  virtual void share(std::string_view text, double part) = 0;
  /// A file has come over the network. `shown_url` without what may be secret in it; `bytes` that came, in `elapsed`.
  virtual void downloaded(std::string_view shown_url, std::uint64_t bytes, std::chrono::milliseconds elapsed) {
    (void)shown_url, (void)bytes, (void)elapsed;
  }
  /// From here on the step is not to be killed, whatever its limits say: half done, its change would leave the host broken (dpkg's
  /// database). Returns once the runner knows.
  virtual void must_finish() {}
};

struct FetchRequest {
  std::vector<std::string> urls;      ///< the first, then its mirrors
  std::string to;                     ///< file; `to.gpustrap-part` while it grows, and resumed from there
  std::optional<std::string> sha256;  ///< checked before the rename
  FileAttributes attributes;
  std::string name = {};   ///< for progress; empty: that of `to`
  bool dated = false;      ///< its time is the one that the server gives, where it gives one
  std::uint64_t size = 0;  ///< where it is known beforehand, for progress
};
struct FetchResult {
  std::string sha256;
  std::uint64_t size = 0;
  std::string url;
  bool resumed = false;
  std::uint64_t received = 0;  ///< bytes that came over the network for this call
};

struct UnpackRequest {
  std::string archive;  ///< local file; zip or tar with gz, bz2, xz, zst, told by content
  std::string to;       ///< existing directory that nothing leaves
  unsigned strip = 0;
  std::uint64_t max_size = 0;  ///< 0: no limit
  /// The largest public data sets have 1.3 million files; more than this is an attack on the inodes.
  std::size_t max_entries = 2'000'000;
  /// Of all names together. What is unpacked is kept in memory by name, and packed names cost a thousand times less.
  std::size_t max_name_bytes = std::size_t{256} << 20U;
};
struct UnpackedEntry {
  std::string path;
  FileType type = FileType::regular;
  std::string sha256;
  unsigned mode = 0;
  std::uint64_t size = 0;
  std::string target;
};

struct FetchedArchive {
  FetchResult fetched;
  std::vector<UnpackedEntry> entries;
};

/// A restart that a step asks for; the runner does it once no other step is at work.
struct RebootWish {
  std::string reason;   ///< for the journal: "a reboot is required (libc6)"
  std::string message;  ///< for the users of the host
  std::chrono::milliseconds limit{0};
};

/// The seam through which steps touch the machine. Const members only look; check() has a const Host, so it cannot write.
/// Paths are absolute; expand() makes them so.
class Host {
 public:
  virtual ~Host() = default;

  [[nodiscard]] virtual const Facts& facts() const = 0;
  [[nodiscard]] virtual const Identity& self() const = 0;  ///< whom the step runs as
  [[nodiscard]] virtual const Identity& login() const = 0;
  /// Where the run takes packages and files from instead; an empty one where it was told nothing.
  [[nodiscard]] virtual const Mirror& mirror() const;
  /// "~" and "~/x" become the home of the step's identity.
  [[nodiscard]] std::string expand(std::string_view path) const;

  // Looking
  /// lstat; nullopt where nothing is there.
  [[nodiscard]] virtual Result<std::optional<FileInfo>> info(const std::string& path) const = 0;
  [[nodiscard]] virtual Result<std::string> read(const std::string& path) const = 0;
  [[nodiscard]] virtual Result<std::vector<std::string>> list(const std::string& directory) const = 0;  ///< names, sorted
  [[nodiscard]] virtual Result<std::string> read_link(const std::string& path) const = 0;
  [[nodiscard]] virtual Result<std::string> digest(const std::string& path) const = 0;  ///< sha256 hex
  /// A command that only looks. Its output is not shown.
  [[nodiscard]] virtual Result<CommandResult> look(const Command& command) const = 0;
  [[nodiscard]] virtual Result<std::uint64_t> disk_free(const std::string& path) const = 0;
  [[nodiscard]] virtual Result<std::optional<uid_t>> user_id(const std::string& name) const = 0;
  [[nodiscard]] virtual Result<std::optional<gid_t>> group_id(const std::string& name) const = 0;
  /// Whether something accepts connections on 127.0.0.1:port now.
  [[nodiscard]] virtual bool port_answers(std::uint16_t port) const = 0;
  /// One HTTP GET to the loopback; the status code. For readiness.
  [[nodiscard]] virtual Result<int> http_status(std::uint16_t port, const std::string& path_and_query) const = 0;

  /// Id of the boot on which this step asked for a restart earlier in the run; empty where it has not.
  [[nodiscard]] virtual std::string asked_on_boot() const { return {}; }

  /// Seconds since 1970, as file times count.
  [[nodiscard]] virtual std::int64_t now() const { return std::time(nullptr); }

  // Changing
  /// Atomic: temporary file, fsync, rename. Keeps owner and mode of what stood there where `attributes` does not say.
  virtual Result<void> write(const std::string& path, std::string_view content, const FileAttributes& attributes) = 0;
  virtual Result<void> make_directory(const std::string& path, const FileAttributes& attributes) = 0;  ///< and parents
  virtual Result<void> make_symlink(const std::string& path, const std::string& target) = 0;           ///< replaces a symlink only
  virtual Result<void> set_attributes(const std::string& path, const FileAttributes& attributes) = 0;
  virtual Result<void> rename(const std::string& from, const std::string& to) = 0;
  virtual Result<void> remove(const std::string& path) = 0;       ///< one file, link or empty directory
  virtual Result<void> remove_tree(const std::string& path) = 0;  ///< never follows a link
  /// A command that changes things; its output is streamed as the step's output. A failing exit is a result, not an error.
  virtual Result<CommandResult> act(const Command& command, StepLog& log) = 0;
  virtual Result<FetchResult> fetch(const FetchRequest& request, StepLog& log) = 0;
  virtual Result<std::vector<UnpackedEntry>> unpack(const UnpackRequest& request, StepLog& log) = 0;
  /// fetch(), then unpack() of what came; where the host can, both at once. Nothing may be believed of what was unpacked before this has
  /// ended well: only then is the digest known. `unpack.archive` is that of the request.
  virtual Result<FetchedArchive> fetch_and_unpack(const FetchRequest& request, const UnpackRequest& unpack, StepLog& log);
  /// The whole file where it was fetched ahead; nullopt where it was not. Asks nobody on the network.
  virtual std::optional<FetchResult> take_fetched(const FetchRequest& request, StepLog& log);
  /// Fetches these, several at once where the host can, in their order; returns how many came. What does not come is said, and left.
  virtual std::size_t fetch_many(const std::vector<FetchRequest>& requests, StepLog& log);
  /// Asks for a restart, at the end of apply. The step is looked at again on the next boot, where asked_on_boot() is this boot's id.
  virtual Result<void> reboot(RebootWish wish) = 0;
  /// Whether reboot() was asked for and is still to come.
  [[nodiscard]] virtual bool awaits_reboot() const { return false; }
  /// Pause between two looks of a wait; the only place where a step may sleep.
  virtual void pause(std::chrono::milliseconds time) = 0;

  /// The same host, acting as the login user: for the parts of a root step that belong to that user's home.
  [[nodiscard]] virtual Host& as_login() = 0;
  [[nodiscard]] virtual const Host& as_login() const = 0;
};

/// `command failed (exit 100): last line of its stderr` for an act() or look() whose exit is not 0.
[[nodiscard]] Error command_error(const Command& command, const CommandResult& result);

}  // namespace gpustrap
