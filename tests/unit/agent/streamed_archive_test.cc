#include "agent/streamed_archive.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "agent/base/file.h"
#include "agent/base/sha256.h"
#include "agent/fetch.h"
#include "tests/support/archive_writer.h"
#include "tests/support/fake_host.h"
#include "tests/support/temporary_directory.h"

namespace gpustrap {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;
using Kind = PackedEntry::Kind;

/// Text that does not pack to nothing, so that the first half of an archive holds whole files.
std::string text_of(unsigned seed) {
  std::string text;
  for (unsigned i = 0; i < 200'000; ++i) {
    seed = seed * 1664525U + 1013904223U;
    text += static_cast<char>('a' + (seed >> 24U) % 26U);
  }
  return text;
}

class StreamedArchiveTest : public testing::Test {
 protected:
  using Fetch = std::function<Result<FetchResult>()>;

  StreamedArchiveTest() {
    fs::create_directory(root_);
    for (unsigned i = 0; i < 8; ++i)
      entries_.push_back({Kind::file, "book/chapter" + std::to_string(i), text_of(i + 1), i == 3 ? 0755U : 0644U});
    entries_.push_back({Kind::symlink, "book/latest", "chapter7", 0777});
    entries_.push_back({Kind::directory, "book/empty", "", 0755});
  }

