#include "agent/unpack.h"

#include <fcntl.h>
#include <langinfo.h>
#include <locale.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <archive.h>
#include <archive_entry.h>
#include <fmt/format.h>

#include "agent/base/file.h"
#include "agent/base/sha256.h"
#include "agent/base/text.h"
#include "agent/base/unique_fd.h"
#include "agent/unpack_tree.h"

namespace gpustrap {
namespace {

using Clock = std::chrono::steady_clock;

constexpr auto kProgressEvery = std::chrono::milliseconds(200);
constexpr std::size_t kBlock = 256U << 10U;
/// deflate cannot pack more than 1032 to 1, and what people pack does not come near it. Small archives may (a file of zeros), so
/// the ratio counts only beyond a size that hurts.
constexpr std::uint64_t kMaxRatio = 1000;
constexpr std::uint64_t kRatioFrom = std::uint64_t{256} << 20U;

struct ReadFree {
  void operator()(archive* reader) const { archive_read_free(reader); }
};
using Reader = std::unique_ptr<archive, ReadFree>;

/// libarchive turns names into the locale's encoding, and an agent runs in the C locale, where UTF-8 names come out as nothing.
/// UTF-8 for this thread while it lasts; where no such locale exists, names that cannot be read are an error below.
class Utf8Names {
 public:
  Utf8Names() {
    if (std::string_view(::nl_langinfo(CODESET)) == "UTF-8") return;
    locale_ = ::newlocale(LC_CTYPE_MASK, "C.UTF-8", nullptr);
    if (locale_ != nullptr) before_ = ::uselocale(locale_);
  }
  ~Utf8Names() {
    if (locale_ == nullptr) return;
    ::uselocale(before_);
    ::freelocale(locale_);
  }
  Utf8Names(const Utf8Names&) = delete;
  Utf8Names& operator=(const Utf8Names&) = delete;

 private:
  locale_t locale_ = nullptr, before_ = nullptr;
};

class Unpacking {
 public:
  Unpacking(const UnpackRequest& request, StepLog& log, ZipStream* ahead = nullptr, const ByteSource* source = nullptr)
      : request_(request), log_(log), ahead_(ahead), source_(source) {}

  Result<std::vector<UnpackedEntry>> run() {
    if (Result<void> opened = open(); !opened) return fail(std::move(opened).error());
    if (is_empty_zip()) return std::vector<UnpackedEntry>();
    Result<UnpackTree> tree = UnpackTree::open(request_.to);
    if (!tree) return fail(std::move(tree).error());
    for (std::size_t entries = 0;;) {
      archive_entry* entry = nullptr;
      const int code = archive_read_next_header(reader_.get(), &entry);
      if (code == ARCHIVE_EOF) break;
      if (code == ARCHIVE_RETRY) continue;
      if (code < ARCHIVE_WARN) return fail(damaged());
      if (code == ARCHIVE_WARN) log_.say(fmt::format("{}: {}", name_of_archive(), shown_name(error_text())));
      // Entries that leave nothing (a name again, a folder that `strip` drops) take time all the same.
      if (++entries > request_.max_entries) return fail(too_many());
      if (Result<void> added = add(entry, *tree); !added) return fail(std::move(added).error());
      if (tree->size() > request_.max_entries) return fail(too_many());
      if (tree->name_bytes() > request_.max_name_bytes) {
        return fail(bomb(fmt::format("its names alone take more than {}", human_size(request_.max_name_bytes))));
      }
      if (Result<void> fits = account_stream(); !fits) return fail(std::move(fits).error());
    }
    if (Result<void> ended = check_end(); !ended) return fail(std::move(ended).error());
    if (archive_read_close(reader_.get()) < ARCHIVE_WARN) return fail(damaged());
    if (Result<void> synced = tree->sync(); !synced) return fail(std::move(synced).error());
    return tree->take_entries();
  }

 private:
  Result<void> open() { return source_ == nullptr ? open_file() : open_source(); }

