#include "agent/steps/apt_packages.h"

#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/fake_host.h"

namespace gpustrap {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

const std::string kDigest(64, 'a');

std::vector<FetchRequest> named(const std::string& said, int exit_code = 0) {
  FakeHost host;
  host.answer({"apt-get", "-q", "-y", "-o", "Debug::NoLocking=1", "--print-uris", "install", "--", "bc"}, {exit_code, said, ""});
  return packages_to_fetch(host, {"install", "--", "bc"});
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

TEST(AptPackages, NobodyAsksAptWhereNothingCameAhead) {
  FakeHost host;
  RecordingLog log;
  hand_over_packages(host, log, {"install", "--", "bc"});
  EXPECT_THAT(log.lines, IsEmpty());
  for (const std::string& look : host.looks()) EXPECT_EQ(look.find("apt-get"), std::string::npos) << look;
}

}  // namespace
}  // namespace gpustrap