  /// What a fetch of `bytes` does to its file: begins, calls `between`, and goes on.
  Fetch bringing(
      std::string bytes, std::function<void()> between = [] {}) {
    return [this, bytes = std::move(bytes), between = std::move(between)]() -> Result<FetchResult> {
      const std::string part = part_of(archive_);
      const UniqueFd file(::open(part.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
      (void)::ftruncate(file.get(), 0);
      if (!write_all(file.get(), std::string_view(bytes).substr(0, bytes.size() / 2))) return fail(ErrorCode::io, "writing");
      between();
      if (!write_all(file.get(), std::string_view(bytes).substr(bytes.size() / 2))) return fail(ErrorCode::io, "writing");
      if (::rename(part.c_str(), archive_.c_str()) != 0) return fail(ErrorCode::io, "renaming");
      return FetchResult{sha256_hex(bytes), bytes.size(), "https://example.com/a", false, bytes.size()};
    };
  }
  /// Until something of the archive is on the disk, though only half of it has come.
  [[nodiscard]] std::function<void()> until_there(const std::string& path) const {
    return [path = root_ + "/" + path] {
      while (!path_exists(path)) std::this_thread::sleep_for(std::chrono::milliseconds(5));
    };
  }
  Result<FetchedArchive> unpack(const Fetch& fetch) {
    request_.archive = archive_;
    request_.to = root_;
    return fetch_and_unpack_streamed(fetch, {archive_, part_of(archive_)}, request_, log_);
  }
  void expect_book() const {
    for (const PackedEntry& entry : entries_) {
      const std::string path = root_ + "/" + entry.name;
      struct stat info {};
      ASSERT_EQ(::lstat(path.c_str(), &info), 0) << path;
      if (entry.kind == Kind::file) {
        EXPECT_TRUE(read_file(path).value_or("") == entry.content) << path;
        EXPECT_EQ(info.st_mode & 07777U, entry.mode) << path;
      }
      if (entry.kind == Kind::symlink) { EXPECT_EQ(fs::read_symlink(path), entry.content); }
    }
    EXPECT_FALSE(path_exists(root_ + "/.gpustrap-inflated"));
  }

  TemporaryDirectory directory_;
  const std::string root_ = directory_ / "root";
  const std::string archive_ = directory_ / "archive";
  std::vector<PackedEntry> entries_;
  UnpackRequest request_;
  RecordingLog log_;
};

TEST_F(StreamedArchiveTest, AZipIsInflatedWhileItComesAndItsDirectoryHasTheLastWord) {
  const std::string zip = pack(Packing::zip, entries_);
  const auto got = unpack(bringing(zip, until_there(".gpustrap-inflated/1")));
  ASSERT_TRUE(got) << got.error().sentence();
  EXPECT_EQ(got->fetched.sha256, sha256_hex(zip));
  EXPECT_EQ(got->entries.size(), entries_.size() + 1) << "the folder of all of them is one, too";
  expect_book();
}

TEST_F(StreamedArchiveTest, ATarIsUnpackedWhileItComes) {
  for (const Packing packing : {Packing::tar_gz, Packing::tar_zst}) {
    const auto got = unpack(bringing(pack(packing, entries_), until_there("book/chapter0")));
    ASSERT_TRUE(got) << got.error().sentence();
    expect_book();
    fs::remove_all(root_);
    fs::create_directory(root_);
  }
}

TEST_F(StreamedArchiveTest, EveryOtherArchiveIsUnpackedOnceItIsThere) {
  const auto got = unpack(bringing(pack(Packing::tar, entries_)));
  ASSERT_TRUE(got) << got.error().sentence();
  expect_book();
}

TEST_F(StreamedArchiveTest, ATarWhoseFirstNameLooksPackedIsUnpackedOnceItIsThere) {
  for (PackedEntry& entry : entries_) entry.name = "BZh" + entry.name;
  const auto got = unpack(bringing(pack(Packing::tar, entries_)));
  ASSERT_TRUE(got) << got.error().sentence();
  expect_book();
}

TEST_F(StreamedArchiveTest, WhatWasReadOfAnotherFileDoesNotCount) {
  // A part that an earlier fetch left is read first, and then replaced under the reader's eyes.
  std::vector<PackedEntry> other = entries_;
  for (PackedEntry& entry : other) entry.name += "-old";
  for (const Packing packing : {Packing::zip, Packing::tar_gz}) {
    const std::string stale = pack(packing, other);
    ASSERT_TRUE(write_file_atomically(part_of(archive_), std::string_view(stale).substr(0, stale.size() * 3 / 4), 0600));
    const Fetch fetch = bringing(pack(packing, entries_));
    const auto seen = until_there(packing == Packing::zip ? ".gpustrap-inflated/1" : "book/chapter0-old");
    const auto got = unpack([&] {
      seen();
      return fetch();
    });
    ASSERT_TRUE(got) << got.error().sentence();
    expect_book();
    EXPECT_FALSE(path_exists(root_ + "/book/chapter0-old"));
    fs::remove(archive_);
    fs::remove_all(root_);
    fs::create_directory(root_);
  }
}

TEST_F(StreamedArchiveTest, AFetchThatFailsIsTheError) {
  const auto got = unpack([]() -> Result<FetchResult> { return fail(ErrorCode::digest, "it has another digest", "look at it"); });
  ASSERT_FALSE(got);
  EXPECT_EQ(got.error().code(), ErrorCode::digest);
  EXPECT_THAT(got.error().sentence(), HasSubstr("another digest"));
  EXPECT_EQ(got.error().hint(), "look at it");
}

TEST_F(StreamedArchiveTest, AFetchThatDiesIsAnError) {
  const auto got = unpack([]() -> Result<FetchResult> { ::_exit(7); });
  ASSERT_FALSE(got);
  EXPECT_THAT(got.error().sentence(), HasSubstr("before it was complete"));
}

TEST_F(StreamedArchiveTest, WhatHasNoRoomIsNotWaitedFor) {
  for (const Packing packing : {Packing::zip, Packing::tar_gz}) {
    const std::string whole = pack(packing, entries_);
    const auto got = unpack([&]() -> Result<FetchResult> {
      // Its server says that it is larger than any disk, and is slow.
      (void)write_file_atomically(notes_of_part(archive_), R"({"url_sha256":"","validator":"","total":1152921504606846976})", 0600);
      (void)write_file_atomically(part_of(archive_), std::string_view(whole).substr(0, whole.size() / 2), 0600);
      ::alarm(60);
      while (true) ::pause();
    });
    ASSERT_FALSE(got);
    EXPECT_EQ(got.error().code(), ErrorCode::no_space);
    EXPECT_THAT(got.error().sentence(), HasSubstr("of the packed archive have yet to come"));
    EXPECT_THAT(got.error().hint(), HasSubstr("free some space"));
    EXPECT_TRUE(path_exists(part_of(archive_))) << "what has come is to be gone on with";
    fs::remove_all(root_);
    fs::create_directory(root_);
  }
}

TEST_F(StreamedArchiveTest, ADirectoryThatPromisesSomethingElseIsBelievedAndTheZipRefused) {
  std::string zip = pack(Packing::zip, entries_);
  // The checksum of the first name in the directory, 16 bytes behind its signature.
  const std::size_t entry = zip.find(std::string("PK\1\2", 4));
  ASSERT_NE(entry, std::string::npos);
  zip[entry + 16] = static_cast<char>(zip[entry + 16] ^ 1);
  const auto got = unpack(bringing(zip));
  ASSERT_FALSE(got);
  EXPECT_THAT(got.error().sentence(), HasSubstr("damaged"));
}

}  // namespace
}  // namespace gpustrap
