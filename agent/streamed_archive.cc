#include "agent/streamed_archive.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <memory>
#include <optional>
#include <string_view>
#include <utility>

#include <fmt/format.h>

#include "agent/base/file.h"
#include "agent/base/sha256.h"
#include "agent/base/text.h"
#include "agent/base/unique_fd.h"
#include "agent/fetch.h"
#include "agent/protocol/json.h"
#include "agent/safe_directory.h"
#include "agent/unpack.h"
#include "agent/zip_stream.h"

namespace gpustrap {
namespace {

/// Between two looks at a file that grows: what is added to its end at most.
constexpr int kLookEveryMs = 20;
constexpr std::size_t kBlock = 256U << 10U;
constexpr std::uint64_t kLookAtRoomEvery = 16U << 20U;
/// Beside what the archive holds, in the folder that it is unpacked to.
constexpr const char* kAsideName = ".gpustrap-inflated";

/// The fetch in a process of its own. It ends with this one.
class FetchProcess {
 public:
  ~FetchProcess() {
    if (pid_ <= 0) return;
    ::kill(pid_, SIGKILL);
    reap();
  }
  FetchProcess(const FetchProcess&) = delete;
  FetchProcess& operator=(const FetchProcess&) = delete;
  FetchProcess() = default;

  Result<void> start(const std::function<Result<FetchResult>()>& fetch) {
    Result<Pipe> pipe = make_pipe();
    if (!pipe) return fail(std::move(pipe).error());
    const pid_t parent = ::getpid();
    pid_ = ::fork();
    if (pid_ < 0) return fail(errno_error(errno, "starting to fetch"));
    if (pid_ == 0) {
      pipe->read_end.reset();
      ::prctl(PR_SET_PDEATHSIG, SIGKILL);
      if (::getppid() != parent) ::_exit(1);
      (void)write_all(pipe->write_end.get(), told(fetch()));
      ::_exit(0);
    }
    said_ = std::move(pipe->read_end);
    return {};
  }

  /// Waits for its end, `limit_ms` at most (-1: for ever); whether it has ended.
  bool ended(int limit_ms) {
    if (result_) return true;
    pollfd entry{said_.get(), POLLIN, 0};
    if (::poll(&entry, 1, limit_ms) <= 0) return false;
    const Result<std::string> text = read_all(said_.get());
    reap();
    result_ = read(text.value_or(""));
    return true;
  }
  Result<FetchResult> result() {
    while (!ended(-1)) {}
    return *result_;
  }

 private:
  void reap() {
    while (pid_ > 0 && ::waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) {}
    pid_ = -1;
  }
  static std::string told(const Result<FetchResult>& fetched) {
    Json document;
    if (fetched) {
      document = {{"sha256", fetched->sha256}, {"size", fetched->size}, {"url", fetched->url}, {"received", fetched->received}};
      document["resumed"] = fetched->resumed;
    } else {
      document = {{"code", error_code_name(fetched.error().code())}, {"why", fetched.error().sentence()}, {"hint", fetched.error().hint()}};
    }
    return document.dump(-1, ' ', false, Json::error_handler_t::replace);
  }
  static Result<FetchResult> read(const std::string& text) {
    const Json document = Json::parse(text, nullptr, false);
    try {
      if (document.is_object() && document.contains("code")) {
        return fail(error_code_from_name(document.at("code").get<std::string>()), document.at("why").get<std::string>(),
                    document.at("hint").get<std::string>());
      }
      return FetchResult{document.at("sha256").get<std::string>(), document.at("size").get<std::uint64_t>(),
                         document.at("url").get<std::string>(), document.at("resumed").get<bool>(),
                         document.at("received").get<std::uint64_t>()};
    } catch (const Json::exception&) {
      return fail(ErrorCode::network, "the process that fetched the archive ended before it was complete", "try again");
    }
  }

  pid_t pid_ = -1;
  UniqueFd said_;
  std::optional<Result<FetchResult>> result_;
};

/// What has come of the archive, in order.
class GrowingFile {
 public:
  GrowingFile(const std::vector<std::string>& places, FetchProcess& fetch) : places_(places), fetch_(fetch), buffer_(kBlock) {}

