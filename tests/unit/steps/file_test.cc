#include <cerrno>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/step_contract.h"

namespace gpustrap {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

FileSpec file(std::string path, std::string content) {
  FileSpec spec;
  spec.path.text = std::move(path);
  spec.content = std::move(content);
  return spec;
}
FileSpec absent(std::string path) {
  FileSpec spec = file(std::move(path), "");
  spec.absent = true;
  return spec;
}
FileSpec owned(std::string path, std::string content, unsigned mode) {
  FileSpec spec = file(std::move(path), std::move(content));
  spec.mode = FileMode{mode};
  spec.owner = spec.group = "ubuntu";
  return spec;
}

INSTANTIATE_TEST_SUITE_P(File, StepContract,
                         ::testing::Values(ContractCase{"file_new", file("/etc/motd", "hello\n"), [] { return FakeHost(); }},
                                           ContractCase{"file_in_a_new_folder", file("~/.config/app/settings", ""),
                                                        [] { return std::move(FakeHost().as_user()); }},
                                           ContractCase{"file_changed", file("/etc/motd", "hello\n"),
                                                        [] {
                                                          return FakeHost({{"/etc/motd", "old\n"}});
                                                        }},
                                           ContractCase{"file_with_other_owner", owned("/srv/key", "k", 0600),
                                                        [] {
                                                          return FakeHost({{"/srv/key", "k"}});
                                                        }},
                                           ContractCase{"file_absent", absent("/etc/motd"),
                                                        [] {
                                                          return FakeHost({{"/etc/motd", "old\n"}});
                                                        }}),
                         contract_name);

TEST(FileStep, AFileThatAnybodyMayHavePutThereBecomesRoots) {
  FileSpec spec;
  spec.path.text = "/tmp/token";
  spec.content = "secret\n";
  for (const std::string planted : {"secret\n", "nothing\n"}) {
    FakeHost host;
    host.put_directory("/tmp", 01777);
    host.put("/tmp/token", {FileType::regular, planted, 0666, 1001, 1001});
    EXPECT_EQ(make_step(spec)->check(host)->is, StepState::Is::unsatisfied);
    ASSERT_TRUE(run_step(spec, host));
    EXPECT_EQ(host.at("/tmp/token")->uid, 0U);
    EXPECT_EQ(host.at("/tmp/token")->mode, 0644U);
    EXPECT_EQ(host.content("/tmp/token"), "secret\n");
  }
  // In a folder of its owner's it was root who put it there.
  FakeHost host;
  host.put_directory("/srv/app");
  host.put("/srv/app/token", {FileType::regular, "secret\n", 0640, 1001, 1001});
  spec.path.text = "/srv/app/token";
  EXPECT_EQ(make_step(spec)->check(host)->is, StepState::Is::satisfied);
}

TEST(FileStep, ExplainsWhatDiffers) {
  FakeHost host({{"/etc/motd", "one\ntwo\nthree\n"}});
  const StepState state = state_of(file("/etc/motd", "one\n2\nthree\nfour\n"), host);
  EXPECT_EQ(state.reason, "/etc/motd: 2 lines added, 1 removed");
  EXPECT_EQ(state.changes, "--- /etc/motd\n+++ /etc/motd\n@@ -1,3 +1,4 @@\n one\n-two\n+2\n three\n+four\n");
}

TEST(FileStep, KeepsWhatStoodThereOnce) {
  FakeHost host;
  host.put("/etc/app.conf", "mine\n", 0640);
  ASSERT_TRUE(run_step(file("/etc/app.conf", "theirs\n"), host));
  EXPECT_EQ(host.content("/etc/app.conf"), "theirs\n");
  EXPECT_EQ(host.content("/etc/app.conf.gpustrap-backup"), "mine\n");
  EXPECT_EQ(host.at("/etc/app.conf.gpustrap-backup")->mode, 0640U) << "a secret stays one";
  EXPECT_EQ(host.at("/etc/app.conf")->mode, 0640U) << "a mode that the recipe does not name is kept";
}

TEST(FileStep, AnEditAfterTheFirstRunIsKeptToo) {
  FakeHost host({{"/etc/app.conf", "original\n"}});
  const FileSpec spec = file("/etc/app.conf", "recipe\n");
  ASSERT_TRUE(run_step(spec, host));
  host.put("/etc/app.conf", "edited by hand\n");
  ASSERT_TRUE(run_step(spec, host));
  EXPECT_EQ(host.content("/etc/app.conf"), "recipe\n");
  EXPECT_EQ(host.content("/etc/app.conf.gpustrap-backup"), "original\n");
  EXPECT_EQ(host.content("/etc/app.conf.gpustrap-backup.2"), "edited by hand\n");
  // The same edit again needs no third copy.
  host.put("/etc/app.conf", "edited by hand\n");
  ASSERT_TRUE(run_step(spec, host));
  EXPECT_FALSE(host.at("/etc/app.conf.gpustrap-backup.3"));
}

TEST(FileStep, AFailedBackupLeavesTheFileAlone) {
  FakeHost host({{"/etc/app.conf", "mine\n"}});
  host.fail_changes("/etc/app.conf.gpustrap-backup", ENOSPC);
  const auto result = run_step(file("/etc/app.conf", "theirs\n"), host);
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code(), ErrorCode::no_space);
  EXPECT_THAT(result.error().hint(), HasSubstr("make room"));
  EXPECT_EQ(host.content("/etc/app.conf"), "mine\n");
}

