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

Result<std::string> read_source(const std::string& text) {
  const std::size_t slash = text.find('/');
  const std::string address = text.substr(0, slash);
  std::array<unsigned char, 16> bytes{};
  const bool v4 = ::inet_pton(AF_INET, address.c_str(), bytes.data()) == 1;
  const bool v6 = !v4 && ::inet_pton(AF_INET6, address.c_str(), bytes.data()) == 1;
  const unsigned most = v4 ? 32 : 128;
  unsigned bits = most;
  bool whole = v4 || v6;
  if (whole && slash != std::string::npos) {
    const char* end = text.data() + text.size();
    const auto parsed = std::from_chars(text.data() + slash + 1, end, bits);
    whole = parsed.ec == std::errc() && parsed.ptr == end && bits <= most;
  }
  if (!whole) {
    return fail(ErrorCode::usage, fmt::format("--ssh-from {}: expected an address or a network", strip_control(first_line(text, 60))),
                "for instance --ssh-from 198.51.100.7 or --ssh-from 198.51.100.0/24");
  }
  if (bits < (v4 ? 8U : 16U))  // 0.0.0.0/1 is half of everybody
    return fail(ErrorCode::usage, fmt::format("--ssh-from {}: this is everybody, or nearly", text),
                "name the address or the network that you come from");
  // As AWS keeps it, 198.51.100.7/24 as 198.51.100.0/24: the rule is compared with this when the group is used again.
  for (unsigned bit = bits; bit < most; ++bit) bytes[bit / 8] = static_cast<unsigned char>(bytes[bit / 8] & ~(0x80U >> (bit % 8)));
  std::array<char, INET6_ADDRSTRLEN> shown{};
  ::inet_ntop(v4 ? AF_INET : AF_INET6, bytes.data(), shown.data(), shown.size());
  return fmt::format("{}/{}", shown.data(), bits);
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

}  // namespace gpustrap
