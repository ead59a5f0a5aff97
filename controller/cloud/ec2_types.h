#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "controller/cloud/aws_time.h"

// What EC2 tells, as far as gpustrap looks at it. All texts are AWS's, or those of whoever made the thing.

namespace gpustrap {

using Ec2Tags = std::map<std::string, std::string>;
/// The tag that says that gpustrap made something; its value is the name of the instance it was made for, or what it is.
constexpr const char* kOwnerTag = "gpustrap";

struct Ec2Instance {
  std::string id, type, image, key_name, zone, subnet, vpc, architecture;
  std::string state;         ///< pending, running, shutting-down, terminated, stopping, stopped
  std::string state_code;    ///< why, where EC2 says: "Client.UserInitiatedShutdown"
  std::string state_reason;  ///< the same in words
  std::string address, dns_name, private_address;
  std::string lifecycle;  ///< "spot"; empty for one on demand
  std::string client_token;
  std::optional<AwsTime> launched;
  std::optional<AwsTime> stopped;   ///< where EC2 says when
  std::vector<std::string> groups;  ///< ids
  struct Disk {
    std::string device, volume;
    bool goes_with_instance = false;
  };
  std::vector<Disk> disks;
  Ec2Tags tags;
};

struct Ec2Status {
  std::string instance, machine, system;  ///< checks: initializing, ok, impaired, insufficient-data
  struct Event {
    std::string code, description;  ///< instance-retirement, system-reboot, …
    std::optional<AwsTime> not_before;
  };
  std::vector<Event> events;  ///< that are still to come
};

struct Ec2Image {
  std::string id, name, state, root_device, architecture, owner, platform, created, state_reason;
  struct Disk {
    std::string device, snapshot;
    std::int64_t gib = 0;
  };
  std::vector<Disk> disks;
  Ec2Tags tags;
};

struct Ec2InstanceType {
  std::string name;
  std::int64_t vcpus = 0, memory_mib = 0;
  struct Gpu {
    std::string name, maker;
    std::int64_t count = 0, memory_mib = 0;
  };
  std::vector<Gpu> gpus;
  std::vector<std::string> architectures;  ///< x86_64, arm64
};

struct Ec2Offering {
  std::string type, zone;
};

struct Ec2Subnet {
  std::string id, vpc, zone;
  bool default_for_zone = false;
};

struct Ec2Region {
  std::string name;
  bool enabled = false;  ///< for the account
};

struct Ec2Vpc {
  std::string id;
  bool is_default = false;
};

struct Ec2Group {
  std::string id, name, vpc;
  struct Rule {
    std::string protocol;
    std::int64_t from_port = -1, to_port = -1;
    std::vector<std::string> sources;  ///< CIDR
  };
  std::vector<Rule> rules;
  Ec2Tags tags;
};

struct Ec2KeyPair {
  std::string id, name, fingerprint;
  Ec2Tags tags;
};

struct Ec2Volume {
  std::string id, state, type, attached_to, snapshot;
  std::int64_t gib = 0;
  std::optional<AwsTime> created;
  Ec2Tags tags;
};

struct Ec2Address {
  std::string address, allocation, association, instance;
  Ec2Tags tags;
};

struct Ec2Snapshot {
  std::string id, state, description;
  std::int64_t gib = 0;  ///< of the volume; what is billed may be less
  Ec2Tags tags;
};

struct Ec2SpotPrice {
  std::string type, zone, price;
  std::optional<AwsTime> since;
};

/// One answer of a call that pages.
template <class T> struct Ec2Page {
  std::vector<T> items;
  std::string next;  ///< token of the next one; empty: the last
};

}  // namespace gpustrap
