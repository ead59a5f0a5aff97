// The only file of the controller that includes libarchive.
#include "controller/tar_stream.h"

#include <algorithm>
#include <optional>
#include <utility>

#include <archive.h>
#include <archive_entry.h>
#include <fmt/format.h>

#include "controller/shared_library.h"

namespace gpustrap {
namespace {

struct LibArchive {
  decltype(&::archive_entry_filetype) entry_filetype = nullptr;
  decltype(&::archive_entry_free) entry_free = nullptr;
  decltype(&::archive_entry_hardlink) entry_hardlink = nullptr;
  decltype(&::archive_entry_mtime) entry_mtime = nullptr;
  decltype(&::archive_entry_new) entry_new = nullptr;
  decltype(&::archive_entry_pathname) entry_pathname = nullptr;
  decltype(&::archive_entry_perm) entry_perm = nullptr;
  decltype(&::archive_entry_set_filetype) entry_set_filetype = nullptr;
  decltype(&::archive_entry_set_mtime) entry_set_mtime = nullptr;
  decltype(&::archive_entry_set_pathname) entry_set_pathname = nullptr;
  decltype(&::archive_entry_set_perm) entry_set_perm = nullptr;
  decltype(&::archive_entry_set_size) entry_set_size = nullptr;
  decltype(&::archive_entry_set_symlink) entry_set_symlink = nullptr;
  decltype(&::archive_entry_size) entry_size = nullptr;
  decltype(&::archive_entry_symlink) entry_symlink = nullptr;
  decltype(&::archive_error_string) error_string = nullptr;
  decltype(&::archive_read_data_block) read_data_block = nullptr;
  decltype(&::archive_read_free) read_free = nullptr;
  decltype(&::archive_read_new) read_new = nullptr;
  decltype(&::archive_read_next_header) read_next_header = nullptr;
  decltype(&::archive_read_open) read_open = nullptr;
  decltype(&::archive_read_support_format_empty) read_support_format_empty = nullptr;
  decltype(&::archive_read_support_format_tar) read_support_format_tar = nullptr;
  decltype(&::archive_write_close) write_close = nullptr;
  decltype(&::archive_write_data) write_data = nullptr;
  decltype(&::archive_write_free) write_free = nullptr;
  decltype(&::archive_write_header) write_header = nullptr;
  decltype(&::archive_write_new) write_new = nullptr;
  decltype(&::archive_write_open) write_open = nullptr;
  decltype(&::archive_write_set_bytes_in_last_block) write_set_bytes_in_last_block = nullptr;
  decltype(&::archive_write_set_bytes_per_block) write_set_bytes_per_block = nullptr;
  decltype(&::archive_write_set_format_gnutar) write_set_format_gnutar = nullptr;
  bool is_whole = false;
};

const LibArchive& libarchive() {
  static const LibArchive loaded = [] {
    LibArchive all;
    SharedLibrary library{"libarchive.so.13", "libarchive.13.dylib"};
    library.take(all.entry_filetype, "archive_entry_filetype");
    library.take(all.entry_free, "archive_entry_free");
    library.take(all.entry_hardlink, "archive_entry_hardlink");
    library.take(all.entry_mtime, "archive_entry_mtime");
    library.take(all.entry_new, "archive_entry_new");
    library.take(all.entry_pathname, "archive_entry_pathname");
    library.take(all.entry_perm, "archive_entry_perm");
    library.take(all.entry_set_filetype, "archive_entry_set_filetype");
    library.take(all.entry_set_mtime, "archive_entry_set_mtime");
    library.take(all.entry_set_pathname, "archive_entry_set_pathname");
    library.take(all.entry_set_perm, "archive_entry_set_perm");
    library.take(all.entry_set_size, "archive_entry_set_size");
    library.take(all.entry_set_symlink, "archive_entry_set_symlink");
    library.take(all.entry_size, "archive_entry_size");
    library.take(all.entry_symlink, "archive_entry_symlink");
    library.take(all.error_string, "archive_error_string");
    library.take(all.read_data_block, "archive_read_data_block");
    library.take(all.read_free, "archive_read_free");
    library.take(all.read_new, "archive_read_new");
    library.take(all.read_next_header, "archive_read_next_header");
    library.take(all.read_open, "archive_read_open");
    library.take(all.read_support_format_empty, "archive_read_support_format_empty");
    library.take(all.read_support_format_tar, "archive_read_support_format_tar");
    library.take(all.write_close, "archive_write_close");
    library.take(all.write_data, "archive_write_data");
    library.take(all.write_free, "archive_write_free");
    library.take(all.write_header, "archive_write_header");
    library.take(all.write_new, "archive_write_new");
    library.take(all.write_open, "archive_write_open");
    library.take(all.write_set_bytes_in_last_block, "archive_write_set_bytes_in_last_block");
    library.take(all.write_set_bytes_per_block, "archive_write_set_bytes_per_block");
    library.take(all.write_set_format_gnutar, "archive_write_set_format_gnutar");
    all.is_whole = library.is_whole();
    return all;
  }();
  return loaded;
}

Error not_there() {
  return {ErrorCode::not_found, "libarchive is not on this machine, which copies files to hosts and from them",
          "install it: sudo apt-get install libarchive13 (from Debian 13 and Ubuntu 24.04 on: libarchive13t64)"};
}

struct ReadFree {
  void operator()(archive* reader) const { libarchive().read_free(reader); }
};
struct WriteFree {
  void operator()(archive* writer) const { libarchive().write_free(writer); }
};
struct EntryFree {
  void operator()(archive_entry* entry) const { libarchive().entry_free(entry); }
};

std::string words_of(archive* handle) {
  const char* text = libarchive().error_string(handle);
  return text == nullptr ? "unknown error" : shown_path(text);
}

}  // namespace

struct TarReader::State {
  TarSource source;
  std::unique_ptr<archive, ReadFree> handle;
  std::optional<Error> source_error;

