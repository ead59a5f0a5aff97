#include "controller/copy_plan.h"

#include <gmock/gmock.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "agent/base/file.h"
#include "tests/support/temporary_directory.h"

namespace gpustrap {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using Act = CopyDecision::Act;
using Type = CopyEntry::Type;

CopyEntry file(std::uint64_t size, std::int64_t mtime) { return {Type::file, size, mtime, 0644, ""}; }
CopyEntry folder() { return {Type::folder, 0, 5, 0755, ""}; }
CopyEntry link(const std::string& target, std::int64_t mtime = 5) { return {Type::link, 0, mtime, 0777, target}; }
CopyEntry socket() { return {Type::other, 0, 5, 0600, ""}; }

constexpr CopyRules kUsual{}, kOverwrite{true, false}, kChecksum{false, true};

struct Row {
  const char* what;
  CopyEntry source;
  std::optional<CopyEntry> target;
  std::optional<CopyMark> mark;
  CopyRules rules;
  Content content;
  Act act;
  const char* why;
};

TEST(CopyPlan, Decides) {
  const Content unknown = Content::unknown, equal = Content::equal, different = Content::different;
  const std::vector<Row> rows = {
      {"not there", file(1, 10), {}, {}, kUsual, unknown, Act::copy, ""},
      {"a folder that is not there", folder(), {}, {}, kUsual, unknown, Act::copy, ""},
      {"a socket", socket(), {}, {}, kUsual, unknown, Act::skip, "neither"},
      {"size and time", file(1, 10), file(1, 10), {}, kUsual, unknown, Act::same, ""},
      {"size and time, by content", file(1, 10), file(1, 10), {}, kChecksum, unknown, Act::compare, ""},
      {"of one size, at other times", file(1, 10), file(1, 9), {}, kUsual, unknown, Act::compare, ""},
      {"the same content at other times", file(1, 10), file(1, 90), {}, kUsual, equal, Act::same, ""},
      {"older there", file(2, 10), file(1, 9), {}, kUsual, unknown, Act::copy, ""},
      {"older there, of one size", file(1, 10), file(1, 9), {}, kUsual, different, Act::copy, ""},
      {"newer there", file(2, 10), file(1, 11), {}, kUsual, unknown, Act::keep, "newer there"},
      {"newer there, and asked for", file(2, 10), file(1, 11), {}, kOverwrite, unknown, Act::copy, ""},
      {"of one time, other size", file(2, 10), file(1, 10), {}, kUsual, unknown, Act::keep, "as old there"},
      {"of one time and size, other content", file(1, 10), file(1, 10), {}, kChecksum, different, Act::keep, "as old there"},
      {"changed here since it was copied", file(2, 10), file(1, 9), CopyMark{1, 9}, kUsual, unknown, Act::copy, ""},
      {"changed on both sides, older there", file(2, 10), file(3, 9), CopyMark{1, 5}, kUsual, unknown, Act::keep, "both sides"},
      {"changed on both sides, newer there", file(2, 10), file(3, 11), CopyMark{1, 5}, kUsual, unknown, Act::keep, "both sides"},
      {"changed on both sides, and asked for", file(2, 10), file(3, 11), CopyMark{1, 5}, kOverwrite, unknown, Act::copy, ""},
      {"changed there alone", file(1, 5), file(3, 11), CopyMark{1, 5}, kUsual, unknown, Act::keep, "changed there"},
      {"put back there to an older one", file(1, 5), file(3, 4), CopyMark{1, 5}, kUsual, unknown, Act::keep, "changed there"},
      {"folder and folder", folder(), folder(), {}, kUsual, unknown, Act::same, ""},
      {"a file for a folder", folder(), file(1, 1), {}, kOverwrite, unknown, Act::keep, "a file is in its place"},
      {"a folder for a file", file(1, 10), folder(), {}, kOverwrite, unknown, Act::keep, "a folder is in its place"},
      {"a link for a folder", folder(), link("/etc"), {}, kOverwrite, unknown, Act::keep, "a symlink is in its place"},
      {"a link for a file", file(1, 10), link("/etc/passwd"), {}, kUsual, unknown, Act::keep, "a symlink is in its place"},
      {"a link for a file, and asked for", file(1, 10), link("/etc/passwd"), {}, kOverwrite, unknown, Act::copy, ""},
      {"a file for a socket", file(1, 10), socket(), {}, kOverwrite, unknown, Act::keep, "in its place"},
      {"the same link", link("a", 5), link("a", 90), {}, kUsual, unknown, Act::same, ""},
      {"another link, older there", link("a", 10), link("b", 9), {}, kUsual, unknown, Act::copy, ""},
      {"another link, newer there", link("a", 10), link("b", 11), {}, kUsual, unknown, Act::keep, "newer there"},
  };
  for (const Row& row : rows) {
    const CopyDecision decision =
        decide(row.source, row.target ? &*row.target : nullptr, row.mark ? &*row.mark : nullptr, row.rules, row.content);
    EXPECT_EQ(decision.act, row.act) << row.what;
    EXPECT_THAT(decision.why, HasSubstr(row.why)) << row.what;
  }
}

TEST(CopyPlan, PathsStayBelow) {
  for (const char* path : {"a", "a/b", "-rf", "a b", ".hidden", "...", "a\nb", "练习.txt", "a\xff"})
    EXPECT_TRUE(is_path_below(path)) << path;
  for (const std::string& path :
       {std::string(""), std::string("/etc/passwd"), std::string(".."), std::string("a/../b"), std::string("a//b"), std::string("a/"),
        std::string("."), std::string("./a"), std::string("a\0b", 3), std::string(256, 'x'), std::string(5000, '/')})
    EXPECT_FALSE(is_path_below(path)) << path.substr(0, 40);
}

TEST(CopyPlan, PartsBelongToOneVersionOfAFile) {
  const std::string part = part_name("a/b.bin", file(10, 5));
  EXPECT_EQ(part.substr(0, 2), "a/");
  EXPECT_TRUE(is_part(part));
  EXPECT_LT(part.size(), 40U);
  EXPECT_NE(part, part_name("a/b.bin", file(11, 5)));
  EXPECT_NE(part, part_name("a/b.bin", file(10, 6)));
  EXPECT_NE(part, part_name("a/c.bin", file(10, 5)));
  EXPECT_FALSE(is_part("a/b.bin"));
  EXPECT_TRUE(is_part(".gpustrap-push-x/a"));
}

TEST(CopyPlan, PathsAreShownOnOneLine) { EXPECT_EQ(shown_path("a\n\x1b[31mb\xff"), "a b\xef\xbf\xbd"); }

TEST(CopyMemory, RemembersForOnePairOfFolders) {
  const TemporaryDirectory state;
  {
    CopyMemory memory = *CopyMemory::load(state.path(), "gpu1", "notebooks", "/home/me/notebooks");
    EXPECT_EQ(memory.find("a"), nullptr);
    memory.note("a", file(3, 7));
    memory.note("not \xff utf8", file(3, 7));
    memory.note_part("x/.gpustrap-part-12");
    memory.note_part(".gpustrap-part-34");
    memory.forget_part(".gpustrap-part-34");
    ASSERT_TRUE(memory.save().has_value());
  }
  const CopyMemory memory = *CopyMemory::load(state.path(), "gpu1", "notebooks", "/home/me/notebooks");
  ASSERT_NE(memory.find("a"), nullptr);
  EXPECT_EQ(memory.find("a")->size, 3U);
  EXPECT_EQ(memory.find("a")->mtime, 7);
  EXPECT_EQ(memory.parts(), std::vector<std::string>{"x/.gpustrap-part-12"});
  EXPECT_EQ(CopyMemory::load(state.path(), "gpu2", "notebooks", "/home/me/notebooks")->find("a"), nullptr);
}

TEST(CopyMemory, OneThatIsDamagedIsNotGuessedAt) {
  const TemporaryDirectory state;
  ASSERT_TRUE(CopyMemory::load(state.path(), "gpu1", "notebooks", "/home/me/notebooks")->save().has_value());
  const std::string path = std::filesystem::directory_iterator(state / "copies")->path().string();
  ASSERT_TRUE(write_file_atomically(path, "{\"version\":1,\"fil"));
  const Result<CopyMemory> memory = CopyMemory::load(state.path(), "gpu1", "notebooks", "/home/me/notebooks");
  ASSERT_FALSE(memory.has_value());
  EXPECT_EQ(memory.error().code(), ErrorCode::io);
  EXPECT_EQ(memory.error().why(), path + " is damaged");
  EXPECT_EQ(memory.error().hint(), "remove that file: what differs on both sides then goes by its times alone");
}

// A name in it is one that a push removes on the host.
TEST(CopyMemory, BelievesNoPartThatIsNone) {
  const TemporaryDirectory state;
  const CopyMemory memory = *CopyMemory::load(state.path(), "gpu1", "notebooks", "/home/me/notebooks");
  ASSERT_TRUE(memory.save().has_value());
  const auto files = std::filesystem::directory_iterator(state / "copies");
  ASSERT_TRUE(write_file_atomically(
      files->path().string(),
      R"({"version":1,"files":[],"parts":["../.gpustrap-part-1","thesis.tex",7,"/.gpustrap-part-2","a/.gpustrap-part-3"]})"));
  EXPECT_EQ(CopyMemory::load(state.path(), "gpu1", "notebooks", "/home/me/notebooks")->parts(),
            std::vector<std::string>{"a/.gpustrap-part-3"});
}

}  // namespace
}  // namespace gpustrap