  Result<std::string_view> next() {
    while (true) {
      const bool is_whole = fetch_.ended(0);  // asked first: what comes before the end is then read before it is
      if (is_whole && !fetch_.result()) return fail(fetch_.result().error());
      if (file_.valid() || open()) {
        const ssize_t got = ::pread(file_.get(), buffer_.data(), buffer_.size(), static_cast<off_t>(done_));
        if (got > 0) {
          done_ += static_cast<std::uint64_t>(got);
          const std::string_view bytes(buffer_.data(), static_cast<std::size_t>(got));
          digest_.add(bytes);
          return bytes;
        }
        struct stat info {};
        if (got < 0 || ::fstat(file_.get(), &info) != 0 || static_cast<std::uint64_t>(info.st_size) < done_) {
          return fail(ErrorCode::io, "what had come began anew");
        }
      }
      if (is_whole) return std::string_view();
      (void)fetch_.ended(kLookEveryMs);
    }
  }
  [[nodiscard]] std::uint64_t done() const { return done_; }
  /// How much has yet to come; 0 where nobody knows.
  [[nodiscard]] std::uint64_t rest() const {
    for (const std::string& place : places_) {
      if (const auto progress = progress_of_part(place); progress && progress->second > done_) return progress->second - done_;
    }
    return 0;
  }
  /// Of everything that was read.
  std::string digest() { return digest_.hex(); }

 private:
  bool open() {
    for (const std::string& place : places_) {
      file_.reset(::open(place.c_str(), O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK));
      if (file_.valid()) return true;
    }
    return false;
  }

  const std::vector<std::string>& places_;
  FetchProcess& fetch_;
  std::vector<char> buffer_;
  UniqueFd file_;
  std::uint64_t done_ = 0;
  Sha256 digest_;
};

/// While the fetch is under way it is what is shown.
class WordsOnly : public StepLog {
 public:
  explicit WordsOnly(StepLog& log) : log_(log) {}
  void say(std::string_view line) override { log_.say(line); }
  void progress(std::string_view, std::uint64_t, std::uint64_t) override {}
  void share(std::string_view, double) override {}

 private:
  StepLog& log_;
};

bool is_compressed_tar(std::string_view beginning) {
  using namespace std::string_view_literals;
  for (const std::string_view magic : {"\x1f\x8b"sv, "BZh"sv,
                                       "\xfd"
                                       "7zXZ\0"sv,
                                       "\x28\xb5\x2f\xfd"sv}) {
    if (beginning.starts_with(magic)) return true;
  }
  return false;
}

class Streaming {
 public:
  Streaming(const std::vector<std::string>& places, const UnpackRequest& unpack, FetchProcess& fetch, StepLog& log)
      : file_(places, fetch), unpack_(unpack), log_(log) {}

  /// Reads what comes to its end. Entries of a tar come from here; a zip is unpacked when its directory is there. Error no_space where that
  /// need not be waited for; what else is wrong is found again once all is there.
  Result<void> run() {
    const Result<std::string_view> first = file_.next();
    if (!first || first->empty()) return {};
    bool repeated = false;
    const ByteSource source = [&]() -> Result<std::string_view> {
      if (const Result<void> room = check_room(); !room) return fail(room.error());
      if (std::exchange(repeated, true)) return file_.next();
      return *first;  // its bytes stay where they are until next() is called
    };
    Result<void> read = unpack_from(*first, source);
    // What another host passes on has no size while it comes, and may be anything: its digest is waited for, and then the origin is asked.
    return !read && read.error().code() == ErrorCode::no_space && file_.rest() > 0 ? std::move(read) : Result<void>();
  }

  Result<std::vector<UnpackedEntry>> finish(const FetchResult& fetched) {
    const bool is_that = (zip_ || entries_) && file_.digest() == fetched.sha256;
    if (is_that && entries_) return *std::move(entries_);
    if (is_that) {
      Result<std::vector<UnpackedEntry>> entries = unpack_zip(unpack_, log_, *zip_);
      clear_aside();
      return entries;
    }
    clear_aside();
    if (Result<void> emptied = is_dirty_ ? make_anew() : Result<void>(); !emptied) return fail(std::move(emptied).error());
    return unpack_archive(unpack_, log_);
  }

