#include "controller/copy_target.h"

#include <gmock/gmock.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fstream>
#include <string>

#include "agent/base/file.h"
#include "tests/support/temporary_directory.h"

namespace gpustrap {
namespace {

using Type = CopyEntry::Type;

class CopyTargetTest : public ::testing::Test {
 protected:
  /// As a file comes: to its part, then to its name.
  Result<void> bring(const std::string& path, const std::string& content, const CopyEntry* expected = nullptr) {
    const CopyEntry entry{Type::file, content.size(), 1'700'000'000, 0640, ""};
    std::uint64_t there = 0;
    const Result<UniqueFd> part = target_.open_part(path, entry, there);
    if (!part) return fail(part.error());
    EXPECT_TRUE(write_all(part->get(), content));
    return target_.finish(path, entry, expected);
  }
  TemporaryDirectory folder_;
  CopyTarget target_ = *CopyTarget::open(folder_ / "to");
};

TEST_F(CopyTargetTest, GivesAFileItsModeTimeAndName) {
  ASSERT_TRUE(target_.make_folder("a", 0755));
  ASSERT_TRUE(bring("a/b", "content"));
  struct stat info {};
  ASSERT_EQ(::stat((folder_ / "to/a/b").c_str(), &info), 0);
  EXPECT_EQ(info.st_mtime, 1'700'000'000);
  EXPECT_EQ(info.st_mode & 0777U, 0640U);
  EXPECT_EQ(read_file(folder_ / "to/a/b").value_or(""), "content");
}

TEST_F(CopyTargetTest, GivesAModeToAFileAlone) {
  ASSERT_TRUE(bring("tool", "content"));
  ASSERT_TRUE(target_.set_mode("tool", 0755));
  struct stat info {};
  ASSERT_EQ(::stat((folder_ / "to/tool").c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777U, 0755U);
  ASSERT_EQ(::symlink((folder_ / "to/tool").c_str(), (folder_ / "to/link").c_str()), 0);
  EXPECT_FALSE(target_.set_mode("link", 0600));
  EXPECT_FALSE(target_.set_mode("none", 0600));
  ASSERT_EQ(::stat((folder_ / "to/tool").c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777U, 0755U);
}

TEST_F(CopyTargetTest, GoesThroughNoLink) {
  ASSERT_TRUE(make_directories(folder_ / "outside"));
  ASSERT_EQ(::symlink((folder_ / "outside").c_str(), (folder_ / "to/out").c_str()), 0);
  EXPECT_FALSE(bring("out/file", "x"));
  EXPECT_FALSE(target_.make_folder("out", 0755)) << "a link to a folder is no folder";
  EXPECT_FALSE(target_.make_folder("out/more", 0755));
  EXPECT_FALSE(target_.make_link("out/link", {Type::link, 0, 5, 0777, "x"}, nullptr));
  EXPECT_FALSE(path_exists(folder_ / "outside/file"));
  // A link that stands where the file goes is replaced itself, where that was decided, and what it leads to stays.
  std::ofstream(folder_ / "outside/theirs") << "theirs";
  ASSERT_EQ(::symlink((folder_ / "outside/theirs").c_str(), (folder_ / "to/name").c_str()), 0);
  struct stat info {};
  ASSERT_EQ(::lstat((folder_ / "to/name").c_str(), &info), 0);
  const CopyEntry link{Type::link, 0, info.st_mtime, 0777, ""};
  ASSERT_TRUE(bring("name", "mine", &link));
  EXPECT_EQ(read_file(folder_ / "outside/theirs").value_or(""), "theirs");
  EXPECT_EQ(read_file(folder_ / "to/name").value_or(""), "mine");
}

TEST_F(CopyTargetTest, LeavesWhatCameToStandThereMeanwhile) {
  std::ofstream(folder_ / "to/file") << "written while it came";
  const Result<void> nothing_expected = bring("file", "x");
  ASSERT_FALSE(nothing_expected);
  EXPECT_EQ(nothing_expected.error().code(), ErrorCode::busy);
  const CopyEntry before{Type::file, 3, 5, 0644, ""};
  EXPECT_FALSE(bring("file", "x", &before));
  EXPECT_EQ(read_file(folder_ / "to/file").value_or(""), "written while it came");
}

TEST_F(CopyTargetTest, GoesOnWithAPart) {
  const CopyEntry entry{Type::file, 6, 1'700'000'000, 0644, ""};
  std::uint64_t there = 9;
  {
    const Result<UniqueFd> part = target_.open_part("big", entry, there);
    ASSERT_TRUE(part);
    EXPECT_EQ(there, 0U);
    ASSERT_TRUE(write_all(part->get(), "abc"));
  }
  const Result<UniqueFd> part = target_.open_part("big", entry, there);
  EXPECT_EQ(there, 3U);
  ASSERT_TRUE(write_all(part->get(), "def"));
  ASSERT_TRUE(target_.finish("big", entry, nullptr));
  EXPECT_EQ(read_file(folder_ / "to/big").value_or(""), "abcdef");
}

TEST_F(CopyTargetTest, MakesLinksAsTheyAre) {
  ASSERT_TRUE(target_.make_link("link", {Type::link, 0, 1'700'000'000, 0777, "/nowhere/at all"}, nullptr));
  std::string target(100, '\0');
  target.resize(static_cast<std::size_t>(::readlink((folder_ / "to/link").c_str(), target.data(), target.size())));
  EXPECT_EQ(target, "/nowhere/at all");
}

}  // namespace
}  // namespace gpustrap
