#include "controller/cloud/launch.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sys/stat.h>

#include <fstream>

#include "agent/base/file.h"
#include "agent/base/subprocess.h"
#include "controller/cloud/host_keys.h"
#include "controller/cloud/prices.h"
#include "tests/support/fake_cloud.h"
#include "tests/support/temporary_directory.h"

namespace gpustrap {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::MatchesRegex;
using ::testing::Not;
using ::testing::SizeIs;

const std::string kKeyText(68, 'A');

TEST(HostKeys, AreReadFromTheLastWholeBlock) {
  const std::string block =
      "-----BEGIN SSH HOST KEY KEYS-----\r\nssh-ed25519 " + kKeyText + " root@ip\r\n-----END SSH HOST KEY KEYS-----\r\n";
  EXPECT_THAT(host_keys_in("boot\n" + block), ElementsAre("ssh-ed25519 " + kKeyText));
  const std::string later =
      "[   21.5] cloud-init[812]: -----BEGIN SSH HOST KEY KEYS-----\n[   21.5] cloud-init[812]: ecdsa-sha2-nistp256 " + kKeyText +
      " root@ip\n[   21.5] cloud-init[812]: -----END SSH HOST KEY KEYS-----\n";
  EXPECT_THAT(host_keys_in(block + later), ElementsAre("ecdsa-sha2-nistp256 " + kKeyText));
  EXPECT_THAT(host_keys_in(block.substr(0, block.size() - 20)), IsEmpty()) << "a block that is still being printed";
}

TEST(HostKeys, TakeNothingThatIsNoKey) {
  for (const std::string& bad :
       std::vector<std::string>{std::string("ssh-dss ") + kKeyText, std::string("ssh-ed25519 short"),
                                std::string("ssh-ed25519 ") + kKeyText + "!\n@cert-authority *", std::string("evil.example ssh-rsa")}) {
    EXPECT_THAT(host_keys_in("-----BEGIN SSH HOST KEY KEYS-----\n" + bad + "\n-----END SSH HOST KEY KEYS-----\n"), IsEmpty()) << bad;
  }
}

TEST(HostKeys, ArePinnedInPlaceOfWhatTheAddressHadBefore) {
  const TemporaryDirectory folder;
  const std::string path = folder / "ssh/known_hosts";
  ASSERT_TRUE(pin_host_keys(path, "203.0.113.7", {"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIH0LZBjSk9xQxTO0kPKfnrUC6aGdpVjHkZ2a0eV4nVbk"}));
  std::ofstream(path, std::ios::app)
      << "other.example ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKm0mHVM1Ya0aRnkTLeu0mUJnKcYVYbQyD3fXUGGHTSm";  // no newline
  ASSERT_TRUE(pin_host_keys(path, "203.0.113.7", {"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBs4PNbEYzLtJ1yMo3hzBE0Vf1Jk5tX7kmhp6jN6lS5F"}));
  const std::string text = *read_file(path);
  EXPECT_THAT(text, HasSubstr("other.example"));
  EXPECT_THAT(text, HasSubstr("\n203.0.113.7 ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBs4"));
  EXPECT_THAT(text, Not(HasSubstr("IH0LZBjSk9")));
  ASSERT_TRUE(forget_host_keys(path, "203.0.113.7"));
  EXPECT_THAT(*read_file(path), Not(HasSubstr("203.0.113.7")));
}

TEST(HostKeys, AFileThatHoldsOtherThingsIsNotWrittenOver) {
  const TemporaryDirectory folder;
  std::ofstream(folder / "known_hosts") << "shopping list\n";
  const Result<void> pinned = pin_host_keys(folder / "known_hosts", "203.0.113.7", {"ssh-ed25519 " + kKeyText});
  ASSERT_FALSE(pinned);
  EXPECT_EQ(pinned.error().code(), ErrorCode::io);
  EXPECT_THAT(pinned.error().why(), AllOf(HasSubstr("ssh-keygen -R 203.0.113.7: "), HasSubstr("known_hosts:1: invalid line")));
  EXPECT_EQ(pinned.error().hint(), "put " + (folder / "known_hosts") + " right, or move it away");
  EXPECT_EQ(*read_file(folder / "known_hosts"), "shopping list\n");
}

TEST(OwnKeys, AreOfTheKindsThatEc2Takes) {
  const TemporaryDirectory folder;
  Subprocess keygen;
  keygen.argv = {"ssh-keygen", "-q", "-t", "ecdsa", "-N", "", "-f", folder / "key"};
  ASSERT_EQ(run_subprocess(keygen)->exit_code, 0);
  const Result<OwnKey> said = own_key(folder / "key", MakeKey::never);
  ASSERT_FALSE(said);
  EXPECT_EQ(said.error().code(), ErrorCode::usage);
  EXPECT_EQ(said.error().why(), "-i " + (folder / "key") + ": EC2 takes ed25519 and RSA keys alone");
  EXPECT_EQ(said.error().hint(), "leave -i out, and gpustrap makes one");
  EXPECT_THAT(own_key(folder / "key", MakeKey::where_missing).error().hint(), HasSubstr("move it away, and it makes another"));
}

TEST(OwnKeys, AreMadeOnceAndNeverWrittenOver) {
  const TemporaryDirectory folder;
  const std::string path = folder / "keys/ec2";
  const Result<OwnKey> made = own_key(path, MakeKey::where_missing);
  ASSERT_TRUE(made) << made.error().sentence();
  struct stat info {};
  ASSERT_EQ(::stat(path.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777U, 0600U);
  EXPECT_THAT(made->public_key, HasSubstr("ssh-ed25519 "));
  const std::string before = *read_file(path);
  EXPECT_EQ(own_key(path, MakeKey::where_missing)->name(), made->name());
  EXPECT_EQ(*read_file(path), before);
  EXPECT_EQ(own_key(folder / "none", MakeKey::never).error().code(), ErrorCode::usage);
  std::ofstream(folder / "odd") << "not a key\n";
  EXPECT_THAT(own_key(folder / "odd", MakeKey::where_missing).error().why(), HasSubstr("cannot be read"));
  EXPECT_THAT(own_key(folder / "odd", MakeKey::where_missing).error().why(), Not(HasSubstr("-i"))) << "nobody said -i";
  EXPECT_THAT(own_key(folder / "odd", MakeKey::never).error().why(), HasSubstr("-i "));
  EXPECT_EQ(*read_file(folder / "odd"), "not a key\n");
}

/// What ssh-keygen and openssl say of two keys.
TEST(OwnKeys, AreComparedWithTheFingerprintsThatCloudsTell) {
  const std::string rsa =
      "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABAQCyvNS4xam/QHiHIyw2gMEFSBBDtAzUkXYZUM2nGViBHQHJVUY85Zz7bP93MQ11QV7PNgYwQ0IWWhlvoQLhTCInlx0XQslF"
      "dWFIlwjWDWQ7SVI95Sh8MWxH01+JaG9rYf0zsB2h4xRZ/Yr5CJKAEgc3KT6akflu0yWaWb+N2Cs/CjBe/Gvg2Kh+Vd7/"
      "Ec71Vg4okg5RyrnKU6TM3UQd469VxT2d6by2VpkdC"
      "76QxeSTE2sKF71GVj0r+oB+wd28fvOY1xod2a/v5M++lxlx4EsOMb/psMW0PSbd8+h4+YZxS41O5gfeh2+JqT7JAo6RuhnFJBaW9TgZM3XdWqc4Hts1 x";
  const std::string ed25519 = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIIJ5D49EHTCCwFd+stgby/NIT6dRSZHNutu7d91X0JMm x";
  const std::string md5 = "86:0e:a4:d9:4f:bb:87:d8:b7:5e:0f:0f:cb:0f:50:b8";
  EXPECT_EQ(has_fingerprint(rsa, md5), true) << "AWS, of an RSA key that was imported";
  EXPECT_EQ(has_fingerprint(rsa, "86:0E:A4:D9:4F:BB:87:D8:B7:5E:0F:0F:CB:0F:50:B8"), true);
  EXPECT_EQ(has_fingerprint(ed25519, md5), false);
  for (const char* sha256 : {"YqyHyuVhHI/McpgiWHT//qlol1OPezr3hqb9cfoK6Kk=", "SHA256:YqyHyuVhHI/McpgiWHT//qlol1OPezr3hqb9cfoK6Kk"}) {
    EXPECT_EQ(has_fingerprint(ed25519, sha256), true) << sha256;
    EXPECT_EQ(has_fingerprint(rsa, sha256), false);
  }
  EXPECT_EQ(has_fingerprint(ed25519, "6c:e2:89:91:ac:3b:52:f3:a3:3a:9e:ed:7d:9b:de:b7:5f:25:f7:91:be:bd:7b:fe:62:5b:b3:e1:9c:ac:f2:15"),
            true);
  for (const char* unknown : {"", "?", "1f:51:ae:28:bf:89:e9:d8:1f:25:5d:37:2d:7d:b8:ca:9f:f5:f1:6f"})
    EXPECT_EQ(has_fingerprint(rsa, unknown), std::nullopt) << unknown;
  EXPECT_EQ(has_fingerprint("ssh-ed25519", md5), std::nullopt);
  EXPECT_EQ(has_fingerprint("ssh-ed25519 AAAA", md5), std::nullopt);
}

std::string identity_of(const std::string& account) {
  return "<GetCallerIdentityResponse><GetCallerIdentityResult><Account>" + account +
         "</Account></GetCallerIdentityResult></GetCallerIdentityResponse>";
}

/// Where a profile's orders are kept, or why that is not known.
std::string place_of(const std::string& state, const std::string& profile, FakeCloud::Answers& cloud, const std::string& endpoint = "") {
  AwsSettings settings = account_settings("eu-west-1");
  settings.profile = profile;
  const Variables usual = settings.variables;
  settings.variables = [=](const std::string& name) {
    return name == "AWS_ENDPOINT_URL" || name == "AWS_ENDPOINT_URL_EC2" ? endpoint : usual(name);
  };
  FakeTime time;
  AwsClient client(settings, std::make_unique<FakeCloud>(cloud), time.clock());
  const Result<std::string> place = order_place(client, state);
  return place ? *place : place.error().sentence();
}

TEST(OrderRecords, AreOfOneAccountWhateverTheProfile) {
  const TemporaryDirectory folder;
  FakeCloud::Answers first, second;
  first.answers["GetCallerIdentity"] = identity_of("111111111111");
  second.answers["GetCallerIdentity"] = identity_of("222222222222");
  EXPECT_EQ(place_of(folder.path(), "default", first), "eu-west-1+111111111111");
  EXPECT_EQ(place_of(folder.path(), "work", first), "eu-west-1+111111111111") << "another profile of the same account";
  EXPECT_EQ(place_of(folder.path(), "default", second), "eu-west-1+222222222222") << "the profile's keys are others now";
  EXPECT_EQ(place_of(folder.path(), "default", first, "https://vpce-1.ec2.eu-west-1.vpce.amazonaws.com"), "eu-west-1+111111111111")
      << "another door to the same accounts";
}

TEST(OrderRecords, AreOfOneCloud) {
  const TemporaryDirectory folder;
  FakeCloud::Answers cloud;
  const std::string here = place_of(folder.path(), "default", cloud, "http://127.0.0.1:5000");
  EXPECT_THAT(here, MatchesRegex("eu-west-1\\+123456789012\\+[0-9a-f]{16}"));
  EXPECT_NE(place_of(folder.path(), "default", cloud, "http://127.0.0.1:5001"), here) << "each cloud may have an account of that number";
  cloud.answers["GetCallerIdentity"] = identity_of("../../x");
  EXPECT_THAT(place_of(folder.path(), "default", cloud, "http://127.0.0.1:5000"), MatchesRegex("eu-west-1\\+[0-9a-f]{16}\\+[0-9a-f]{16}"));
}

TEST(OrderRecords, OfACloudThatTellsNoAccountAreOfTheKeys) {
  const TemporaryDirectory folder;
  FakeCloud::Answers cloud;
  cloud.refusals["GetCallerIdentity"] = {400, "InvalidAction"};
  EXPECT_THAT(place_of(folder.path(), "default", cloud, "http://127.0.0.1:5000"),
              MatchesRegex("eu-west-1\\+key-[0-9a-f]{16}\\+[0-9a-f]{16}"));
  EXPECT_THAT(place_of(folder.path(), "default", cloud), HasSubstr("finding out which account the keys are of"))
      << "AWS tells everybody: then something else is wrong";
  cloud.refusals["GetCallerIdentity"] = {503, "RequestLimitExceeded"};
  EXPECT_THAT(place_of(folder.path(), "default", cloud, "http://127.0.0.1:5000"), HasSubstr("no more requests"))
      << "it may tell in a minute";
}

TEST(OrderRecords, OfAnEarlierVersionMoveToTheAccountOfTheirProfile) {
  const TemporaryDirectory folder;
  const AwsTime now = *read_iso_time("2026-11-21T12:00:00Z");
  const Ec2Order order{"ami-1", "g5.xlarge", "k", "sg-1", "subnet-1", "/dev/sda1", 64, true, "token", "", {{"gpustrap", "lab"}}};
  ASSERT_TRUE(OrderRecord(folder.path(), "eu-west-1", "lab").save(order, now));
  ASSERT_TRUE(OrderRecord(folder.path(), "eu-west-1@work%2F..%2Fx", "mine").save(order, now));
  EXPECT_THAT(regions_with_orders(folder.path()), ElementsAre("eu-west-1"));
  FakeCloud::Answers cloud;
  const std::string place = place_of(folder.path(), "default", cloud);
  EXPECT_TRUE(OrderRecord(folder.path(), place, "lab").load(now));
  EXPECT_FALSE(OrderRecord(folder.path(), "eu-west-1", "lab").load(now)) << "another account does not find it";
  EXPECT_FALSE(OrderRecord(folder.path(), place, "mine").load(now)) << "it is another profile's";
  EXPECT_EQ(place_of(folder.path(), "work/../x", cloud), place);
  EXPECT_TRUE(OrderRecord(folder.path(), place, "mine").load(now));
  EXPECT_THAT(regions_with_orders(folder.path()), ElementsAre("eu-west-1"));
  OrderRecord(folder.path(), place, "lab").remove();
  OrderRecord(folder.path(), place, "mine").remove();
  EXPECT_THAT(regions_with_orders(folder.path()), IsEmpty());
}

TEST(OrderRecords, OutliveACrashButNotTheirToken) {
  const TemporaryDirectory folder;
  const OrderRecord record(folder.path(), "us-east-1", "lab");
  const AwsTime now = *read_iso_time("2026-11-21T12:00:00Z");
  EXPECT_FALSE(record.load(now));
  const Ec2Order order{"ami-1", "g5.xlarge", "k", "sg-1", "subnet-1", "/dev/sda1", 64, true, "token", "", {{"gpustrap", "lab"}}};
  ASSERT_TRUE(record.save(order, now));
  const std::optional<Ec2Order> read = record.load(now + std::chrono::hours(1));
  ASSERT_TRUE(read);
  EXPECT_EQ(parameters_of(*read), parameters_of(order)) << "the same token with other parameters is refused";
  EXPECT_FALSE(record.load(now + std::chrono::hours(21)));
  const std::vector<OpenOrder> open = open_orders(folder.path(), "us-east-1", now);
  ASSERT_THAT(open, SizeIs(1));
  EXPECT_EQ(open[0].name, "lab");
  EXPECT_EQ(open[0].order.type, "g5.xlarge");
  EXPECT_THAT(open_orders(folder.path(), "eu-west-1", now), IsEmpty());
  record.remove();
  EXPECT_FALSE(record.load(now));
  EXPECT_THAT(open_orders(folder.path(), "us-east-1", now), IsEmpty());
}

TEST(OrderRecords, AreForOneCommandAtATime) {
  const TemporaryDirectory folder;
  const OrderRecord record(folder.path(), "us-east-1", "lab");
  {
    const Result<UniqueFd> first = record.lock();
    ASSERT_TRUE(first);
    EXPECT_EQ(OrderRecord(folder.path(), "us-east-1", "lab").lock().error().code(), ErrorCode::busy);
    EXPECT_TRUE(OrderRecord(folder.path(), "us-east-1", "other").lock());
  }
  EXPECT_TRUE(record.lock());
}

TEST(InstanceNames, BecomeFilesAndTags) {
  for (const char* good : {"lab", "t4", "i-0123", "a.b_c-d"}) EXPECT_TRUE(is_instance_name(good)) << good;
  for (const char* bad : {"", "-lab", "../x", "a b", "a/b", ".hidden"}) EXPECT_FALSE(is_instance_name(bad)) << bad;
}

TEST(InstanceNames, AreNotTakenForIdsOrSystems) {
  for (const char* word : {"i-0123456789abcdef0", "i-lab", "ami-1", "dlami", "ubuntu", "debian"})
    EXPECT_TRUE(means_something_else(word)) << word;
  for (const char* name : {"lab", "image", "amiga", "ubuntu-lab", "my-i-1"}) EXPECT_FALSE(means_something_else(name)) << name;
}

TEST(KnownInstances, AreFoundByTheirNameInWhateverRegion) {
  const TemporaryDirectory folder;
  const auto save = [&](const std::string& id, const std::string& name, const std::string& host, const std::string& region) {
    ASSERT_TRUE(save_instance(folder.path(), id, {"203.0.113.7", "ubuntu", "", {}, host, region, name}));
  };
  save("i-1", "lab", "lab", "us-east-1");
  save("i-2", "lab", "203.0.113.7", "eu-west-1");
  save("i-3", "far", "far", "eu-west-1");
  save("i-4", "", "old", "ap-south-1");  // as earlier versions wrote it
  std::ofstream(folder / "ec2/prices-us-east-1.json") << "{}";
  const std::vector<KnownInstance> known = known_instances(folder.path());
  ASSERT_THAT(known, SizeIs(4));
  EXPECT_THAT(other_regions_of(known, "lab", "us-east-1"), ElementsAre("eu-west-1"));
  EXPECT_THAT(other_regions_of(known, "far", "us-east-1"), ElementsAre("eu-west-1"));
  EXPECT_THAT(other_regions_of(known, "i-3", "us-east-1"), ElementsAre("eu-west-1"));
  EXPECT_THAT(other_regions_of(known, "old", "us-east-1"), ElementsAre("ap-south-1"));
  EXPECT_THAT(other_regions_of(known, "far", "eu-west-1"), IsEmpty());
  EXPECT_THAT(other_regions_of(known, "none", "us-east-1"), IsEmpty());
  ASSERT_TRUE(OrderRecord(folder.path(), "us-west-2+123456789012", "lab").lock());
  ASSERT_TRUE(OrderRecord(folder.path(), "sa-east-1@work", "lab").lock());  // as earlier versions called it
  EXPECT_THAT(regions_used(folder.path(), "us-east-1"), ElementsAre("ap-south-1", "eu-west-1", "sa-east-1", "us-west-2"));
}

TEST(Prices, AreOfADayAndKnowTheirGpus) {
  const PriceTable& table = builtin_prices();
  EXPECT_THAT(table.as_of, HasSubstr("2026-"));
  EXPECT_THAT(table.rows, SizeIs(::testing::Ge(20U)));
  ASSERT_NE(table.find("g4dn.xlarge"), nullptr);
  EXPECT_DOUBLE_EQ(table.find("g4dn.xlarge")->usd_per_hour, 0.526);
  EXPECT_EQ(table.types_with("t4", 1).front(), "g4dn.xlarge");
  EXPECT_EQ(table.gpu_of("g5.16xlarge"), "a10g") << "by its family";
  EXPECT_EQ(table.gpu_of("t3.micro"), "");
  for (const char* bad : {"g5.xlarge a10g 1 4 free\nas_of x", "g5.xlarge a10g 1\nas_of x", "g5.xlarge a10g 1 4 1.0"})
    EXPECT_FALSE(read_prices(bad, "t")) << bad;
}

TEST(Quotas, FollowTheFamily) {
  EXPECT_EQ(quota_code("g4dn.xlarge", false), "L-DB2E81BA");
  EXPECT_EQ(quota_code("gr6.4xlarge", true), "L-3819A6DF");
  EXPECT_EQ(quota_code("p5.48xlarge", false), "L-417A185B");
  EXPECT_EQ(quota_code("p5.48xlarge", true), "L-C4BD4855");
  EXPECT_EQ(quota_code("p6-b200.48xlarge", true), "") << "not known";
  EXPECT_EQ(quota_code("t3.micro", false), "L-1216C47A");
  EXPECT_EQ(quota_code("trn1.2xlarge", false), "");
}

TEST(LoginUsers, FollowTheImage) {
  EXPECT_EQ(login_user_of("ubuntu:24.04"), "ubuntu");
  EXPECT_EQ(login_user_of("debian-13-amd64-20261001"), "admin");
  EXPECT_EQ(login_user_of("al2023-ami-2023.6"), "ec2-user");
  EXPECT_EQ(login_user_of("Deep Learning Base OSS Nvidia Driver GPU AMI (Ubuntu 24.04)"), "ubuntu");
}

}  // namespace
}  // namespace gpustrap
