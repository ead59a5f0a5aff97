#include "agent/steps/apt_mirror.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "agent/steps/apt_get.h"
#include "agent/steps/kinds.h"
#include "tests/support/fake_apt.h"
#include "tests/support/fake_host.h"

namespace gpustrap {
namespace {

using ::testing::AllOf;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::Pair;

constexpr const char* kFolder = "/var/lib/gpustrap/apt-mirror/uni";
constexpr const char* kSources =
    "# kept: http://archive.example.com/ubuntu\n"
    "deb [arch=amd64] http://archive.example.com/ubuntu/ noble main\n"
    "deb https://download.example.com/linux/ubuntu noble stable\n"
    "deb [signed-by=/k.gpg] https://other.example.com/ubuntu noble main\n";

Mirror at(const std::string& url, const std::string& from = "") {
  Mirror mirror;
  mirror.name = "uni";
  mirror.places = {{"apt", from, url}};
  return mirror;
}

FakeHost mirrored_host() {
  FakeHost host = host_with_dpkg();
  host.put("/etc/apt/sources.list", kSources);
  host.put("/etc/apt/sources.list.d/lab.sources", "Types: deb\nURIs: https://lab.example.com\nSuites: ./\n");
  host.put("/etc/apt/sources.list.d/notes.txt", "mine");
  host.edit_mirror() = at("https://mirror.example.org");
  return host;
}

TEST(MirroredSources, OnlyTheDistributionsOwnEntriesAreReplaced) {
  EXPECT_EQ(mirrored_sources(at("https://mirror.example.org"), kSources, false),
            "# kept: http://archive.example.com/ubuntu\n"
            "deb [arch=amd64] https://mirror.example.org/ubuntu noble main\n"
            "deb https://download.example.com/linux/ubuntu noble stable\n"
            "deb [signed-by=/k.gpg] https://other.example.com/ubuntu noble main\n");
}

TEST(MirroredSources, StanzasKeepTheirKeysAndOthersTheirPlaces) {
  constexpr const char* kDebian =
      "Types: deb\nURIs: http://deb.example.com/debian http://deb.example.com/debian-security\nSuites: bookworm\n"
      "Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg\n"
      "\n"
      "Types: deb\nURIs: https://other.example.com/debian\nSuites: stable\nSigned-By:\n -----BEGIN PGP PUBLIC KEY BLOCK-----\n"
      "\n"
      "Types: deb\nURIs: mirror+file:///etc/apt/mirrors/debian.list\nSuites: bookworm\n";
  EXPECT_EQ(mirrored_sources(at("http://mirror.example.org/pub/"), kDebian, true),
            "Types: deb\nURIs: http://mirror.example.org/pub/debian http://mirror.example.org/pub/debian-security\nSuites: bookworm\n"
            "Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg\n"
            "\n"
            "Types: deb\nURIs: https://other.example.com/debian\nSuites: stable\nSigned-By:\n -----BEGIN PGP PUBLIC KEY BLOCK-----\n"
            "\n"
            "Types: deb\nURIs: http://mirror.example.org/pub/debian\nSuites: bookworm\n");
}

TEST(MirroredSources, AnAddressThatIsNamedIsMeantWhoeverSignsIt) {
  const Mirror named = at("https://mirror.example.org/other", "https://other.example.com/ubuntu");
  EXPECT_THAT(mirrored_sources(named, kSources, false), AllOf(HasSubstr("[signed-by=/k.gpg] https://mirror.example.org/other noble"),
                                                              HasSubstr("http://archive.example.com/ubuntu/ noble")));
}

TEST(AptMirror, AptReadsCopiesAndTheHostsOwnStay) {
  FakeHost host = mirrored_host();
  std::vector<std::pair<std::string, std::string>> seen;
  host.on({"apt-get"}, [&](FakeHost&, const Command& command) {
    seen = command.env;
    return CommandResult{};
  });
  RecordingLog log;
  ASSERT_TRUE(update_package_lists(host, log).has_value());
  EXPECT_THAT(seen, Contains(Pair("APT_CONFIG", std::string(kFolder) + "/apt.conf")));
  EXPECT_THAT(log.lines, Contains("taking the distribution's packages from the mirror uni (https://mirror.example.org)"));
  EXPECT_EQ(host.content("/etc/apt/sources.list"), kSources);
  EXPECT_THAT(host.content(std::string(kFolder) + "/sources.list"), HasSubstr("https://mirror.example.org/ubuntu noble"));
  EXPECT_THAT(host.content(std::string(kFolder) + "/sources.list.d/lab.sources"), HasSubstr("https://lab.example.com\n"));
  EXPECT_FALSE(host.at(std::string(kFolder) + "/sources.list.d/notes.txt").has_value());
  EXPECT_EQ(host.at(std::string(kFolder) + "/sources.list")->mode, 0600U) << "sources may hold passwords";
  EXPECT_THAT(
      host.content(std::string(kFolder) + "/apt.conf"),
      AllOf(HasSubstr("Dir::Etc::SourceParts \"/var/lib/gpustrap/apt-mirror/uni/sources.list.d\";"), HasSubstr("List-Cleanup \"false\"")));
}

TEST(AptMirror, CopiesFollowTheSourcesAndAreNotTouchedOtherwise) {
  FakeHost host = mirrored_host();
  ASSERT_TRUE(prepare_apt_mirror(host).has_value());
  host.forget();
  ASSERT_TRUE(prepare_apt_mirror(host).has_value());
  EXPECT_THAT(host.changes(), Not(Contains(HasSubstr("write")))) << "apt would build its cache anew";
  host.take_away("/etc/apt/sources.list.d/lab.sources");
  ASSERT_TRUE(prepare_apt_mirror(host).has_value());
  EXPECT_FALSE(host.at(std::string(kFolder) + "/sources.list.d/lab.sources").has_value());
}

TEST(AptMirror, WithoutOneAptIsItself) {
  FakeHost host = mirrored_host();
  host.edit_mirror() = {};
  host.forget();
  Command command;
  by_apt_mirror(host, command);
  EXPECT_THAT(command.env, IsEmpty());
  ASSERT_TRUE(prepare_apt_mirror(host).has_value());
  EXPECT_THAT(host.changes(), IsEmpty());
  EXPECT_FALSE(needs_apt_mirror_lists(host, std::chrono::hours(1)));
}

TEST(AptMirror, ItsListsAreFetchedBeforeTheFirstInstallation) {
  FakeHost host = mirrored_host();
  EXPECT_TRUE(needs_apt_mirror_lists(host, std::chrono::hours(1)));
  ASSERT_TRUE(prepare_apt_mirror(host).has_value());
  ASSERT_TRUE(note_apt_mirror_lists(host).has_value());
  EXPECT_TRUE(needs_apt_mirror_lists(host, std::chrono::hours(1))) << "an update without the mirror has taken them away since";
  Command look;
  look_by_apt_mirror(host, look);
  EXPECT_THAT(look.env, IsEmpty()) << "the host's own lists say more";
  host.put("/var/lib/apt/lists/mirror.example.org_ubuntu_dists_noble_InRelease", "");
  EXPECT_FALSE(needs_apt_mirror_lists(host, std::chrono::hours(1)));
  look_by_apt_mirror(host, look);
  EXPECT_THAT(look.env, Contains(Pair("APT_CONFIG", std::string(kFolder) + "/apt.conf")));
}

TEST(AptMirror, AnErrorNamesItAndHowToGoWithout) {
  FakeHost host = mirrored_host();
  host.answer({"apt-get"},
              {100, "", "E: Failed to fetch https://mirror.example.org/ubuntu/x  Could not connect to mirror.example.org:443\n"});
  RecordingLog log;
  const Result<void> updated = update_package_lists(host, log);
  ASSERT_FALSE(updated.has_value());
  EXPECT_EQ(updated.error().code(), ErrorCode::network);
  EXPECT_THAT(updated.error().hint(), AllOf(HasSubstr("the mirror uni (https://mirror.example.org)"), HasSubstr("--mirror none")));
}

}  // namespace
}  // namespace gpustrap
