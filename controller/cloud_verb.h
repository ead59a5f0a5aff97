#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "agent/base/result.h"
#include "agent/protocol/json_fwd.h"
#include "controller/cloud/asked_prices.h"
#include "controller/cloud/aws_client.h"
#include "controller/cloud/ec2.h"
#include "controller/cloud/launch_record.h"
#include "controller/options.h"
#include "controller/verbs.h"

namespace gpustrap {

// What the verbs about EC2 have in common: how they begin, tell, ask, wait and end.

/// To stdout, as it is.
void print(const std::string& text);
/// To stderr, a line; for a terminal broken between words.
void say(const std::string& text);
void complain(const Error& error);
/// To stdout, a line.
void print_document(const Json& document);
/// What programs are told of a machine, first the verb's version; who knows more adds it.
[[nodiscard]] Json instance_document(const std::string& verb, const Ec2Instance& instance);
/// The same of one that runs: with how to log in, and what it costs.
[[nodiscard]] Json running_document(const std::string& verb, const Ec2Instance& instance, const InstanceRecord& record,
                                    const std::optional<Price>& price);
/// What EC2 is to blame for ends with an exit code of its own, whatever kind of failure it is.
[[nodiscard]] VerbResult of_cloud(VerbResult result);

[[nodiscard]] Result<std::unique_ptr<AwsClient>> open_cloud(const Options& options);
/// Whether the person says yes to what is described; an error where nobody can be asked.
[[nodiscard]] Result<bool> agreed(const Options& options, const std::string& description, const std::string& question);

/// "4.20 USD"
[[nodiscard]] std::string usd(double amount);
[[nodiscard]] double hours_since(const std::optional<AwsTime>& time);
[[nodiscard]] std::string age_since(const std::optional<AwsTime>& time);
[[nodiscard]] std::string age_of(const Ec2Instance& instance);

/// Waits until the instance is in that state.
[[nodiscard]] Result<Ec2Instance> wait_for(Ec2& ec2, const std::string& id, const std::string& state);
/// Waits until instances can be launched from the image.
[[nodiscard]] Result<void> wait_for_image(Ec2& ec2, const std::string& id);

/// Sees to it that the instance's SSH is open to --ssh-from, else to the address that this machine has now; asks before it is closed to
/// whom it was open to until now. Where that address cannot be found out it is told, and nothing is changed.
[[nodiscard]] Result<void> open_ssh(const Options& options, Ec2& ec2, const Ec2Instance& instance);

/// Tells of orders that an earlier launch has given and not seen answered: what they rented may not be listed yet.
void tell_open_orders(Ec2& ec2, const std::string& state, const std::vector<Ec2Instance>& listed);

/// Tells of what this machine knows and what is not listed: instances of regions that were not asked, those that are gone, and launches
/// that were cut off elsewhere.
void tell_other_machines(const std::string& state, const std::set<std::string>& asked, const std::vector<Ec2Instance>& listed);

/// Opens the cloud and the instances that the words name, each once, for verbs about them. `state` is the folder of what is kept here.
/// What is not in the region, and was last seen in another one, is looked for there unless --region says where to look.
using InstanceVerb = std::function<VerbResult(Ec2& ec2, const std::string& state, const std::vector<Ec2Instance>& named)>;
[[nodiscard]] VerbResult with_instances(const Options& options, const InstanceVerb& act);

}  // namespace gpustrap
