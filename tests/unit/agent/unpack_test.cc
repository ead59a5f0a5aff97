#include "agent/unpack.h"

#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "agent/base/file.h"
#include "agent/base/sha256.h"
#include "agent/unpack_tree.h"
#include "tests/support/archive_writer.h"
#include "tests/support/fake_host.h"
#include "tests/support/temporary_directory.h"

namespace gpustrap {
namespace {

namespace fs = std::filesystem;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using testing::UnorderedElementsAre;
using Kind = PackedEntry::Kind;

class UnpackTest : public testing::Test {
 protected:
  UnpackTest() {
    fs::create_directory(root_);
    EXPECT_TRUE(write_file_atomically(outside_, "untouched", 0644));
  }
  Result<std::vector<UnpackedEntry>> unpack_bytes(std::string_view bytes) {
    const std::string file = directory_ / "archive";
    EXPECT_TRUE(write_file_atomically(file, bytes));
    request_.archive = file;
    request_.to = root_;
    return unpack_archive(request_, log_);
  }
  Result<std::vector<UnpackedEntry>> unpack(const std::vector<PackedEntry>& entries, Packing packing = Packing::tar) {
    return unpack_bytes(pack(packing, entries));
  }
  /// Refused as unsafe, with the archive's fault in the sentence, and nothing outside of the root made or changed.
  void expect_refused(const std::vector<PackedEntry>& entries, const std::string& why, Packing packing = Packing::tar) {
    const auto got = unpack(entries, packing);
    ASSERT_FALSE(got) << why;
    EXPECT_EQ(got.error().code(), ErrorCode::unsafe) << got.error().sentence();
    EXPECT_THAT(got.error().sentence(), HasSubstr(why));
    EXPECT_THAT(got.error().hint(), Not(IsEmpty()));
    expect_nothing_outside();
  }
  void expect_nothing_outside() {
    EXPECT_EQ(read_file(outside_).value_or(""), "untouched");
    std::vector<std::string> beside;
    for (const auto& item : fs::directory_iterator(directory_.path())) beside.push_back(item.path().filename());
    EXPECT_THAT(beside, testing::IsSubsetOf({"archive", "root", "outside"}));
  }
  [[nodiscard]] std::string content(const std::string& name) const { return read_file(root_ + "/" + name).value_or("(nothing)"); }

