#include "controller/copy_listing.h"

#include <gmock/gmock.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <string>
#include <vector>

#include "agent/base/file.h"
#include "agent/base/sha256.h"
#include "agent/base/subprocess.h"
#include "controller/tar_stream.h"
#include "tests/support/temporary_directory.h"

namespace gpustrap {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::SizeIs;

const std::vector<std::string> kNames = {"plain.txt",   "with space",   "-dash",    "new\nline", "练习.txt",
                                         "back\\slash", "quote'\"$(x)", "%percent", "+plus",     "byte\xff"};

/// Runs a text of the host's as a login shell would, in a home of its own.
class CopyTexts : public ::testing::Test {
 protected:
  CopyTexts() {
    EXPECT_TRUE(make_directories(home_ / "lab/sub"));
    for (const std::string& name : kNames) std::ofstream(home_ / ("lab/sub/" + name)) << "content of " << name;
    EXPECT_EQ(::symlink("sub/plain.txt", (home_ / "lab/link").c_str()), 0);
    EXPECT_EQ(::mkdir((home_ / "lab/empty").c_str(), 0700), 0);
  }
  SubprocessResult run(const std::string& text, const std::string& input, const char* shell = "sh") {
    Subprocess run;
    run.argv = {shell, "-c", text};
    run.input = input;
    const char* path = std::getenv("PATH");
    run.env = {{"HOME", home_.path()}, {"PATH", tools_.path() + ":" + (path == nullptr ? "" : path)}};
    Result<SubprocessResult> result = run_subprocess(run);
    EXPECT_TRUE(result.has_value());
    return result ? *result : SubprocessResult{};
  }
  /// Tools that are not GNU's, as far as they say.
  void without_gnu() {
    for (const char* name : {"find", "tar"}) {
      std::ofstream(tools_ / name) << "#!/bin/sh\ntest \"$1\" = --version && exit 1\nexec /usr/bin/" << name << " \"$@\"\n";
      EXPECT_EQ(::chmod((tools_ / name).c_str(), 0755), 0);
    }
  }
  HostListing list(const std::string& path) {
    const SubprocessResult said = run(listing_text(), listing_input(path, "n0nce"));
    Result<HostListing> listing = read_listing(said.out, path, "n0nce");
    EXPECT_TRUE(listing) << said.err;
    return listing ? *listing : HostListing{};
  }
  TemporaryDirectory home_, tools_;
};

TEST_F(CopyTexts, HoldNothingThatALoginShellWouldLookAt) {
  for (const std::string& text : {listing_text(), send_text(HostTools::gnu), send_text(HostTools::plain), send_rest_text(), digests_text(),
                                  take_text(), take_rest_text(), move_text()}) {
    ASSERT_TRUE(text.starts_with("/bin/sh -c '") && text.ends_with("'")) << text;
    EXPECT_EQ(text.substr(12, text.size() - 13).find_first_of("'!\\\n"), std::string::npos) << text;
  }
}

TEST_F(CopyTexts, ListWhateverAFileIsCalled) {
  const HostListing listing = list("lab");
  EXPECT_TRUE(listing.exists);
  EXPECT_FALSE(listing.is_file);
  EXPECT_EQ(listing.tools, HostTools::gnu);
  EXPECT_THAT(listing.tree, SizeIs(kNames.size() + 3));
  for (const std::string& name : kNames) {
    ASSERT_TRUE(listing.tree.contains("sub/" + name)) << name;
    EXPECT_EQ(listing.tree.at("sub/" + name).size, 11 + name.size());
    EXPECT_GT(listing.tree.at("sub/" + name).mtime, 1'700'000'000);
  }
  EXPECT_EQ(listing.tree.at("link").type, CopyEntry::Type::link);
  EXPECT_EQ(listing.tree.at("link").target, "sub/plain.txt");
  EXPECT_EQ(listing.tree.at("empty").mode, 0700U);
  EXPECT_FALSE(list("nowhere").exists);
  const HostListing one = list("lab/sub/-dash");
  EXPECT_TRUE(one.is_file);
  EXPECT_TRUE(one.tree.contains("-dash"));
}

TEST_F(CopyTexts, ListWithToolsThatAreNotGnus) {
  without_gnu();
  const HostListing listing = list("lab");
  EXPECT_EQ(listing.tools, HostTools::plain);
  EXPECT_THAT(listing.refused, SizeIs(1)) << "a name with a newline, which their tar cannot be told";
  EXPECT_THAT(listing.tree, SizeIs(kNames.size() + 2));
  EXPECT_EQ(listing.tree.at("sub/with space").size, 21U);
  EXPECT_EQ(listing.tree.at("empty").mode, 0700U);
}

TEST_F(CopyTexts, SendWhatIsNamed) {
  for (const HostTools tools : {HostTools::gnu, HostTools::plain}) {
    std::vector<std::string> wanted;
    for (const std::string& name : kNames) {
      if (tools == HostTools::gnu || name.find_first_of("\n\\") == std::string::npos) wanted.push_back("sub/" + name);
    }
    const SubprocessResult said = run(send_text(tools), send_input("lab", wanted, tools));
    std::size_t at = 0;
    Result<TarReader> reader = TarReader::open([&]() -> Result<std::string_view> {
      const std::string_view piece = std::string_view(said.out).substr(at, 777);
      at += piece.size();
      return piece;
    });
    ASSERT_TRUE(reader);
    std::vector<std::string> came;
    TarReader::Member member;
    while (*reader->next(member)) {
      std::string content;
      ASSERT_TRUE(reader->read([&](std::string_view bytes) {
        content += bytes;
        return Result<void>();
      }));
      EXPECT_EQ(content, "content of " + member.path.substr(4));
      came.push_back(member.path);
    }
    EXPECT_EQ(came, wanted) << said.err;
  }
}

TEST_F(CopyTexts, SendTheRestOfAFile) {
  EXPECT_EQ(run(send_rest_text(), send_rest_input("lab/sub", "new\nline", 8)).out, "of new\nline");
  EXPECT_EQ(run(send_rest_text(), send_rest_input("lab/sub", "-dash", 0)).out, "content of -dash");
}

TEST_F(CopyTexts, SayDigests) {
  std::vector<std::string> names = kNames;
  for (int i = 0; i < 250; ++i) {
    names.push_back("f" + std::to_string(i));
    std::ofstream(home_ / ("lab/sub/" + names.back())) << "content of " << names.back();
  }
  names.push_back("nowhere");
  for (const char* shell : {"sh", "bash"}) {
    const auto digests = read_digests(run(digests_text(), paths_input("lab/sub", names), shell).out);
    EXPECT_THAT(digests, SizeIs(names.size() - 1));
    for (const auto& [name, digest] : digests) EXPECT_EQ(digest, sha256_hex("content of " + name)) << name;
  }
}

TEST_F(CopyTexts, TakeAndMove) {
  std::string tar;
  Result<TarWriter> writer = TarWriter::open([&](std::string_view bytes) {
    tar += bytes;
    return Result<void>();
  });
  ASSERT_TRUE(writer);
  HostMoves moves;
  moves.folders = {{0750, "new folder"}, {0755, "lost"}};
  for (const std::string& name : kNames) {
    const std::string path = "new folder/" + name;
    ASSERT_TRUE(writer->begin(path, {CopyEntry::Type::file, 3, 1'700'000'000, 0640, ""}));
    ASSERT_TRUE(writer->add("abc"));
    moves.files.push_back({".stage/" + path, path, std::nullopt});
  }
  ASSERT_TRUE(writer->begin("link", {CopyEntry::Type::link, 0, 1'700'000'000, 0777, "/etc"}));
  moves.files.push_back({".stage/link", "link", std::nullopt});
  ASSERT_TRUE(writer->end());
  const std::string target = home_ / "made/for it";
  for (const char* shell : {"sh", "bash"}) {
    const SubprocessResult taken = run(take_text(), take_input("made/for it", ".stage") + tar, shell);
    EXPECT_EQ(taken.exit_code, 0) << taken.err;
    EXPECT_THAT(run(move_text(), move_input("made/for it", ".stage", moves), shell).out, HasSubstr("moved\n"));
    for (const std::string& name : kNames) {
      struct stat info {};
      ASSERT_EQ(::stat((target + "/new folder/" + name).c_str(), &info), 0) << name;
      EXPECT_EQ(info.st_mtime, 1'700'000'000);
      EXPECT_EQ(info.st_mode & 0777U, 0640U);
    }
    EXPECT_FALSE(path_exists(target + "/.stage"));
  }
  struct stat info {};
  ASSERT_EQ(::stat((target + "/new folder").c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777U, 0750U);
}

TEST_F(CopyTexts, MoveGivesModesToFilesAndNotThroughLinks) {
  ASSERT_TRUE(make_directories(home_ / "lab"));
  const std::string outside = home_ / "outside", tool = home_ / "lab/tool";
  for (const std::string& path : {outside, tool}) {
    ASSERT_TRUE(write_file_atomically(path, "x"));
    ASSERT_EQ(::chmod(path.c_str(), 0644), 0);
  }
  ASSERT_EQ(::symlink(outside.c_str(), (home_ / "lab/to outside").c_str()), 0);
  HostMoves moves;
  moves.modes = {{"tool", 0755}, {"to outside", 0777}};
  EXPECT_THAT(run(move_text(), move_input("lab", ".none", moves)).out, HasSubstr("moved\n"));
  struct stat info {};
  ASSERT_EQ(::stat(tool.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777U, 0755U);
  ASSERT_EQ(::stat(outside.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777U, 0644U);
}

TEST_F(CopyTexts, MoveSaysWhatDidNotGo) {
  ASSERT_TRUE(make_directories(home_ / "lab/is-folder"));
  ASSERT_EQ(::symlink("/etc", (home_ / "lab/to-etc").c_str()), 0);
  HostMoves moves;
  moves.folders = {{0755, "to-etc"}, {0755, "sub"}};
  moves.files = {{"sub/plain.txt", "is-folder", std::nullopt},
                 {"sub/-dash", "went", CopyEntry{CopyEntry::Type::file, 16, 1'600'000'000, 0600, ""}},
                 {"nowhere", "x", std::nullopt}};
  const std::string said = run(move_text(), move_input("lab", ".none", moves)).out;
  EXPECT_THAT(said, HasSubstr("failed 1\n")) << "a link is no folder";
  EXPECT_THAT(said, Not(HasSubstr("failed 2")));
  EXPECT_THAT(said, HasSubstr("failed 3\n"));
  EXPECT_THAT(said, Not(HasSubstr("failed 4")));
  EXPECT_THAT(said, HasSubstr("failed 5\n"));
  struct stat info {};
  ASSERT_EQ(::stat((home_ / "lab/went").c_str(), &info), 0);
  EXPECT_EQ(info.st_mtime, 1'600'000'000);
  EXPECT_EQ(info.st_mode & 0777U, 0600U);
}

TEST_F(CopyTexts, MoveLeavesWhatStandsWhereNothingStood) {
  ASSERT_EQ(::symlink("nowhere", (home_ / "lab/dangling").c_str()), 0);
  HostMoves moves;
  moves.files = {{"sub/-dash", "sub/plain.txt", std::nullopt, true},
                 {"sub/-dash", "dangling", std::nullopt, true},
                 {"sub/with space", "fresh", std::nullopt, true},
                 {"sub/+plus", "sub/%percent", std::nullopt, false}};
  moves.removed = {"sub/new\nline", "link", "nowhere"};
  for (const char* shell : {"sh", "bash"}) {
    const std::string said = run(move_text(), move_input("lab", ".none", moves), shell).out;
    EXPECT_THAT(said, HasSubstr("taken 1\n"));
    EXPECT_THAT(said, HasSubstr("taken 2\n")) << "a link that leads nowhere stands there as well";
    EXPECT_THAT(said, HasSubstr("moved\n"));
    EXPECT_EQ(read_file(home_ / "lab/sub/plain.txt").value_or(""), "content of plain.txt");
    EXPECT_EQ(read_file(home_ / "lab/fresh").value_or(""), "content of with space");
    EXPECT_EQ(read_file(home_ / "lab/sub/%percent").value_or(""), "content of +plus");
    EXPECT_FALSE(path_exists(home_ / "lab/sub/new\nline"));
    struct stat info {};
    EXPECT_NE(::lstat((home_ / "lab/link").c_str(), &info), 0);
  }
}

TEST_F(CopyTexts, TakeTheRestOnlyWhereItBelongs) {
  EXPECT_EQ(run(take_rest_text(), take_rest_input("lab", ".part", 0) + "abc").exit_code, 0);
  EXPECT_EQ(run(take_rest_text(), take_rest_input("lab", ".part", 3) + "def").exit_code, 0);
  EXPECT_EQ(run(take_rest_text(), take_rest_input("lab", ".part", 5) + "ghi").exit_code, 8);
  EXPECT_EQ(read_file(home_ / "lab/.part").value_or(""), "abcdef");
}

TEST(CopyListing, BelievesAHostNoNumberAndNoPath) {
  using namespace std::string_literals;
  std::string said = "hello\n\ngpustrap-list\ngnu\n";
  const auto add = [&](const std::string& type, const std::string& size, const std::string& time, const std::string& mode,
                       const std::string& path) {
    for (const std::string& field : {type, size, time, mode, path, ""s}) said += field + '\0';
  };
  add("d", "0", "5.0", "755", "");
  add("f", "7", "1700000000.123", "4755", "good");
  add("f", "99999999999999999999999", "5.0", "644", "too large");
  add("f", "-1", "5.0", "644", "negative");
  add("f", "1", "99999999999999999", "644", "from the far future");
  add("f", "1", "5.0", "9", "no mode");
  for (const char* path : {"/etc/passwd", "../up", "a/../../up", "a//b", "./a", "a/."}) add("f", "1", "5", "644", path);
  add("ff", "1", "5", "644", "no type");
  const Result<HostListing> listing = read_listing(said, "lab", "n");
  ASSERT_TRUE(listing);
  EXPECT_THAT(listing->tree, SizeIs(2));
  EXPECT_EQ(listing->tree.at("good").mode, 0755U) << "no set-uid comes along";
  EXPECT_EQ(listing->tree.at("no type").type, CopyEntry::Type::other);
  EXPECT_THAT(listing->refused, SizeIs(10));
  EXPECT_FALSE(read_listing(said.substr(0, said.size() - 3), "lab", "n")) << "it breaks off";
  EXPECT_FALSE(read_listing("This account is not available.\n", "lab", "n"));
}

TEST(CopyListing, EndsWhereThereAreTooManyNames) {
  using namespace std::string_literals;
  std::string said = "\ngpustrap-list\ngnu\n";
  for (int i = 0; i <= 1'000'000; ++i) said += "f\0001\0001\000644\000a\0\0"s;
  const Result<HostListing> listing = read_listing(said, "lab", "n");
  ASSERT_FALSE(listing);
  EXPECT_EQ(listing.error().code(), ErrorCode::unsupported);
  EXPECT_EQ(listing.error().why(), "there are more than a million names");
  EXPECT_EQ(listing.error().hint(), "copy its folders one by one");
}

TEST(CopyListing, OfOneFileHasThatFileAlone) {
  using namespace std::string_literals;
  std::string said = "\ngpustrap-list\ngnu\n";
  for (const char* path : {".bashrc", "", ".ssh/authorized_keys", ".gpustrap-part-0123"}) {
    for (const std::string& field : {"f"s, "7"s, "1700000000"s, "644"s, std::string(path), ""s}) said += field + '\0';
  }
  const Result<HostListing> listing = read_listing(said, "lab/wanted", "n");
  ASSERT_TRUE(listing);
  EXPECT_TRUE(listing->is_file);
  EXPECT_THAT(listing->tree, ElementsAre(::testing::Key("wanted")));
  EXPECT_THAT(listing->parts, IsEmpty());
  const Result<HostListing> plain =
      read_listing("\ngpustrap-list\nplain\nn 81a4 7 17 ./lab/wanted\nn 81a4 7 17 ./lab/wanted/.bashrc\n", "lab/wanted", "n");
  ASSERT_TRUE(plain);
  EXPECT_THAT(plain->tree, ElementsAre(::testing::Key("wanted")));
}

TEST(CopyListing, NamesWhatTheHostCouldNotList) {
  const auto complaints = listing_complaints(
      "Welcome!\nfind: 'lab/a': Permission denied\nfind: 'lab/b': Input/output error\nfind: 'lab/c': No such file or directory\n"
      "stat: cannot stat 'lab/d': Stale file handle\nfind: warning: something\nstat: can't stat 'lab/e': No such file or directory\n");
  ASSERT_THAT(complaints, SizeIs(3));
  EXPECT_EQ(complaints[0].why, "the host does not let the login read it");
  EXPECT_THAT(complaints[1].line, HasSubstr("lab/b"));
  EXPECT_EQ(complaints[1].why, "the host could not list it");
  EXPECT_THAT(complaints[2].line, HasSubstr("lab/d"));
}

TEST(CopyListing, DigestsAreDigestsOrNothing) {
  const std::string digest(64, 'a');
  const auto read = read_digests(digest + "  ./a b\n\\" + digest + "  ./x\\ny\\\\z\n" + digest + "  /etc/passwd\n" + digest.substr(1) +
                                 "  ./short\nsha256sum: ./c: No such file\n" + std::string(64, 'G') + "  ./d\n");
  EXPECT_THAT(read, SizeIs(2));
  EXPECT_EQ(read.at("a b"), digest);
  EXPECT_EQ(read.at("x\ny\\z"), digest);
}

TEST(CopyListing, OfThisMachine) {
  const TemporaryDirectory folder;
  ASSERT_TRUE(make_directories(folder / "a/b"));
  std::ofstream(folder / "a/b/file") << "12345";
  std::ofstream(folder / "a/.gpustrap-part-0123") << "123";
  ASSERT_EQ(::symlink("/etc", (folder / "a/link").c_str()), 0);
  const Result<LocalListing> listing = list_here(folder / "a");
  ASSERT_TRUE(listing);
  EXPECT_THAT(listing->tree, SizeIs(3));
  EXPECT_EQ(listing->tree.at("b/file").size, 5U);
  EXPECT_EQ(listing->tree.at("link").target, "/etc") << "a link is not followed";
  EXPECT_THAT(listing->parts, ElementsAre(std::pair<const std::string, std::uint64_t>(".gpustrap-part-0123", 3)));
  EXPECT_TRUE(list_here(folder / "a/b/file")->is_file);
  EXPECT_EQ(list_here(folder / "nowhere").error().code(), ErrorCode::not_found);
}

TEST(TarStream, RefusesWhatIsNoTar) {
  bool given = false;
  Result<TarReader> reader = TarReader::open([&]() -> Result<std::string_view> {
    return std::exchange(given, true) ? std::string_view()
                                      : std::string_view("tar: not found, sorry; and a little more than a block's worth of nothing at all");
  });
  if (!reader) return;
  TarReader::Member member;
  const Result<bool> next = reader->next(member);
  EXPECT_FALSE(next && *next);
}

TEST(TarStream, TakesNoFileWithHoles) {
  const TemporaryDirectory folder;
  std::ofstream(folder / "sparse") << "";
  ASSERT_EQ(::truncate((folder / "sparse").c_str(), 1 << 20), 0);
  std::ofstream(folder / "sparse", std::ios::app) << std::string(8192, 'x');
  Subprocess tar;
  tar.argv = {"tar", "--format=gnu", "--sparse", "--hole-detection=raw", "-C", folder.path(), "-cf", "-", "sparse"};
  const Result<SubprocessResult> made = run_subprocess(tar);
  ASSERT_TRUE(made && made->exit_code == 0);
  bool given = false;
  Result<TarReader> reader = TarReader::open(
      [&]() -> Result<std::string_view> { return std::exchange(given, true) ? std::string_view() : std::string_view(made->out); });
  ASSERT_TRUE(reader);
  TarReader::Member member;
  ASSERT_TRUE(reader->next(member).value_or(false));
  const Result<void> read = reader->read([](std::string_view) -> Result<void> { return {}; });
  ASSERT_FALSE(read);
  EXPECT_EQ(read.error().code(), ErrorCode::protocol);
  EXPECT_EQ(read.error().why(), "the host sends a file in pieces");
}

TEST(TarStream, PassesOnWhyItsSourceEnded) {
  Result<TarReader> reader =
      TarReader::open([]() -> Result<std::string_view> { return fail(ErrorCode::unreachable, "the connection ended"); });
  ASSERT_FALSE(reader);
  EXPECT_EQ(reader.error().code(), ErrorCode::unreachable);
}

}  // namespace
}  // namespace gpustrap
