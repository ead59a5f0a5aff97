#include "agent/steps/apt_packages.h"

#include <cstdint>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "agent/base/sha256.h"
#include "tests/support/fake_host.h"

namespace gpustrap {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

const std::string kDigest(64, 'a');

void let_apt_say(FakeHost& host, const std::string& said, int exit_code = 0, const std::string& configuration = "Acquire::Retries 3\n") {
  host.answer({"apt-get", "-q", "-y", "-o", "Debug::NoLocking=1", "-o", "Acquire::ForceHash=SHA256", "--print-uris", "install", "--", "bc"},
              {exit_code, said, ""});
  host.answer({"apt-config", "dump", "--no-empty", "--format", "%f %v%n", "Acquire"}, {0, configuration, ""});
}

std::vector<FetchRequest> named(const std::string& said, int exit_code = 0, const std::string& configuration = "Acquire::Retries 3\n") {
  FakeHost host;
  let_apt_say(host, said, exit_code, configuration);
  return packages_to_fetch(host, {"install", "--", "bc"});
}

std::string package(const std::string& name, std::uint64_t size) {
  return fmt::format("'http://e.org/{}.deb' {}.deb {} SHA256:{}\n", name, name, size, sha256_hex("bytes of " + name));
}

TEST(AptPackages, AreThoseThatAptNamesWithADigest) {
  const auto packages =
      named("Reading package lists...\n'http://deb.example.org/pool/b/bc_1%3a2_amd64.deb' bc_1%3a2_amd64.deb 107040 SHA256:" + kDigest +
            "\n'https://deb.example.org/d.deb' d.deb 7 SHA256:" + kDigest + "\n");
  ASSERT_EQ(packages.size(), 2U);
  EXPECT_THAT(packages[0].urls, ElementsAre("http://deb.example.org/pool/b/bc_1%3a2_amd64.deb"));
  EXPECT_EQ(packages[0].to, "/var/cache/apt/archives/partial/bc_1%3a2_amd64.deb") << "never where apt believes what it finds";
  EXPECT_EQ(packages[0].sha256, kDigest);
  EXPECT_EQ(packages[1].urls[0], "https://deb.example.org/d.deb");
}

TEST(AptPackages, LeaveTheRestToApt) {
  for (const std::string& line :
       std::vector<std::string>{"'file:/srv/x.deb' x.deb 7 SHA256:" + kDigest, "'http://e.org/x.deb' x.deb 7 MD5Sum:0123",
                                "'http://e.org/x.deb' x.deb 7 SHA256:short", "'http://e.org/x.deb' ../x.deb 7 SHA256:" + kDigest,
                                "'http://e.org/x' /etc/x.deb 7 SHA256:" + kDigest, "http://e.org/x.deb x.deb 7 SHA256:" + kDigest,
                                "'http://e.org/x.deb' x.deb 7", std::string()}) {
    EXPECT_THAT(named(line + "\n"), IsEmpty()) << line;
  }
  EXPECT_THAT(named("'http://e.org/x.deb' x.deb 7 SHA256:" + kDigest + "\n", 100), IsEmpty());
}

TEST(AptPackages, AreLeftToAptWhereItAloneKnowsAProxy) {
  EXPECT_EQ(named(package("x", 7), 0, "Acquire::http::Proxy DIRECT\n").size(), 1U);
  EXPECT_THAT(named(package("x", 7), 0, "Acquire::http::Proxy http://10.0.0.1:3142\n"), IsEmpty());
  EXPECT_THAT(named(package("x", 7), 0, "Acquire::https::Proxy-Auto-Detect /usr/local/bin/find\n"), IsEmpty());
}

TEST(AptPackages, LargeOnesAreFetchedTheLargestFirst) {
  FakeHost host;
  host.put_directory("/var/cache/apt/archives/partial");
  RecordingLog log;
  let_apt_say(host, package("small", 1000) + package("large", 2'000'000) + package("larger", 3'000'000));
  host.serve("http://e.org/large.deb", "bytes of large");
  host.serve("http://e.org/larger.deb", "bytes of larger");
  hand_over_packages(host, log, {"install", "--", "bc"});
  EXPECT_EQ(host.content("/var/cache/apt/archives/partial/larger.deb"), "bytes of larger");
  EXPECT_EQ(host.content("/var/cache/apt/archives/partial/large.deb"), "bytes of large");
  EXPECT_EQ(host.content("/var/cache/apt/archives/partial/small.deb"), "<no file>") << "apt has it sooner";
}

TEST(AptPackages, ALargeOneAloneIsFetchedSoThatOthersCanBeHeldBackForIt) {
  FakeHost host;
  host.put_directory("/var/cache/apt/archives/partial");
  RecordingLog log;
  let_apt_say(host, package("small", 1000) + package("large", 2'000'000));
  host.serve("http://e.org/large.deb", "bytes of large");
  hand_over_packages(host, log, {"install", "--", "bc"});
  EXPECT_EQ(host.content("/var/cache/apt/archives/partial/large.deb"), "bytes of large");
}

TEST(AptPackages, SmallOnesAreLeftToApt) {
  FakeHost host;
  RecordingLog log;
  let_apt_say(host, package("small", 1000) + package("smaller", 20));
  hand_over_packages(host, log, {"install", "--", "bc"});
  EXPECT_THAT(log.lines, IsEmpty());
}

TEST(AptPackages, WhatDoesNotComeIsLeftToAptWithoutARest) {
  FakeHost host;
  RecordingLog log;
  let_apt_say(host, package("large", 2'000'000) + package("larger", 3'000'000));
  host.put("/var/cache/apt/archives/partial/larger.deb.gpustrap-part", "half");
  hand_over_packages(host, log, {"install", "--", "bc"});
  EXPECT_THAT(log.lines, testing::Contains("left to apt"));
  EXPECT_EQ(host.content("/var/cache/apt/archives/partial/larger.deb.gpustrap-part"), "<no file>");
}

}  // namespace
}  // namespace gpustrap