TEST(FileStep, ARemovedFileIsKeptToo) {
  FakeHost host({{"/etc/cron.d/job", "* * * * *\n"}});
  ASSERT_TRUE(run_step(absent("/etc/cron.d/job"), host));
  EXPECT_FALSE(host.at("/etc/cron.d/job"));
  EXPECT_EQ(host.content("/etc/cron.d/job.gpustrap-backup"), "* * * * *\n");
}

TEST(FileStep, AbsentRemovesALinkAndNotItsTarget) {
  FakeHost host({{"/srv/real", "precious"}});
  host.put_symlink("/etc/link", "/srv/real");
  ASSERT_TRUE(run_step(absent("/etc/link"), host));
  EXPECT_FALSE(host.at("/etc/link"));
  EXPECT_EQ(host.content("/srv/real"), "precious");
}

TEST(FileStep, NeverRemovesOrReplacesADirectory) {
  FakeHost host({{"/srv/data/notebook", "precious"}});
  for (const FileSpec& spec : {absent("/srv/data"), file("/srv/data", "x")}) {
    const auto result = run_step(spec, host);
    ASSERT_FALSE(result);
    EXPECT_EQ(result.error().code(), ErrorCode::unsafe);
  }
  EXPECT_THAT(host.changes(), IsEmpty());
}

TEST(FileStep, OnlyAttributesDifferIsNoRewrite) {
  FakeHost host({{"/srv/key", "k"}});
  ASSERT_TRUE(run_step(owned("/srv/key", "k", 0600), host));
  EXPECT_THAT(host.changes(), ElementsAre("set_attributes /srv/key"));
}

TEST(FileStep, DoesNotShowTheContentOfAPrivateFile) {
  FakeHost host({{"/srv/key", "-----BEGIN PRIVATE KEY-----\n"}});
  StepState state = state_of(owned("/srv/key", "new secret\n", 0600), host);
  EXPECT_THAT(state.changes, IsEmpty());
  host.put("/srv/key", "-----BEGIN PRIVATE KEY-----\n", 0600);
  EXPECT_THAT(state_of(file("/srv/key", "new secret\n"), host).changes, IsEmpty());
}

TEST(FileStep, ContentThatIsNotTextIsComparedByteByByte) {
  const std::string bytes = std::string("\xff\xfe\x00z", 4);
  FakeHost host({{"/srv/blob", bytes}});
  EXPECT_EQ(state_of(file("/srv/blob", bytes), host).is, StepState::Is::satisfied);
  const StepState state = state_of(file("/srv/blob", "text\n"), host);
  EXPECT_EQ(state.reason, "/srv/blob: content differs");
  EXPECT_THAT(state.changes, IsEmpty());
  ASSERT_TRUE(run_step(file("/srv/blob", "text\n"), host));
  EXPECT_EQ(host.content("/srv/blob.gpustrap-backup"), bytes);
}

TEST(FileStep, AMissingLastNewlineIsADifference) {
  FakeHost host({{"/etc/motd", "hello"}});
  const StepState state = state_of(file("/etc/motd", "hello\n"), host);
  EXPECT_EQ(state.is, StepState::Is::unsatisfied);
  EXPECT_THAT(state.changes, HasSubstr("-hello\n\\ No newline at end of file\n+hello\n"));
}

TEST(FileStep, RootIsNotLedElsewhereByAPlantedLink) {
  FakeHost host({{"/etc/shadow", "root:x"}});
  host.put("/tmp/config", FakeFile{FileType::symlink, "/etc/shadow", 0777, 1000, 1000}).put_symlink("/home/ubuntu/config", "/etc/shadow");
  for (const char* path : {"/tmp/config", "/home/ubuntu/config"}) {
    const auto result = run_step(file(path, "owned"), host);
    ASSERT_FALSE(result) << path;
    EXPECT_EQ(result.error().code(), ErrorCode::unsafe);
    EXPECT_THAT(result.error().hint(), HasSubstr("as: login"));
  }
  EXPECT_EQ(host.content("/etc/shadow"), "root:x");
}

TEST(FileStep, AUsersOwnLinkIsEditedThrough) {
  FakeHost host({{"/home/ubuntu/dotfiles/vimrc", "old\n"}});
  host.as_user().put_symlink("/home/ubuntu/.vimrc", "dotfiles/vimrc");
  ASSERT_TRUE(run_step(file("~/.vimrc", "new\n"), host));
  EXPECT_EQ(host.content("/home/ubuntu/dotfiles/vimrc"), "new\n");
  EXPECT_EQ(host.at("/home/ubuntu/.vimrc")->type, FileType::symlink);
}

TEST(FileStep, ACircleOfLinksIsRefused) {
  FakeHost host;
  host.put_symlink("/etc/a", "/etc/b").put_symlink("/etc/b", "/etc/a");
  const auto result = run_step(file("/etc/a", "x"), host);
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code(), ErrorCode::unsafe);
}

TEST(FileStep, SaysWhoseRightsAreMissing) {
  FakeHost host({{"/etc/motd", "old\n"}});
  host.as_user();
  const auto result = run_step(file("/etc/motd", "new\n"), host);
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code(), ErrorCode::permission);
  EXPECT_EQ(host.content("/etc/motd"), "old\n");
}

}  // namespace
}  // namespace gpustrap