  /// Why the source could not be read stays to be said: libarchive only learns that it ended.
  static la_ssize_t read_source(archive*, void* unpacking, const void** bytes) {
    auto& self = *static_cast<Unpacking*>(unpacking);
    Result<std::string_view> more = (*self.source_)();
    if (!more) {
      self.source_error_ = std::move(more).error();
      return -1;
    }
    self.archive_size_ += more->size();
    *bytes = more->data();
    return static_cast<la_ssize_t>(more->size());
  }

  Result<void> open_source() {
    if (Result<void> made = make_reader({archive_read_support_format_tar}); !made) return made;
    const int code = archive_read_open(reader_.get(), this, nullptr, read_source, nullptr);
    return accept(code);
  }

  Result<void> open_file() {
    file_.reset(::open(request_.archive.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));  // not to wait at a pipe
    struct stat info {};
    if (!file_.valid() || ::fstat(file_.get(), &info) != 0) {
      return fail(errno_error(errno, "opening it").with_hint("check that it is there and may be read"));
    }
    if (!S_ISREG(info.st_mode)) return fail(ErrorCode::unsupported, request_.archive + " is not a file", "name the archive itself");
    archive_size_ = static_cast<std::uint64_t>(info.st_size);
    std::array<char, 64> first{};
    const ssize_t got = ::pread(file_.get(), first.data(), first.size(), 0);
    beginning_.assign(first.data(), got > 0 ? static_cast<std::size_t>(got) : 0);

    // Only the zip reader that goes by the directory at the end, which a zip that was cut short does not have.
    if (Result<void> made = make_reader({archive_read_support_format_tar, archive_read_support_format_zip_seekable}); !made) return made;
    if (ahead_ != nullptr) (void)ahead_->read_directory(file_.get());
    return accept(archive_read_open_fd(reader_.get(), file_.get(), kBlock));
  }

  /// Not "_all": every format more is more code for a hostile archive to reach.
  Result<void> make_reader(std::initializer_list<int (*)(archive*)> formats) {
    reader_.reset(archive_read_new());
    if (!reader_) return fail(ErrorCode::internal, "libarchive could not be initialised");
    std::vector<int (*)(archive*)> wanted = {archive_read_support_filter_gzip, archive_read_support_filter_bzip2,
                                             archive_read_support_filter_xz, archive_read_support_filter_zstd};
    wanted.insert(wanted.end(), formats);
    for (const auto support : wanted) {
      if (support(reader_.get()) != ARCHIVE_OK) return fail(ErrorCode::internal, "libarchive was built without a format: " + error_text());
    }
    return {};
  }

  Result<void> accept(int code) {
    // One for the compression, one for the file itself. Layers on layers multiply what a bomb can hold.
    if (code == ARCHIVE_OK && archive_filter_count(reader_.get()) > 2) {
      return fail(ErrorCode::unsupported, "it is compressed more than once", "unpack the outer layer, or have it packed again with one");
    }
    if (code == ARCHIVE_OK) return {};
    if (is_empty_zip()) return {};
    return fail(unrecognised());
  }

  /// A zip of nothing is its end record alone, which libarchive does not take for a zip.
  [[nodiscard]] bool is_empty_zip() const { return archive_size_ == 22 && beginning_.starts_with("PK\5\6"); }

  Error unrecognised() const {
    if (archive_size_ == 0) return {ErrorCode::unsupported, "the archive is empty (0 bytes)", "fetch it again"};
    if (beginning_.starts_with("PK")) {
      return {ErrorCode::io, "the zip has no directory at its end: it was cut short, or is one volume of several", "fetch it again"};
    }
    using namespace std::string_view_literals;
    for (const auto& [magic, kind] : {std::pair{"\x1f\x8b"sv, "gzip"},
                                      {"BZh"sv, "bzip2"},
                                      {"\xfd"
                                       "7zXZ\0"sv,
                                       "xz"},
                                      {"\x28\xb5\x2f\xfd"sv, "zstd"}}) {
      if (!beginning_.starts_with(magic)) continue;
      return {ErrorCode::io, fmt::format("it is {} data, but no tar comes out of it: it was cut short, or is one compressed file", kind),
              "fetch it again; for a single file, use a `download` step"};
    }
    const std::string shown = shown_name(beginning_.substr(0, 24));
    const bool page = beginning_.find('<') < 4;
    return {ErrorCode::unsupported, fmt::format("it is neither zip nor tar (it begins with \"{}\")", shown),
            page ? "the address answers with a page instead of the file: check it in a browser"
                 : "check that the address is that of an archive"};
  }