 private:
  Result<void> unpack_from(std::string_view first, const ByteSource& source) {
    if (first.starts_with("PK\3\4")) {
      Result<UniqueFd> root = open_directory(unpack_.to);
      struct stat info {};
      if (!root || ::fstat(root->get(), &info) != 0 || info.st_uid != ::geteuid()) return {};
      root_ = *std::move(root);
      if (::mkdirat(root_.get(), kAsideName, 0700) != 0) return {};
      UniqueFd folder(::openat(root_.get(), kAsideName, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
      if (!folder.valid()) return {};
      zip_ = std::make_unique<ZipStream>(std::move(folder), unpack_.max_size);
      Result<void> read = zip_->read(source);
      if (!read) zip_.reset();
      return read;
    }
    if (!is_compressed_tar(first)) return {};
    is_dirty_ = true;
    WordsOnly words(log_);
    Result<std::vector<UnpackedEntry>> entries = unpack_stream(unpack_, words, source);
    if (!entries) return fail(std::move(entries).error());
    entries_ = *std::move(entries);
    return {};
  }

  /// An archive never unpacks to much less than itself, so what is still to come needs as much room as that at least.
  Result<void> check_room() {
    if (file_.done() < look_at_) return {};
    look_at_ = file_.done() + kLookAtRoomEvery;
    struct statvfs disk {};
    if (::statvfs(unpack_.to.c_str(), &disk) != 0) return {};
    const std::uint64_t room = static_cast<std::uint64_t>(::geteuid() == 0 ? disk.f_bfree : disk.f_bavail) * disk.f_frsize;
    const std::uint64_t rest = file_.rest();
    if (rest <= room) return {};
    return fail(ErrorCode::no_space,
                fmt::format("No space left: {} free in {}, {} of the packed archive have yet to come", human_bytes(room),
                            parent_of(unpack_.to), human_bytes(rest)),
                "free some space there, or enlarge the disk, and run again");
  }

  void clear_aside() {
    if (root_.valid()) (void)remove_tree_at(root_.get(), kAsideName);
  }
  Result<void> make_anew() {
    const Result<UniqueFd> parent = open_directory(parent_of(unpack_.to));
    if (!parent) return fail(parent.error());
    const std::string name = unpack_.to.substr(unpack_.to.rfind('/') + 1);
    if (Result<void> cleared = remove_tree_at(parent->get(), name); !cleared) return cleared;
    if (::mkdirat(parent->get(), name.c_str(), 0700) != 0) return fail(errno_error(errno, "making " + unpack_.to));
    return {};
  }

  GrowingFile file_;
  const UnpackRequest& unpack_;
  StepLog& log_;
  UniqueFd root_;  ///< of `unpack.to`, where contents of a zip are laid aside
  std::unique_ptr<ZipStream> zip_;
  std::optional<std::vector<UnpackedEntry>> entries_;
  bool is_dirty_ = false;
  std::uint64_t look_at_ = 0;  ///< when so much has come
};

}  // namespace

Result<FetchedArchive> fetch_and_unpack_streamed(const std::function<Result<FetchResult>()>& fetch, const std::vector<std::string>& places,
                                                 const UnpackRequest& unpack, StepLog& log) {
  FetchProcess process;
  if (Result<void> started = process.start(fetch); !started) return fail(std::move(started).error());
  Streaming streaming(places, unpack, process, log);
  // The fetch ends with this; what has come stays, to be gone on with.
  if (Result<void> ran = streaming.run(); !ran) return fail(std::move(ran).error());
  Result<FetchResult> fetched = process.result();
  if (!fetched) return fail(std::move(fetched).error());
  Result<std::vector<UnpackedEntry>> entries = streaming.finish(*fetched);
  if (!entries) return fail(std::move(entries).error());
  return FetchedArchive{*std::move(fetched), *std::move(entries)};
}

}  // namespace gpustrap
