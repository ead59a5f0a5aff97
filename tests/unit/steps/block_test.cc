#include <cerrno>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "agent/steps/managed_block.h"
#include "tests/support/step_contract.h"

namespace gpustrap {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

BlockSpec block(std::string path, std::string content) {
  BlockSpec spec;
  spec.path.text = std::move(path);
  spec.content = std::move(content);
  spec.marker = "proxy";
  return spec;
}
BlockSpec absent(std::string path) {
  BlockSpec spec = block(std::move(path), "");
  spec.absent = true;
  return spec;
}

const std::string kBegin = "# >>> gpustrap proxy >>>";
const std::string kEnd = "# <<< gpustrap proxy <<<";
const std::string kOld = kBegin + "\nold\n" + kEnd + "\n";

INSTANTIATE_TEST_SUITE_P(Block, StepContract,
                         ::testing::Values(ContractCase{"block_in_a_new_file", block("/etc/app/conf", "a\n"), [] { return FakeHost(); }},
                                           ContractCase{"block_empty_in_a_new_file", block("/etc/app/conf", ""), [] { return FakeHost(); }},
                                           ContractCase{"block_new", block("/etc/hosts", "a"),
                                                        [] {
                                                          return FakeHost({{"/etc/hosts", "mine"}});
                                                        }},
                                           ContractCase{"block_changed", block("/etc/hosts", "a\nb"),
                                                        [] {
                                                          return FakeHost({{"/etc/hosts", "x\n" + kOld + "y\n"}});
                                                        }},
                                           ContractCase{"block_absent", absent("/etc/hosts"),
                                                        [] {
                                                          return FakeHost({{"/etc/hosts", "x\n" + kOld + "y\n"}});
                                                        }}),
                         contract_name);

TEST(BlockStep, LeavesOtherLinesAlone) {
  FakeHost host({{"/etc/hosts", "127.0.0.1 localhost\n" + kOld + "\n\t# mine\xff\n  last"}});
  ASSERT_TRUE(run_step(block("/etc/hosts", "new\nlines"), host));
  EXPECT_EQ(host.content("/etc/hosts"), "127.0.0.1 localhost\n" + kBegin + "\nnew\nlines\n" + kEnd + "\n" + "\n\t# mine\xff\n  last");
}

TEST(BlockStep, KeepsModeAndOwner) {
  FakeHost host;
  host.put("/srv/conf", FakeFile{FileType::regular, "x\n", 0640, 33, 44});
  ASSERT_TRUE(run_step(block("/srv/conf", "new"), host));
  EXPECT_EQ(host.at("/srv/conf")->mode, 0640U);
  EXPECT_EQ(host.at("/srv/conf")->uid, 33U);
  EXPECT_EQ(host.at("/srv/conf")->gid, 44U);
}

TEST(BlockStep, WhatSomebodyWroteIntoTheBlockIsKept) {
  const std::string edited = "x\n" + kBegin + "\nold\nmy own line\n" + kEnd + "\n";
  FakeHost host({{"/etc/hosts", edited}});
  ASSERT_TRUE(run_step(block("/etc/hosts", "old"), host));
  EXPECT_EQ(host.content("/etc/hosts.gpustrap-backup"), edited);
}

TEST(BlockStep, SomethingThatRewritesItAgainAndAgainIsSaid) {
  FakeHost host;
  host.put("/etc/hosts.gpustrap-backup", "a");
  for (int number = 2; number <= 100; ++number) host.put("/etc/hosts.gpustrap-backup." + std::to_string(number), std::string(number, 'a'));
  host.put("/etc/hosts", kBegin + "\nmy own line\n" + kEnd + "\n");
  const auto done = run_step(block("/etc/hosts", "new"), host);
  ASSERT_FALSE(done.has_value());
  EXPECT_EQ(done.error().code(), ErrorCode::unsafe);
  EXPECT_EQ(done.error().why(), "/etc/hosts has 100 backups already");
  EXPECT_THAT(done.error().hint(), HasSubstr("something else rewrites this file again and again"));
  EXPECT_THAT(host.content("/etc/hosts"), HasSubstr("my own line"));
}

TEST(BlockStep, ANewBlockNeedsNoBackup) {
  FakeHost host({{"/etc/hosts", "x\n"}});
  ASSERT_TRUE(run_step(block("/etc/hosts", "a"), host));
  EXPECT_FALSE(host.at("/etc/hosts.gpustrap-backup"));
}

TEST(BlockStep, RefusesABrokenPair) {
  const std::vector<std::pair<std::string, std::string>> broken = {
      {kBegin + "\nx\n", "line 1 begins it, and no line ends it"},
      {"a\n" + kEnd + "\n", "line 2 ends it, and no line before begins it"},
      {kEnd + "\n" + kBegin + "\n", "line 1 ends it"},
      {kOld + kOld, "lines 1 and 4 both begin it"},
      {kBegin + "\n" + kBegin + "\n" + kEnd + "\n", "lines 1 and 2 both begin it"},
  };
  for (const auto& [text, why] : broken) {
    FakeHost host({{"/etc/hosts", text}});
    for (const BlockSpec& spec : {block("/etc/hosts", "new"), absent("/etc/hosts")}) {
      const auto result = run_step(spec, host);
      ASSERT_FALSE(result) << text;
      EXPECT_EQ(result.error().code(), ErrorCode::unsafe);
      EXPECT_THAT(result.error().sentence(), HasSubstr(why));
      EXPECT_THAT(result.error().sentence(), HasSubstr("/etc/hosts"));
    }
    EXPECT_EQ(host.content("/etc/hosts"), text);
  }
}

TEST(BlockStep, AbsentNeedsNoFile) {
  const FakeHost host;
  EXPECT_EQ(state_of(absent("/etc/nothing"), host).is, StepState::Is::satisfied);
}

TEST(BlockStep, AFullDiskLeavesTheFileAsItWas) {
  FakeHost host({{"/etc/hosts", "mine\n"}});
  host.fail_changes("/etc/hosts", ENOSPC);
  const auto result = run_step(block("/etc/hosts", "a"), host);
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code(), ErrorCode::no_space);
  EXPECT_EQ(host.content("/etc/hosts"), "mine\n");
}

