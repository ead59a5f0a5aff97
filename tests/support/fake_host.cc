#include "tests/support/fake_host.h"

#include <algorithm>
#include <cerrno>

#include <fmt/format.h>

#include "agent/base/file.h"
#include "agent/base/sha256.h"
#include "agent/base/text.h"

namespace gpustrap {

struct FakeHost::Machine {
  Facts facts;
  Identity root, login;
  Mirror mirror;
  bool steps_run_as_login = false;
  std::map<std::string, FakeFile> files;
  std::map<std::string, std::pair<uid_t, gid_t>> users;
  std::vector<std::pair<std::vector<std::string>, Handler>> handlers;
  std::map<std::uint16_t, int> ports;
  std::map<std::uint16_t, std::string> tokens;
  std::map<std::string, std::string> urls;
  std::map<std::string, std::vector<std::pair<std::string, FakeFile>>> archives;
  std::map<std::string, int> failing_changes, failing_looks;
  std::uint64_t disk_free = std::uint64_t{100} << 30U;
  std::function<void(FakeHost&)> pause_hook, fetch_hook;
  std::function<void(FakeHost&, const RebootWish&)> reboot_hook;
  std::string asked_on_boot;
  std::chrono::milliseconds paused{0};
  std::int64_t clock = 1'000'000;
  std::vector<std::string> changes, looks;
};

namespace {

bool is_below(const std::string& path, const std::string& directory) {
  return path == directory || path.starts_with(directory == "/" ? directory : directory + "/");
}

/// Without a trailing or doubled '/'.
std::string plain(const std::string& path) {
  std::string text;
  for (const std::string& part : split(path, '/')) {
    if (!part.empty() && part != ".") text += "/" + part;
  }
  return text.empty() ? "/" : text;
}

std::optional<int> failure_at(const std::map<std::string, int>& failures, const std::string& path) {
  for (const auto& [where, number] : failures) {
    if (is_below(path, where)) return number;
  }
  return std::nullopt;
}

FileInfo info_of(const FakeFile& file) {
  return {file.type,
          file.mode,
          file.uid,
          file.gid,
          file.type == FileType::regular ? file.content.size() : 0,
          file.mtime_s,
          static_cast<std::uint64_t>(file.mtime_s)};  // each change has a time of its own: as good as a number
}

constexpr int kHangs = -1;

Result<CommandResult> unless_it_hangs(CommandResult result, const Command& command) {
  if (result.exit_code != kHangs) return result;
  return fail(ErrorCode::timeout, fmt::format("`{}` was not done in time", join(command.argv, " ")));
}

std::string_view type_name(FileType type) {
  switch (type) {
    case FileType::regular: return "file";
    case FileType::directory: return "directory";
    case FileType::symlink: return "symlink";
    default: return "other";
  }
}

}  // namespace

FakeHost::FakeHost() : machine_(std::make_shared<Machine>()) {
  Machine& m = *machine_;
  m.facts.hostname = "fake";
  m.facts.os = "ubuntu";
  m.facts.os_version = "24.04";
  m.facts.os_name = "Ubuntu 24.04.3 LTS";
  m.facts.codename = "noble";
  m.facts.arch = "x86_64";
  m.facts.kernel = "6.8.0-1029-aws";
  m.facts.boot_id = "6f1c0a52-0000-4000-8000-000000000001";
  m.facts.uptime_s = 300;
  m.facts.cpus = 4;
  m.facts.memory = std::uint64_t{16} << 30U;
  m.facts.disk_free = m.disk_free;
  m.facts.systemd = true;
  m.root = {0, 0, {0}, "root", "/root", "/bin/bash", {}};
  m.login = {1000, 1000, {1000}, "ubuntu", "/home/ubuntu", "/bin/bash", {}};
  m.users = {{"root", {0, 0}}, {"ubuntu", {1000, 1000}}};
  m.files["/"] = {FileType::directory, "", 0755};
  for (const char* path : {"/etc", "/home", "/opt", "/run", "/usr", "/usr/bin", "/usr/lib", "/usr/local", "/usr/local/bin", "/var",
                           "/var/lib", "/var/cache", "/etc/profile.d", "/etc/systemd", "/etc/systemd/system"}) {
    m.files[path] = {FileType::directory, "", 0755};
  }
  m.files["/root"] = {FileType::directory, "", 0700};
  m.files["/tmp"] = {FileType::directory, "", 01777};
  m.files["/home/ubuntu"] = {FileType::directory, "", 0755, 1000, 1000};
}

FakeHost::FakeHost(std::initializer_list<std::pair<std::string, std::string>> files) : FakeHost() {
  for (const auto& [path, content] : files) put(path, content);
}

FakeHost::FakeHost(std::shared_ptr<Machine> machine) : machine_(std::move(machine)), acts_as_login_(true) {}
FakeHost::~FakeHost() = default;
FakeHost::FakeHost(FakeHost&&) noexcept = default;
FakeHost& FakeHost::operator=(FakeHost&&) noexcept = default;

// ---- preparing

FakeFile& FakeHost::place(const std::string& resolved, FakeFile file) {
  file.mtime_s = ++machine_->clock;
  return machine_->files[resolved] = std::move(file);
}

FakeHost& FakeHost::put(const std::string& path, FakeFile file) {
  const std::string where = plain(path);
  const std::string parent = parent_of(where);
  if (!machine_->files.contains(parent)) put_directory(parent);
  place(where, std::move(file));
  return *this;
}
FakeHost& FakeHost::put(const std::string& path, std::string content, unsigned mode) {
  const bool is_login = is_below(plain(path), machine_->login.home);
  return put(path,
             FakeFile{FileType::regular, std::move(content), mode, is_login ? machine_->login.uid : 0, is_login ? machine_->login.gid : 0});
}
FakeHost& FakeHost::put_directory(const std::string& path, unsigned mode) {
  const std::string where = plain(path);
  if (!machine_->files.contains(parent_of(where))) put_directory(parent_of(where));
  const FakeFile parent = machine_->files.at(parent_of(where));
  return put(where, FakeFile{FileType::directory, "", mode, parent.uid, parent.gid});
}
FakeHost& FakeHost::put_symlink(const std::string& path, const std::string& target) {
  const bool is_login = is_below(plain(path), machine_->login.home);
  return put(path, FakeFile{FileType::symlink, target, 0777, is_login ? machine_->login.uid : 0, is_login ? machine_->login.gid : 0});
}
FakeHost& FakeHost::take_away(const std::string& path) {
  std::erase_if(machine_->files, [&](const auto& entry) { return is_below(entry.first, plain(path)); });
  return *this;
}
FakeHost& FakeHost::on(std::vector<std::string> argv_prefix, Handler handler) {
  std::erase_if(machine_->handlers, [&](const auto& known) { return known.first == argv_prefix; });
  machine_->handlers.emplace_back(std::move(argv_prefix), std::move(handler));
  return *this;
}
FakeHost& FakeHost::answer(std::vector<std::string> argv_prefix, CommandResult result) {
  return on(std::move(argv_prefix), [result = std::move(result)](FakeHost&, const Command&) { return result; });
}
FakeHost& FakeHost::listen(std::uint16_t port, int http_status) {
  machine_->tokens.erase(port);
  machine_->ports[port] = http_status;
  return *this;
}
FakeHost& FakeHost::require_token(std::uint16_t port, const std::string& token) {
  machine_->ports[port] = 200;
  machine_->tokens[port] = token;
  return *this;
}

FakeHost& FakeHost::unlisten(std::uint16_t port) {
  machine_->ports.erase(port);
  return *this;
}
FakeHost& FakeHost::add_user(const std::string& name, uid_t uid, gid_t gid) {
  machine_->users[name] = {uid, gid};
  return *this;
}
FakeHost& FakeHost::set_clock_back(std::int64_t seconds) {
  machine_->clock -= seconds;
  return *this;
}

FakeHost& FakeHost::set_disk_free(std::uint64_t bytes) {
  machine_->disk_free = machine_->facts.disk_free = bytes;
  return *this;
}
FakeHost& FakeHost::serve(const std::string& url, std::string content) {
  machine_->urls[url] = std::move(content);
  return *this;
}
FakeHost& FakeHost::archive(const std::string& content, std::vector<std::pair<std::string, FakeFile>> entries) {
  machine_->archives[content] = std::move(entries);
  return *this;
}
FakeHost& FakeHost::fail_changes(const std::string& path, int error_number) {
  machine_->failing_changes[plain(path)] = error_number;
  return *this;
}
FakeHost& FakeHost::fail_looks(const std::string& path, int error_number) {
  machine_->failing_looks[plain(path)] = error_number;
  return *this;
}
FakeHost& FakeHost::as_user() {
  machine_->steps_run_as_login = true;
  return *this;
}
FakeHost& FakeHost::on_fetch(std::function<void(FakeHost&)> hook) {
  machine_->fetch_hook = std::move(hook);
  return *this;
}
FakeHost& FakeHost::on_pause(std::function<void(FakeHost&)> hook) {
  machine_->pause_hook = std::move(hook);
  return *this;
}
Facts& FakeHost::edit_facts() { return machine_->facts; }
Identity& FakeHost::edit_login() { return machine_->login; }
Mirror& FakeHost::edit_mirror() { return machine_->mirror; }
const Mirror& FakeHost::mirror() const { return machine_->mirror; }

// ---- what happened

const std::vector<std::string>& FakeHost::changes() const { return machine_->changes; }
const std::vector<std::string>& FakeHost::looks() const { return machine_->looks; }
void FakeHost::forget() {
  machine_->changes.clear();
  machine_->looks.clear();
}
std::optional<FakeFile> FakeHost::at(const std::string& path) const {
  const auto found = machine_->files.find(plain(path));
  if (found == machine_->files.end()) return std::nullopt;
  return found->second;
}
std::string FakeHost::content(const std::string& path) const {
  const std::optional<FakeFile> file = at(path);
  return file ? file->content : "<no file>";
}
std::string FakeHost::snapshot() const {
  std::string text;
  for (const auto& [path, file] : machine_->files) {
    text += fmt::format("{} {} {:o} {}:{} {} {}\n", path, type_name(file.type), file.mode, file.uid, file.gid, file.mtime_s, file.content);
  }
  for (const auto& [port, status] : machine_->ports) text += fmt::format("port {} {}\n", port, status);
  return text;
}
std::chrono::milliseconds FakeHost::paused() const { return machine_->paused; }

void FakeHost::note_look(const std::string& what) const { machine_->looks.push_back((acts_as_login_ ? login().name + ": " : "") + what); }
void FakeHost::note_change(const std::string& what) { machine_->changes.push_back((acts_as_login_ ? login().name + ": " : "") + what); }

// ---- paths and permissions

Result<std::string> FakeHost::resolve(const std::string& path, bool follow_last) const {
  std::vector<std::string> rest = split(plain(path), '/');
  std::reverse(rest.begin(), rest.end());
  std::string at = "/";
  for (int links = 0; !rest.empty();) {
    const std::string part = rest.back();
    rest.pop_back();
    if (part.empty()) continue;
    if (part == "..") {
      at = parent_of(at);
      continue;
    }
    const std::string next = at == "/" ? "/" + part : at + "/" + part;
    const auto found = machine_->files.find(next);
    const bool last = rest.empty();
    if (found == machine_->files.end()) {
      if (last) return next;
      return fail(errno_error(ENOENT, path));
    }
    if (found->second.type == FileType::symlink && (!last || follow_last)) {
      if (++links > 40) return fail(errno_error(ELOOP, path));
      if (found->second.content.starts_with('/')) at = "/";
      std::vector<std::string> parts = split(found->second.content, '/');
      rest.insert(rest.end(), parts.rbegin(), parts.rend());
      continue;
    }
    if (!last && found->second.type != FileType::directory) return fail(errno_error(ENOTDIR, path));
    at = next;
  }
  return at;
}

Result<void> FakeHost::may_look(const std::string& path, const std::string& doing) const {
  if (const auto number = failure_at(machine_->failing_looks, plain(path))) return fail(errno_error(*number, doing));
  return {};
}

Result<std::string> FakeHost::may_change(const std::string& path, const std::string& doing) const {
  if (const auto number = failure_at(machine_->failing_changes, plain(path))) return fail(errno_error(*number, doing));
  Result<std::string> where = resolve(path, false);
  if (!where) return fail(std::move(where).error().in(doing));
  const auto parent = machine_->files.find(parent_of(*where));
  if (parent == machine_->files.end()) return fail(errno_error(ENOENT, doing));
  if (parent->second.type != FileType::directory) return fail(errno_error(ENOTDIR, doing));
  if (self().uid != 0 && parent->second.uid != self().uid && (parent->second.mode & 0002U) == 0) return fail(errno_error(EACCES, doing));
  return where;
}

Result<void> FakeHost::may_give(const FileAttributes& attributes, const std::string& doing) const {
  if (self().uid == 0) return {};
  if (attributes.uid && *attributes.uid != self().uid) return fail(errno_error(EPERM, doing));
  if (attributes.gid && *attributes.gid != self().gid) return fail(errno_error(EPERM, doing));
  return {};
}

// ---- looking

const Facts& FakeHost::facts() const { return machine_->facts; }
const Identity& FakeHost::self() const { return acts_as_login_ || machine_->steps_run_as_login ? machine_->login : machine_->root; }
const Identity& FakeHost::login() const { return machine_->login; }

Result<std::optional<FileInfo>> FakeHost::info(const std::string& path) const {
  note_look("info " + path);
  if (Result<void> may = may_look(path, "looking at " + path); !may) return fail(std::move(may).error());
  const Result<std::string> where = resolve(path, false);
  if (!where) return std::optional<FileInfo>();
  const auto found = machine_->files.find(*where);
  if (found == machine_->files.end()) return std::optional<FileInfo>();
  return std::optional<FileInfo>(info_of(found->second));
}

Result<std::string> FakeHost::read(const std::string& path) const {
  note_look("read " + path);
  const std::string doing = "reading " + path;
  if (Result<void> may = may_look(path, doing); !may) return fail(std::move(may).error());
  Result<std::string> where = resolve(path, true);
  if (!where) return fail(std::move(where).error().in(doing));
  const auto found = machine_->files.find(*where);
  if (found == machine_->files.end()) return fail(errno_error(ENOENT, doing));
  if (found->second.type == FileType::directory) return fail(errno_error(EISDIR, doing));
  if (self().uid != 0 && found->second.uid != self().uid && (found->second.mode & 0004U) == 0) return fail(errno_error(EACCES, doing));
  return found->second.content;
}

Result<std::vector<std::string>> FakeHost::list(const std::string& directory) const {
  note_look("list " + directory);
  const std::string doing = "listing " + directory;
  if (Result<void> may = may_look(directory, doing); !may) return fail(std::move(may).error());
  Result<std::string> where = resolve(directory, true);
  if (!where) return fail(std::move(where).error().in(doing));
  const auto found = machine_->files.find(*where);
  if (found == machine_->files.end()) return fail(errno_error(ENOENT, doing));
  if (found->second.type != FileType::directory) return fail(errno_error(ENOTDIR, doing));
  std::vector<std::string> names;
  for (const auto& [path, file] : machine_->files) {
    if (path != "/" && parent_of(path) == *where) names.push_back(path.substr(path.rfind('/') + 1));
  }
  return names;
}

Result<std::string> FakeHost::read_link(const std::string& path) const {
  note_look("read_link " + path);
  const Result<std::string> where = resolve(path, false);
  const auto found = where ? machine_->files.find(*where) : machine_->files.end();
  if (found == machine_->files.end()) return fail(errno_error(ENOENT, "reading the link " + path));
  if (found->second.type != FileType::symlink) return fail(errno_error(EINVAL, "reading the link " + path));
  return found->second.content;
}

Result<std::string> FakeHost::digest(const std::string& path) const {
  Result<std::string> bytes = read(path);
  if (!bytes) return bytes;
  return sha256_hex(*bytes);
}

CommandResult FakeHost::run(const Command& command) const {
  const std::pair<std::vector<std::string>, Handler>* best = nullptr;
  for (const auto& entry : machine_->handlers) {
    const std::vector<std::string>& prefix = entry.first;
    if (prefix.size() > command.argv.size() || !std::equal(prefix.begin(), prefix.end(), command.argv.begin())) continue;
    if (best == nullptr || prefix.size() > best->first.size()) best = &entry;
  }
  if (best == nullptr) {
    return {127, "", fmt::format("{}: No such file or directory\n", command.argv.empty() ? "" : command.argv.front())};
  }
  const Handler handler = best->second;  // it may script anew
  if (!handler) return {kHangs, "", ""};
  return handler(const_cast<FakeHost&>(*this), command);
}

Result<CommandResult> FakeHost::look(const Command& command) const {
  note_look("look " + join(command.argv, " "));
  return unless_it_hangs(run(command), command);
}

Result<std::uint64_t> FakeHost::disk_free(const std::string& path) const {
  note_look("disk_free " + path);
  return machine_->disk_free;
}
Result<std::optional<uid_t>> FakeHost::user_id(const std::string& name) const {
  const auto found = machine_->users.find(name);
  return found == machine_->users.end() ? std::optional<uid_t>() : std::optional<uid_t>(found->second.first);
}
Result<std::optional<gid_t>> FakeHost::group_id(const std::string& name) const {
  const auto found = machine_->users.find(name);
  return found == machine_->users.end() ? std::optional<gid_t>() : std::optional<gid_t>(found->second.second);
}
bool FakeHost::port_answers(std::uint16_t port) const {
  note_look(fmt::format("port {}", port));
  return machine_->ports.contains(port);
}
Result<int> FakeHost::http_status(std::uint16_t port, const std::string& path_and_query) const {
  note_look(fmt::format("http {} {}", port, path_and_query));
  const auto found = machine_->ports.find(port);
  if (found == machine_->ports.end()) return fail(errno_error(ECONNREFUSED, fmt::format("asking 127.0.0.1:{}", port)));
  const auto token = machine_->tokens.find(port);
  if (token != machine_->tokens.end() && !path_and_query.ends_with("token=" + token->second)) return 403;
  return found->second;
}
std::int64_t FakeHost::now() const { return machine_->clock; }

// ---- changing

Result<void> FakeHost::write(const std::string& path, std::string_view content, const FileAttributes& attributes) {
  note_change("write " + path);
  const std::string doing = "writing " + path;
  const Result<std::string> where = may_change(path, doing);
  if (!where) return fail(where.error());
  if (Result<void> may = may_give(attributes, doing); !may) return may;
  FakeFile file{FileType::regular, std::string(content), 0644, self().uid, self().gid};
  if (const auto before = machine_->files.find(*where); before != machine_->files.end()) {
    if (before->second.type != FileType::regular)
      return fail(Error(ErrorCode::unsafe, "what stands there is not a regular file").in(doing));
    file.mode = before->second.mode;
    if (self().uid == 0) {
      file.uid = before->second.uid;
      file.gid = before->second.gid;
    }
  }
  file.mode = attributes.mode.value_or(file.mode);
  file.uid = attributes.uid.value_or(file.uid);
  file.gid = attributes.gid.value_or(file.gid);
  place(*where, std::move(file));
  return {};
}

Result<void> FakeHost::make_directory(const std::string& path, const FileAttributes& attributes) {
  note_change("make_directory " + path);
  const std::string doing = "making " + path;
  std::string made = "";
  for (const std::string& part : split(plain(path).substr(1), '/')) {
    made += "/" + part;
    Result<std::string> there = resolve(made, true);
    if (!there) return fail(std::move(there).error().in(doing));
    if (const auto found = machine_->files.find(*there); found != machine_->files.end()) {
      if (found->second.type == FileType::directory) continue;
      return fail(Error(ErrorCode::io, "it exists and is not a directory").in("making " + made));
    }
    const Result<std::string> where = may_change(made, doing);
    if (!where) return fail(where.error());
    place(*where, FakeFile{FileType::directory, "", 0755, self().uid, self().gid});
  }
  if (!attributes.mode && !attributes.uid && !attributes.gid) return {};
  Result<std::string> where = resolve(path, true);
  if (!where) return fail(std::move(where).error());
  if (Result<void> may = may_give(attributes, doing); !may) return may;
  FakeFile file = machine_->files.at(*where);
  file.mode = attributes.mode.value_or(file.mode);
  file.uid = attributes.uid.value_or(file.uid);
  file.gid = attributes.gid.value_or(file.gid);
  place(*where, std::move(file));
  return {};
}

Result<void> FakeHost::make_symlink(const std::string& path, const std::string& target) {
  note_change("make_symlink " + path + " -> " + target);
  const Result<std::string> where = may_change(path, "linking " + path);
  if (!where) return fail(where.error());
  const auto before = machine_->files.find(*where);
  if (before != machine_->files.end() && before->second.type != FileType::symlink) {
    return fail(Error(ErrorCode::unsafe, "what stands there is not a link").in("linking " + path));
  }
  place(*where, FakeFile{FileType::symlink, target, 0777, self().uid, self().gid});
  return {};
}

Result<void> FakeHost::set_attributes(const std::string& path, const FileAttributes& attributes) {
  note_change("set_attributes " + path);
  const std::string doing = "setting the attributes of " + path;
  if (const auto number = failure_at(machine_->failing_changes, plain(path))) return fail(errno_error(*number, doing));
  Result<std::string> where = resolve(path, false);
  if (!where) return fail(std::move(where).error().in(doing));
  const auto found = machine_->files.find(*where);
  if (found == machine_->files.end()) return fail(errno_error(ENOENT, doing));
  if (found->second.type == FileType::symlink) return fail(errno_error(ELOOP, doing));
  if (self().uid != 0 && found->second.uid != self().uid) return fail(errno_error(EPERM, doing));
  if (Result<void> may = may_give(attributes, doing); !may) return may;
  FakeFile file = found->second;
  file.mode = attributes.mode.value_or(file.mode);
  file.uid = attributes.uid.value_or(file.uid);
  file.gid = attributes.gid.value_or(file.gid);
  place(*where, std::move(file));
  return {};
}

Result<void> FakeHost::rename(const std::string& from, const std::string& to) {
  note_change("rename " + from + " to " + to);
  const std::string doing = fmt::format("renaming {} to {}", from, to);
  const Result<std::string> source = may_change(from, doing);
  if (!source) return fail(source.error());
  const Result<std::string> target = may_change(to, doing);
  if (!target) return fail(target.error());
  const auto found = machine_->files.find(*source);
  if (found == machine_->files.end()) return fail(errno_error(ENOENT, doing));
  const auto stands = machine_->files.find(*target);
  if (stands != machine_->files.end() && (stands->second.type == FileType::directory) != (found->second.type == FileType::directory)) {
    return fail(errno_error(stands->second.type == FileType::directory ? EISDIR : ENOTDIR, doing));
  }
  std::map<std::string, FakeFile> moved;
  for (const auto& [path, file] : machine_->files) {
    if (is_below(path, *source)) moved.emplace(*target + path.substr(source->size()), file);
  }
  std::erase_if(machine_->files, [&](const auto& entry) { return is_below(entry.first, *source); });
  for (auto& [path, file] : moved) machine_->files[path] = std::move(file);
  return {};
}

Result<void> FakeHost::remove(const std::string& path) {
  note_change("remove " + path);
  const Result<std::string> where = may_change(path, "removing " + path);
  if (!where) return fail(where.error());
  const bool full = std::any_of(machine_->files.begin(), machine_->files.end(),
                                [&](const auto& entry) { return entry.first != *where && is_below(entry.first, *where); });
  if (full) return fail(errno_error(ENOTEMPTY, "removing " + path));
  machine_->files.erase(*where);
  return {};
}

Result<void> FakeHost::remove_tree(const std::string& path) {
  note_change("remove_tree " + path);
  const Result<std::string> where = may_change(path, "removing " + path);
  if (!where) return where.error().code() == ErrorCode::not_found ? Result<void>() : fail(where.error());
  std::erase_if(machine_->files, [&](const auto& entry) { return is_below(entry.first, *where); });
  return {};
}

Result<CommandResult> FakeHost::act(const Command& command, StepLog& /*log*/) {
  note_change("act " + join(command.argv, " "));
  Result<CommandResult> result = unless_it_hangs(run(command), command);
  if (!result || !command.takes_line) return result;
  for (const std::string& line : split(result->out, '\n')) (void)command.takes_line(line);
  return result;
}

Result<FetchResult> FakeHost::fetch(const FetchRequest& request, StepLog& log) {
  note_change("fetch " + join(request.urls, " "));
  for (const std::string& url : request.urls) {
    const auto found = machine_->urls.find(url);
    if (found == machine_->urls.end()) continue;
    FetchResult result{sha256_hex(found->second), found->second.size(), url, false};
    if (request.sha256 && *request.sha256 != result.sha256) {
      return fail(ErrorCode::digest, fmt::format("{} has sha256 {}, {} was expected", url, result.sha256, *request.sha256));
    }
    const Result<std::string> where = may_change(request.to, "writing " + request.to);
    if (!where) return fail(where.error());
    if (Result<void> may = may_give(request.attributes, "writing " + request.to); !may) return fail(std::move(may).error());
    log.progress(url, result.size, result.size);
    if (machine_->fetch_hook) machine_->fetch_hook(*this);
    place(*where, FakeFile{FileType::regular, found->second, request.attributes.mode.value_or(0644U),
                           request.attributes.uid.value_or(self().uid), request.attributes.gid.value_or(self().gid)});
    return result;
  }
  return fail(Error(ErrorCode::not_found, "the server answered 404").in("fetching " + join(request.urls, ", ")));
}

Result<std::vector<UnpackedEntry>> FakeHost::unpack(const UnpackRequest& request, StepLog& /*log*/) {
  note_change("unpack " + request.archive + " to " + request.to);
  const std::string doing = "unpacking " + request.archive;
  const Result<std::string> source = resolve(request.archive, true);
  const auto bytes = source ? machine_->files.find(*source) : machine_->files.end();
  if (bytes == machine_->files.end()) return fail(errno_error(ENOENT, doing));
  const auto known = machine_->archives.find(bytes->second.content);
  if (known == machine_->archives.end()) return fail(Error(ErrorCode::unsupported, "it is not an archive").in(doing));
  const Result<std::string> target = resolve(request.to, true);
  if (!target || !machine_->files.contains(*target)) return fail(errno_error(ENOENT, doing));
  std::vector<UnpackedEntry> entries;
  for (const auto& [name, file] : known->second) {
    std::vector<std::string> parts = split(name, '/');
    if (parts.size() <= request.strip) continue;
    parts.erase(parts.begin(), parts.begin() + request.strip);
    const std::string relative = join(parts, "/");
    const std::string path = *target + "/" + relative;
    if (const auto number = failure_at(machine_->failing_changes, path)) return fail(errno_error(*number, doing));
    FakeFile made = file;
    made.uid = self().uid;
    made.gid = self().gid;
    for (std::string parent = parent_of(path); !machine_->files.contains(parent); parent = parent_of(parent)) {
      place(parent, FakeFile{FileType::directory, "", 0755, self().uid, self().gid});
    }
    place(path, made);
    const bool regular = file.type == FileType::regular;
    entries.push_back({relative, file.type, regular ? sha256_hex(file.content) : "", file.mode, regular ? file.content.size() : 0,
                       file.type == FileType::symlink ? file.content : ""});
  }
  return entries;
}

FakeHost& FakeHost::on_reboot(std::function<void(FakeHost& host, const RebootWish& wish)> hook) {
  machine_->reboot_hook = std::move(hook);
  return *this;
}

Result<void> FakeHost::reboot(RebootWish wish) {
  note_change("reboot");
  machine_->asked_on_boot = machine_->facts.boot_id;
  machine_->facts.boot_id += "'";
  std::erase_if(machine_->files, [](const auto& file) { return file.first.starts_with("/run/"); });
  if (machine_->reboot_hook) machine_->reboot_hook(*this, wish);
  return {};
}

std::string FakeHost::asked_on_boot() const { return machine_->asked_on_boot; }

void FakeHost::pause(std::chrono::milliseconds time) {
  machine_->paused += time;
  if (machine_->pause_hook) machine_->pause_hook(*this);
}

Host& FakeHost::as_login() {
  if (self().uid == login().uid) return *this;
  if (!login_view_) login_view_.reset(new FakeHost(machine_));
  return *login_view_;
}
const Host& FakeHost::as_login() const { return const_cast<FakeHost*>(this)->as_login(); }

}  // namespace gpustrap
