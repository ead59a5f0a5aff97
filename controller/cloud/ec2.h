#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "controller/cloud/aws_client.h"
#include "controller/cloud/ec2_answers.h"
#include "controller/cloud/ec2_types.h"

namespace gpustrap {

/// A filter of a Describe call: a name and the values that fit.
struct Ec2Filter {
  std::string name;
  std::vector<std::string> values;
};

/// What RunInstances is asked for. One instance, with a root volume that is encrypted and metadata that wants a token.
struct Ec2Order {
  std::string image, type, key_name, group, subnet;
  std::string root_device;
  std::int64_t disk_gib = 0;
  bool spot = false;
  std::string client_token;  ///< the same token never makes two
  std::string user_data;
  Ec2Tags tags;  ///< of the instance and its volumes
};
[[nodiscard]] Parameters parameters_of(const Ec2Order& order);

/// EC2 and what belongs to it, one function for each call that is made. Constness means nothing here: the cloud is elsewhere.
class Ec2 {
 public:
  explicit Ec2(AwsClient& client) : client_(client) {}
  [[nodiscard]] AwsClient& client() { return client_; }

  /// All pages of a Describe call: describe<Ec2Instance>("DescribeInstances", {}, {{"tag:gpustrap", {"*"}}}).
  template <class T>
  [[nodiscard]] AwsResult<std::vector<T>> describe(const std::string& action, Parameters parameters,
                                                   const std::vector<Ec2Filter>& filters = {});

  [[nodiscard]] AwsResult<Ec2Instance> run(const Ec2Order& order);
  [[nodiscard]] AwsResult<void> start(const std::string& instance);
  [[nodiscard]] AwsResult<void> stop(const std::string& instance);
  [[nodiscard]] AwsResult<void> terminate(const std::string& instance);
  /// The instance as it is now. One that was made a moment ago may not be known everywhere yet: that is waited out for a minute.
  [[nodiscard]] AwsResult<Ec2Instance> instance(const std::string& id);
  /// What it has printed, decoded; empty where nothing is there yet.
  [[nodiscard]] AwsResult<std::string> console_output(const std::string& instance);

  /// The group's id.
  [[nodiscard]] AwsResult<std::string> create_group(const std::string& name, const std::string& why, const std::string& vpc,
                                                    const Ec2Tags& tags);
  /// A rule that is there already is no failure.
  [[nodiscard]] AwsResult<void> allow_ssh(const std::string& group, const std::string& from);
  /// The instance has these groups from now on, and no others.
  [[nodiscard]] AwsResult<void> set_groups(const std::string& instance, const std::vector<std::string>& groups);
  [[nodiscard]] AwsResult<void> import_key(const std::string& name, const std::string& public_key, const Ec2Tags& tags);
  /// The image's id.
  [[nodiscard]] AwsResult<std::string> create_image(const std::string& instance, const std::string& name, bool reboot, const Ec2Tags& tags);

  /// Calls that remove one thing: {"DeleteVolume", "VolumeId", "vol-…"}. What is gone already is no failure.
  [[nodiscard]] AwsResult<void> remove(const std::string& action, const std::string& parameter, const std::string& id);

  [[nodiscard]] AwsResult<std::string> parameter(const std::string& name);
  struct Quota {
    double vcpus = 0;
    bool adjustable = true;
  };
  [[nodiscard]] AwsResult<Quota> quota(const std::string& code);
  /// Asks AWS for more; the request's state.
  [[nodiscard]] AwsResult<std::string> request_quota(const std::string& code, double vcpus);

 private:
  AwsResult<std::string> call(const std::string& action, const Parameters& parameters);
  AwsResult<void> call_alone(const std::string& action, const Parameters& parameters);

  AwsClient& client_;
};

/// What a filter's value takes for more than itself; a name that a person gives is none.
[[nodiscard]] bool has_wildcard(std::string_view name);
/// "Filter.1.Name=…&Filter.1.Value.1=…"
void add_filters(Parameters& parameters, const std::vector<Ec2Filter>& filters);
[[nodiscard]] std::string base64_encoded(std::string_view bytes);
/// Nothing where the text is not base64; line breaks are allowed.
[[nodiscard]] std::optional<std::string> base64_decoded(std::string_view text);

template <class T>
AwsResult<std::vector<T>> Ec2::describe(const std::string& action, Parameters parameters, const std::vector<Ec2Filter>& filters) {
  add_filters(parameters, filters);
  std::vector<T> all;
  std::string next;
  // A cloud that never comes to an end of its pages is not asked for ever.
  for (int page = 0; page < 1000; ++page) {
    Parameters asked = parameters;
    if (!next.empty()) asked.emplace_back("NextToken", next);
    AwsResult<std::string> xml = call(action, asked);
    if (!xml) return tl::unexpected(std::move(xml).error());
    Result<Ec2Page<T>> read = read_page<T>(*xml);
    if (!read) return tl::unexpected(AwsFailure{"", std::move(read).error().in("ec2 " + action)});
    for (T& item : read->items) all.push_back(std::move(item));
    if (read->next.empty() || read->next == next) break;
    next = std::move(read->next);
  }
  return all;
}

}  // namespace gpustrap
