#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>

#include "agent/protocol/json.h"
#include "controller/cloud/asked_prices.h"
#include "controller/cloud/aws_config.h"
#include "controller/cloud/credentials.h"
#include "controller/cloud/ec2_answers.h"

// Any bytes as what a cloud answers and as what stands in ~/.aws: read or refused, and a refusal of the latter never quotes them.

namespace {

template <class T> void read_as(std::string_view text) {
  const gpustrap::Result<gpustrap::Ec2Page<T>> page = gpustrap::read_page<T>(text);
  if (!page && page.error().code() != gpustrap::ErrorCode::protocol) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace gpustrap;
  const std::string text(data, data + size);
  read_as<Ec2Instance>(text);
  read_as<Ec2Status>(text);
  read_as<Ec2Image>(text);
  read_as<Ec2InstanceType>(text);
  read_as<Ec2Offering>(text);
  read_as<Ec2Subnet>(text);
  read_as<Ec2Vpc>(text);
  read_as<Ec2Region>(text);
  read_as<Ec2Group>(text);
  read_as<Ec2KeyPair>(text);
  read_as<Ec2Volume>(text);
  read_as<Ec2Address>(text);
  read_as<Ec2Snapshot>(text);
  read_as<Ec2SpotPrice>(text);
  if (const std::optional<double> price = read_price(Json::parse(text, nullptr, false)); price && !(*price > 0)) std::abort();
  static_cast<void>(read_started(text));
  static_cast<void>(read_text(text, "output"));
  static_cast<void>(read_sts_keys(text));
  static_cast<void>(read_account(text));
  static_cast<void>(read_credentials_json(text, "a process"));
  if (const std::optional<AwsAnswerError> error = read_error_xml(text); error && error->code.size() > size) std::abort();
  const Result<ConfigSections> sections = read_config_sections(text, "config");
  if (!sections && sections.error().why().find("config:") != 0) std::abort();
  return 0;
}
