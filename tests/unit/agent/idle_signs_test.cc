#include "agent/idle_signs.h"
#include "agent/identity.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <string>
#include <vector>

#include "agent/notebook_use.h"
#include "tests/support/fake_host.h"
#include "tests/support/temporary_directory.h"

namespace gpustrap {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

constexpr double kTicks = 100;

std::vector<std::string> texts_of(const std::vector<UseSign>& signs) {
  std::vector<std::string> texts;
  for (const UseSign& sign : signs) texts.push_back(sign.text);
  return texts;
}

/// Two samples a minute apart.
std::vector<std::string> between(IdleSample before, IdleSample now) {
  before.boot = now.boot = "boot";
  before.at = std::chrono::minutes(10);
  now.at = std::chrono::minutes(11);
  return texts_of(signs_of_use(before, now, kTicks));
}
std::vector<std::string> computed(std::vector<ProcessTime> before, std::vector<ProcessTime> now) {
  IdleSample first, second;
  first.processes = std::move(before);
  second.processes = std::move(now);
  return between(first, second);
}

TEST(SaidBy, IsWhatAnotherProcessReturnsAndNothingWhereItDoesNotEndWell) {
  const Identity self = identity_of_self();
  const pid_t here = ::getpid();
  EXPECT_EQ(said_by(self, [&] { return ::getpid() == here ? "here" : "there"; }), "there");
  EXPECT_EQ(said_by(self, []() -> std::string { ::_exit(3); }), "");
  // Whoever says more than is read is ended, and not waited for.
  EXPECT_EQ(said_by(self, [] { return std::string(8U << 20U, 'x'); }), "");
}

TEST(UseSigns, ProcessesAreAddedUp) {
  // A quarter of a core for a minute is 1500 ticks.
  EXPECT_THAT(computed({{10, 1, 5, 100, 0, "a"}}, {{10, 1, 5, 1600, 0, "a"}}), IsEmpty());
  EXPECT_THAT(computed({{10, 1, 5, 100, 0, "a"}}, {{10, 1, 5, 1660, 0, "a"}}), ElementsAre("a (10) uses 26 % of a core"));
  EXPECT_THAT(computed({{10, 1, 5, 0, 0, "a"}, {11, 1, 5, 0, 0, "b"}}, {{10, 1, 5, 2000, 0, "a"}, {11, 1, 5, 4000, 0, "b"}}),
              ElementsAre("b (11) and others use 100 % of a core"));
}

TEST(UseSigns, OneThatBeganInBetweenCountsWholeAndAnotherWithItsNumberIsAnother) {
  EXPECT_THAT(computed({}, {{10, 1, 5, 1800, 0, "new"}}), ElementsAre("new (10) uses 30 % of a core"));
  EXPECT_THAT(computed({{10, 1, 5, 9000, 0, "old"}}, {{10, 1, 77, 1800, 0, "new"}}), ElementsAre("new (10) uses 30 % of a core"));
}

TEST(UseSigns, WhatAChildHadComputedBeforeItEndedIsNotNew) {
  // Days of a daemon's child come to its parent's account at once.
  EXPECT_THAT(computed({{10, 1, 5, 0, 0, "sshd"}, {11, 10, 6, 800'000, 0, "worker"}}, {{10, 1, 5, 0, 800'100, "sshd"}}), IsEmpty());
  EXPECT_THAT(computed({{10, 1, 5, 0, 0, "make"}, {11, 10, 6, 1000, 0, "cc"}}, {{10, 1, 5, 0, 4000, "make"}}),
              ElementsAre("make (10) uses 50 % of a core"));
  // Services that end, and the guard's own looks, are init's children.
  EXPECT_THAT(computed({{1, 0, 1, 0, 0, "systemd"}}, {{1, 0, 1, 0, 9000, "systemd"}}), IsEmpty());
}

TEST(UseSigns, WithoutAnEarlierSampleOnlyWhatIsAtWorkNowCounts) {
  IdleSample sample;
  sample.boot = "boot";
  sample.at = std::chrono::minutes(5);
  sample.processes = {{10, 1, 5, 999'999, 0, "a"}};
  sample.network = {{"eth0", 1U << 30U}};
  sample.marks = {{{UseSign::Of::typing, "somebody types"}, "17"}};
  EXPECT_THAT(texts_of(signs_of_use({}, sample, kTicks)), IsEmpty());
  IdleSample other_boot = sample;
  other_boot.boot = "another";
  EXPECT_THAT(texts_of(signs_of_use(other_boot, sample, kTicks)), IsEmpty());
  sample.now = {{UseSign::Of::run, "run r1"}};
  EXPECT_THAT(texts_of(signs_of_use({}, sample, kTicks)), ElementsAre("run r1"));
}

TEST(UseSigns, AnInterfaceOfItsOwnCounts) {
  IdleSample before, now;
  before.network = {{"eth0", 1000}};
  now.network = {{"eth0", 1000 + 49 * 1024 * 60}, {"tun0", 1U << 30U}};
  EXPECT_THAT(between(before, now), IsEmpty()) << "one that has just come is not known to have carried it now";
  now.network[0].second = 1000 + 60 * 1024 * 60;
  EXPECT_EQ(between(before, now).size(), 1U);
  now.network[0].second = 3;  // made anew: its count began again
  EXPECT_THAT(between(before, now), IsEmpty());
}

TEST(UseSigns, ANewTerminalIsALogin) {
  IdleSample before, now;
  now.marks = {{{UseSign::Of::typing, "somebody types at pts/1 (ann)"}, "17"}};
  EXPECT_THAT(between(before, now), ElementsAre("somebody types at pts/1 (ann)"));
  EXPECT_THAT(between(now, now), IsEmpty());
  EXPECT_THAT(between(now, before), IsEmpty()) << "nor is one that goes";
}

TEST(ProcessStat, IsReadAroundNamesOfAnyKind) {
  const auto stat = [](const std::string& name, const std::string& flags = "4194560") {
    return "812 (" + name + ") S 1 1 1 0 -1 " + flags + " 1 2 3 4 30 12 5 7 20 0 1 0 4711 100 200";
  };
  const auto read = process_in(stat("python3"));
  ASSERT_TRUE(read);
  EXPECT_EQ(read->pid, 812);
  EXPECT_EQ(read->own, 42U);
  EXPECT_EQ(read->children, 12U);
  EXPECT_EQ(read->start, 4711U);
  EXPECT_EQ(process_in(stat("a) S 9 (b"))->name, "a) S 9 (b");
  EXPECT_EQ(process_in(stat("bad\x1b[31m"))->name, "bad");
  EXPECT_FALSE(process_in(stat("kworker/0:1", "69238880"))) << "the kernel's own threads";
  EXPECT_FALSE(process_in("812 (short) S 1"));
  EXPECT_FALSE(process_in(""));
}

TEST(NetworkCounters, LeaveTheLoopbackOut) {
  const char* text =
      "Inter-|   Receive                                                |  Transmit\n"
      " face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed\n"
      "    lo: 999999 1 0 0 0 0 0 0 999999 1 0 0 0 0 0 0\n"
      "  eth0: 1000 1 0 0 0 0 0 0 234 1 0 0 0 0 0 0\n";
  const auto interfaces = interfaces_in(text);
  ASSERT_EQ(interfaces.size(), 1U);
  EXPECT_EQ(interfaces[0].first, "eth0");
  EXPECT_EQ(interfaces[0].second, 1234U);
}

TEST(GpuUseTest, IsReadFromTheCsv) {
  const std::vector<GpuUse> gpus = parse_gpu_use("0, 97\n1, [N/A]\nGarbage\n");
  ASSERT_EQ(gpus.size(), 2U);
  EXPECT_EQ(gpus[0].percent, 97U);
  EXPECT_EQ(gpus[1].percent, std::nullopt);
  EXPECT_THAT(texts_of(signs_of_gpus(gpus, {})), ElementsAre("GPU 0 is 97 % busy"));
  EXPECT_THAT(texts_of(signs_of_gpus(parse_gpu_use("0, 5\n"), {"1 (x)"})), IsEmpty());
}

TEST(NotebookUse, TakesNothingButWhatItKnows) {
  for (const char* text : {"", "[]", "{", R"({"kernels":7})", R"({"kernels":[1,{}],"sessions":[2,{"kernel":3}],"files":[]})"}) {
    IdleSample sample;
    add_notebook_use(text, sample);
    EXPECT_TRUE(sample.now.empty()) << text;
  }
}

TEST(Sampling, SeesTerminalsProcessesTheNetworkAndALock) {
  FakeHost host({{"/proc/812/stat", "812 (python3) S 1 1 1 0 -1 0 1 2 3 4 30 12 5 7 20 0 1 0 4711 1 2"},
                 {"/etc/passwd", "root:x:0:0::/root:/bin/bash\nubuntu:x:1000:1000::/home/ubuntu:/bin/bash\n"},
                 {"/proc/self-is-no-number", ""},
                 {"/proc/900/stat", "900 (gpustrap) S 1 1 1 0 -1 0 1 2 3 4 30 12 5 7 20 0 1 0 4711 1 2"},
                 {"/proc/net/dev", "eth0: 1 1 0 0 0 0 0 0 2 1 0 0 0 0 0 0\n"}});
  host.edit_facts().boot_id = "boot";
  host.put("/dev/pts/0", FakeFile{FileType::other, "", 0620, 1000, 5});
  host.put("/dev/pts/ptmx", FakeFile{FileType::other, "", 0});
  host.answer({"busctl", "--json=short"}, {0, R"x({"type":"a(ssssuu)","data":[[["shutdown","backup","copies","block",0,9]]]})x", ""});
  const TemporaryDirectory folder;
  const IdleSample sample = take_sample(host, {folder.path(), folder.path()}, 900);
  EXPECT_EQ(sample.boot, "boot");
  ASSERT_EQ(sample.processes.size(), 1U);
  EXPECT_EQ(sample.processes[0].name, "python3");
  ASSERT_EQ(sample.network.size(), 1U);
  ASSERT_EQ(sample.marks.size(), 1U);
  EXPECT_EQ(sample.marks[0].sign.text, "somebody types at pts/0 (ubuntu)");
  EXPECT_THAT(texts_of(sample.now), ElementsAre("backup keeps the host from shutting down: copies"));
  EXPECT_THAT(host.changes(), IsEmpty());
}

TEST(Sampling, AsksForGpusOnlyWhereThereAreSome) {
  FakeHost host;
  host.answer({"nvidia-smi", "--query-gpu=index,utilization.gpu"}, {0, "0, 88\n", ""});
  const TemporaryDirectory folder;
  EXPECT_THAT(texts_of(take_sample(host, {folder.path(), folder.path()}, 1).now), IsEmpty());
  host.edit_facts().driver = "580.95.05";
  EXPECT_THAT(texts_of(take_sample(host, {folder.path(), folder.path()}, 1).now), Contains("GPU 0 is 88 % busy"));
}

}  // namespace
}  // namespace gpustrap
