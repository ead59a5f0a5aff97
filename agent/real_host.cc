#include "agent/real_host.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <fcntl.h>
#include <grp.h>
#include <netinet/in.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/time.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstdlib>
#include <functional>
#include <thread>

#include <fmt/format.h>

#include "agent/agent_looks.h"
#include "agent/base/file.h"
#include "agent/base/sha256.h"
#include "agent/base/subprocess.h"
#include "agent/base/text.h"
#include "agent/base/unique_fd.h"
#include "agent/fetch.h"
#include "agent/fetch_at_once.h"
#include "agent/identity.h"
#include "agent/mirrors.h"
#include "agent/protocol/json.h"
#include "agent/safe_directory.h"
#include "agent/shown_url.h"
#include "agent/streamed_archive.h"
#include "agent/systemd_bus.h"
#include "agent/unpack.h"

namespace gpustrap {
namespace {

constexpr std::string_view kPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Of a command's output, what an error message may quote.
constexpr std::size_t kKeptOutput = 64U << 10U;
constexpr std::size_t kLargestFile = 64U << 20U;

FileInfo info_from(const struct stat& info) {
  FileInfo file;
  file.type = S_ISREG(info.st_mode)   ? FileType::regular
              : S_ISDIR(info.st_mode) ? FileType::directory
              : S_ISLNK(info.st_mode) ? FileType::symlink
                                      : FileType::other;
  file.mode = info.st_mode & 07777U;
  file.uid = info.st_uid;
  file.gid = info.st_gid;
  file.size = static_cast<std::uint64_t>(info.st_size);
  file.mtime_s = info.st_mtim.tv_sec;
  file.inode = info.st_ino;
  file.atime_s = info.st_atim.tv_sec;
  return file;
}

Result<void> apply_attributes(int fd, const FileAttributes& attributes) {
  if ((attributes.uid || attributes.gid) &&
      ::fchown(fd, attributes.uid.value_or(static_cast<uid_t>(-1)), attributes.gid.value_or(static_cast<gid_t>(-1))) != 0) {
    return fail(errno_error(errno, ""));
  }
  // After the owner: chown drops set-id bits.
  if (attributes.mode && ::fchmod(fd, *attributes.mode) != 0) return fail(errno_error(errno, ""));
  return {};
}

/// The same by name, for who is not root: no mode is in the way then, and no link can lead to what that user may not change anyway.
Result<void> apply_attributes_by_name(const std::string& path, const FileAttributes& attributes) {
  if ((attributes.uid || attributes.gid) &&
      ::chown(path.c_str(), attributes.uid.value_or(static_cast<uid_t>(-1)), attributes.gid.value_or(static_cast<gid_t>(-1))) != 0) {
    return fail(errno_error(errno, ""));
  }
  if (attributes.mode && ::chmod(path.c_str(), *attributes.mode) != 0) return fail(errno_error(errno, ""));
  return {};
}

/// The last part of a path; slashes behind it do not count.
std::string name_of(std::string_view path) {
  while (path.size() > 1 && path.ends_with('/')) path.remove_suffix(1);
  return std::string(path.substr(path.rfind('/') + 1));
}

/// An entry by the directory that holds it: what every change goes through, so that nothing between a look and the change can
/// put another directory in its place.
struct Entry {
  UniqueFd parent;
  std::string name;
};
Result<Entry> find_entry(const std::string& path) {
  Entry entry;
  entry.name = name_of(path);
  if (entry.name.empty() || entry.name == "/" || entry.name == "." || entry.name == "..") {
    return fail(ErrorCode::internal, fmt::format("`{}` names no entry of a directory", path));
  }
  Result<UniqueFd> parent = open_directory(parent_of(path));
  if (!parent) return fail(std::move(parent).error());
  entry.parent = *std::move(parent);
  return entry;
}

/// After a rename: the new name is on the disk too. A directory that may be written but not read cannot be synced; the file itself was.
Result<void> sync_directory(int directory) {
  const UniqueFd readable(::openat(directory, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!readable.valid()) return errno == EACCES ? Result<void>() : fail(errno_error(errno, ""));
  // Some network and overlay file systems cannot sync a directory, and say EINVAL.
  if (::fsync(readable.get()) != 0 && errno != EINVAL) return fail(errno_error(errno, ""));
  return {};
}

std::string temporary_name(const std::string& name) {
  // The name may already be as long as names may be (255 bytes).
  return fmt::format(".{}.gpustrap-{}", name.substr(0, 200), ::getpid());
}

/// Value of field `index` in the line of /etc/passwd or /etc/group whose first field is `name`.
template <class Id> Result<std::optional<Id>> id_in(const std::string& file, const std::string& name) {
  const Result<std::string> text = read_file(file);
  if (!text) return fail(text.error());
  for (const std::string& line : split(*text, '\n')) {
    const std::vector<std::string> fields = split(line, ':');
    if (fields.size() < 3 || fields[0] != name) continue;
    Id id{};
    const auto [end, error] = std::from_chars(fields[2].data(), fields[2].data() + fields[2].size(), id);
    if (error == std::errc()) return std::optional<Id>(id);
  }
  return std::optional<Id>();
}

/// For the first line of an answer over loopback.
constexpr auto kAnswerLimit = std::chrono::seconds(10);

UniqueFd connect_to_loopback(std::uint16_t port) {
  UniqueFd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!fd.valid()) return fd;
  const timeval limit{kAnswerLimit.count(), 0};
  ::setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
  ::setsockopt(fd.get(), SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    const int reason = errno;
    fd.reset();
    errno = reason;
  }
  return fd;
}

}  // namespace

/// Another user's rights for as long as it lives. What cannot be undone ends the process.
class RealHost::ActingAs {
 public:
  explicit ActingAs(const Identity& identity) {
    if (::geteuid() != 0 || identity.uid == 0) return;
    std::array<gid_t, 1024> before{};
    const int count = ::getgroups(static_cast<int>(before.size()), before.data());
    if (count < 0) ::_exit(1);
    groups_.assign(before.begin(), before.begin() + count);
    // A change of the effective user clears it, and the step would outlive its runner.
    if (::prctl(PR_GET_PDEATHSIG, &death_signal_) != 0) ::_exit(1);
    switched_ =
        ::setgroups(identity.groups.size(), identity.groups.data()) == 0 && ::setegid(identity.gid) == 0 && ::seteuid(identity.uid) == 0;
    if (!switched_) ::_exit(1);
    ::prctl(PR_SET_PDEATHSIG, death_signal_);
  }
  ~ActingAs() {
    if (!switched_) return;
    const int reason = errno;
    if (::seteuid(0) != 0 || ::setegid(0) != 0 || ::setgroups(groups_.size(), groups_.data()) != 0) ::_exit(1);
    ::prctl(PR_SET_PDEATHSIG, death_signal_);
    errno = reason;
  }
  ActingAs(const ActingAs&) = delete;
  ActingAs& operator=(const ActingAs&) = delete;

