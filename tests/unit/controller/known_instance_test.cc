#include "controller/known_instance.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>

#include "agent/base/file.h"
#include "tests/support/temporary_directory.h"

namespace gpustrap {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

constexpr const char* kKey = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIH0LZBjSk9xQxTO0kPKfnrUC6aGdpVjHkZ2a0eV4nVbk";

/// In a home of its own: what is remembered lies below HOME.
class KnownInstanceTest : public ::testing::Test {
 protected:
  KnownInstanceTest() : state_(folder_ / "state") {
    for (const char* name : {"HOME", "XDG_STATE_HOME"}) {
      const char* value = std::getenv(name);
      before_.emplace_back(name, value == nullptr ? std::nullopt : std::optional<std::string>(value));
      ::setenv(name, folder_.path().c_str(), 1);
    }
  }
  ~KnownInstanceTest() override {
    for (const auto& [name, value] : before_) value ? ::setenv(name, value->c_str(), 1) : ::unsetenv(name);
  }
  static Ec2Instance instance(const std::string& id, const std::string& name) {
    Ec2Instance one;
    one.id = id;
    one.tags = {{kOwnerTag, name}};
    return one;
  }
  InstanceRecord know(const Ec2Instance& one, const std::string& address, const std::string& region = "us-east-1") {
    InstanceRecord record{address, "ubuntu", folder_ / "key", {kKey}, "", region};
    const Result<void> known = make_known(state_, one, record, [this](const std::string& sentence) { said_.push_back(sentence); });
    EXPECT_TRUE(known) << known.error().sentence();
    return record;
  }
  static std::vector<std::string> names() {
    std::vector<std::string> names;
    const std::vector<RememberedHost> hosts = *HostsFile::open()->load();
    for (const RememberedHost& host : hosts) names.push_back(host.host + " at " + host.address);
    return names;
  }
  std::string known_hosts() const { return read_file(folder_ / ".ssh/known_hosts").value_or(""); }

  TemporaryDirectory folder_;
  std::string state_;
  std::vector<std::string> said_;
  std::vector<std::pair<const char*, std::optional<std::string>>> before_;
};

TEST_F(KnownInstanceTest, IsAHostByItsNameAndByItsAddress) {
  EXPECT_EQ(know(instance("i-1", "lab"), "203.0.113.7").host, "lab");
  EXPECT_THAT(said_, IsEmpty());
  for (const char* word : {"lab", "203.0.113.7"}) {
    const auto found = HostsFile::open()->find(word);
    ASSERT_TRUE(found && found->has_value()) << word;
    EXPECT_EQ((*found)->address, "203.0.113.7");
    EXPECT_EQ((*found)->user, "ubuntu");
    EXPECT_THAT((*found)->identities, ElementsAre(folder_ / "key"));
  }
  EXPECT_THAT(known_hosts(), HasSubstr(std::string("203.0.113.7 ") + kKey));
}

TEST_F(KnownInstanceTest, TakesWhatIsRememberedOfItToItsNewAddress) {
  const Ec2Instance lab = instance("i-1", "lab");
  know(lab, "203.0.113.7");
  RememberedHost entry = **HostsFile::open()->find("lab");
  entry.recipe = "d2l";
  entry.local_port = 8890;
  ASSERT_TRUE(HostsFile::open()->remember(entry));
  know(lab, "203.0.113.8");
  EXPECT_THAT(names(), ElementsAre("lab at 203.0.113.8"));
  EXPECT_EQ((*HostsFile::open()->find("lab"))->recipe, "d2l");
  EXPECT_EQ((*HostsFile::open()->find("lab"))->local_port, 8890);
  EXPECT_THAT(known_hosts(), Not(HasSubstr("203.0.113.7")));
  EXPECT_THAT(known_hosts(), HasSubstr(std::string("203.0.113.8 ") + kKey));
}

TEST_F(KnownInstanceTest, ForgetsWhoHadItsAddressBefore) {
  know(instance("i-1", "old"), "203.0.113.7");
  ASSERT_TRUE(HostsFile::open()->remember(RememberedHost{"203.0.113.9"}));
  know(instance("i-2", "lab"), "203.0.113.7");
  EXPECT_THAT(names(), ElementsAre("lab at 203.0.113.7", "203.0.113.9 at "));
}

TEST_F(KnownInstanceTest, NeverTakesAnotherHostsName) {
  ASSERT_TRUE(HostsFile::open()->remember(RememberedHost{"lab", "", "", "me"}));
  EXPECT_EQ(know(instance("i-1", "lab"), "203.0.113.7").host, "203.0.113.7");
  EXPECT_THAT(said_, ElementsAre(HasSubstr("`lab` is another host that gpustrap remembers; as a host this one is called 203.0.113.7")));
  EXPECT_EQ((*HostsFile::open()->find("lab"))->user, "me");
  know(instance("i-1", "lab"), "203.0.113.7");
  EXPECT_EQ(said_.size(), 1U) << "told once";
}

TEST_F(KnownInstanceTest, OfTheSameNameInAnotherRegionIsCalledByItsAddress) {
  know(instance("i-1", "lab"), "203.0.113.7");
  EXPECT_EQ(know(instance("i-2", "lab"), "203.0.113.8", "eu-west-1").host, "203.0.113.8");
  EXPECT_THAT(said_, ElementsAre(HasSubstr("i-1 in us-east-1")));
  // In the same region a name is one instance's: the first is over.
  EXPECT_EQ(know(instance("i-3", "lab"), "203.0.113.10").host, "lab");
  EXPECT_EQ((*HostsFile::open()->find("lab"))->address, "203.0.113.10");
}

TEST_F(KnownInstanceTest, GoesWithItsKeysWhenItIsOver) {
  const Ec2Instance lab = instance("i-1", "lab");
  know(lab, "203.0.113.7");
  know(instance("i-2", "other"), "203.0.113.8");
  forget(state_, lab);
  EXPECT_THAT(names(), ElementsAre("other at 203.0.113.8"));
  EXPECT_THAT(known_hosts(), Not(HasSubstr("203.0.113.7")));
  EXPECT_FALSE(load_instance(state_, "i-1"));
}

}  // namespace
}  // namespace gpustrap