  [[nodiscard]] std::string error_text() const {
    const char* text = archive_error_string(reader_.get());
    return text == nullptr ? "unknown error" : text;
  }
  [[nodiscard]] std::string name_of_archive() const { return request_.archive.substr(request_.archive.rfind('/') + 1); }

  Error damaged() const {
    if (source_error_) return *source_error_;
    if (const std::string text = error_text(); text.find("Unrecognized archive format") == std::string::npos) {
      return {ErrorCode::io, "the archive is damaged or cut short: " + shown_name(text),
              "fetch it again; a sha256 in the recipe tells at once"};
    }
    return unrecognised();
  }

  static Error bomb(const std::string& why) {
    return {ErrorCode::unsafe, why, "if the archive is to be trusted, raise `max_size`, or unpack it by hand"};
  }

  Error too_many() const { return bomb(fmt::format("it holds more than {} names", request_.max_entries)); }

  /// What has come out of the decompression so far, whether it went into files or not: headers and skipped data cost time.
  Result<void> account_stream() const {
    const auto total = static_cast<std::uint64_t>(std::max<la_int64_t>(archive_filter_bytes(reader_.get(), 0), 0));
    if (total <= kRatioFrom || total / kMaxRatio <= archive_size_) return {};
    return fail(bomb(
        fmt::format("{} unpack to more than {}: more than {} times its size", human_bytes(archive_size_), human_bytes(total), kMaxRatio)));
  }

  /// Reads past the data of an entry that is not unpacked; libarchive would do that too, but to whatever end.
  Result<void> skip_data() const {
    while (true) {
      const void* bytes = nullptr;
      std::size_t length = 0;
      la_int64_t offset = 0;
      const int code = archive_read_data_block(reader_.get(), &bytes, &length, &offset);
      if (code == ARCHIVE_EOF) return {};
      if (code == ARCHIVE_RETRY) continue;
      if (code != ARCHIVE_OK) return fail(damaged());
      if (Result<void> fits = account_stream(); !fits) return fits;
    }
  }

  /// Looked at before bytes are written, so that a bomb fills nothing.
  Result<void> account(std::uint64_t total) const {
    if (request_.max_size > 0 && total > request_.max_size) {
      return fail(bomb(fmt::format("it unpacks to more than {}", human_size(request_.max_size))));
    }
    if (total > kRatioFrom && total / kMaxRatio > archive_size_) {
      return fail(bomb(fmt::format("{} unpack to more than {}: more than {} times its size", human_bytes(archive_size_), human_bytes(total),
                                   kMaxRatio)));
    }
    return {};
  }

  Result<void> add(archive_entry* entry, UnpackTree& tree) {
    const char* raw = archive_entry_pathname(entry);
    if (raw == nullptr) {
      return fail(ErrorCode::unsupported, fmt::format("the name of entry {} cannot be read: its encoding is broken", tree.size() + 1),
                  "have the archive packed again with UTF-8 names");
    }
    Result<std::optional<std::string>> name = safe_entry_name(raw, request_.strip);
    if (!name) return fail(std::move(name).error());
    if (!*name) return skip_data();
    const std::string& path = **name;
    tell_progress(path);
    if (archive_entry_is_data_encrypted(entry) == 1) {
      return fail(ErrorCode::unsupported, shown_name(path) + " is encrypted", "unpack it by hand, with its password");
    }
    // A hard link's type is 0 in tar, so it comes before the look at the type.
    if (const char* target = archive_entry_hardlink(entry); target != nullptr) {
      const Result<std::optional<std::string>> linked = safe_entry_name(target, request_.strip);
      if (!linked) return fail(linked.error());
      return tree.add_hard_link(path, linked->value_or(std::string()));
    }
    switch (archive_entry_filetype(entry)) {
      case AE_IFDIR: return tree.add_directory(path, archive_entry_perm(entry));
      case AE_IFLNK: {
        const char* target = archive_entry_symlink(entry);
        return tree.add_symlink(path, target == nullptr ? "" : target);
      }
      case AE_IFREG:
        return add_file(entry, path, tree).map_error([&](Error error) { return std::move(error).in("unpacking " + shown_name(path)); });
      default:
        return fail(ErrorCode::unsafe, shown_name(path) + " is a device, a pipe or something stranger",
                    "do not use this archive: data needs no such thing");
    }
  }

