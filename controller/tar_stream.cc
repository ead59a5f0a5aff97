// The only file of the controller that includes libarchive.
#include "controller/tar_stream.h"

#include <algorithm>
#include <optional>
#include <utility>

#include <archive.h>
#include <archive_entry.h>
#include <fmt/format.h>

namespace gpustrap {
namespace {

struct ReadFree {
  void operator()(archive* reader) const { archive_read_free(reader); }
};
struct WriteFree {
  void operator()(archive* writer) const { archive_write_free(writer); }
};
struct EntryFree {
  void operator()(archive_entry* entry) const { archive_entry_free(entry); }
};

std::string words_of(archive* handle) {
  const char* text = archive_error_string(handle);
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
  auto state = std::make_unique<State>();
  state->source = std::move(source);
  state->handle.reset(archive_read_new());
  // Tar alone, and not compressed: every format more is more code for a hostile host to reach.
  if (!state->handle || archive_read_support_format_tar(state->handle.get()) != ARCHIVE_OK)
    return fail(ErrorCode::internal, "libarchive could not be initialised");
  (void)archive_read_support_format_empty(state->handle.get());
  if (archive_read_open(state->handle.get(), state.get(), nullptr, State::read, nullptr) != ARCHIVE_OK) return fail(state->damaged());
  return TarReader(std::move(state));
}

Result<bool> TarReader::next(Member& member) {
  archive_entry* entry = nullptr;
  int code = ARCHIVE_RETRY;
  while (code == ARCHIVE_RETRY) code = archive_read_next_header(state_->handle.get(), &entry);
  if (code == ARCHIVE_EOF) return false;
  if (code < ARCHIVE_WARN) return fail(state_->damaged());
  const char* path = archive_entry_pathname(entry);
  member.path = path == nullptr ? "" : path;
  if (member.path.starts_with("./")) member.path.erase(0, 2);
  const auto type = archive_entry_filetype(entry);
  member.is_hard_link = archive_entry_hardlink(entry) != nullptr;
  member.entry.type = type == AE_IFREG   ? CopyEntry::Type::file
                      : type == AE_IFLNK ? CopyEntry::Type::link
                      : type == AE_IFDIR ? CopyEntry::Type::folder
                                         : CopyEntry::Type::other;
  member.entry.size = static_cast<std::uint64_t>(std::max<la_int64_t>(archive_entry_size(entry), 0));
  member.entry.mtime = archive_entry_mtime(entry);
  member.entry.mode = archive_entry_perm(entry) & 0777U;
  const char* target = archive_entry_symlink(entry);
  member.entry.target = target == nullptr ? "" : target;
  return true;
}

Result<void> TarReader::read(const std::function<Result<void>(std::string_view bytes)>& take) {
  std::uint64_t at = 0;
  while (true) {
    const void* bytes = nullptr;
    std::size_t length = 0;
    la_int64_t offset = 0;
    const int code = archive_read_data_block(state_->handle.get(), &bytes, &length, &offset);
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
  auto state = std::make_unique<State>();
  state->sink = std::move(sink);
  state->handle.reset(archive_write_new());
  if (!state->handle || archive_write_set_format_gnutar(state->handle.get()) != ARCHIVE_OK)
    return fail(ErrorCode::internal, "libarchive could not be initialised");
  archive_write_set_bytes_per_block(state->handle.get(), 64 << 10);
  archive_write_set_bytes_in_last_block(state->handle.get(), 512);
  const int code = archive_write_open(state->handle.get(), state.get(), nullptr, State::write, nullptr);
  if (Result<void> opened = state->accept(code); !opened) return fail(std::move(opened).error());
  return TarWriter(std::move(state));
}

Result<void> TarWriter::begin(const std::string& path, const CopyEntry& entry) {
  const std::unique_ptr<archive_entry, EntryFree> header(archive_entry_new());
  archive_entry_set_pathname(header.get(), ("./" + path).c_str());
  const bool is_link = entry.type == CopyEntry::Type::link;
  archive_entry_set_filetype(header.get(), is_link ? AE_IFLNK : AE_IFREG);
  archive_entry_set_size(header.get(), is_link ? 0 : static_cast<la_int64_t>(entry.size));
  archive_entry_set_mtime(header.get(), entry.mtime, 0);
  archive_entry_set_perm(header.get(), is_link ? 0777 : entry.mode);
  if (is_link) archive_entry_set_symlink(header.get(), entry.target.c_str());
  return state_->accept(archive_write_header(state_->handle.get(), header.get()));
}

Result<void> TarWriter::add(std::string_view bytes) {
  return state_->accept(archive_write_data(state_->handle.get(), bytes.data(), bytes.size()), static_cast<la_ssize_t>(bytes.size()));
}

Result<void> TarWriter::end() { return state_->accept(archive_write_close(state_->handle.get())); }

}  // namespace gpustrap