TEST(BlockStep, RefusesItsOwnMarkerAsContent) {
  FakeHost host;
  const auto result = run_step(block("/etc/hosts", "a\n" + kEnd), host);
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code(), ErrorCode::recipe);
}

TEST(BlockStep, TakesOtherComments) {
  FakeHost host({{"/etc/app.ini", "[a]\n"}});
  BlockSpec spec = block("/etc/app.ini", "b=1");
  spec.comment = ";";
  ASSERT_TRUE(run_step(spec, host));
  EXPECT_EQ(host.content("/etc/app.ini"), "[a]\n; >>> gpustrap proxy >>>\nb=1\n; <<< gpustrap proxy <<<\n");
}

TEST(ManagedBlock, AddingAndRemovingGivesBackTheSameBytes) {
  for (const BlockPlace place : {BlockPlace::end, BlockPlace::start}) {
    for (const std::string text : {"", "a\n", "a", "a\n\n", "\n", "a\r\nb\r\n", "a\r\nb", "#!/bin/sh\nx\n", "\xff\xfe no utf-8\n"}) {
      const auto added = with_block(text, {"m"}, {"one", "two"}, place);
      ASSERT_TRUE(added);
      const auto lines = lines_of_block(*added, {"m"});
      ASSERT_TRUE(lines && *lines) << *added;
      EXPECT_THAT(**lines, ElementsAre("one", "two"));
      EXPECT_EQ(with_block(*added, {"m"}, {"one", "two"}, place).value_or("?"), *added) << "replacing by the same is no change";
      EXPECT_EQ(without_block(*added, {"m"}).value_or("?"), text);
    }
  }
}

TEST(ManagedBlock, TakesTheFilesLineEnds) {
  EXPECT_EQ(with_block("a\r\n", {"m"}, {"x"}, BlockPlace::end).value_or("?"), "a\r\n# >>> gpustrap m >>>\r\nx\r\n# <<< gpustrap m <<<\r\n");
}

TEST(ManagedBlock, AtTheStartItComesBehindAnInterpreterLine) {
  EXPECT_THAT(with_block("#!/bin/sh\nx\n", {"m"}, {"y"}, BlockPlace::start).value_or("?"),
              ::testing::StartsWith("#!/bin/sh\n# >>> gpustrap m >>>\ny\n"));
}

TEST(ManagedBlock, OneMarkerIsNotThePrefixOfAnother) {
  const std::string text = "# >>> gpustrap mm >>>\nother\n# <<< gpustrap mm <<<\n";
  const auto lines = lines_of_block(text, {"m"});
  ASSERT_TRUE(lines);
  EXPECT_FALSE(*lines);
}

TEST(ManagedBlock, BlanksAroundAMarkerDoNotHideIt) {
  const auto lines = lines_of_block("  # >>> gpustrap m >>>  \nx\n\t# <<< gpustrap m <<<\r\n", {"m"});
  ASSERT_TRUE(lines && *lines);
  EXPECT_THAT(**lines, ElementsAre("x"));
}

}  // namespace
}  // namespace gpustrap
