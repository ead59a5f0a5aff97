#include "tests/support/archive_writer.h"

#include <locale.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <memory>

#include <archive.h>
#include <archive_entry.h>

namespace gpustrap {
namespace {

struct WriteFree {
  void operator()(archive* writer) const { archive_write_free(writer); }
};
struct EntryFree {
  void operator()(archive_entry* entry) const { archive_entry_free(entry); }
};

void must(int code, archive* writer) {
  if (code >= ARCHIVE_WARN) return;
  std::fprintf(stderr, "packing a test archive: %s\n", archive_error_string(writer));
  std::abort();
}

la_ssize_t append(archive* /*writer*/, void* user, const void* bytes, std::size_t size) {
  static_cast<std::string*>(user)->append(static_cast<const char*>(bytes), size);
  return static_cast<la_ssize_t>(size);
}

void choose(archive* writer, Packing packing) {
  switch (packing) {
    case Packing::zip:
      must(archive_write_set_format_zip(writer), writer);
      must(archive_write_set_options(writer, "zip:hdrcharset=UTF-8"), writer);
      return;
    case Packing::encrypted_zip:
      must(archive_write_set_format_zip(writer), writer);
      must(archive_write_set_options(writer, "zip:hdrcharset=UTF-8,zip:encryption=zipcrypt"), writer);
      must(archive_write_set_passphrase(writer, "hunter2"), writer);
      return;
    case Packing::gnu_tar: must(archive_write_set_format_gnutar(writer), writer); return;
    case Packing::tar: break;
    case Packing::tar_gz: must(archive_write_add_filter_gzip(writer), writer); break;
    case Packing::tar_gz_gz:
      must(archive_write_add_filter_gzip(writer), writer);
      must(archive_write_add_filter_gzip(writer), writer);
      break;
    case Packing::tar_bz2: must(archive_write_add_filter_bzip2(writer), writer); break;
    case Packing::tar_xz: must(archive_write_add_filter_xz(writer), writer); break;
    case Packing::tar_zst: must(archive_write_add_filter_zstd(writer), writer); break;
  }
  must(archive_write_set_format_pax_restricted(writer), writer);
}

void describe(archive_entry* entry, const PackedEntry& wanted) {
  archive_entry_set_pathname(entry, wanted.name.c_str());
  archive_entry_set_perm(entry, static_cast<__LA_MODE_T>(wanted.mode));
  archive_entry_set_mtime(entry, 1'700'000'000, 0);
  archive_entry_set_size(entry, 0);
  switch (wanted.kind) {
    case PackedEntry::Kind::file:
      archive_entry_set_filetype(entry, AE_IFREG);
      archive_entry_set_size(entry, static_cast<la_int64_t>(wanted.content.size()));
      break;
    case PackedEntry::Kind::directory: archive_entry_set_filetype(entry, AE_IFDIR); break;
    case PackedEntry::Kind::symlink:
      archive_entry_set_filetype(entry, AE_IFLNK);
      archive_entry_set_symlink(entry, wanted.content.c_str());
      break;
    case PackedEntry::Kind::hard_link:
      archive_entry_set_filetype(entry, AE_IFREG);
      archive_entry_set_hardlink(entry, wanted.content.c_str());
      break;
    case PackedEntry::Kind::fifo: archive_entry_set_filetype(entry, AE_IFIFO); break;
    case PackedEntry::Kind::device:
      archive_entry_set_filetype(entry, AE_IFCHR);
      archive_entry_set_rdevmajor(entry, 1);
      archive_entry_set_rdevminor(entry, 3);
      break;
  }
}

}  // namespace

std::string pack(Packing packing, const std::vector<PackedEntry>& entries) {
  // libarchive writes names in the locale's encoding.
  const locale_t utf8 = ::newlocale(LC_CTYPE_MASK, "C.UTF-8", nullptr);
  const locale_t before = ::uselocale(utf8);
  std::string bytes;
  {
    const std::unique_ptr<archive, WriteFree> writer(archive_write_new());
    choose(writer.get(), packing);
    must(archive_write_set_bytes_in_last_block(writer.get(), 1), writer.get());
    must(archive_write_open(writer.get(), &bytes, nullptr, append, nullptr), writer.get());
    for (const PackedEntry& wanted : entries) {
      const std::unique_ptr<archive_entry, EntryFree> entry(archive_entry_new());
      describe(entry.get(), wanted);
      must(archive_write_header(writer.get(), entry.get()), writer.get());
      if (wanted.kind == PackedEntry::Kind::file && !wanted.content.empty()) {
        must(static_cast<int>(archive_write_data(writer.get(), wanted.content.data(), wanted.content.size())), writer.get());
      }
      must(archive_write_finish_entry(writer.get()), writer.get());
    }
    must(archive_write_close(writer.get()), writer.get());
  }
  ::uselocale(before);
  if (utf8 != nullptr) ::freelocale(utf8);
  return bytes;
}

}  // namespace gpustrap