  Result<void> add_file(archive_entry* entry, const std::string& path, UnpackTree& tree) {
    if (archive_entry_size_is_set(entry) != 0) {
      const auto announced = static_cast<std::uint64_t>(std::max<la_int64_t>(archive_entry_size(entry), 0));
      if (Result<void> fits = account(written_ + announced); !fits) return fits;
      if (announced > tree.free_bytes()) return fail(tree.system_error(ENOSPC, fmt::format("making {} of room", human_bytes(announced))));
    }
    const std::optional<ZipStream::Member> known =
        ahead_ != nullptr && archive_entry_size_is_set(entry) != 0
            ? ahead_->find(archive_entry_pathname(entry), static_cast<std::uint64_t>(archive_entry_size(entry)))
            : std::nullopt;
    const auto end_taken = [&](const UniqueFd& taken) {
      written_ += known->size;
      set_time(entry, taken);
      return tree.end_file(path, known->size, known->sha256);
    };
    if (known) {
      const UniqueFd taken = tree.take_file(path, archive_entry_perm(entry), ahead_->folder(), known->name);
      if (taken.valid()) return end_taken(taken);
    }
    Result<UniqueFd> file = tree.begin_file(path, archive_entry_perm(entry));
    if (!file) return fail(std::move(file).error());
    if (known && file->valid() && tree.take_content(path, *file, ahead_->folder(), known->name)) return end_taken(*file);
    Sha256 digest;
    std::uint64_t size = 0;
    while (true) {
      const void* bytes = nullptr;
      std::size_t length = 0;
      la_int64_t offset = 0;
      const int code = archive_read_data_block(reader_.get(), &bytes, &length, &offset);
      if (code == ARCHIVE_EOF) {
        // A file that ends in a hole: libarchive says so by the offset of an empty last block.
        const std::uint64_t end = offset > 0 ? static_cast<std::uint64_t>(offset) : 0;
        if (end > size) {
          if (Result<void> skipped = skip_hole(size, end, digest); !skipped) return skipped;
          size = end;
        }
        break;
      }
      if (code == ARCHIVE_RETRY) continue;
      // A warning here is a wrong checksum or length: the bytes are not what was packed.
      if (code != ARCHIVE_OK) return fail(damaged());
      const auto at = static_cast<std::uint64_t>(std::max<la_int64_t>(offset, 0));
      if (at < size) return fail(ErrorCode::io, "its pieces overlap", "have the archive packed again");
      if (Result<void> fits = account(written_ + at + length); !fits) return fits;
      if (Result<void> skipped = skip_hole(size, at, digest); !skipped) return skipped;
      const std::string_view block(static_cast<const char*>(bytes), length);
      digest.add(block);
      if (file->valid()) {
        if (Result<void> wrote = write_at(*file, block, at, tree); !wrote) return wrote;
      }
      size = at + length;
      tell_progress(path);
    }
    written_ += size;
    if (file->valid()) {
      if (::ftruncate(file->get(), static_cast<off_t>(size)) != 0) return fail(tree.system_error(errno, "writing"));
      set_time(entry, *file);
      if (source_ != nullptr) ::sync_file_range(file->get(), 0, 0, SYNC_FILE_RANGE_WRITE);  // while the rest is still coming
    }
    return tree.end_file(path, size, digest.hex());
  }

  static void set_time(archive_entry* entry, const UniqueFd& file) {
    if (archive_entry_mtime_is_set(entry) == 0) return;
    const std::array<timespec, 2> times{timespec{0, UTIME_OMIT}, timespec{archive_entry_mtime(entry), archive_entry_mtime_nsec(entry)}};
    (void)::futimens(file.get(), times.data());  // a time the file system cannot hold is no reason to fail
  }

