#include "controller/fleet_hosts.h"

#include <cstdlib>
#include <filesystem>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "agent/base/file.h"
#include "agent/protocol/json.h"
#include "controller/fleet_hosts_builder.h"
#include "tests/support/folders.h"
#include "tests/support/golden_file.h"

namespace gpustrap {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

FleetHosts read(const std::string& text, const std::string& label = "hosts.yaml") {
  const Result<FleetHosts> hosts = read_fleet_hosts(text, label);
  EXPECT_TRUE(hosts.has_value()) << hosts.error().sentence();
  return hosts.value_or(FleetHosts{});
}

std::vector<std::string> names_of(const FleetHosts& hosts) {
  std::vector<std::string> names;
  for (const FleetHost& host : hosts.hosts) names.push_back(host.name);
  return names;
}

/// "NAME=VALUE" of each var.
std::vector<std::string> vars_of(const FleetHost& host) {
  std::vector<std::string> vars;
  for (const HostVar& var : host.settings.vars) vars.push_back(var.name + "=" + var.value->dump());
  return vars;
}

constexpr const char* kHosts =
    "user: ubuntu\n"
    "key: keys/lab.pem\n"
    "vars: { python: \"3.11\", port: 8888 }\n"
    "hosts:\n"
    "  head: { address: 203.0.113.7, private_address: 10.0.0.7, vars: { port: 9000 } }\n"
    "  worker1: admin@203.0.113.8\n"
    "  worker2: { address: gpu2.example.org, port: 2222, user: root, key: /keys/own.pem }\n"
    "  spare:\n"
    "groups:\n"
    "  workers: [worker1, worker2]\n"
    "  cluster: { hosts: head, groups: [workers], vars: { python: \"3.12\" } }\n";

TEST(FleetHosts, TheNearestSettingCounts) {
  const FleetHosts hosts = read(kHosts, "lab/hosts.yaml");
  ASSERT_THAT(names_of(hosts), ElementsAre("head", "worker1", "worker2", "spare"));
  const HostSettings& head = hosts.hosts[0].settings;
  EXPECT_EQ(head.address, "203.0.113.7");
  EXPECT_EQ(head.private_address, "10.0.0.7");
  EXPECT_EQ(head.user, "ubuntu");
  EXPECT_THAT(head.identities, ElementsAre("lab/keys/lab.pem")) << "relative to the file that says it";
  EXPECT_THAT(vars_of(hosts.hosts[0]), ElementsAre("python=\"3.12\"", "port=9000"));
  EXPECT_EQ(hosts.hosts[1].settings.user, "admin");
  EXPECT_EQ(hosts.hosts[1].settings.private_address, "203.0.113.8");
  EXPECT_EQ(hosts.hosts[2].settings.user, "root");
  EXPECT_EQ(hosts.hosts[2].settings.port, 2222);
  EXPECT_THAT(hosts.hosts[2].settings.identities, ElementsAre("/keys/own.pem"));
  EXPECT_EQ(hosts.hosts[3].settings.address, "spare");
  EXPECT_THAT(vars_of(hosts.hosts[3]), ElementsAre("python=\"3.11\"", "port=8888"));
}

TEST(FleetHosts, AHostIsInTheGroupsOfItsGroupsToo) {
  const FleetHosts hosts = read(kHosts);
  EXPECT_THAT(hosts.hosts[0].groups, ElementsAre("cluster"));
  EXPECT_THAT(hosts.hosts[1].groups, ElementsAre("workers", "cluster"));
  EXPECT_THAT(hosts.hosts[3].groups, IsEmpty());
  EXPECT_THAT(hosts.groups, ElementsAre("workers", "cluster"));
}

TEST(FleetHosts, MayBeAListWithRanges) {
  const FleetHosts hosts = read("hosts: [\"gpu[08:10].lab\", ubuntu@203.0.113.7]\ngroups: { ten: [gpu10.lab], few: \"gpu[08:09].lab\" }\n");
  ASSERT_THAT(names_of(hosts), ElementsAre("gpu08.lab", "gpu09.lab", "gpu10.lab", "203.0.113.7"));
  EXPECT_EQ(hosts.hosts[3].settings.user, "ubuntu");
  EXPECT_THAT(hosts.hosts[0].groups, ElementsAre("few"));
  EXPECT_THAT(hosts.hosts[2].groups, ElementsAre("ten"));
}

TEST(FleetHosts, RangesAreThoseOfAnsible) {
  EXPECT_THAT(unfold_ranges("web[01:03]"), ElementsAre("web01", "web02", "web03"));
  EXPECT_THAT(unfold_ranges("[a:c]-[1:2].x"), ElementsAre("a-1.x", "a-2.x", "b-1.x", "b-2.x", "c-1.x", "c-2.x"));
  EXPECT_THAT(unfold_ranges("n[0:6:3]"), ElementsAre("n0", "n3", "n6"));
  EXPECT_THAT(unfold_ranges("n[:2]"), ElementsAre("n0", "n1", "n2"));
  for (const char* bad : {"n[", "n[1]", "n[3:1]", "n[1:2:0]", "n[1:z]", "n[0:99999999]", "n[1:999][1:999]"})
    EXPECT_THAT(unfold_ranges(bad), IsEmpty()) << bad;
}

constexpr const char* kIni =
    "# a comment\n"
    "bastion ansible_host=203.0.113.1\n"
    "\n"
    "[gpus]\n"
    "gpu[1:2] ansible_user=ubuntu batch=64 note=\"two words\"  # both\n"
    "gpu3:2222 ansible_ssh_private_key_file=/keys/own.pem\n"
    "[cluster:children]\n"
    "gpus\n"
    "[cluster:vars]\n"
    "ansible_user=admin\n"
    "python = \"3.12\"\n"
    "ansible_become=true\n"
    "ansible_ssh_common_args=-o ProxyJump=bastion\n"
    "[all:vars]\n"
    "python=3.11\n"
    "ansible_port=2200\n";

TEST(FleetHosts, ReadsAnAnsibleInventoryInIniForm) {
  const FleetHosts hosts = read(kIni, "inventory");
  ASSERT_THAT(names_of(hosts), ElementsAre("bastion", "gpu1", "gpu2", "gpu3"));
  EXPECT_EQ(hosts.hosts[0].settings.address, "203.0.113.1");
  EXPECT_THAT(hosts.hosts[0].groups, IsEmpty());
  EXPECT_EQ(hosts.hosts[0].settings.port, 2200);
  EXPECT_EQ(hosts.hosts[1].settings.user, "ubuntu") << "the host's own before its group's";
  EXPECT_THAT(vars_of(hosts.hosts[1]), ElementsAre("python=\"3.12\"", "batch=64", "note=\"two words\""));
  EXPECT_THAT(hosts.hosts[1].groups, ElementsAre("gpus", "cluster"));
  EXPECT_EQ(hosts.hosts[3].settings.user, "admin");
  EXPECT_EQ(hosts.hosts[3].settings.port, 2222);
  EXPECT_THAT(hosts.hosts[3].settings.identities, ElementsAre("/keys/own.pem"));
  ASSERT_EQ(hosts.notices.size(), 1U) << "become is Ansible's own affair";
  EXPECT_THAT(hosts.notices[0], HasSubstr("inventory:13:1: `ansible_ssh_common_args` is not followed"));
}

TEST(FleetHosts, ReadsAnAnsibleInventoryInYaml) {
  const FleetHosts hosts = read(
      "all:\n  vars: { ansible_user: ubuntu }\n  hosts: { bastion: {} }\n  children:\n    cluster:\n      children:\n"
      "        gpus: { hosts: { \"gpu[1:2]\": { ansible_port: 2222 } }, vars: { batch: 64, shapes: [a, b], deep: { a: b } } }\n");
  ASSERT_THAT(names_of(hosts), ElementsAre("bastion", "gpu1", "gpu2"));
  EXPECT_EQ(hosts.hosts[1].settings.user, "ubuntu");
  EXPECT_EQ(hosts.hosts[1].settings.port, 2222);
  EXPECT_THAT(hosts.hosts[1].groups, ElementsAre("cluster", "gpus"));
  EXPECT_THAT(vars_of(hosts.hosts[1]), ElementsAre("batch=64", "shapes=[\"a\",\"b\"]"));
  ASSERT_EQ(hosts.notices.size(), 1U);
  EXPECT_THAT(hosts.notices[0], HasSubstr("`deep` is not taken as a var"));
}

TEST(FleetHosts, WhatIsNamedIsChosen) {
  const FleetHosts hosts = read(kHosts);
  EXPECT_THAT(*select_hosts(hosts, "workers"), ElementsAre(1, 2));
  EXPECT_THAT(*select_hosts(hosts, "spare, head,cluster"), ElementsAre(0, 1, 2, 3));
  const Result<std::vector<std::size_t>> none = select_hosts(hosts, "worker");
  ASSERT_FALSE(none.has_value());
  EXPECT_THAT(none.error().why(), HasSubstr("did you mean `work"));
}

/// tests/golden/bad_hosts/NAME.yaml or .ini, and what is said of it in NAME.txt.
TEST(FleetHosts, BadOnesGetTheirSentences) {
  std::size_t count = 0;
  for (const auto& entry : fs::directory_iterator(source_folder() + "/tests/golden/bad_hosts")) {
    if (entry.path().extension() == ".txt") continue;
    ++count;
    const std::string label = "hosts" + entry.path().extension().string();
    const Result<FleetHosts> hosts = read_fleet_hosts(read_file(entry.path()).value_or(""), label);
    ASSERT_FALSE(hosts.has_value()) << entry.path();
    expect_golden("bad_hosts/" + entry.path().stem().string() + ".txt", hosts.error().why() + "\n");
  }
  EXPECT_GE(count, 9U);
}

TEST(FleetHosts, AProgramOrAFolderIsNoHostsFile) {
  const Result<FleetHosts> folder = load_fleet_hosts(source_folder());
  ASSERT_FALSE(folder.has_value());
  EXPECT_THAT(folder.error().hint(), HasSubstr("ansible-inventory"));
  EXPECT_EQ(load_fleet_hosts(source_folder() + "/no-such-file").error().code(), ErrorCode::usage);
  const Result<FleetHosts> program = load_fleet_hosts(source_folder() + "/dev");
  ASSERT_FALSE(program.has_value());
  EXPECT_THAT(program.error().why(), HasSubstr("is a program"));
}

}  // namespace
}  // namespace gpustrap
