#include "agent/fetch.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <ctime>
#include <memory>
#include <optional>
#include <utility>

#include <fmt/format.h>

#include "agent/base/file.h"
#include "agent/base/sha256.h"
#include "agent/base/text.h"
#include "agent/base/unique_fd.h"
#include "agent/http_transfer.h"
#include "agent/protocol/json.h"
#include "agent/safe_directory.h"
#include "agent/shared_file.h"
#include "agent/shown_url.h"
#include "agent/transfer_child.h"

namespace gpustrap {
namespace {

using Clock = std::chrono::steady_clock;

/// At most five a second: more is not read by anyone and costs wire.
constexpr auto kProgressEvery = std::chrono::milliseconds(200);
/// How long a run that was cut can wait for the next one.
constexpr std::chrono::seconds kKeptPart = std::chrono::days(7);
/// Less than the least that is kept free.
constexpr std::uint64_t kLookAtRoomEvery = 16U << 20U;
/// How often other hosts are asked before the origin is: whoever has the file may go, and another takes its place.
constexpr int kSharedAttempts = 3;
constexpr std::size_t kMaxAuthorities = 16U << 20U;

std::uint64_t free_bytes(const std::string& directory) {
  struct statvfs room {};
  if (::statvfs(directory.c_str(), &room) != 0) return 0;
  const auto blocks = ::geteuid() == 0 ? room.f_bfree : room.f_bavail;
  return static_cast<std::uint64_t>(blocks) * room.f_frsize;
}

Error no_space(const std::string& path, const std::string& why) {
  const std::string directory = parent_of(path);
  return {ErrorCode::no_space, fmt::format("No space left: {}, {} free in {}", why, human_bytes(free_bytes(directory)), directory),
          "free some space there, or enlarge the disk, and run again"};
}

/// Of what is still on its way. Not just ".part", which browsers and others use for files of the user's.
constexpr std::string_view kPartSuffix = ".gpustrap-part";
/// Behind the part's name: what has to be known to go on with it.
constexpr std::string_view kNotesSuffix = ".meta";

/// What has to be known to go on with a part that an earlier call left; kept beside it.
/// The URL is kept as a digest, since it may hold a password or a signature.
struct PartNotes {
  std::string url_digest, validator;
  std::uint64_t total = 0;  ///< 0 where the server did not say
  std::string sha256{};     ///< what was wanted; empty where nothing was said
};

std::optional<PartNotes> read_notes(int directory, const std::string& name) {
  const UniqueFd file(::openat(directory, name.c_str(), O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK));
  if (!file.valid()) return std::nullopt;
  const Result<std::string> text = read_all(file.get(), 64U << 10U);
  if (!text) return std::nullopt;
  const Json document = Json::parse(*text, nullptr, false);
  if (!document.is_object() || !document.contains("url_sha256") || !document.contains("validator")) return std::nullopt;
  if (!document["url_sha256"].is_string() || !document["validator"].is_string()) return std::nullopt;
  PartNotes notes{document["url_sha256"].get<std::string>(), document["validator"].get<std::string>()};
  if (document.contains("total") && document["total"].is_number_unsigned()) notes.total = document["total"].get<std::uint64_t>();
  if (document.contains("sha256") && document["sha256"].is_string()) notes.sha256 = document["sha256"].get<std::string>();
  return notes;
}

/// Notes that were cut by a crash cannot be read, and are then none.
Result<void> write_notes(int directory, const std::string& name, const PartNotes& notes) {
  const Json document = {
      {"url_sha256", notes.url_digest}, {"validator", notes.validator}, {"total", notes.total}, {"sha256", notes.sha256}};
  ::unlinkat(directory, name.c_str(), 0);
  const UniqueFd file(::openat(directory, name.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600));
  if (!file.valid()) return fail(errno_error(errno, "making " + name));
  if (Result<void> wrote = write_all(file.get(), document.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n"); !wrote)
    return wrote;
  if (::fsync(file.get()) != 0) return fail(errno_error(errno, "writing " + name));
  return {};
}

std::string last_part(const std::string& path) { return path.substr(path.rfind('/') + 1); }

/// The file while it grows: written, hashed and accounted for here, whatever the transfer process says. Everything goes through one
/// descriptor of its directory, so that nobody who may change the way there can lead root elsewhere between two calls.
class PartFile : public TransferSink {
 public:
  PartFile(const FetchRequest& request, StepLog& log, std::uint64_t keep_free = 0)
      : to_(request.to),
        part_(part_of(request.to)),
        name_(last_part(to_)),
        part_name_(last_part(part_)),
        meta_name_(part_name_ + std::string(kNotesSuffix)),
        shown_name_(request.name.empty() ? name_ : request.name),
        sha256_(request.sha256),
        keep_free_(keep_free),
        dated_(request.dated),
        log_(log) {}

  /// Opens what an earlier call left, or a new file. Nobody else's file, link or second name is ever written through.
  Result<void> open() {
    Result<UniqueFd> directory = open_directory(parent_of(to_));
    if (!directory) return fail(std::move(directory).error());
    directory_ = *std::move(directory);
    for (int attempt = 0; attempt < 3; ++attempt) {
      file_.reset(::openat(directory_.get(), part_name_.c_str(), O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK, 0600));
      struct stat info {};
      const bool ours =
          file_.valid() && ::fstat(file_.get(), &info) == 0 && S_ISREG(info.st_mode) && info.st_nlink == 1 && info.st_uid == ::geteuid();
      if (!ours) {
        if (!file_.valid() && errno != ELOOP && errno != ENXIO && errno != EACCES) return fail(system_error("making " + part_));
        if (::unlinkat(directory_.get(), part_name_.c_str(), 0) != 0 && errno != ENOENT) return fail(system_error("replacing " + part_));
        continue;
      }
      if (::flock(file_.get(), LOCK_EX | LOCK_NB) != 0) {
        return fail(ErrorCode::busy, part_ + " is being written by another process", "wait for the other run to end");
      }
      // The other process may have finished and renamed it between our open and our lock.
      struct stat named {};
      if (look_at(part_name_, named) && named.st_ino == info.st_ino && named.st_dev == info.st_dev) return hash_what_is_there();
    }
    return fail(ErrorCode::io, part_ + " changes hands while it is opened", "see who else writes there");
  }

  /// For the transfer from `url`: where it may go on.
  TransferRequest request_for(const std::string& url) {
    url_ = url;
    TransferRequest request;
    request.url = url;
    if (sha256_) request.resume = TransferRequest::Resume::checked_later;
    const std::optional<PartNotes> notes = read_notes(directory_.get(), meta_name_);
    if (notes && notes->url_digest == sha256_hex(url)) {
      request.validator = notes->validator;
      if (notes->total > 0) request.total = notes->total;
    }
    if (size_ > 0 && (sha256_ || !request.validator.empty())) request.have = size_;
    return request;
  }

  Result<void> begin(const BodyStart& start) override {
    if (start.offset != 0 && start.offset != size_) return fail(ErrorCode::internal, "the transfer process skipped a part of the file");
    if (start.offset == 0) {
      if (Result<void> cleared = clear(); !cleared) return cleared;
    } else {
      resumed_ = true;
    }
    total_ = start.total.value_or(0);
    modified_s_ = start.modified_s;
    if (total_ > size_ && total_ - size_ + keep_free_ > free_bytes(parent_of(part_))) {
      return fail(no_space(to_, fmt::format("{} more needed", human_bytes(total_ - size_))));
    }
    // The notes come before the bytes they vouch for.
    if (Result<void> noted = write_notes(directory_.get(), meta_name_, {sha256_hex(url_), start.validator, total_, sha256_.value_or("")});
        !noted) {
      return fail(space_aware(std::move(noted).error()));
    }
    return {};
  }

  Result<void> add(std::string_view bytes) override {
    if (Result<void> wrote = write_all(file_.get(), bytes); !wrote)
      return fail(space_aware(std::move(wrote).error().in("writing " + part_)));
    digest_.add(bytes);
    size_ += bytes.size();
    received_ += bytes.size();
    const Clock::time_point now = Clock::now();
    const bool is_time = now - last_progress_ >= kProgressEvery;
    if (is_time) {
      last_progress_ = now;
      tell_progress();
    }
    if (keep_free_ == 0 || (!is_time && received_ - looked_at_ < kLookAtRoomEvery)) return {};
    looked_at_ = received_;
    return free_bytes(parent_of(part_)) < keep_free_ ? fail(no_space(to_, "what is left is kept for other steps")) : Result<void>();
  }

  void say(std::string_view line) override { log_.say(strip_control(line)); }

  /// Forgets everything received; the next transfer starts at 0.
  Result<void> clear() {
    if (::ftruncate(file_.get(), 0) != 0 || ::lseek(file_.get(), 0, SEEK_SET) != 0) return fail(system_error("clearing " + part_));
    digest_ = Sha256();
    size_ = 0;
    resumed_ = false;
    return {};
  }

  void remove() {
    ::unlinkat(directory_.get(), meta_name_.c_str(), 0);
    ::unlinkat(directory_.get(), part_name_.c_str(), 0);
  }

  /// Digest of all bytes so far.
  [[nodiscard]] std::string digest() const { return digest_.hex_so_far(); }
  /// An earlier call ended between the last byte and the rename. Asking a server for what lies behind the end only gets a refusal.
  [[nodiscard]] bool is_complete() const {
    const std::optional<PartNotes> notes = read_notes(directory_.get(), meta_name_);
    return size_ > 0 && notes && notes->total == size_;
  }
  void mark_resumed() { resumed_ = true; }
  /// Whether the bytes there came in more than one piece.
  [[nodiscard]] bool resumed() const { return resumed_; }
  [[nodiscard]] std::uint64_t size() const { return size_; }
  [[nodiscard]] std::uint64_t received() const { return received_; }

  [[nodiscard]] int descriptor() const { return file_.get(); }
  /// How many bytes are there that came for the wanted digest, from wherever.
  [[nodiscard]] std::uint64_t wanted_size() const {
    const std::optional<PartNotes> notes = read_notes(directory_.get(), meta_name_);
    return notes && sha256_ && notes->sha256 == *sha256_ ? size_ : 0;
  }
  /// What the disk is to keep from here on.
  void keep_free(std::uint64_t bytes) { keep_free_ = bytes; }
  /// Forgets what came behind the first `size` bytes.
  Result<void> cut_to(std::uint64_t size) {
    if (::ftruncate(file_.get(), static_cast<off_t>(size)) != 0 || ::lseek(file_.get(), 0, SEEK_SET) != 0)
      return fail(system_error("clearing " + part_));
    digest_ = Sha256();
    size_ = 0;
    return hash_what_is_there();
  }

  /// Instead of open(): the part is the file at `from`, hashed. What another file system has is copied.
  Result<void> take_over(const std::string& from) {
    Result<UniqueFd> folder = open_directory(parent_of(from));
    if (!folder) return fail(std::move(folder).error());
    Result<UniqueFd> target = open_directory(parent_of(to_));
    if (!target) return fail(std::move(target).error());
    const std::string name = last_part(from);
    const UniqueFd file(::openat(folder->get(), name.c_str(), O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK));
    struct stat info {};
    if (!file.valid() || ::fstat(file.get(), &info) != 0) return fail(system_error("opening " + from));
    if (!S_ISREG(info.st_mode) || info.st_nlink != 1 || info.st_uid != ::geteuid()) {
      return fail(ErrorCode::unsafe, from + " is not a file of this user's own");
    }
    modified_s_ = info.st_mtim.tv_sec;
    if (::renameat(folder->get(), name.c_str(), target->get(), part_name_.c_str()) == 0) return open();
    if (errno != EXDEV) return fail(system_error("renaming " + from));
    Result<void> copied = open();
    if (copied) copied = clear();
    std::array<char, 256U << 10U> buffer{};
    while (copied) {
      const ssize_t got = ::read(file.get(), buffer.data(), buffer.size());
      if (got < 0 && errno == EINTR) continue;
      if (got < 0) copied = fail(system_error("reading " + from));
      if (got <= 0) break;
      copied = add({buffer.data(), static_cast<std::size_t>(got)});
    }
    ::unlinkat(folder->get(), name.c_str(), 0);
    return copied;
  }

  Result<void> publish(const FileAttributes& attributes) {
    tell_progress();
    struct stat old {};
    struct stat folder {};
    mode_t mode = 0666 & ~current_umask();
    const bool there = look_at(name_, old);
    if (there && S_ISDIR(old.st_mode)) return fail(ErrorCode::io, to_ + " is a directory", "give a file name, or remove the directory");
    // What anybody may have put there does not say whose the new file is to be, or who may write to it.
    const bool planted =
        ::geteuid() == 0 && old.st_uid != 0 && (::fstat(directory_.get(), &folder) != 0 || (folder.st_mode & S_IWOTH) != 0);
    const bool replaces = there && S_ISREG(old.st_mode) && !planted;
    if (replaces) mode = old.st_mode & 0777U;
    if (attributes.mode) mode = *attributes.mode;
    const bool keeps_owner = replaces && ::geteuid() == 0;
    if (attributes.uid || attributes.gid || keeps_owner) {
      const uid_t uid = attributes.uid.value_or(keeps_owner ? old.st_uid : static_cast<uid_t>(-1));
      const gid_t gid = attributes.gid.value_or(keeps_owner ? old.st_gid : static_cast<gid_t>(-1));
      if (::fchown(file_.get(), uid, gid) != 0) return fail(system_error("setting the owner of " + part_));
    }
    if (dated_ && modified_s_ > 0) {
      const std::array<timespec, 2> times{timespec{0, UTIME_OMIT}, timespec{modified_s_, 0}};
      (void)::futimens(file_.get(), times.data());  // who compares it fetches again where it could not be set
    }
    if (::fchmod(file_.get(), mode) != 0 || ::fsync(file_.get()) != 0) return fail(system_error("finishing " + part_));
    if (::renameat(directory_.get(), part_name_.c_str(), directory_.get(), name_.c_str()) != 0)
      return fail(system_error("renaming " + part_));
    ::unlinkat(directory_.get(), meta_name_.c_str(), 0);
    const UniqueFd directory(::openat(directory_.get(), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (directory.valid()) (void)::fsync(directory.get());  // not every file system can; the file itself is safe
    return {};
  }

 private:
  static mode_t current_umask() {
    const mode_t mask = ::umask(022);
    ::umask(mask);
    return mask;
  }
  Error system_error(std::string doing) const { return space_aware(errno_error(errno, std::move(doing))); }
  Error space_aware(Error error) const { return error.code() == ErrorCode::no_space ? no_space(to_, "the disk filled up") : error; }
  void tell_progress() { log_.progress(shown_name_, size_, total_); }
  /// lstat of an entry of the directory.
  [[nodiscard]] bool look_at(const std::string& name, struct stat& info) const {
    return ::fstatat(directory_.get(), name.c_str(), &info, AT_SYMLINK_NOFOLLOW) == 0;
  }

  /// Brings digest and position to the end of what an earlier call left.
  Result<void> hash_what_is_there() {
    std::array<char, 256U << 10U> buffer{};
    while (true) {
      const ssize_t got = ::read(file_.get(), buffer.data(), buffer.size());
      if (got < 0 && errno == EINTR) continue;
      if (got < 0) return fail(system_error("reading " + part_));
      if (got == 0) break;
      digest_.add({buffer.data(), static_cast<std::size_t>(got)});
      size_ += static_cast<std::uint64_t>(got);
    }
    return {};
  }

  const std::string to_, part_;  ///< whole paths, for messages
  const std::string name_, part_name_, meta_name_, shown_name_;
  UniqueFd directory_;
  const std::optional<std::string> sha256_;
  std::uint64_t keep_free_;
  const bool dated_;
  std::int64_t modified_s_ = 0;
  StepLog& log_;
  UniqueFd file_;
  Sha256 digest_;
  std::string url_;
  std::uint64_t size_ = 0, total_ = 0, received_ = 0, looked_at_ = 0;
  bool resumed_ = false;
  Clock::time_point last_progress_{};
};

Error wrong_digest(const std::string& url, const std::string& wanted, const std::string& got) {
  return {ErrorCode::digest, fmt::format("{} has sha256 {}, wanted was {}", shown_url(url), got, wanted),
          "if the file was updated at its source, put the new digest into the recipe; else do not trust it and name another source"};
}

/// One URL to its end, digest included. A file that came in pieces may have been put together from two versions of it, or from two
/// mirrors: then all of it is fetched once more before it is called wrong.
Result<std::string> fetch_from(const std::string& url, const FetchRequest& request, const FetchOptions& options,
                               const Authorities& authorities, PartFile& part) {
  if (request.sha256 && part.is_complete()) {
    std::string digest = part.digest();
    part.mark_resumed();
    if (digest == *request.sha256) return digest;
    if (Result<void> cleared = part.clear(); !cleared) return fail(std::move(cleared).error());
  }
  for (bool once_more = true;; once_more = false) {
    const TransferRequest wanted = part.request_for(url);
    Result<void> got = options.transfers != nullptr && request.sha256 ? options.transfers->transfer(wanted, options, authorities, part)
                                                                      : transfer_in_child(wanted, options, authorities, part);
    if (!got) return fail(std::move(got).error());
    const bool in_pieces = part.resumed();
    std::string digest = part.digest();
    if (!request.sha256 || digest == *request.sha256) return digest;
    if (Result<void> cleared = part.clear(); !cleared) return fail(std::move(cleared).error());
    if (!in_pieces || !once_more) return fail(wrong_digest(url, *request.sha256, digest));
    part.say(shown_url(url) + ": the pieces do not fit together; all of it again");
  }
}

enum class SharedEnd { whole, cut, dropped };

/// All that another host sends, behind what is here. What comes in vain is gone on with, unless the disk has no room for it.
Result<SharedEnd> receive_shared(const SharedAnswer& answer, const SharedFiles& files, const std::string& sha256, PartFile& part) {
  const std::uint64_t had = answer.from > 0 ? part.size() : 0;
  BodyStart start;
  start.offset = had;
  if (Result<void> begun = part.begin(start); !begun) return fail(std::move(begun).error());
  std::uint64_t known = had - answer.from;  // it begins at a block
  std::vector<char> buffer(256U << 10U);
  while (await_shared(answer, files)) {
    const ssize_t got = ::read(answer.socket.get(), buffer.data(), buffer.size());
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) break;
    std::string_view bytes(buffer.data(), static_cast<std::size_t>(got));
    const std::uint64_t skipped = std::min<std::uint64_t>(known, bytes.size());
    known -= skipped;
    bytes.remove_prefix(skipped);
    if (Result<void> added = part.add(bytes); !added) {
      // Another host may send without end. The origin says how much it is.
      part.say(added.error().sentence() + "; what another host has sent is dropped");
      if (Result<void> cut = part.cut_to(had); !cut) return fail(std::move(cut).error());
      return SharedEnd::dropped;
    }
  }
  return part.size() > 0 && part.digest() == sha256 ? SharedEnd::whole : SharedEnd::cut;
}

/// Whether the file came from another host. Else the origin is to be asked; where others take it from here meanwhile, `answer` is theirs.
Result<bool> take_from_others(const FetchRequest& request, const FetchOptions& options, PartFile& part, SharedAnswer& answer,
                              StepLog& log) {
  const std::string shown = shown_url(request.urls.front());
  for (int attempt = 1; attempt <= kSharedAttempts; ++attempt) {
    answer = ask_for_shared(*options.shared, *request.sha256, part.wanted_size());
    if (!answer.socket.valid()) return false;
    if (!answer.brings) {
      log.say("other hosts get " + shown + " from here");
      hand_over(answer, part.descriptor());
      return false;
    }
    part.keep_free(std::max(options.keep_free, options.shared->keep_free));
    const Result<SharedEnd> came = receive_shared(answer, *options.shared, *request.sha256, part);
    part.keep_free(options.keep_free);
    answer = {};  // the agent that brought it goes
    if (!came) return fail(Error(came.error()).in("taking " + shown + " from another host"));
    if (*came == SharedEnd::whole) return true;
    const bool again = *came == SharedEnd::cut && attempt < kSharedAttempts;
    log.say(fmt::format("another host has sent {} of {}, which is not all of it or not it; asking {}", human_bytes(part.size()), shown,
                        again ? "who else has it" : "the origin"));
    if (!again) return false;
  }
  return false;
}

}  // namespace

Result<std::string> read_authorities(const FetchOptions& options) {
  Result<std::string> path = options.ca_file.empty() ? find_ca_bundle() : Result<std::string>(options.ca_file);
  if (!path) return fail(std::move(path).error());
  Result<std::string> text = read_file(*path, kMaxAuthorities);
  if (!text) {
    return fail(Error(ErrorCode::tls, "the CA bundle cannot be read: " + text.error().sentence(),
                      "correct SSL_CERT_FILE or CURL_CA_BUNDLE, or install the package ca-certificates"));
  }
  return text;
}

Result<std::string> find_ca_bundle() {
  for (const char* name : {"SSL_CERT_FILE", "CURL_CA_BUNDLE"}) {
    if (const char* path = std::getenv(name); path != nullptr && *path != '\0') return std::string(path);
  }
  for (const char* path : {"/etc/ssl/certs/ca-certificates.crt",  // Debian, Ubuntu, Alpine, Arch
                           "/etc/pki/tls/certs/ca-bundle.crt",    // Fedora, RHEL, Amazon Linux
                           "/etc/ssl/ca-bundle.pem",              // SUSE
                           "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem", "/etc/ssl/cert.pem"}) {
    struct stat info {};
    if (::stat(path, &info) == 0 && S_ISREG(info.st_mode) && info.st_size > 0) return std::string(path);
  }
  return fail(ErrorCode::tls, "this host has no CA bundle, so no https server can be trusted",
              "install ca-certificates (a step `apt: ca-certificates` before this one), or name a bundle in SSL_CERT_FILE");
}

std::string part_of(const std::string& to) { return to + std::string(kPartSuffix); }

std::string notes_of_part(const std::string& to) { return part_of(to) + std::string(kNotesSuffix); }

std::optional<std::pair<std::uint64_t, std::uint64_t>> progress_of_part(const std::string& to) {
  struct stat info {};
  if (::lstat(part_of(to).c_str(), &info) != 0) return std::nullopt;
  const std::optional<PartNotes> notes = read_notes(AT_FDCWD, part_of(to) + std::string(kNotesSuffix));
  return std::pair(static_cast<std::uint64_t>(info.st_size), notes ? notes->total : 0);
}

std::vector<std::string> old_parts(const std::string& folder) {
  const std::unique_ptr<DIR, int (*)(DIR*)> entries(::opendir(folder.c_str()), ::closedir);
  std::vector<std::string> parts;
  while (const dirent* entry = entries ? ::readdir(entries.get()) : nullptr) {
    struct stat info {};
    if (!std::string_view(entry->d_name).ends_with(kPartSuffix)) continue;
    if (::fstatat(::dirfd(entries.get()), entry->d_name, &info, AT_SYMLINK_NOFOLLOW) != 0 || !S_ISREG(info.st_mode)) continue;
    if (std::time(nullptr) - info.st_mtime > kKeptPart.count()) parts.push_back(folder + "/" + entry->d_name);
  }
  return parts;
}

void remove_old_parts(const std::string& folder) {
  for (const std::string& part : old_parts(folder)) {
    const UniqueFd file(::open(part.c_str(), O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK));
    if (!file.valid() || ::flock(file.get(), LOCK_EX | LOCK_NB) != 0) continue;  // a fetch that stands still for long
    ::unlink((part + std::string(kNotesSuffix)).c_str());
    ::unlink(part.c_str());
  }
}

Result<FetchResult> adopt_file(const std::string& from, const FetchRequest& request, StepLog& log) {
  PartFile part(request, log);
  if (Result<void> taken = part.take_over(from); !taken) return fail(std::move(taken).error());
  const std::string digest = part.digest();
  if (request.sha256 && digest != *request.sha256) {
    part.remove();
    return fail(wrong_digest(request.urls.front(), *request.sha256, digest));
  }
  if (Result<void> published = part.publish(request.attributes); !published) {
    part.remove();
    return fail(std::move(published).error());
  }
  return FetchResult{digest, part.size(), request.urls.front(), false, 0};
}

Result<FetchResult> fetch_file(const FetchRequest& request, const FetchOptions& options, StepLog& log) {
  if (request.urls.empty()) return fail(ErrorCode::recipe, "no address to fetch from", "give `url`");
  PartFile part(request, log, options.keep_free);
  if (Result<void> opened = part.open(); !opened) return fail(std::move(opened).error().in("fetching " + shown_url(request.urls.front())));
  SharedAnswer shared;  // let go of with the end: whoever reads along then knows it
  if (options.shared != nullptr && request.sha256 && !part.is_complete()) {
    const Result<bool> came = take_from_others(request, options, part, shared, log);
    if (!came) return fail(came.error());
    if (*came) {
      if (Result<void> published = part.publish(request.attributes); !published) return fail(std::move(published).error());
      log.say(shown_url(request.urls.front()) + " came from another host");
      return FetchResult{*request.sha256, part.size(), request.urls.front(), false, part.received()};
    }
  }
  const Authorities authorities = read_authorities(options);

  std::optional<Error> first_error;
  std::string others;
  for (const std::string& url : request.urls) {
    Result<std::string> digest = fetch_from(url, request, options, authorities, part);
    if (digest) {
      if (Result<void> published = part.publish(request.attributes); !published) {
        if (published.error().code() == ErrorCode::no_space) part.remove();
        return fail(std::move(published).error().in("fetching " + shown_url(url)));
      }
      say_whole(shared);
      return FetchResult{*digest, part.size(), url, part.resumed(), part.received()};
    }
    const ErrorCode code = digest.error().code();
    if (code == ErrorCode::no_space) part.remove();  // a full disk breaks more than this step; what is left must be usable
    if (code == ErrorCode::no_space || code == ErrorCode::internal || code == ErrorCode::io) {
      return fail(std::move(digest).error().in("fetching " + shown_url(url)));
    }
    if (&url != &request.urls.back()) log.say(fmt::format("{}: {}; trying the next mirror", shown_url(url), digest.error().sentence()));
    if (!first_error) {
      first_error = std::move(digest).error();
    } else {
      others += fmt::format("; {}: {}", shown_url(url), digest.error().sentence());
    }
  }
  if (part.size() == 0) part.remove();
  return fail(
      Error(first_error->code(), first_error->sentence() + others, first_error->hint()).in("fetching " + shown_url(request.urls.front())));
}

}  // namespace gpustrap