  /// Hashes the zeros of a hole.
  Result<void> skip_hole(std::uint64_t from, std::uint64_t to, Sha256& digest) {
    if (Result<void> fits = account(written_ + to); !fits) return fits;
    static const std::string zeros(kBlock, '\0');
    for (; from < to; from += std::min<std::uint64_t>(to - from, kBlock)) {
      digest.add(std::string_view(zeros).substr(0, std::min<std::uint64_t>(to - from, kBlock)));
    }
    return {};
  }

  static Result<void> write_at(const UniqueFd& file, std::string_view bytes, std::uint64_t at, const UnpackTree& tree) {
    while (!bytes.empty()) {
      const ssize_t put = ::pwrite(file.get(), bytes.data(), bytes.size(), static_cast<off_t>(at));
      if (put < 0 && errno == EINTR) continue;
      if (put < 0) return fail(tree.system_error(errno, "writing"));
      bytes.remove_prefix(static_cast<std::size_t>(put));
      at += static_cast<std::uint64_t>(put);
    }
    return {};
  }

  /// A plain tar that was cut between two files reads like a shorter one; what it lacks is its mark of the end.
  Result<void> check_end() {
    if (source_ != nullptr) return drain_source();
    const bool tar = (archive_format(reader_.get()) & ARCHIVE_FORMAT_BASE_MASK) == ARCHIVE_FORMAT_TAR;
    if (!tar || archive_filter_code(reader_.get(), 0) != ARCHIVE_FILTER_NONE) return {};
    std::array<char, 512> last{};
    const auto from = static_cast<off_t>(archive_size_) - static_cast<off_t>(last.size());
    if (from >= 0 && ::pread(file_.get(), last.data(), last.size(), from) == static_cast<ssize_t>(last.size()) &&
        std::all_of(last.begin(), last.end(), [](char byte) { return byte == '\0'; })) {
      return {};
    }
    return fail(ErrorCode::io, "the tar has no end mark: it was cut short", "fetch it again");
  }

  /// What lies behind the archive's own end belongs to the file, and to its digest. A plain tar without the mark of its end is left to the
  /// usual way, which says so.
  Result<void> drain_source() {
    if (archive_filter_code(reader_.get(), 0) == ARCHIVE_FILTER_NONE)
      return fail(ErrorCode::unsupported, "a plain tar is read once it is whole");
    while (true) {
      const Result<std::string_view> rest = (*source_)();
      if (!rest) return fail(rest.error());
      if (rest->empty()) return {};
    }
  }

  void tell_progress(const std::string& path) {
    const Clock::time_point now = Clock::now();
    if (now - last_progress_ < kProgressEvery) return;
    last_progress_ = now;
    const la_int64_t done = archive_filter_bytes(reader_.get(), -1);
    log_.progress(shown_name(path), static_cast<std::uint64_t>(std::max<la_int64_t>(done, 0)), archive_size_);
  }

  const UnpackRequest& request_;
  StepLog& log_;
  ZipStream* ahead_;
  const ByteSource* source_;
  std::optional<Error> source_error_;
  UniqueFd file_;
  Reader reader_;
  std::string beginning_;
  std::uint64_t archive_size_ = 0, written_ = 0;
  Clock::time_point last_progress_{};
};

}  // namespace

namespace {

Result<std::vector<UnpackedEntry>> unpack(const UnpackRequest& request, StepLog& log, ZipStream* ahead, const ByteSource* source) {
  const Utf8Names names;
  Result<std::vector<UnpackedEntry>> entries = Unpacking(request, log, ahead, source).run();
  if (!entries) return fail(std::move(entries).error().in("unpacking " + request.archive));
  return entries;
}

}  // namespace

Result<std::vector<UnpackedEntry>> unpack_archive(const UnpackRequest& request, StepLog& log) {
  return unpack(request, log, nullptr, nullptr);
}

Result<std::vector<UnpackedEntry>> unpack_zip(const UnpackRequest& request, StepLog& log, ZipStream& ahead) {
  return unpack(request, log, &ahead, nullptr);
}

Result<std::vector<UnpackedEntry>> unpack_stream(const UnpackRequest& request, StepLog& log, const ByteSource& source) {
  return unpack(request, log, nullptr, &source);
}

}  // namespace gpustrap
