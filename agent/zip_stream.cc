#include "agent/zip_stream.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>
#include <zlib.h>

#include <algorithm>
#include <array>
#include <limits>
#include <utility>
#include <vector>

#include "agent/base/file.h"
#include "agent/base/sha256.h"

namespace gpustrap {
namespace {

// PKWARE's APPNOTE: all numbers little-endian.
constexpr std::uint32_t kLocalHeader = 0x04034b50, kDirectoryEntry = 0x02014b50, kDirectoryEnd = 0x06054b50, kDescriptor = 0x08074b50;
constexpr std::size_t kLocalSize = 30, kEntrySize = 46, kEndSize = 22, kLongestComment = 0xFFFF;
constexpr std::uint32_t kInZip64 = 0xFFFFFFFF;
constexpr unsigned kEncrypted = 1, kSizesBehind = 8;
constexpr unsigned kStored = 0, kDeflated = 8;
/// Honest directories have about a hundred bytes for each of at most some hundred thousand names.
constexpr std::uint64_t kLargestDirectory = std::uint64_t{64} << 20U;
/// Beyond these this is a bomb, or there is no room: the usual way says so.
constexpr std::uint64_t kMaxRatio = 1000, kRatioFrom = std::uint64_t{256} << 20U;
constexpr std::uint64_t kLeftFree = std::uint64_t{64} << 20U;

unsigned u16(std::string_view bytes, std::size_t at) {
  return static_cast<unsigned char>(bytes[at]) | (static_cast<unsigned>(static_cast<unsigned char>(bytes[at + 1])) << 8U);
}
std::uint32_t u32(std::string_view bytes, std::size_t at) { return u16(bytes, at) | (u16(bytes, at + 2) << 16U); }

struct Inflater {
  Inflater() { ready = ::inflateInit2(&stream, -MAX_WBITS) == Z_OK; }
  ~Inflater() {
    if (ready) ::inflateEnd(&stream);
  }
  Inflater(const Inflater&) = delete;
  Inflater& operator=(const Inflater&) = delete;
  z_stream stream{};
  bool ready = false;
};

}  // namespace

/// The source by counted bytes.
class ZipStream::Input {
 public:
  explicit Input(const ByteSource& source) : source_(source) {}

  /// What is there now, at least one byte but at the end.
  Result<std::string_view> some() {
    if (rest_.empty()) {
      Result<std::string_view> more = source_();
      if (!more) return more;
      rest_ = *more;
    }
    return rest_;
  }
  void take(std::size_t count) {
    rest_.remove_prefix(count);
    taken_ += count;
  }
  /// Exactly `count`, or fewer at the end.
  Result<std::string> exactly(std::size_t count) {
    std::string bytes;
    while (bytes.size() < count) {
      const Result<std::string_view> there = some();
      if (!there) return fail(there.error());
      if (there->empty()) break;
      const std::size_t part = std::min(there->size(), count - bytes.size());
      bytes += there->substr(0, part);
      take(part);
    }
    return bytes;
  }
  [[nodiscard]] std::uint64_t taken() const { return taken_; }