 private:
  bool switched_ = false;
  int death_signal_ = 0;
  std::vector<gid_t> groups_;
};

RealHost::RealHost(const Facts& facts, Identity self, Identity login, Environment env, Mirror mirror)
    : facts_(facts), self_(std::move(self)), login_(std::move(login)), env_(std::move(env)), mirror_(std::move(mirror)) {
  // A step that says so itself has its own place.
  for (const auto& [name, value] : env_) {
    if (name == "PIP_INDEX_URL" || name == "UV_DEFAULT_INDEX" || name == "UV_INDEX_URL") mirror_.forget("pypi");
    if (name == "CONDA_CHANNEL_ALIAS") mirror_.forget("conda");
  }
}
RealHost::~RealHost() = default;

Host& RealHost::as_login() {
  if (self_.uid == login_.uid) return *this;
  if (!as_login_) {
    as_login_ = std::make_unique<RealHost>(facts_, login_, login_, env_, mirror_);
    as_login_->set_masking(masking_);
  }
  return *as_login_;
}
const Host& RealHost::as_login() const { return const_cast<RealHost*>(this)->as_login(); }

Result<void> RealHost::reboot(RebootWish wish) {
  reboot_wish_ = std::move(wish);
  return {};
}

// ---- looking

Result<std::optional<FileInfo>> RealHost::info(const std::string& path) const {
  const ActingAs as(self_);
  struct stat info {};
  if (::lstat(path.c_str(), &info) == 0) return std::optional<FileInfo>(info_from(info));
  if (errno == ENOENT || errno == ENOTDIR) return std::optional<FileInfo>();
  return fail(errno_error(errno, "looking at " + path));
}

Result<std::string> RealHost::read(const std::string& path) const {
  const ActingAs as(self_);
  struct stat info {};
  // To open a pipe waits until somebody writes to it.
  if (::stat(path.c_str(), &info) == 0 && S_ISFIFO(info.st_mode))
    return fail(ErrorCode::unsafe, path + " is a pipe, a file is wanted", "remove it, or choose another path");
  return read_file(path, kLargestFile);
}

Result<std::vector<std::string>> RealHost::list(const std::string& directory) const {
  const ActingAs as(self_);
  const std::unique_ptr<DIR, int (*)(DIR*)> handle(::opendir(directory.c_str()), ::closedir);
  if (!handle) return fail(errno_error(errno, "listing " + directory));
  std::vector<std::string> names;
  while (const dirent* entry = ::readdir(handle.get())) {
    const std::string name = entry->d_name;
    if (name != "." && name != "..") names.push_back(name);
  }
  std::sort(names.begin(), names.end());
  return names;
}

Result<std::string> RealHost::read_link(const std::string& path) const {
  const ActingAs as(self_);
  std::string target(4096, '\0');
  const ssize_t length = ::readlink(path.c_str(), target.data(), target.size());
  if (length < 0) return fail(errno_error(errno, "reading the link " + path));
  target.resize(static_cast<std::size_t>(length));
  return target;
}

Result<std::string> RealHost::digest(const std::string& path) const {
  const ActingAs as(self_);
  return sha256_of_file(path);
}

Result<std::uint64_t> RealHost::disk_free(const std::string& path) const {
  struct statvfs disk {};
  std::string existing = path;
  while (::statvfs(existing.c_str(), &disk) != 0) {
    if (errno != ENOENT || existing == "/") return fail(errno_error(errno, "asking for the free space of " + existing));
    existing = parent_of(existing);
  }
  return static_cast<std::uint64_t>(self_.uid == 0 ? disk.f_bfree : disk.f_bavail) * disk.f_frsize;
}

Result<std::optional<uid_t>> RealHost::user_id(const std::string& name) const { return id_in<uid_t>("/etc/passwd", name); }
Result<std::optional<gid_t>> RealHost::group_id(const std::string& name) const { return id_in<gid_t>("/etc/group", name); }

bool RealHost::port_answers(std::uint16_t port) const { return connect_to_loopback(port).valid(); }

Result<int> RealHost::http_status(std::uint16_t port, const std::string& path_and_query) const {
  const UniqueFd fd = connect_to_loopback(port);
  const std::string doing = fmt::format("asking 127.0.0.1:{}", port);
  if (!fd.valid()) return fail(errno_error(errno, doing));
  const std::string request = fmt::format("GET {} HTTP/1.1\r\nHost: localhost:{}\r\nConnection: close\r\n\r\n", path_and_query, port);
  if (Result<void> sent = write_all(fd.get(), request); !sent) return fail(std::move(sent).error().in(doing));
  std::string answer;
  std::array<char, 512> buffer{};
  const auto deadline = std::chrono::steady_clock::now() + kAnswerLimit;
  while (answer.find('\n') == std::string::npos && answer.size() < 4096) {
    // Each read has its own limit; one that is answered byte by byte must end, too.
    if (std::chrono::steady_clock::now() > deadline) return fail(errno_error(ETIMEDOUT, doing));
    const ssize_t got = ::read(fd.get(), buffer.data(), buffer.size());
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return fail(errno_error(errno == EAGAIN ? ETIMEDOUT : errno, doing));
    if (got == 0) break;
    answer.append(buffer.data(), static_cast<std::size_t>(got));
  }
  int status = 0;
  const std::vector<std::string> parts = words(first_line(answer));
  if (parts.size() < 2 || !parts[0].starts_with("HTTP/") ||
      std::from_chars(parts[1].data(), parts[1].data() + parts[1].size(), status).ec != std::errc()) {
    return fail(Error(ErrorCode::protocol, "what answers there is no HTTP server").in(doing));
  }
  return status;
}

// ---- commands

RealHost::Environment RealHost::command_environment() const {
  Environment environment = {{"PATH", std::string(kPath)}, {"LANG", "C.UTF-8"},  {"LC_ALL", "C.UTF-8"},
                             {"HOME", self_.home},         {"USER", self_.name}, {"LOGNAME", self_.name}};
  if (!self_.shell.empty()) environment.emplace_back("SHELL", self_.shell);
  for (const auto& [name, value] : login_.proxy) {
    environment.emplace_back(name, value);
    std::string upper = name;
    std::transform(upper.begin(), upper.end(), upper.begin(), [](unsigned char c) { return static_cast<char>(std::toupper(c)); });
    if (name != "http_proxy") environment.emplace_back(std::move(upper), value);  // HTTP_PROXY is an attack on CGI; no program needs it
  }
  for (auto& variable : mirror_environment(mirror_)) environment.push_back(std::move(variable));
  return environment;
}

Result<CommandResult> RealHost::run(const Command& command, bool shown) const {
  Subprocess subprocess;
  subprocess.argv = command.argv;
  subprocess.clean_env = command_environment();
  // A name that stands twice in an environment means the one or the other, program by program: the later entries replace the earlier.
  subprocess.env = env_;
  subprocess.env.insert(subprocess.env.end(), command.env.begin(), command.env.end());
  subprocess.cwd = command.cwd.empty() ? self_.home : command.cwd;
  subprocess.input = command.input;
  subprocess.timeout = command.timeout;
  subprocess.own_group = false;  // the runner ends a step with everything it started
  if (shown) {
    subprocess.limit = kKeptOutput;
    subprocess.keep = Subprocess::Keep::end;
  }
  if (command.cwd.empty() && !path_exists(self_.home)) subprocess.cwd = std::string("/");
  const Identity& identity = self_;
  const bool reports = command.takes_line && !command.takes_errors;
  subprocess.in_child = [&identity, reports] {
    const Result<void> became = become(identity);
    if (became && (!reports || ::dup2(STDOUT_FILENO, 3) == 3)) return;
    if (became) ::_exit(126);
    (void)write_all(STDERR_FILENO, became.error().sentence() + "\n");
    ::_exit(126);
  };
  OutputSink sink;
  std::string unfinished;  // a line of output without its end
  const std::string_view line_ends = command.takes_errors ? "\r\n" : "\n";
  if (shown) {
    // The process's own streams are the step's output. A runner that is gone takes this process with it: nothing to do about a failure.
    sink = [&](std::string_view stream, std::string_view bytes) {
      if (!command.takes_line || (stream == "err" && !command.takes_errors)) {
        (void)write_all(stream == "out" ? STDOUT_FILENO : STDERR_FILENO, bytes);
        return;
      }
      unfinished += bytes;
      for (std::size_t end = unfinished.find_first_of(line_ends); end != std::string::npos; end = unfinished.find_first_of(line_ends)) {
        const std::string line = unfinished.substr(0, end);
        if (!command.takes_line(line)) (void)write_all(STDOUT_FILENO, line + "\n");
        unfinished.erase(0, end + 1);
      }
    };
  }
  Result<SubprocessResult> result = run_subprocess(subprocess, sink);
  if (!result) return fail(std::move(result).error());
  if (!unfinished.empty() && !command.takes_line(unfinished)) (void)write_all(STDOUT_FILENO, unfinished + "\n");
  if (result->timed_out) {
    return fail(ErrorCode::timeout,
                fmt::format("`{}` was not done after {}", first_line(join(command.argv, " "), 80), human_duration(command.timeout)));
  }
  if (result->exit_code != 0 && !masking_.empty()) {
    result->out = masking_.mask(result->out);
    result->err = masking_.mask(result->err);
  }
  return CommandResult{result->exit_code, std::move(result->out), std::move(result->err)};
}

Result<CommandResult> RealHost::look(const Command& command) const {
  // The look that every rerun takes at each service: a tenth of what starting systemctl for it costs.
  constexpr std::string_view kProperty = "--property=";
  const std::vector<std::string>& words = command.argv;
  if (words.size() == 4 && words[0] == "systemctl" && words[1] == "show" && words[2].starts_with(kProperty)) {
    if (std::optional<std::string> shown = show_unit(words[3], split(words[2].substr(kProperty.size()), ',')))
      return CommandResult{0, *std::move(shown), ""};
  }
  if (!words.empty() && words[0] == kAgentItself) return ask_agent(command);
  return run(command, false);
}

CommandResult RealHost::ask_agent(const Command& command) const {
  const ActingAs as(self_);
  const std::string& what = command.argv.at(1);
  if (what == "python-to-come") return {0, python_to_come_, ""};
  if (what == "found-ahead") return {0, ahead_.folder.empty() ? "[]" : requests_to_json(noted_ahead(ahead_)), ""};
  FetchOptions options;
  options.proxy = login_.proxy;
  options.attempts = 2;
  Json pages = Json::array();
  for (const std::optional<std::string>& text : ask_at_once({command.argv.begin() + 2, command.argv.end()}, options)) {
    pages.push_back(text ? Json(to_utf8(*text)) : Json());
  }
  return {0, pages.dump(), ""};
}

Result<CommandResult> RealHost::act(const Command& command, StepLog&) { return run(command, true); }

// ---- changing

Result<void> RealHost::write(const std::string& path, std::string_view content, const FileAttributes& attributes) {
  const ActingAs as(self_);
  const std::string doing = "writing " + path;
  Result<Entry> entry = find_entry(path);
  if (!entry) return fail(std::move(entry).error().in(doing));
  const int parent = entry->parent.get();
  FileAttributes wanted = attributes;
  struct stat before {};
  if (::fstatat(parent, entry->name.c_str(), &before, AT_SYMLINK_NOFOLLOW) == 0) {
    if (!S_ISREG(before.st_mode)) {
      return fail(Error(ErrorCode::unsafe, "what stands there is not a regular file", "move it away, or choose another path").in(doing));
    }
    struct stat folder {};
    // What anybody may have put there does not say whose the new file is to be, or who may write to it.
    const bool planted = self_.uid == 0 && before.st_uid != 0 && (::fstat(parent, &folder) != 0 || (folder.st_mode & S_IWOTH) != 0);
    if (!planted) {
      if (!wanted.mode) wanted.mode = before.st_mode & 07777U;
      if (self_.uid == 0) {
        if (!wanted.uid) wanted.uid = before.st_uid;
        if (!wanted.gid) wanted.gid = before.st_gid;
      }
    }
  } else if (errno != ENOENT) {
    return fail(errno_error(errno, doing));
  }
  if (!wanted.mode) wanted.mode = private_files_ ? 0600U : 0644U;
  const std::string temporary = temporary_name(entry->name);
  ::unlinkat(parent, temporary.c_str(), 0);  // of a process with this number that died
  UniqueFd file(::openat(parent, temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600));
  if (!file.valid()) return fail(errno_error(errno, doing));
  const auto abandon = [&](Error error) {
    ::unlinkat(parent, temporary.c_str(), 0);
    return fail(std::move(error).in(doing));
  };
  if (Result<void> wrote = write_all(file.get(), content); !wrote) return abandon(std::move(wrote).error());
  if (Result<void> applied = apply_attributes(file.get(), wanted); !applied) return abandon(std::move(applied).error());
  if (::fsync(file.get()) != 0) return abandon(errno_error(errno, ""));
  if (::renameat(parent, temporary.c_str(), parent, entry->name.c_str()) != 0) return abandon(errno_error(errno, ""));
  if (Result<void> synced = sync_directory(parent); !synced) return fail(std::move(synced).error().in(doing));
  return {};
}

Result<void> RealHost::make_directory(const std::string& path, const FileAttributes& attributes) {
  const ActingAs as(self_);
  const std::string doing = "making " + path;
  Result<UniqueFd> folder = open_directory(path, MissingParents::make);
  if (!folder) return fail(std::move(folder).error().in(doing));
  if (!attributes.mode && !attributes.uid && !attributes.gid) return {};
  Result<void> applied;
  if (::geteuid() != 0) {
    applied = apply_attributes_by_name(path, attributes);
  } else {
    const UniqueFd readable(::openat(folder->get(), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!readable.valid()) return fail(errno_error(errno, doing));
    applied = apply_attributes(readable.get(), attributes);
  }
  if (!applied) return fail(std::move(applied).error().in(doing));
  return {};
}

Result<void> RealHost::make_symlink(const std::string& path, const std::string& target) {
  const ActingAs as(self_);
  const std::string doing = "linking " + path;
  Result<Entry> entry = find_entry(path);
  if (!entry) return fail(std::move(entry).error().in(doing));
  const int parent = entry->parent.get();
  if (::symlinkat(target.c_str(), parent, entry->name.c_str()) == 0) return {};
  struct stat before {};
  if (errno != EEXIST || ::fstatat(parent, entry->name.c_str(), &before, AT_SYMLINK_NOFOLLOW) != 0) return fail(errno_error(errno, doing));
  if (!S_ISLNK(before.st_mode)) {
    return fail(Error(ErrorCode::unsafe, "what stands there is not a link", "move it away, or choose another path").in(doing));
  }
  const std::string temporary = temporary_name(entry->name);
  ::unlinkat(parent, temporary.c_str(), 0);
  if (::symlinkat(target.c_str(), parent, temporary.c_str()) != 0) return fail(errno_error(errno, doing));
  if (::renameat(parent, temporary.c_str(), parent, entry->name.c_str()) != 0) {
    const Error error = errno_error(errno, doing);
    ::unlinkat(parent, temporary.c_str(), 0);
    return fail(error);
  }
  return {};
}

Result<void> RealHost::set_attributes(const std::string& path, const FileAttributes& attributes) {
  const ActingAs as(self_);
  const std::string doing = "setting the attributes of " + path;
  Result<Entry> entry = find_entry(path);
  if (!entry) return fail(std::move(entry).error().in(doing));
  const auto refuse = [&](const char* why, const char* hint) { return fail(Error(ErrorCode::unsafe, why, hint).in(doing)); };
  struct stat info {};
  if (::fstatat(entry->parent.get(), entry->name.c_str(), &info, AT_SYMLINK_NOFOLLOW) != 0) return fail(errno_error(errno, doing));
  if (S_ISLNK(info.st_mode)) return refuse("it is a symbolic link", "name what it points to");
  if (!S_ISREG(info.st_mode) && !S_ISDIR(info.st_mode)) return refuse("it is neither a file nor a directory", "choose another path");
  Result<void> applied;
  if (::geteuid() != 0) {
    applied = apply_attributes_by_name(path, attributes);
  } else {
    const UniqueFd file(::openat(entry->parent.get(), entry->name.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
    struct stat folder {};
    if (!file.valid() || ::fstat(file.get(), &info) != 0 || ::fstat(entry->parent.get(), &folder) != 0)
      return fail(errno_error(errno, doing));
    // Another name of, say, /etc/shadow in a user's directory would give it to that user.
    if (S_ISREG(info.st_mode) && info.st_nlink > 1 && folder.st_uid != 0) {
      return refuse("the file has another name elsewhere (a hard link), and its directory is not root's", "run the step with `as: login`");
    }
    applied = apply_attributes(file.get(), attributes);
  }
  if (!applied) return fail(std::move(applied).error().in(doing));
  return {};
}

Result<void> RealHost::rename(const std::string& from, const std::string& to) {
  const ActingAs as(self_);
  const std::string doing = fmt::format("renaming {} to {}", from, to);
  Result<Entry> source = find_entry(from);
  if (!source) return fail(std::move(source).error().in(doing));
  Result<Entry> target = find_entry(to);
  if (!target) return fail(std::move(target).error().in(doing));
  if (::renameat(source->parent.get(), source->name.c_str(), target->parent.get(), target->name.c_str()) != 0)
    return fail(errno_error(errno, doing));
  return {};
}

Result<void> RealHost::remove(const std::string& path) {
  const ActingAs as(self_);
  Result<Entry> entry = find_entry(path);
  if (!entry && entry.error().code() == ErrorCode::not_found) return {};
  if (!entry) return fail(std::move(entry).error().in("removing " + path));
  if (::unlinkat(entry->parent.get(), entry->name.c_str(), 0) == 0 || errno == ENOENT) return {};
  if (errno == EISDIR && ::unlinkat(entry->parent.get(), entry->name.c_str(), AT_REMOVEDIR) == 0) return {};
  return fail(errno_error(errno, "removing " + path));
}

Result<void> RealHost::remove_tree(const std::string& path) {
  const ActingAs as(self_);
  Result<Entry> entry = find_entry(path);
  if (!entry && entry.error().code() == ErrorCode::not_found) return {};
  if (!entry) return fail(std::move(entry).error().in("removing " + path));
  return remove_tree_at(entry->parent.get(), entry->name);
}

Result<FetchResult> RealHost::fetch_now(const FetchRequest& request, StepLog& log, Ahead ahead, TransferChild* transfers) const {
  using Clock = std::chrono::steady_clock;
  std::optional<SharedFiles> shared;
  if (shared_.controller >= 0 && !shared_.folder.empty()) shared = shared_;
  const auto once = [&](const FetchRequest& wanted, Patience patience) {
    FetchOptions options;
    if (shared) {  // asked for before each place, a mirror or the origin
      shared->keep_free = kept_free(parent_of(wanted.to));
      options.shared = &*shared;
    }
    options.proxy = login_.proxy;
    options.transfers = transfers;
    // Ahead of its step a fetch is a favour: what does not come at once is left to the step, and to its words about it.
    if (patience == Patience::short_one || ahead == Ahead::yes) options.attempts = 2;
    if (ahead == Ahead::yes) options.keep_free = kept_free(parent_of(wanted.to));
    const Clock::time_point start = Clock::now();
    Result<FetchResult> fetched = fetch_file(wanted, options, log);
    if (fetched) {
      log.downloaded(shown_url(fetched->url), fetched->received,
                     std::chrono::duration_cast<std::chrono::milliseconds>(Clock::now() - start));
    }
    return fetched;
  };
  Result<FetchResult> fetched = fetch_by_mirror(request, mirror_, log, once);
  return fetched ? std::move(fetched) : fail(by_way_of(*this, std::move(fetched).error(), ""));
}

class RealHost::StandsStill {
 public:
  explicit StandsStill(const RealHost& host) : host_(host) { say(true); }
  ~StandsStill() { say(false); }
  StandsStill(const StandsStill&) = delete;
  StandsStill& operator=(const StandsStill&) = delete;

 private:
  void say(bool is_so) const {
    if (host_.say_stands_still_) host_.say_stands_still_(is_so);
  }
  const RealHost& host_;
};

Result<FetchResult> RealHost::fetch(const FetchRequest& request, StepLog& log) {
  const ActingAs as(self_);
  const StandsStill still(*this);
  if (!ahead_.folder.empty() && !request.urls.empty()) {
    const auto rest = [&](const FetchRequest& wanted) { return fetch_now(wanted, log, Ahead::no); };
    if (std::optional<Result<FetchResult>> taken = take_ahead(ahead_, request, log, rest)) return *std::move(taken);
  }
  return fetch_now(request, log, Ahead::no);
}

Result<FetchedArchive> RealHost::fetch_and_unpack(const FetchRequest& request, const UnpackRequest& unpack, StepLog& log) {
  const ActingAs as(self_);
  if (::geteuid() != self_.uid || request.urls.empty()) return Host::fetch_and_unpack(request, unpack, log);
  std::vector<std::string> places;
  if (!ahead_.folder.empty()) {
    const std::string ahead = ahead_path(ahead_, request);
    places = {ahead, part_of(ahead)};
  }
  places.insert(places.end(), {request.to, part_of(request.to)});
  return fetch_and_unpack_streamed([&] { return fetch(request, log); }, places, unpack, log);
}

std::optional<FetchResult> RealHost::take_fetched(const FetchRequest& request, StepLog& log) {
  const ActingAs as(self_);
  if (ahead_.folder.empty() || request.urls.empty()) return std::nullopt;
  const StandsStill still(*this);
  const auto nothing_more = [](const FetchRequest&) -> Result<FetchResult> { return fail(ErrorCode::not_found, "it has not come whole"); };
  const std::optional<Result<FetchResult>> taken = take_ahead(ahead_, request, log, nothing_more);
  return taken && *taken ? std::optional<FetchResult>(**taken) : std::nullopt;
}

std::size_t RealHost::fetch_many(const std::vector<FetchRequest>& requests, StepLog& log) {
  const ActingAs as(self_);
  const StandsStill still(*this);
  const auto get = [&](const FetchRequest& request, StepLog& quiet, TransferChild& transfers) -> Result<FetchResult> {
    const auto now = [&](const FetchRequest& wanted) { return fetch_now(wanted, quiet, Ahead::yes, &transfers); };
    // Of what a fetcher had begun, the rest.
    if (!ahead_.folder.empty()) {
      if (std::optional<Result<FetchResult>> taken = take_ahead(ahead_, request, quiet, now)) return *std::move(taken);
    }
    return now(request);
  };
  return fetch_at_once(requests, get, log);
}

std::size_t RealHost::fetch_many_ahead(std::vector<FetchRequest> requests, StepLog& log) {
  const ActingAs as(self_);
  for (FetchRequest& request : requests) request.to = ahead_path(ahead_, request);
  const auto get = [&](const FetchRequest& request, StepLog& quiet, TransferChild& transfers) -> Result<FetchResult> {
    const auto now = [&](const FetchRequest& wanted) { return fetch_now(wanted, quiet, Ahead::yes, &transfers); };
    if (Result<void> came = gpustrap::fetch_ahead(
            ahead_, request, [] {}, now);
        !came)
      return fail(std::move(came).error());
    return FetchResult{};
  };
  return fetch_at_once(requests, get, log);
}

Result<void> RealHost::fetch_ahead(const FetchRequest& request, StepLog& log, const std::function<void()>& begun) {
  const ActingAs as(self_);
  return gpustrap::fetch_ahead(ahead_, request, begun, [&](const FetchRequest& wanted) { return fetch_now(wanted, log, Ahead::yes); });
}

Result<void> RealHost::note_ahead(const std::vector<FetchRequest>& requests) {
  const ActingAs as(self_);
  return gpustrap::note_ahead(ahead_, requests);
}

Result<std::vector<UnpackedEntry>> RealHost::unpack(const UnpackRequest& request, StepLog& log) {
  const ActingAs as(self_);
  return unpack_archive(request, log);
}

void RealHost::pause(std::chrono::milliseconds time) { std::this_thread::sleep_for(time); }

}  // namespace gpustrap
