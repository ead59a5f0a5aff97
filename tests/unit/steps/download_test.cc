#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "agent/base/sha256.h"
#include "tests/support/step_contract.h"

namespace gpustrap {
namespace {

using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

const std::string kUrl = "https://files.example/a/tool.run";
const std::string kOther = "https://files.example/b/tool.run";
const std::string kPath = "/opt/tool.run";

DownloadSpec spec_of(const std::string& to = kPath, const std::string& url = kUrl) {
  DownloadSpec spec;
  spec.url.text = url;
  spec.to.text = to;
  return spec;
}

DownloadSpec pinned(const std::string& content) {
  DownloadSpec spec = spec_of();
  spec.sha256 = Sha256Digest{sha256_hex(content)};
  return spec;
}

FakeHost serving() {
  FakeHost host;
  host.serve(kUrl, "tool").serve(kOther, "other tool");
  return host;
}

INSTANTIATE_TEST_SUITE_P(
    Download, StepContract,
    ::testing::Values(ContractCase{"download_new", spec_of(), serving}, ContractCase{"download_pinned", pinned("tool"), serving},
                      ContractCase{"download_in_the_home", spec_of("~/x/tool.run"), [] { return std::move(serving().as_user()); }},
                      ContractCase{"download_other_content", pinned("tool"), [] { return std::move(serving().put(kPath, "mine")); }}),
    contract_name);

TEST(DownloadStep, SaysWhereTheFileCameFrom) {
  FakeHost host = serving();
  const auto state = run_step(spec_of(), host);
  ASSERT_TRUE(state);
  EXPECT_THAT(state->reason, HasSubstr("fetched from " + kUrl + ", sha256 " + sha256_hex("tool").substr(0, 12)));
}

TEST(DownloadStep, ATrailingSlashTakesTheNameFromTheUrl) {
  FakeHost host = serving();
  ASSERT_TRUE(run_step(spec_of("/opt/downloads/"), host));
  EXPECT_EQ(host.content("/opt/downloads/tool.run"), "tool");
  const auto nameless = make_step(spec_of("/opt/downloads/", "https://files.example/"))->check(host);
  ASSERT_FALSE(nameless);
  EXPECT_EQ(nameless.error().code(), ErrorCode::recipe);
}

TEST(DownloadStep, KeepsAFileThatWasThereWhenNoDigestIsGiven) {
  FakeHost host = serving();
  host.put(kPath, "mine");
  const auto state = run_step(spec_of(), host);
  ASSERT_TRUE(state);
  EXPECT_THAT(state->reason, HasSubstr("kept as it is"));
  EXPECT_EQ(host.content(kPath), "mine");
}

TEST(DownloadStep, TakesNothingOfAFileThatAnybodyMayHavePutThere) {
  const std::string path = "/tmp/tool.run";
  for (const std::string planted : {"tool", "something else"}) {
    for (const bool with_digest : {true, false}) {
      FakeHost host = serving();
      host.put_directory("/tmp", 01777);
      host.put(path, {FileType::regular, planted, 0777, 1001, 1001});
      DownloadSpec spec = with_digest ? pinned("tool") : spec_of();
      spec.to.text = path;
      EXPECT_THAT(make_step(spec)->check(host)->reason, HasSubstr("belongs to uid 1001, who can change it"));
      ASSERT_TRUE(run_step(spec, host));
      EXPECT_EQ(host.at(path)->uid, 0U);
      EXPECT_EQ(host.at(path)->mode & 0022U, 0U);
      EXPECT_EQ(host.content(path), "tool");
      EXPECT_EQ(host.content(path + ".gpustrap-backup"), planted) << "it may be somebody's own";
    }
  }
}

TEST(DownloadStep, ARunThatEndsBeforeTheFileIsInPlaceIsTakenUp) {
  FakeHost host = serving();
  ASSERT_TRUE(run_step(spec_of(), host));
  // The new version is fetched and remembered; what stands there is still the old one.
  DownloadSpec spec = spec_of(kPath, kOther);
  {
    RecordingLog log;
    const FakeFile old = *host.at(kPath);
    ASSERT_TRUE(make_step(spec)->apply(host, log));
    host.put(kPath, old);
  }
  const auto state = make_step(spec)->check(host);
  ASSERT_TRUE(state);
  EXPECT_EQ(state->is, StepState::Is::unsatisfied);
  EXPECT_THAT(state->reason, HasSubstr("has not been replaced yet by what was fetched from " + kOther));
  ASSERT_TRUE(run_step(spec, host));
  EXPECT_EQ(host.content(kPath), "other tool");
  EXPECT_FALSE(host.at(kPath + ".gpustrap-backup").has_value()) << "nothing of the user's was there";
}

TEST(DownloadStep, KeepsAFileThatTheUserChanged) {
  FakeHost host = serving();
  ASSERT_TRUE(run_step(spec_of(), host));
  host.put(kPath, "tool, improved");
  for (const std::string& url : {kUrl, kOther}) {
    const auto state = run_step(spec_of(kPath, url), host);
    ASSERT_TRUE(state);
    EXPECT_EQ(state->is, StepState::Is::satisfied);
    EXPECT_THAT(state->reason, HasSubstr("was changed since it was fetched and is kept"));
    EXPECT_EQ(host.content(kPath), "tool, improved");
  }
}

TEST(DownloadStep, AnotherUrlReplacesWhatTheFirstBrought) {
  FakeHost host = serving();
  ASSERT_TRUE(run_step(spec_of(), host));
  EXPECT_EQ(state_of(spec_of(kPath, kOther), host).reason, kPath + " was fetched from " + kUrl);
  ASSERT_TRUE(run_step(spec_of(kPath, kOther), host));
  EXPECT_EQ(host.content(kPath), "other tool");
  EXPECT_EQ(host.at(kPath + ".gpustrap-backup"), std::nullopt);
}

TEST(DownloadStep, AForeignFileThatADigestReplacesIsKeptAside) {
  FakeHost host = serving();
  host.put(kPath, "mine").put(kPath + ".gpustrap-backup", "older");
  RecordingLog log;
  const auto state = run_step(pinned("tool"), host, log);
  ASSERT_TRUE(state) << state.error().sentence();
  EXPECT_EQ(host.content(kPath), "tool");
  EXPECT_EQ(host.content(kPath + ".gpustrap-backup"), "older");
  EXPECT_EQ(host.content(kPath + ".gpustrap-backup.2"), "mine");
  EXPECT_THAT(log.lines, Contains(HasSubstr("gpustrap-backup.2")));
}

TEST(DownloadStep, AFailedFetchLeavesTheForeignFileInItsPlace) {
  FakeHost host;
  host.put(kPath, "mine");
  EXPECT_FALSE(run_step(pinned("tool"), host));
  EXPECT_EQ(host.content(kPath), "mine");
}

// A transfer may take an hour.
TEST(DownloadStep, WhatTheUserWritesDuringTheTransferIsKeptAside) {
  for (const bool pinned_by_digest : {false, true}) {
    FakeHost host = serving();
    ASSERT_TRUE(run_step(spec_of(), host));
    const DownloadSpec next = pinned_by_digest ? pinned("other tool") : spec_of(kPath, kOther);
    host.serve(kUrl, "other tool").on_fetch([](FakeHost& fake) { fake.put(kPath, "edited meanwhile"); });
    const auto state = run_step(next, host);
    ASSERT_TRUE(state) << state.error().sentence();
    EXPECT_EQ(host.content(kPath), "other tool");
    EXPECT_EQ(host.content(kPath + ".gpustrap-backup"), "edited meanwhile");
  }
}

TEST(DownloadStep, AFileThatAppearsDuringTheTransferIsKeptAside) {
  FakeHost host = serving();
  host.on_fetch([](FakeHost& fake) { fake.put(kPath, "made meanwhile"); });
  ASSERT_TRUE(run_step(spec_of(), host));
  EXPECT_EQ(host.content(kPath), "tool");
  EXPECT_EQ(host.content(kPath + ".gpustrap-backup"), "made meanwhile");
}

TEST(DownloadStep, ANewVersionKeepsTheModeAndOwnerOfTheOld) {
  FakeHost host = serving();
  ASSERT_TRUE(run_step(spec_of(), host));
  FakeFile mine = *host.at(kPath);
  mine.mode = 0750;
  mine.uid = 1000;
  host.put(kPath, mine);
  ASSERT_TRUE(run_step(spec_of(kPath, kOther), host));
  EXPECT_EQ(host.content(kPath), "other tool");
  EXPECT_EQ(host.at(kPath)->mode, 0750U);
  EXPECT_EQ(host.at(kPath)->uid, 1000U);
}

TEST(DownloadStep, ANewDigestReplacesWhatWasFetchedWithoutABackup) {
  FakeHost host = serving();
  ASSERT_TRUE(run_step(pinned("tool"), host));
  host.serve(kUrl, "tool 2");
  ASSERT_TRUE(run_step(pinned("tool 2"), host));
  EXPECT_EQ(host.content(kPath), "tool 2");
  EXPECT_EQ(host.at(kPath + ".gpustrap-backup"), std::nullopt);
}

TEST(DownloadStep, SetsOnlyTheModeWhereOnlyThatDiffers) {
  FakeHost host = serving();
  ASSERT_TRUE(run_step(spec_of(), host));
  host.forget();
  DownloadSpec spec = spec_of();
  spec.mode = FileMode{0755};
  ASSERT_TRUE(run_step(spec, host));
  EXPECT_EQ(host.at(kPath)->mode, 0755U);
  EXPECT_THAT(host.changes(), Not(Contains(HasSubstr("fetch"))));
}

TEST(DownloadStep, NeverPutsAFileInPlaceOfADirectory) {
  FakeHost host = serving();
  host.put_directory(kPath);
  const auto state = make_step(spec_of())->check(host);
  ASSERT_FALSE(state);
  EXPECT_EQ(state.error().code(), ErrorCode::unsafe);
}

TEST(DownloadStep, WritesNoSecretOfTheUrl) {
  FakeHost host;
  const std::string url = "https://me:hush@files.example/tool?token=hush";
  host.serve(url, "tool");
  const auto state = run_step(spec_of(kPath, url), host);
  ASSERT_TRUE(state) << state.error().sentence();
  EXPECT_THAT(state->reason, Not(HasSubstr("hush")));
  EXPECT_THAT(host.snapshot(), Not(HasSubstr("hush")));
}

}  // namespace
}  // namespace gpustrap