  static la_ssize_t read(archive*, void* data, const void** bytes) {
    auto& self = *static_cast<State*>(data);
    Result<std::string_view> more = self.source();
    if (!more) {
      self.source_error = std::move(more).error();
      return -1;
    }
    *bytes = more->data();
    return static_cast<la_ssize_t>(more->size());
  }
  [[nodiscard]] Error damaged() const {
    if (source_error) return *source_error;
    return {ErrorCode::protocol, "what the host sends is no tar: " + words_of(handle.get()), "the same command again goes on from there"};
  }
};

TarReader::TarReader(std::unique_ptr<State> state) : state_(std::move(state)) {}
TarReader::TarReader(TarReader&&) noexcept = default;
TarReader::~TarReader() = default;

Result<TarReader> TarReader::open(TarSource source) {
  if (!libarchive().is_whole) return fail(not_there());
  auto state = std::make_unique<State>();
  state->source = std::move(source);
  state->handle.reset(libarchive().read_new());
  // Tar alone, and not compressed: every format more is more code for a hostile host to reach.
  if (!state->handle || libarchive().read_support_format_tar(state->handle.get()) != ARCHIVE_OK)
    return fail(ErrorCode::internal, "libarchive could not be initialised");
  (void)libarchive().read_support_format_empty(state->handle.get());
  if (libarchive().read_open(state->handle.get(), state.get(), nullptr, State::read, nullptr) != ARCHIVE_OK) return fail(state->damaged());
  return TarReader(std::move(state));
}

Result<bool> TarReader::next(Member& member) {
  archive_entry* entry = nullptr;
  int code = ARCHIVE_RETRY;
  while (code == ARCHIVE_RETRY) code = libarchive().read_next_header(state_->handle.get(), &entry);
  if (code == ARCHIVE_EOF) return false;
  if (code < ARCHIVE_WARN) return fail(state_->damaged());
  const char* path = libarchive().entry_pathname(entry);
  member.path = path == nullptr ? "" : path;
  if (member.path.starts_with("./")) member.path.erase(0, 2);
  const auto type = libarchive().entry_filetype(entry);
  member.is_hard_link = libarchive().entry_hardlink(entry) != nullptr;
  member.entry.type = type == AE_IFREG   ? CopyEntry::Type::file
                      : type == AE_IFLNK ? CopyEntry::Type::link
                      : type == AE_IFDIR ? CopyEntry::Type::folder
                                         : CopyEntry::Type::other;
  member.entry.size = static_cast<std::uint64_t>(std::max<la_int64_t>(libarchive().entry_size(entry), 0));
  member.entry.mtime = libarchive().entry_mtime(entry);
  member.entry.mode = libarchive().entry_perm(entry) & 0777U;
  const char* target = libarchive().entry_symlink(entry);
  member.entry.target = target == nullptr ? "" : target;
  return true;
}

Result<void> TarReader::read(const std::function<Result<void>(std::string_view bytes)>& take) {
  std::uint64_t at = 0;
  while (true) {
    const void* bytes = nullptr;
    std::size_t length = 0;
    la_int64_t offset = 0;
    const int code = libarchive().read_data_block(state_->handle.get(), &bytes, &length, &offset);
    if (code == ARCHIVE_EOF) return {};
    if (code == ARCHIVE_RETRY) continue;
    if (code != ARCHIVE_OK) return fail(state_->damaged());
    // A hole would be a sparse file, which nobody asked for.
    if (offset < 0 || static_cast<std::uint64_t>(offset) != at) return fail(ErrorCode::protocol, "the host sends a file in pieces");
    at += length;
    if (Result<void> taken = take({static_cast<const char*>(bytes), length}); !taken) return taken;
  }
}

struct TarWriter::State {
  TarSink sink;
  std::unique_ptr<archive, WriteFree> handle;
  std::optional<Error> sink_error;
  bool is_given_up = false;

