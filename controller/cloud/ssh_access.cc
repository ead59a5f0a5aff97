#include "controller/cloud/ssh_access.h"

#include <arpa/inet.h>

#include <array>
#include <charconv>
#include <chrono>
#include <optional>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "agent/base/text.h"

namespace gpustrap {
namespace {

struct Network {
  std::array<unsigned char, 16> bytes{};
  bool v4 = false;
  unsigned bits = 0;
};

/// "198.51.100.0/24", "2001:db8::1".
std::optional<Network> read_network(const std::string& text) {
  const std::size_t slash = text.find('/');
  const std::string address = text.substr(0, slash);
  Network network;
  network.v4 = ::inet_pton(AF_INET, address.c_str(), network.bytes.data()) == 1;
  if (!network.v4 && ::inet_pton(AF_INET6, address.c_str(), network.bytes.data()) != 1) return std::nullopt;
  const unsigned most = network.v4 ? 32 : 128;
  network.bits = most;
  if (slash == std::string::npos) return network;
  const char* end = text.data() + text.size();
  const auto parsed = std::from_chars(text.data() + slash + 1, end, network.bits);
  return parsed.ec == std::errc() && parsed.ptr == end && network.bits <= most ? std::optional(network) : std::nullopt;
}

/// Only the first so many bits count.
void cut(Network& network, unsigned bits) {
  for (unsigned bit = bits; bit < 8 * network.bytes.size(); ++bit)
    network.bytes[bit / 8] = static_cast<unsigned char>(network.bytes[bit / 8] & ~(0x80U >> (bit % 8)));
}

}  // namespace

bool holds(const std::string& network, const std::string& source) {
  std::optional<Network> outer = read_network(network), inner = read_network(source);
  if (!outer || !inner || outer->v4 != inner->v4 || outer->bits > inner->bits) return false;
  cut(*outer, outer->bits);
  cut(*inner, outer->bits);
  return outer->bytes == inner->bytes;
}

Result<std::string> read_source(const std::string& text) {
  std::optional<Network> network = read_network(text);
  if (!network) {
    return fail(ErrorCode::usage, fmt::format("--ssh-from {}: expected an address or a network", strip_control(first_line(text, 60))),
                "for instance --ssh-from 198.51.100.7 or --ssh-from 198.51.100.0/24");
  }
  if (network->bits < (network->v4 ? 8U : 16U))  // 0.0.0.0/1 is half of everybody
    return fail(ErrorCode::usage, fmt::format("--ssh-from {}: this is everybody, or nearly", text),
                "name the address or the network that you come from");
  // As AWS keeps it, 198.51.100.7/24 as 198.51.100.0/24: the rule is compared with this when the group is used again.
  cut(*network, network->bits);
  std::array<char, INET6_ADDRSTRLEN> shown{};
  ::inet_ntop(network->v4 ? AF_INET : AF_INET6, network->bytes.data(), shown.data(), shown.size());
  return fmt::format("{}/{}", shown.data(), network->bits);
}

Result<std::string> caller_source(Ec2& ec2) {
  HttpRequest request;
  request.method = "GET";
  request.url = ec2.client().settings().variables("AWS_ENDPOINT_URL_CHECKIP");
  if (request.url.empty()) request.url = "https://checkip.amazonaws.com/";
  request.timeout = std::chrono::milliseconds(10'000);
  const Result<HttpResponse> response = ec2.client().http().send(request);
  const std::string hint = "name the address that you come from: --ssh-from 198.51.100.7";
  if (!response) return fail(ErrorCode::network, "this machine's address could not be looked up: " + response.error().why(), hint);
  Result<std::string> source = read_source(std::string(trim(response->body)));
  if (response->status != 200 || !source)
    return fail(ErrorCode::network, fmt::format("{} did not answer with an address", request.url), hint);
  return source;
}

Result<std::string> ssh_group(Ec2& ec2, const std::string& vpc, const std::string& source) {
  const std::string name = "gpustrap ssh from " + source;
  const auto find = [&]() -> Result<std::optional<Ec2Group>> {
    AwsResult<std::vector<Ec2Group>> found =
        ec2.describe<Ec2Group>("DescribeSecurityGroups", {}, {{"group-name", {name}}, {"vpc-id", {vpc}}});
    if (!found) return fail(std::move(found).error().error);
    if (found->empty()) return std::nullopt;
    return std::move(found->front());
  };
  Result<std::optional<Ec2Group>> there = find();
  if (!there) return fail(std::move(there).error());
  std::string id = *there ? (*there)->id : "";
  if (id.empty()) {
    AwsResult<std::string> made = ec2.create_group(name, "made by gpustrap: SSH from one address", vpc, {{kOwnerTag, "ssh"}});
    if (!made && made.error().code == "InvalidGroup.Duplicate") {
      there = find();
      if (!there) return fail(std::move(there).error());
      if (!*there) return fail(std::move(made).error().error);
      id = (*there)->id;
    } else if (!made) {
      return fail(std::move(made).error().error);
    } else {
      id = *std::move(made);
    }
  }
  bool allowed = false;
  for (const Ec2Group::Rule& rule : *there ? (*there)->rules : std::vector<Ec2Group::Rule>{}) {
    const bool ssh =
        rule.protocol == "tcp" && rule.from_port == 22 && rule.to_port == 22 && rule.sources == std::vector<std::string>{source};
    if (!ssh) {
      return fail(ErrorCode::unsafe,
                  fmt::format("somebody has opened the security group `{}` ({}) further than its name says: {} {} to {} from {}", name, id,
                              rule.protocol, rule.from_port, rule.to_port, strip_control(join(rule.sources, ", "))),
                  fmt::format("take that rule out again, or delete the group: aws ec2 delete-security-group --group-id {}", id));
    }
    allowed = true;
  }
  if (!allowed) {
    if (const AwsResult<void> done = ec2.allow_ssh(id, source); !done) return fail(done.error().error);
  }
  return id;
}

Result<SshAccess> ssh_access(Ec2& ec2, const Ec2Instance& instance, const std::string& source) {
  SshAccess access;
  if (instance.groups.empty()) return access;
  Parameters ids;
  for (std::size_t i = 0; i < instance.groups.size(); ++i) ids.emplace_back(fmt::format("GroupId.{}", i + 1), instance.groups[i]);
  const AwsResult<std::vector<Ec2Group>> groups = ec2.describe<Ec2Group>("DescribeSecurityGroups", ids);
  if (!groups) return fail(groups.error().error);
  for (const Ec2Group& group : *groups) {
    const bool own = group.tags.contains(kOwnerTag);
    (own ? access.own : access.others).push_back(group.id);
    for (const Ec2Group::Rule& rule : group.rules) {
      const bool ssh = rule.protocol == "-1" || (rule.protocol == "tcp" && rule.from_port <= 22 && rule.to_port >= 22);
      for (const std::string& from : rule.sources) {
        const bool everybody = from == "0.0.0.0/0" || from == "::/0";
        const bool only_ssh = rule.protocol == "tcp" && rule.from_port == 22 && rule.to_port == 22;
        if (own && (everybody || !only_ssh)) {
          const std::string ports = rule.protocol == "-1" ? "everything"
                                    : rule.from_port == rule.to_port
                                        ? fmt::format("{} {}", rule.protocol, rule.from_port)
                                        : fmt::format("{} {} to {}", rule.protocol, rule.from_port, rule.to_port);
          access.wider.push_back(fmt::format("{} from {} ({})", ports, from, group.id));
        }
        if (own && ssh) access.sources.push_back(from);
        if (ssh && holds(from, source)) access.open = true;
      }
    }
  }
  return access;
}

Result<void> move_ssh_access(Ec2& ec2, const Ec2Instance& instance, const SshAccess& before, const std::string& source) {
  const Result<std::string> group = ssh_group(ec2, instance.vpc, source);
  if (!group) return fail(group.error());
  std::vector<std::string> groups = before.others;
  groups.push_back(*group);
  if (const AwsResult<void> set = ec2.set_groups(instance.id, groups); !set) return fail(set.error().error);
  return {};
}

}  // namespace gpustrap
