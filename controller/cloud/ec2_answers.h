#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "agent/base/result.h"
#include "controller/cloud/ec2_types.h"

// From XML to structs; pure. Answers are foreign bytes: what is not XML, or not the answer that was awaited, is an error (protocol).

namespace gpustrap {

struct AwsAnswerError {
  std::string code, message;
};
/// Of EC2's and of STS's kind of error; nothing where the text is neither.
[[nodiscard]] std::optional<AwsAnswerError> read_error_xml(std::string_view xml);

struct StsKeys {
  std::string access_key, secret_key, session_token, expiration;
};
[[nodiscard]] Result<StsKeys> read_sts_keys(std::string_view xml);
/// The account that GetCallerIdentity tells of.
[[nodiscard]] Result<std::string> read_account(std::string_view xml);

/// The answer to DescribeT, whose root is DescribeTResponse.
template <class T> [[nodiscard]] Result<Ec2Page<T>> read_page(std::string_view xml);
template <> Result<Ec2Page<Ec2Instance>> read_page(std::string_view xml);
template <> Result<Ec2Page<Ec2Status>> read_page(std::string_view xml);
template <> Result<Ec2Page<Ec2Image>> read_page(std::string_view xml);
template <> Result<Ec2Page<Ec2InstanceType>> read_page(std::string_view xml);
template <> Result<Ec2Page<Ec2Offering>> read_page(std::string_view xml);
template <> Result<Ec2Page<Ec2Subnet>> read_page(std::string_view xml);
template <> Result<Ec2Page<Ec2Vpc>> read_page(std::string_view xml);
template <> Result<Ec2Page<Ec2Region>> read_page(std::string_view xml);
template <> Result<Ec2Page<Ec2Group>> read_page(std::string_view xml);
template <> Result<Ec2Page<Ec2KeyPair>> read_page(std::string_view xml);
template <> Result<Ec2Page<Ec2Volume>> read_page(std::string_view xml);
template <> Result<Ec2Page<Ec2Address>> read_page(std::string_view xml);
template <> Result<Ec2Page<Ec2Snapshot>> read_page(std::string_view xml);
template <> Result<Ec2Page<Ec2SpotPrice>> read_page(std::string_view xml);

/// The instances that RunInstances made.
[[nodiscard]] Result<std::vector<Ec2Instance>> read_started(std::string_view xml);
/// One text right below the root: groupId, imageId, output. An error where it is missing; `output` of a console may be empty.
[[nodiscard]] Result<std::string> read_text(std::string_view xml, const char* name);

}  // namespace gpustrap