  static la_ssize_t write(archive*, void* data, const void* bytes, std::size_t length) {
    auto& self = *static_cast<State*>(data);
    // To libarchive nothing goes wrong: one that has failed is not closed any more, and what it holds is lost.
    if (self.is_given_up || self.sink_error) return static_cast<la_ssize_t>(length);
    Result<void> taken = self.sink({static_cast<const char*>(bytes), length});
    if (!taken) self.sink_error = std::move(taken).error();
    return static_cast<la_ssize_t>(length);
  }
  [[nodiscard]] Result<void> accept(la_ssize_t code, la_ssize_t least = ARCHIVE_WARN) const {
    if (sink_error) return fail(*sink_error);
    if (code >= least) return {};
    return fail(ErrorCode::internal, "a tar could not be made: " + words_of(handle.get()));
  }
};

TarWriter::TarWriter(std::unique_ptr<State> state) : state_(std::move(state)) {}
TarWriter::TarWriter(TarWriter&&) noexcept = default;
TarWriter::~TarWriter() {
  // Closing writes the end of the archive, which one that was given up has not got.
  if (state_) state_->is_given_up = true;
}

Result<TarWriter> TarWriter::open(TarSink sink) {
  if (!libarchive().is_whole) return fail(not_there());
  auto state = std::make_unique<State>();
  state->sink = std::move(sink);
  state->handle.reset(libarchive().write_new());
  if (!state->handle || libarchive().write_set_format_gnutar(state->handle.get()) != ARCHIVE_OK)
    return fail(ErrorCode::internal, "libarchive could not be initialised");
  libarchive().write_set_bytes_per_block(state->handle.get(), 64 << 10);
  libarchive().write_set_bytes_in_last_block(state->handle.get(), 512);
  const int code = libarchive().write_open(state->handle.get(), state.get(), nullptr, State::write, nullptr);
  if (Result<void> opened = state->accept(code); !opened) return fail(std::move(opened).error());
  return TarWriter(std::move(state));
}

Result<void> TarWriter::begin(const std::string& path, const CopyEntry& entry) {
  const std::unique_ptr<archive_entry, EntryFree> header(libarchive().entry_new());
  libarchive().entry_set_pathname(header.get(), ("./" + path).c_str());
  const bool is_link = entry.type == CopyEntry::Type::link;
  libarchive().entry_set_filetype(header.get(), is_link ? AE_IFLNK : AE_IFREG);
  libarchive().entry_set_size(header.get(), is_link ? 0 : static_cast<la_int64_t>(entry.size));
  libarchive().entry_set_mtime(header.get(), entry.mtime, 0);
  libarchive().entry_set_perm(header.get(), is_link ? 0777 : entry.mode);
  if (is_link) libarchive().entry_set_symlink(header.get(), entry.target.c_str());
  return state_->accept(libarchive().write_header(state_->handle.get(), header.get()));
}

Result<void> TarWriter::add(std::string_view bytes) {
  return state_->accept(libarchive().write_data(state_->handle.get(), bytes.data(), bytes.size()), static_cast<la_ssize_t>(bytes.size()));
}

Result<void> TarWriter::end() { return state_->accept(libarchive().write_close(state_->handle.get())); }

}  // namespace gpustrap
