#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "agent/base/sha256.h"
#include "agent/base/text.h"
#include "agent/steps/archive_manifest.h"
#include "tests/support/step_contract.h"

namespace gpustrap {
namespace {

using ::testing::Contains;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

const std::string kUrl = "https://d2l.example/book-1.zip";
const std::string kNewer = "https://d2l.example/book-2.zip";
const std::string kTo = "/home/ubuntu/book";

ArchiveSpec spec_of(const std::string& url = kUrl, const std::string& to = "~/book") {
  ArchiveSpec spec;
  spec.url = Url{url};
  spec.to.text = to;
  return spec;
}

FakeFile file(std::string content) {
  FakeFile made;
  made.content = std::move(content);
  return made;
}
FakeFile directory() {
  FakeFile made;
  made.type = FileType::directory;
  made.mode = 0755;
  return made;
}
FakeFile link(std::string target) {
  FakeFile made;
  made.type = FileType::symlink;
  made.content = std::move(target);
  return made;
}

FakeHost serving() {
  FakeHost host;
  host.as_user()
      .serve(kUrl, "zip one")
      .archive("zip one", {{"ch", directory()},
                           {"ch/1.ipynb", file("one")},
                           {"ch/2.ipynb", file("two")},
                           {"README", file("read")},
                           {"latest", link("ch/2.ipynb")}})
      .serve(kNewer, "zip two")
      .archive("zip two", {{"ch", directory()},
                           {"ch/1.ipynb", file("one, better")},
                           {"ch/2.ipynb", file("two, better")},
                           {"README", file("read")},
                           {"ch/3.ipynb", file("three")},
                           {"latest", link("ch/3.ipynb")}});
  return host;
}

FakeHost unpacked() {
  FakeHost host = serving();
  EXPECT_TRUE(run_step(spec_of(), host));
  host.forget();
  return host;
}

std::string said(const RecordingLog& log) { return join(log.lines, "\n"); }

ArchiveSpec local_spec() {
  ArchiveSpec spec = spec_of();
  spec.url.reset();
  spec.path = HostPath{"~/book.zip"};
  return spec;
}

INSTANTIATE_TEST_SUITE_P(Archive, StepContract,
                         ::testing::Values(ContractCase{"archive_new", spec_of(), serving},
                                           ContractCase{"archive_of_root", spec_of(kUrl, "/opt/book"),
                                                        [] {
                                                          FakeHost host;
                                                          host.serve(kUrl, "zip one").archive("zip one", {{"a", file("x")}});
                                                          return host;
                                                        }},
                                           ContractCase{"archive_on_the_host", local_spec(),
                                                        [] { return std::move(serving().put("/home/ubuntu/book.zip", "zip one")); }},
                                           ContractCase{"archive_with_a_file_missing", spec_of(),
                                                        [] { return std::move(unpacked().take_away(kTo + "/ch/1.ipynb")); }},
                                           ContractCase{"archive_unpacked_by_hand", spec_of(),
                                                        [] { return std::move(serving().put(kTo + "/ch/1.ipynb", "one")); }},
                                           ContractCase{"archive_newer", spec_of(kNewer), unpacked}),
                         contract_name);

TEST(ArchiveStep, UnpacksEverythingAndLeavesNothingElse) {
  FakeHost host = serving();
  RecordingLog log;
  const auto state = run_step(spec_of(), host, log);
  ASSERT_TRUE(state) << state.error().sentence();
  EXPECT_EQ(state->reason, "4 files present");
  EXPECT_EQ(host.content(kTo + "/ch/2.ipynb"), "two");
  EXPECT_EQ(host.at(kTo + "/latest")->content, "ch/2.ipynb");
  EXPECT_THAT(host.snapshot(), Not(HasSubstr(".gpustrap-unpack")));
  EXPECT_THAT(host.snapshot(), Not(HasSubstr("zip one\n"))) << "the archive itself goes";
  EXPECT_EQ(host.list(kTo).value(), (std::vector<std::string>{"README", "ch", "latest"}));
  EXPECT_TRUE(host.list("/home/ubuntu/.cache/gpustrap").value().empty());
  EXPECT_THAT(said(log), HasSubstr("4 files unpacked"));
}

TEST(ArchiveStep, ALookAtAnUntouchedFolderHashesNothing) {
  const FakeHost host = unpacked();
  EXPECT_EQ(state_of(spec_of(), host).is, StepState::Is::satisfied);
  EXPECT_THAT(host.looks(), Not(Contains(HasSubstr("digest"))));
}

// Homework: edited, added and deleted between two runs.
TEST(ArchiveStep, NothingTheUserWroteIsLostAndMissingFilesComeBack) {
  FakeHost host = unpacked();
  host.put(kTo + "/ch/1.ipynb", "my solution").put(kTo + "/ch/notes.txt", "mine").take_away(kTo + "/README").take_away(kTo + "/latest");
  EXPECT_EQ(state_of(spec_of(), host).reason, "2 of 5 missing, 1 file you changed was kept: README, latest");
  RecordingLog log;
  const auto state = run_step(spec_of(), host, log);
  ASSERT_TRUE(state) << state.error().sentence();
  EXPECT_EQ(state->reason, "4 files present, 1 file you changed was kept");
  EXPECT_EQ(host.content(kTo + "/ch/1.ipynb"), "my solution");
  EXPECT_EQ(host.content(kTo + "/ch/notes.txt"), "mine");
  EXPECT_EQ(host.content(kTo + "/README"), "read");
  EXPECT_EQ(host.at(kTo + "/latest")->content, "ch/2.ipynb");
  EXPECT_EQ(host.at(kTo + "/ch/1.ipynb.new"), std::nullopt) << "the folder had that version";
  EXPECT_THAT(said(log), HasSubstr("1 file you changed was kept: ch/1.ipynb"));
}

TEST(ArchiveStep, AChangedFileAloneIsNoReasonToAct) {
  FakeHost host = unpacked();
  host.put(kTo + "/ch/1.ipynb", "my solution");
  const auto state = run_step(spec_of(), host);
  ASSERT_TRUE(state);
  EXPECT_EQ(state->reason, "4 files present, 1 file you changed was kept");
  EXPECT_TRUE(host.changes().empty());
}

TEST(ArchiveStep, ATouchedFileIsNotAChangedOne) {
  FakeHost host = unpacked();
  host.put(kTo + "/ch/1.ipynb", "one");  // the same content with a new time
  EXPECT_EQ(state_of(spec_of(), host).reason, "4 files present");
}

TEST(ArchiveStep, AFolderThatTheUserDeletedComesBack) {
  FakeHost host = unpacked();
  host.take_away(kTo);
  ASSERT_TRUE(run_step(spec_of(), host));
  EXPECT_EQ(host.content(kTo + "/ch/1.ipynb"), "one");
}

TEST(ArchiveStep, AdoptsWhatWasUnpackedByHandAndKeepsWhatDiffers) {
  FakeHost host = serving();
  host.put(kTo + "/ch/1.ipynb", "my solution").put(kTo + "/ch/2.ipynb", "two");
  EXPECT_THAT(state_of(spec_of(), host).changes, HasSubstr("what is there is kept"));
  RecordingLog log;
  const auto state = run_step(spec_of(), host, log);
  ASSERT_TRUE(state) << state.error().sentence();
  EXPECT_EQ(host.content(kTo + "/ch/1.ipynb"), "my solution");
  EXPECT_EQ(host.content(kTo + "/README"), "read");
  EXPECT_EQ(host.at(kTo + "/ch/1.ipynb.new"), std::nullopt);
  EXPECT_THAT(said(log), HasSubstr("1 file you changed was kept: ch/1.ipynb"));
}

TEST(ArchiveStep, ANewVersionUpdatesWhatTheUserLeftAlone) {
  FakeHost host = unpacked();
  host.put(kTo + "/ch/1.ipynb", "my solution");
  EXPECT_EQ(state_of(spec_of(kNewer), host).reason, kTo + " has " + kUrl + ", not " + kNewer + " as wanted");
  RecordingLog log;
  const auto state = run_step(spec_of(kNewer), host, log);
  ASSERT_TRUE(state) << state.error().sentence();
  EXPECT_EQ(host.content(kTo + "/ch/1.ipynb"), "my solution");
  EXPECT_EQ(host.content(kTo + "/ch/1.ipynb.new"), "one, better");
  EXPECT_EQ(host.content(kTo + "/ch/2.ipynb"), "two, better");
  EXPECT_EQ(host.content(kTo + "/ch/3.ipynb"), "three");
  EXPECT_EQ(host.at(kTo + "/latest")->content, "ch/3.ipynb");
  EXPECT_EQ(state->reason, "5 files present, 1 file you changed was kept");
  EXPECT_THAT(said(log), HasSubstr("new versions of them are beside: ch/1.ipynb.new"));
}

TEST(ArchiveStep, AVersionBesideIsNeverPutOverTheUsersFile) {
  FakeHost host = unpacked();
  host.put(kTo + "/ch/1.ipynb", "my solution").put(kTo + "/ch/1.ipynb.new", "also mine");
  ASSERT_TRUE(run_step(spec_of(kNewer), host));
  EXPECT_EQ(host.content(kTo + "/ch/1.ipynb.new"), "also mine");
}

TEST(ArchiveStep, GoingBackToTheEarlierVersionIsAnUpdateToo) {
  FakeHost host = unpacked();
  ASSERT_TRUE(run_step(spec_of(kNewer), host));
  EXPECT_EQ(state_of(spec_of(), host).is, StepState::Is::unsatisfied);
  ASSERT_TRUE(run_step(spec_of(), host));
  EXPECT_EQ(host.content(kTo + "/ch/2.ipynb"), "two");
}

TEST(ArchiveStep, TwoArchivesShareAFolder) {
  FakeHost host = unpacked();
  const std::string url = "https://d2l.example/data.zip";
  host.serve(url, "zip data").archive("zip data", {{"README", file("of the data")}, {"data.csv", file("1,2")}, {"more.csv", file("3,4")}});
  ASSERT_TRUE(run_step(spec_of(url), host));
  EXPECT_EQ(state_of(spec_of(), host).is, StepState::Is::satisfied);
  EXPECT_EQ(state_of(spec_of(url), host).is, StepState::Is::satisfied);
}

TEST(ArchiveStep, ARefusedArchiveLeavesTheFolderAsItWas) {
  FakeHost host = serving();
  host.serve("https://d2l.example/page", "<html>").put(kTo + "/mine", "mine");
  const auto state = run_step(spec_of("https://d2l.example/page"), host);
  ASSERT_FALSE(state);
  EXPECT_EQ(host.list(kTo).value(), std::vector<std::string>{"mine"});
  EXPECT_TRUE(host.list("/home/ubuntu/.cache/gpustrap").value().empty());
}

TEST(ArchiveStep, LooksAtTheFreeRoomFirst) {
  FakeHost host = serving();
  host.set_disk_free(3);
  const auto state = run_step(spec_of(), host);
  ASSERT_FALSE(state);
  EXPECT_EQ(state.error().code(), ErrorCode::no_space);
  EXPECT_THAT(state.error().sentence(), HasSubstr("3 B free in " + kTo));
}

TEST(ArchiveStep, ADiskThatFillsUpLeavesNoHalfWork) {
  FakeHost host = serving();
  host.fail_changes(kTo + "/ch", ENOSPC);
  EXPECT_FALSE(run_step(spec_of(), host));
  EXPECT_THAT(host.snapshot(), Not(HasSubstr(".gpustrap-unpack")));
  EXPECT_NE(state_of(spec_of(), host).is, StepState::Is::satisfied);
}

TEST(ArchiveStep, AFileInPlaceOfAFolderIsTheUsersAndSaid) {
  FakeHost host = unpacked();
  host.take_away(kTo + "/ch").put(kTo + "/ch", "my notes");
  const auto state = run_step(spec_of(), host);
  ASSERT_FALSE(state);
  EXPECT_THAT(state.error().sentence(), HasSubstr(kTo + "/ch is a file, where the archive has a folder"));
  EXPECT_THAT(state.error().hint(), HasSubstr("rename"));
  EXPECT_EQ(host.content(kTo + "/ch"), "my notes");
  EXPECT_THAT(host.snapshot(), Not(HasSubstr(".gpustrap-unpack")));
}

TEST(ArchiveStep, AnArchiveOnTheHostNeedsRoomForItselfAtLeast) {
  FakeHost host = serving();
  host.put("/srv/book.zip", "zip one").set_disk_free(3);
  ArchiveSpec spec = spec_of();
  spec.url.reset();
  spec.path = HostPath{"/srv/book.zip"};
  const auto state = run_step(spec, host);
  ASSERT_FALSE(state);
  EXPECT_EQ(state.error().code(), ErrorCode::no_space);
  EXPECT_EQ(state.error().why(), "No space left: 3 B free in /home/ubuntu/book, the packed archive alone has 7 B");
  EXPECT_THAT(state.error().hint(), HasSubstr("free some space there"));
}

TEST(ArchiveStep, RootDoesNotWriteThroughAUsersLink) {
  FakeHost host;
  host.serve(kUrl, "zip one").archive("zip one", {{"ch", directory()}, {"ch/1.ipynb", file("one")}});
  host.put_directory("/etc/cron.d").put_symlink(kTo + "/ch", "/etc/cron.d");
  const auto state = run_step(spec_of(kUrl, kTo), host);
  ASSERT_FALSE(state);
  EXPECT_EQ(state.error().code(), ErrorCode::unsafe);
  EXPECT_EQ(state.error().why(), kTo + "/ch is a link that belongs to uid 1000; root does not write through it");
  EXPECT_THAT(state.error().hint(), HasSubstr("`as: login`"));
  EXPECT_FALSE(host.at("/etc/cron.d/1.ipynb"));
}

TEST(ArchiveStep, AFileInPlaceOfTheWholeFolderIsSaid) {
  FakeHost host = serving();
  host.put(kTo, "my notes");
  const auto state = make_step(spec_of())->check(host);
  ASSERT_FALSE(state);
  EXPECT_EQ(state.error().code(), ErrorCode::unsafe);
  EXPECT_EQ(state.error().why(), kTo + " is a file, a folder is wanted");
  EXPECT_EQ(state.error().hint(), "move it away, or choose another folder");
}

TEST(ArchiveStep, AFolderInPlaceOfAFileIsKept) {
  FakeHost host = unpacked();
  host.take_away(kTo + "/README").put(kTo + "/README/mine", "mine").take_away(kTo + "/ch/1.ipynb");
  const auto state = run_step(spec_of(), host);
  ASSERT_TRUE(state) << state.error().sentence();
  EXPECT_EQ(host.content(kTo + "/README/mine"), "mine");
  EXPECT_EQ(host.content(kTo + "/ch/1.ipynb"), "one");
}

TEST(ArchiveStep, ALocalArchiveStaysWhereItIs) {
  FakeHost host = serving();
  host.put("/home/ubuntu/book.zip", "zip one");
  ASSERT_TRUE(run_step(local_spec(), host));
  EXPECT_EQ(host.content("/home/ubuntu/book.zip"), "zip one");
  ArchiveSpec wrong = local_spec();
  wrong.sha256 = Sha256Digest{std::string(64, 'a')};
  const auto state = run_step(wrong, host);
  ASSERT_FALSE(state);
  EXPECT_EQ(state.error().code(), ErrorCode::digest);
}

TEST(ArchiveStep, ALocalArchiveThatWasReplacedIsUnpacked) {
  FakeHost host = serving();
  host.put("/home/ubuntu/book.zip", "zip one");
  ASSERT_TRUE(run_step(local_spec(), host));
  // The same bytes at another time are the same archive.
  host.put("/home/ubuntu/book.zip", "zip one");
  EXPECT_EQ(make_step(local_spec())->check(host)->is, StepState::Is::satisfied);
  host.archive("zip two", {{"README", file("newer")}});
  host.put("/home/ubuntu/book.zip", "zip two");
  const auto state = make_step(local_spec())->check(host);
  EXPECT_EQ(state->is, StepState::Is::unsatisfied);
  EXPECT_THAT(state->reason, HasSubstr("is another archive than the one that was unpacked"));
  ASSERT_TRUE(run_step(local_spec(), host));
  EXPECT_EQ(host.content(kTo + "/README"), "newer");
  host.take_away("/home/ubuntu/book.zip");
  EXPECT_EQ(make_step(local_spec())->check(host)->is, StepState::Is::satisfied) << "it was unpacked, and is needed no more";
}

TEST(ArchiveStep, NeedsOneSource) {
  const FakeHost host;
  ArchiveSpec both = spec_of();
  both.path = HostPath{"/a.zip"};
  EXPECT_EQ(make_step(both)->check(host).error().code(), ErrorCode::recipe);
  both.path.reset();
  both.url.reset();
  EXPECT_EQ(make_step(both)->check(host).error().code(), ErrorCode::recipe);
}

TEST(ArchiveStep, SaysWhenStripLeavesNothing) {
  FakeHost host = serving();
  ArchiveSpec spec = spec_of();
  spec.strip = 4;
  const auto state = run_step(spec, host);
  ASSERT_FALSE(state);
  EXPECT_THAT(state.error().sentence(), HasSubstr("strip: 4"));
}

TEST(ArchiveStep, ADamagedManifestMakesNothingTheArchives) {
  FakeHost host = unpacked();
  const std::vector<std::string> names = host.list("/home/ubuntu/.local/state/gpustrap/archives").value();
  for (const std::string& name : names) { host.put("/home/ubuntu/.local/state/gpustrap/archives/" + name, "{\"format\":1"); }
  host.put(kTo + "/ch/1.ipynb", "my solution");
  const auto state = run_step(spec_of(), host);
  ASSERT_TRUE(state) << state.error().sentence();
  EXPECT_EQ(host.content(kTo + "/ch/1.ipynb"), "my solution");
  EXPECT_EQ(state->reason, "4 files present, 1 file you changed was kept");
}

TEST(ArchiveManifest, ComesBackAsItWas) {
  FakeHost host;
  ArchiveManifest manifest{manifest_id("/opt/x", "u", "", 0), "/opt/x", "u", std::string(64, 'a'), {}};
  manifest.entries.push_back({"caf\xE9\n", FileType::regular, sha256_hex("x"), 12, -5});
  manifest.entries.push_back({"日本", FileType::symlink, "\xFF", 0, 0});
  manifest.entries.push_back({"d", FileType::directory, "", 0, 0});
  ASSERT_TRUE(write_manifest(host, manifest));
  const auto read = read_manifest(host, manifest.id);
  ASSERT_TRUE(read && *read);
  ASSERT_EQ((*read)->entries.size(), 3U);
  EXPECT_EQ((*read)->entries[0].path, "caf\xE9\n");
  EXPECT_EQ((*read)->entries[0].size, 12U);
  EXPECT_EQ((*read)->entries[0].mtime_s, -5);
  EXPECT_EQ((*read)->entries[1].content, "\xFF");
  EXPECT_EQ((*read)->entries[1].type, FileType::symlink);
  EXPECT_EQ((*read)->entries[2].type, FileType::directory);
  EXPECT_EQ((*read)->sha256, manifest.sha256);
  ASSERT_TRUE(remove_manifest(host, manifest.id));
  EXPECT_FALSE(read_manifest(host, manifest.id)->has_value());
}

TEST(ArchiveManifest, GoesIntoPiecesWhereItIsLong) {
  FakeHost host;
  ArchiveManifest manifest{manifest_id("/opt/x", "u", "", 0), "/opt/x", "u", "", {}};
  for (int i = 0; i < 101; ++i) manifest.entries.push_back({std::to_string(i), FileType::regular, "c", 0, 0});
  ASSERT_TRUE(write_manifest(host, manifest, 100));
  EXPECT_EQ(host.list("/var/lib/gpustrap/archives")->size(), 2U);
  EXPECT_EQ((*read_manifest(host, manifest.id))->entries.size(), 101U);
  EXPECT_EQ(manifests_of_folder(host, "/opt/x")->size(), 1U);
  ASSERT_TRUE(remove_manifest(host, manifest.id));
  EXPECT_TRUE(host.list("/var/lib/gpustrap/archives")->empty());
}

TEST(ArchiveManifest, NeverLeadsOutOfItsFolder) {
  FakeHost host;
  const std::string id = manifest_id("/opt/x", "u", "", 0);
  const std::string head = R"({"format":1,"folder":"/opt/x","source":"u","sha256":"","pieces":1})";
  for (const char* path : {"../etc/passwd", "/etc/passwd", "a/../../b", "", "a//b", "."}) {
    host.put("/var/lib/gpustrap/archives/" + id + ".json", head + "\n[\"f\",\"" + path + "\",\"c\",0,0]\n");
    EXPECT_FALSE(read_manifest(host, id)->has_value()) << path;
  }
  host.put("/var/lib/gpustrap/archives/" + id + ".json", head + "\n[\"f\",\"a/b\",\"c\",0,0]\n");
  EXPECT_TRUE(read_manifest(host, id)->has_value());
}

}  // namespace
}  // namespace gpustrap