  TemporaryDirectory directory_;
  const std::string root_ = directory_ / "root";
  const std::string outside_ = directory_ / "outside";
  UnpackRequest request_;
  RecordingLog log_;
};

class UnpackFormats : public UnpackTest, public testing::WithParamInterface<Packing> {};

TEST_P(UnpackFormats, BringsEveryFileWithDigestModeAndTime) {
  const std::string large(300'000, 'x');
  const auto got = unpack({{Kind::directory, "book", "", 0755},
                           {Kind::file, "book/a.txt", "alpha", 0644},
                           {Kind::file, "book/run.sh", "#!/bin/sh\n", 0755},
                           {Kind::file, "book/deep/er/b.bin", large, 0600},
                           {Kind::file, "book/empty", "", 0644},
                           {Kind::symlink, "book/link", "deep/er/b.bin", 0777}},
                          GetParam());
  ASSERT_TRUE(got) << got.error().sentence();
  EXPECT_EQ(content("book/a.txt"), "alpha");
  EXPECT_EQ(content("book/deep/er/b.bin"), large);
  EXPECT_EQ(content("book/link"), large);
  std::map<std::string, UnpackedEntry> entries;
  for (const UnpackedEntry& entry : *got) entries[entry.path] = entry;
  EXPECT_EQ(entries.size(), 8U);
  EXPECT_EQ(entries.at("book/a.txt").sha256, sha256_hex("alpha"));
  EXPECT_EQ(entries.at("book/a.txt").size, 5U);
  EXPECT_EQ(entries.at("book/empty").sha256, sha256_hex(""));
  EXPECT_EQ(entries.at("book/deep").type, FileType::directory);
  EXPECT_EQ(entries.at("book/link").type, FileType::symlink);
  EXPECT_EQ(entries.at("book/link").target, "deep/er/b.bin");
  struct stat info {};
  ASSERT_EQ(::stat((root_ + "/book/run.sh").c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0700U, 0700U);
  EXPECT_EQ(info.st_mtime, 1'700'000'000);
}

TEST_P(UnpackFormats, KeepsNamesOfEveryScript) {
  const std::vector<std::string> names = {"ü.txt", "日本語.ipynb", "😀"};
  std::vector<PackedEntry> entries;
  for (const std::string& name : names) entries.push_back({Kind::file, name, name, 0644});
  const auto got = unpack(entries, GetParam());
  ASSERT_TRUE(got) << got.error().sentence();
  for (const std::string& name : names) EXPECT_EQ(content(name), name);
}

TEST_P(UnpackFormats, ATruncatedEndIsAnError) {
  std::string noise(200'000, '\0');
  unsigned state = 5;
  for (char& byte : noise) {
    state = state * 1664525U + 1013904223U;
    byte = static_cast<char>(state >> 24U);
  }
  const std::string whole =
      pack(GetParam(), {{Kind::file, "a", "first", 0644}, {Kind::file, "b", noise, 0644}, {Kind::file, "c", noise, 0644}});
  for (const std::size_t kept : {whole.size() / 4, whole.size() / 2, whole.size() - 1300}) {
    const auto got = unpack_bytes(std::string_view(whole).substr(0, kept));
    ASSERT_FALSE(got) << kept << " of " << whole.size();
    EXPECT_EQ(got.error().code(), ErrorCode::io) << got.error().sentence();
    fs::remove_all(root_);
    fs::create_directory(root_);
  }
}

INSTANTIATE_TEST_SUITE_P(All, UnpackFormats,
                         testing::Values(Packing::zip, Packing::tar, Packing::tar_gz, Packing::tar_bz2, Packing::tar_xz, Packing::tar_zst,
                                         Packing::gnu_tar));

TEST_F(UnpackTest, ATarCutBetweenTwoFilesIsAnError) {
  std::string whole = pack(Packing::tar, {{Kind::file, "a", "first", 0644}, {Kind::file, "b", "second", 0644}});
  // One header and one block of content for each file.
  const auto got = unpack_bytes(std::string_view(whole).substr(0, 1024));
  ASSERT_FALSE(got);
  EXPECT_THAT(got.error().sentence(), HasSubstr("no end mark"));
}

TEST_F(UnpackTest, DropsLeadingFolders) {
  request_.strip = 1;
  const auto got = unpack({{Kind::directory, "top", "", 0755},
                           {Kind::file, "top/a", "a", 0644},
                           {Kind::file, "readme", "gone", 0644},
                           {Kind::hard_link, "top/b", "top/a", 0644}});
  ASSERT_TRUE(got) << got.error().sentence();
  std::vector<std::string> names;
  for (const UnpackedEntry& entry : *got) names.push_back(entry.path);
  EXPECT_THAT(names, ElementsAre("a", "b"));
}

TEST_F(UnpackTest, RefusesNamesThatLeave) {
  for (const Packing packing : {Packing::tar, Packing::zip}) {
    expect_refused({{Kind::file, "../outside", "changed", 0644}}, "with `..`", packing);
    expect_refused({{Kind::file, "a/../../outside", "changed", 0644}}, "with `..`", packing);
    expect_refused({{Kind::directory, "..", "", 0755}}, "with `..`", packing);
    expect_refused({{Kind::file, directory_ / "outside", "changed", 0644}}, "absolute name", packing);
    expect_refused({{Kind::file, "//etc/passwd", "changed", 0644}}, "absolute name", packing);
  }
}

TEST_F(UnpackTest, StripDoesNotHideNamesThatLeave) {
  request_.strip = 1;
  expect_refused({{Kind::file, "../outside", "changed", 0644}}, "with `..`");
  expect_refused({{Kind::file, "/x/outside", "changed", 0644}}, "absolute name");
}

TEST_F(UnpackTest, RefusesLinksThatLeave) {
  expect_refused({{Kind::symlink, "l", "/etc", 0777}}, "is absolute");
  expect_refused({{Kind::symlink, "l", "../outside", 0777}}, "leaves the folder");
  expect_refused({{Kind::symlink, "a/b/l", "../../../outside", 0777}}, "leaves the folder");
  expect_refused({{Kind::symlink, "l", "..", 0777}}, "leaves the folder");
}

TEST_F(UnpackTest, RefusesAClimbThroughAnotherLink) {
  // a/b/c/s is the root; by its letters t stays two folders deep, on the disk it climbs out of the root.
  expect_refused({{Kind::symlink, "a/b/c/s", "../../..", 0777}, {Kind::symlink, "t", "a/b/c/s/../outside", 0777}}, "`..` behind a name");
}

TEST_F(UnpackTest, NeverWritesThroughALink) {
  expect_refused({{Kind::directory, "d", "", 0755}, {Kind::symlink, "l", "d", 0777}, {Kind::file, "l/f", "x", 0644}}, "lead through l");
  EXPECT_FALSE(path_exists(root_ + "/d/f"));
}

TEST_F(UnpackTest, NeverReplacesALinkByAFile) {
  expect_refused({{Kind::file, "f", "x", 0644}, {Kind::symlink, "l", "f", 0777}, {Kind::file, "l", "y", 0644}}, "holds l twice");
  EXPECT_EQ(content("f"), "x");
}

TEST_F(UnpackTest, NeverWritesThroughALinkThatWasThereBefore) {
  fs::create_symlink(directory_.path(), root_ + "/l");
  expect_refused({{Kind::file, "l/outside", "changed", 0644}}, "lead through l");
}

TEST_F(UnpackTest, HardLinksReachFilesOfTheArchiveOnly) {
  const auto got = unpack({{Kind::file, "d/a", "alpha", 0644}, {Kind::hard_link, "e/b", "d/a", 0644}});
  ASSERT_TRUE(got) << got.error().sentence();
  EXPECT_EQ(content("e/b"), "alpha");
  EXPECT_EQ(got->back().sha256, sha256_hex("alpha"));
  expect_refused({{Kind::hard_link, "h", "../outside", 0644}}, "with `..`");
  expect_refused({{Kind::hard_link, "h", outside_, 0644}}, "absolute name");
  expect_refused({{Kind::hard_link, "h", "later", 0644}, {Kind::file, "later", "x", 0644}}, "no file of the archive before it");
}

TEST_F(UnpackTest, NoHardLinkToALink) {
  fs::create_symlink(outside_, root_ + "/planted");
  expect_refused({{Kind::hard_link, "h", "planted", 0644}}, "no file of the archive before it");
}

TEST_F(UnpackTest, RefusesDevicesAndPipes) {
  expect_refused({{Kind::device, "null", "", 0666}}, "is a device");
  expect_refused({{Kind::fifo, "pipe", "", 0666}}, "is a device, a pipe");
}

TEST_F(UnpackTest, DropsDangerousModes) {
  const auto got = unpack({{Kind::file, "s", "x", 06755}, {Kind::file, "none", "x", 0}, {Kind::directory, "d", "", 01000}});
  ASSERT_TRUE(got) << got.error().sentence();
  struct stat info {};
  ASSERT_EQ(::stat((root_ + "/s").c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 07000U, 0U);
  ASSERT_EQ(::stat((root_ + "/none").c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0400U, 0400U);
  ASSERT_EQ(::stat((root_ + "/d").c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 07700U, 0700U);
}

TEST_F(UnpackTest, TheSameNameTwiceIsFineOnlyWithTheSameContent) {
  const auto got = unpack(
      {{Kind::file, "a", "x", 0644}, {Kind::file, "./a", "x", 0644}, {Kind::directory, "d", "", 0755}, {Kind::directory, "d/", "", 0755}});
  ASSERT_TRUE(got) << got.error().sentence();
  EXPECT_EQ(got->size(), 2U);
  fs::remove_all(root_);
  fs::create_directory(root_);
  for (const Packing packing : {Packing::tar, Packing::zip}) {
    expect_refused({{Kind::file, "a", "one", 0644}, {Kind::file, "a", "two", 0644}}, "holds a twice", packing);
    EXPECT_EQ(content("a"), "one");
    fs::remove_all(root_);
    fs::create_directory(root_);
  }
  expect_refused({{Kind::file, "a", "x", 0644}, {Kind::directory, "a", "", 0755}}, "holds a twice");
  fs::remove_all(root_);
  fs::create_directory(root_);
  expect_refused({{Kind::file, "a", "x", 0644}, {Kind::file, "a/b", "x", 0644}}, "lead through a");
}

TEST_F(UnpackTest, NamesThatAreNotUtf8StayAsTheyAre) {
  const std::string name = "caf\xE9.txt";
  const auto got = unpack({{Kind::file, name, "latin", 0644}}, Packing::gnu_tar);
  ASSERT_TRUE(got) << got.error().sentence();
  ASSERT_EQ(got->size(), 1U);
  EXPECT_EQ(got->front().path, name);
  EXPECT_EQ(content(name), "latin");
}

TEST_F(UnpackTest, AnEncryptedFileIsNamed) {
  const auto got = unpack({{Kind::file, "book/answers.txt", "42", 0644}}, Packing::encrypted_zip);
  ASSERT_FALSE(got);
  EXPECT_EQ(got.error().code(), ErrorCode::unsupported);
  EXPECT_THAT(got.error().why(), HasSubstr("book/answers.txt is encrypted"));
  EXPECT_EQ(got.error().hint(), "unpack it by hand, with its password");
  EXPECT_FALSE(path_exists(root_ + "/book/answers.txt"));
}

std::string with_checksum(std::string tar) {
  tar.replace(148, 8, "        ");
  unsigned sum = 0;
  for (std::size_t i = 0; i < 512; ++i) sum += static_cast<unsigned char>(tar[i]);
  return tar.replace(148, 8, fmt::format("{:06o}", sum) + std::string("\0 ", 2));
}

/// A tar of one file, as GNU tar writes sparse ones: pieces (offset, length) of a file of `size` bytes.
std::string sparse_tar(const std::vector<std::pair<unsigned, unsigned>>& pieces, const std::string& data, unsigned size) {
  std::string header(512, '\0');
  const auto put = [&](std::size_t at, const std::string& text) { header.replace(at, text.size(), text); };
  const auto octal = [](unsigned number) { return fmt::format("{:011o}", number); };
  put(0, "sparse");
  put(100, "0000644");
  put(124, octal(static_cast<unsigned>(data.size())));
  put(156, "S");
  put(257, "ustar  ");
  for (std::size_t i = 0; i < pieces.size(); ++i) {
    put(386 + i * 24, octal(pieces[i].first));
    put(398 + i * 24, octal(pieces[i].second));
  }
  put(483, octal(size));
  std::string padded = data;
  padded.resize((data.size() + 511) / 512 * 512, '\0');
  return with_checksum(header + padded + std::string(1024, '\0'));
}

TEST_F(UnpackTest, PiecesOfASparseFileDoNotOverlap) {
  const std::string data = std::string(512, 'a') + std::string(512, 'b');
  const auto whole = unpack_bytes(sparse_tar({{512, 512}, {2048, 512}}, data, 2560));
  ASSERT_TRUE(whole) << whole.error().sentence();
  EXPECT_EQ(content("sparse"), std::string(512, '\0') + std::string(512, 'a') + std::string(1024, '\0') + std::string(512, 'b'));
  fs::remove(root_ + "/sparse");
  const auto got = unpack_bytes(sparse_tar({{1024, 512}, {0, 512}}, data, 2560));
  ASSERT_FALSE(got);
  EXPECT_EQ(got.error().code(), ErrorCode::io);
  EXPECT_EQ(got.error().why(), "its pieces overlap");
  EXPECT_EQ(got.error().hint(), "have the archive packed again");
}

/// With another size of its first file than it has.
std::string with_announced_size(std::string tar, std::uint64_t size) {
  tar.replace(124, 12, std::string("\x80\0\0\0", 4) + std::string(8, '\0'));  // base 256
  for (std::size_t byte = 0; byte < 8; ++byte) tar[135 - byte] = static_cast<char>((size >> (8 * byte)) & 0xffU);
  return with_checksum(std::move(tar));
}

TEST_F(UnpackTest, AFileThatTheDiskHasNoRoomForIsNotBegun) {
  struct statvfs disk {};
  ASSERT_EQ(::statvfs(root_.c_str(), &disk), 0);
  const std::uint64_t size = static_cast<std::uint64_t>(disk.f_bfree) * disk.f_frsize + (std::uint64_t{1} << 30U);
  request_.archive = directory_ / "archive";
  request_.to = root_;
  request_.max_size = 0;
  ASSERT_TRUE(
      write_file_atomically(request_.archive, with_announced_size(pack(Packing::gnu_tar, {{Kind::file, "huge", "x", 0644}}), size)));
  fs::resize_file(request_.archive, size / 1000 + (1U << 20U));  // so long that it may hold as much
  const auto got = unpack_archive(request_, log_);
  ASSERT_FALSE(got);
  EXPECT_EQ(got.error().code(), ErrorCode::no_space);
  EXPECT_THAT(got.error().sentence(), HasSubstr("of room: No space left: "));
  EXPECT_THAT(got.error().sentence(), HasSubstr(" free in " + root_));
  EXPECT_THAT(got.error().hint(), HasSubstr("enlarge the disk"));
  EXPECT_FALSE(path_exists(root_ + "/huge"));
}

TEST_F(UnpackTest, MessagesHoldNoControlCharacters) {
  const auto got = unpack({{Kind::file, "../\x1b[31mred\n", "x", 0644}});
  ASSERT_FALSE(got);
  EXPECT_THAT(got.error().sentence(), Not(HasSubstr("\x1b")));
  EXPECT_THAT(got.error().sentence(), Not(HasSubstr("\n")));
}

TEST_F(UnpackTest, StopsABombBeforeItFillsTheDisk) {
  request_.max_size = 1000;
  for (const Packing packing : {Packing::zip, Packing::tar_gz}) {
    expect_refused({{Kind::file, "zeros", std::string(2000, '\0'), 0644}}, "more than", packing);
    EXPECT_EQ(fs::directory_iterator(root_), fs::directory_iterator()) << "nothing may be written";
  }
  request_.max_size = 0;
  const std::string zeros(300U << 20U, '\0');
  expect_refused({{Kind::file, "zeros", zeros, 0644}}, "times its size", Packing::tar_zst);
}

TEST_F(UnpackTest, TheLimitCountsAllFilesTogether) {
  request_.max_size = 1000;
  EXPECT_TRUE(unpack({{Kind::file, "a", std::string(500, 'a'), 0644}, {Kind::file, "b", std::string(500, 'b'), 0644}}));
  expect_refused({{Kind::file, "c", std::string(500, 'a'), 0644}, {Kind::file, "d", std::string(501, 'b'), 0644}}, "more than");
}

TEST_F(UnpackTest, CountsNamesThatLeaveNothingToo) {
  request_.max_entries = 3;
  const PackedEntry folder{Kind::directory, "d", "", 0755};
  EXPECT_TRUE(unpack({folder, folder, folder}));
  expect_refused({folder, folder, folder, folder}, "more than 3 names");
  request_.strip = 1;
  expect_refused({folder, folder, folder, folder}, "more than 3 names");
  request_.strip = 0;
  expect_refused({{Kind::file, "a/b/c/d", "x", 0644}}, "more than 3 names");  // folders that are made on the way
}

TEST_F(UnpackTest, NamesAreNotKeptWithoutLimit) {
  request_.max_name_bytes = 200;
  EXPECT_TRUE(unpack({{Kind::file, std::string(90, 'a'), "", 0644}, {Kind::symlink, "l", std::string(90, 'a'), 0777}}));
  fs::remove_all(root_);
  fs::create_directory(root_);
  expect_refused({{Kind::file, std::string(90, 'a'), "", 0644}, {Kind::symlink, "l", std::string(120, 'a'), 0777}}, "names alone take");
}

TEST_F(UnpackTest, DataThatIsSkippedCountsForABombToo) {
  request_.strip = 1;
  expect_refused({{Kind::file, "zeros", std::string(300U << 20U, '\0'), 0644}}, "times its size", Packing::tar_zst);
}

TEST_F(UnpackTest, RefusesLayersOfCompression) {
  const auto got = unpack({{Kind::file, "a", "x", 0644}}, Packing::tar_gz_gz);
  ASSERT_FALSE(got);
  EXPECT_THAT(got.error().sentence(), HasSubstr("compressed more than once"));
  EXPECT_THAT(got.error().hint(), Not(IsEmpty()));
}

TEST_F(UnpackTest, APipeIsNotWaitedFor) {
  request_.archive = directory_ / "pipe";
  request_.to = root_;
  ASSERT_EQ(::mkfifo(request_.archive.c_str(), 0600), 0);
  const auto got = unpack_archive(request_, log_);
  ASSERT_FALSE(got);
  EXPECT_THAT(got.error().sentence(), HasSubstr("is not a file"));
}

TEST_F(UnpackTest, NeverFillsAFolderOfSomeoneElse) {
  if (::geteuid() != 0) GTEST_SKIP() << "only root can give a folder away";
  ASSERT_EQ(::chown(root_.c_str(), 65534, 65534), 0);
  expect_refused({{Kind::file, "a", "x", 0644}}, "belongs to uid 65534");
  EXPECT_FALSE(path_exists(root_ + "/a"));
}

TEST_F(UnpackTest, AWrongChecksumIsAnError) {
  std::string bytes = pack(Packing::zip, {{Kind::file, "a", "the quick brown fox", 0644}});
  const std::size_t at = bytes.find("\x50\x4b\x01\x02");
  ASSERT_NE(at, std::string::npos);
  bytes[at + 16] = static_cast<char>(bytes[at + 16] ^ 1);  // the CRC in the directory
  const auto got = unpack_bytes(bytes);
  ASSERT_FALSE(got);
  EXPECT_EQ(got.error().code(), ErrorCode::io);
}

TEST_F(UnpackTest, SaysWhatItGotInsteadOfAnArchive) {
  const auto page = unpack_bytes("<!DOCTYPE html><html><body>Sign in</body></html>");
  ASSERT_FALSE(page);
  EXPECT_EQ(page.error().code(), ErrorCode::unsupported);
  EXPECT_THAT(page.error().sentence(), HasSubstr("<!DOCTYPE html>"));
  EXPECT_THAT(page.error().hint(), HasSubstr("browser"));
  const auto empty = unpack_bytes("");
  ASSERT_FALSE(empty);
  EXPECT_THAT(empty.error().sentence(), HasSubstr("0 bytes"));
}

TEST_F(UnpackTest, AnEmptyArchiveIsEmpty) {
  const auto tar = unpack_bytes(std::string(10240, '\0'));
  ASSERT_TRUE(tar) << tar.error().sentence();
  EXPECT_THAT(*tar, IsEmpty());
  const auto zip = unpack({}, Packing::zip);
  ASSERT_TRUE(zip) << zip.error().sentence();
}

TEST(LinkTarget, StaysBeneathTheRoot) {
  EXPECT_TRUE(check_link_target("l", "a/b"));
  EXPECT_TRUE(check_link_target("a/b/l", "../../c"));
  EXPECT_TRUE(check_link_target("a/l", "./../c/."));
  EXPECT_TRUE(check_link_target("a/l", ".."));
  for (const char* target : {"", "/", "../..", "../../x", "b/..", "../x/../y", "x/../../.."})
    EXPECT_FALSE(check_link_target("a/l", target)) << target;
}

TEST(EntryName, IsPlain) {
  EXPECT_EQ(safe_entry_name("./a//b/", 0)->value_or(""), "a/b");
  EXPECT_EQ(safe_entry_name("a/b/c", 2)->value_or(""), "c");
  EXPECT_EQ(safe_entry_name("a/b", 2)->has_value(), false);
  EXPECT_EQ(safe_entry_name(".", 0)->has_value(), false);
  EXPECT_EQ(safe_entry_name("...", 0)->value_or(""), "...");
  EXPECT_FALSE(safe_entry_name(std::string(5000, 'a'), 0));
  EXPECT_TRUE(safe_entry_name(std::string(255, 'a'), 0));
  EXPECT_FALSE(safe_entry_name("x/" + std::string(256, 'a'), 0));
  std::string deep = "f";
  for (int i = 0; i < 255; ++i) deep = "d/" + deep;
  EXPECT_TRUE(safe_entry_name(deep, 0));
  EXPECT_FALSE(safe_entry_name("d/" + deep, 0));
}

}  // namespace
}  // namespace gpustrap