 private:
  const ByteSource& source_;
  std::string_view rest_;
  std::uint64_t taken_ = 0;
};

Result<void> ZipStream::read(const ByteSource& source) {
  Input input(source);
  for (bool more = true; more;) {
    const Result<bool> read = read_member(input);
    if (!read) return fail(read.error());
    more = *read;
  }
  while (true) {  // to the end, which the caller waits for
    const Result<std::string_view> rest = input.some();
    if (!rest) return fail(rest.error());
    if (rest->empty()) return {};
    input.take(rest->size());
  }
}

Result<bool> ZipStream::read_member(Input& input) {
  const std::uint64_t place = input.taken();
  const Result<std::string> header = input.exactly(kLocalSize);
  if (!header) return fail(header.error());
  if (header->size() < kLocalSize || u32(*header, 0) != kLocalHeader) return false;
  const unsigned flags = u16(*header, 6), method = u16(*header, 8);
  const std::uint32_t crc = u32(*header, 14), packed = u32(*header, 18), size = u32(*header, 22);
  const Result<std::string> name = input.exactly(u16(*header, 26));
  if (!name) return fail(name.error());
  const std::size_t extra_size = u16(*header, 28);
  const Result<std::string> extra = input.exactly(extra_size);
  if (!extra) return fail(extra.error());
  const bool open_end = (flags & kSizesBehind) != 0;
  if ((flags & kEncrypted) != 0 || (method != kStored && method != kDeflated) || packed == kInZip64 || size == kInZip64) return false;
  if (open_end && method == kStored) return false;  // only the directory knows where it ends
  Stored stored;
  stored.name = *name;
  stored.member.name = std::to_string(stored_.size());
  const Result<bool> inflated = inflate_member(input, method == kDeflated, packed, open_end, stored);
  if (!inflated || !*inflated) return inflated;
  bool right = stored.crc == crc && stored.member.size == size;
  if (open_end) {
    Result<std::string> behind = input.exactly(4);
    if (!behind) return fail(std::move(behind).error());
    const bool marked = behind->size() == 4 && u32(*behind, 0) == kDescriptor;
    const Result<std::string> rest = input.exactly(marked ? 12 : 8);
    if (!rest) return fail(rest.error());
    *behind = marked ? *rest : *behind + *rest;
    right = behind->size() == 12 && u32(*behind, 0) == stored.crc && u32(*behind, 8) == stored.member.size;
  }
  if (!right) return false;
  stored_.emplace(place, std::move(stored));
  return true;
}

Result<bool> ZipStream::inflate_member(Input& input, bool deflated, std::uint64_t packed, bool open_end, Stored& stored) {
  const UniqueFd file(::openat(folder_.get(), stored.member.name.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600));
  Inflater inflater;
  if (!file.valid() || !inflater.ready) return false;
  Sha256 digest;
  uLong crc = ::crc32(0, nullptr, 0);
  std::uint64_t left = open_end ? std::numeric_limits<std::uint64_t>::max() : packed;
  const auto keep = [&](std::string_view bytes) {
    written_ += bytes.size();
    stored.member.size += bytes.size();
    struct statvfs room {};
    const bool fits = (max_size_ == 0 || written_ <= max_size_) && (written_ <= kRatioFrom || written_ / kMaxRatio <= input.taken()) &&
                      ::fstatvfs(file.get(), &room) == 0 && static_cast<std::uint64_t>(room.f_bavail) * room.f_frsize > kLeftFree;
    if (!fits || !write_all(file.get(), bytes)) return false;
    digest.add(bytes);
    crc = ::crc32(crc, reinterpret_cast<const Bytef*>(bytes.data()), static_cast<uInt>(bytes.size()));
    return true;
  };
  std::vector<char> out(deflated ? 256U << 10U : 0);
  bool ended = !deflated && left == 0;
  while (!ended) {
    const Result<std::string_view> there = input.some();
    if (!there) return fail(there.error());
    if (there->empty()) return false;
    const std::string_view piece = there->substr(0, static_cast<std::size_t>(std::min<std::uint64_t>(there->size(), left)));
    if (!deflated) {
      if (!keep(piece)) return false;
      input.take(piece.size());
      left -= piece.size();
      ended = left == 0;
      continue;
    }
    z_stream& stream = inflater.stream;
    stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(piece.data()));
    stream.avail_in = static_cast<uInt>(piece.size());
    do {
      stream.next_out = reinterpret_cast<Bytef*>(out.data());
      stream.avail_out = static_cast<uInt>(out.size());
      const int code = ::inflate(&stream, Z_NO_FLUSH);
      if (code != Z_OK && code != Z_STREAM_END && code != Z_BUF_ERROR) return false;
      ended = code == Z_STREAM_END;
      if (!keep({out.data(), out.size() - stream.avail_out})) return false;
    } while (!ended && stream.avail_out == 0);
    const std::size_t used = piece.size() - stream.avail_in;
    input.take(used);
    left -= used;
    if (!ended && left == 0) return false;
  }
  if (!open_end && left != 0) return false;
  ::sync_file_range(file.get(), 0, 0, SYNC_FILE_RANGE_WRITE);  // on its way to the disk before the end is waited for
  stored.crc = static_cast<std::uint32_t>(crc);
  stored.member.sha256 = digest.hex();
  return true;
}

bool ZipStream::read_directory(int zip) {
  struct stat info {};
  if (::fstat(zip, &info) != 0) return false;
  const auto total = static_cast<std::uint64_t>(info.st_size);
  std::string tail(static_cast<std::size_t>(std::min<std::uint64_t>(total, kEndSize + kLongestComment)), '\0');
  if (::pread(zip, tail.data(), tail.size(), static_cast<off_t>(total - tail.size())) != static_cast<ssize_t>(tail.size())) return false;
  constexpr std::string_view kEndMark("PK\5\6", 4);
  const std::size_t end = tail.rfind(kEndMark);
  if (end == std::string::npos || tail.size() - end < kEndSize || u32(tail, end) != kDirectoryEnd) return false;
  const std::uint32_t size = u32(tail, end + 12), offset = u32(tail, end + 16);
  if (size == kInZip64 || offset == kInZip64 || size > kLargestDirectory || std::uint64_t{offset} + size > total) return false;
  std::string directory(size, '\0');
  if (::pread(zip, directory.data(), directory.size(), offset) != static_cast<ssize_t>(directory.size())) return false;
  for (std::size_t at = 0; at + kEntrySize <= directory.size() && u32(directory, at) == kDirectoryEntry;) {
    const std::size_t length = u16(directory, at + 28);
    if (at + kEntrySize + length > directory.size()) break;
    const Listed listed{u32(directory, at + 42), u32(directory, at + 24), u32(directory, at + 16), true};
    const auto [place, is_new] = listed_.try_emplace(directory.substr(at + kEntrySize, length), listed);
    if (!is_new) place->second.once = false;
    at += kEntrySize + length + u16(directory, at + 30) + u16(directory, at + 32);
  }
  return true;
}

std::optional<ZipStream::Member> ZipStream::find(const std::string& name, std::uint64_t size) const {
  const auto listed = listed_.find(name);
  if (listed == listed_.end() || !listed->second.once || listed->second.size != size) return std::nullopt;
  const auto stored = stored_.find(listed->second.offset);
  if (stored == stored_.end() || stored->second.name != name || stored->second.crc != listed->second.crc ||
      stored->second.member.size != size) {
    return std::nullopt;
  }
  return stored->second.member;
}

}  // namespace gpustrap
