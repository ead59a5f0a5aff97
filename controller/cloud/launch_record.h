#pragma once

#include <optional>
#include <set>
#include <string>
#include <vector>

#include "agent/base/result.h"
#include "agent/base/unique_fd.h"
#include "controller/cloud/aws_client.h"
#include "controller/cloud/ec2.h"

namespace gpustrap {

// What is kept of launches on this machine, below its state folder, so that a launch that was cut off anywhere is taken up and not
// repeated.

/// Where orders of a region and an account are kept: "eu-west-1+123456789012". Another account has another machine of the same name; two
/// profiles of one account have the same one. Asks for the account, once. Orders that an earlier version has left move there: it kept them
/// by profile, "eu-west-1" or "eu-west-1@work".
[[nodiscard]] Result<std::string> order_place(AwsClient& client, const std::string& state);
/// Where orders of any account are open. In another region there is nothing to find, and no account to ask for.
[[nodiscard]] std::set<std::string> regions_with_orders(const std::string& state);

/// An order that may have been given: written before RunInstances is called, gone when the instance is known or was refused. Given again
/// with the same token it makes no second instance.
class OrderRecord {
 public:
  OrderRecord(const std::string& state, const std::string& place, const std::string& name);
  /// Nothing where there is none, or where it is so old that AWS has forgotten its token.
  [[nodiscard]] std::optional<Ec2Order> load(AwsTime now, AwsTime* given = nullptr) const;
  [[nodiscard]] Result<void> save(const Ec2Order& order, AwsTime now) const;
  void remove() const;
  /// Held while a launch of that name goes on: two at once would both find nothing, and rent twice. busy where another holds it.
  [[nodiscard]] Result<UniqueFd> lock() const;

 private:
  std::string path_;
};

/// An order that was given and not seen answered.
struct OpenOrder {
  std::string name;
  Ec2Order order;
  AwsTime when;
};
[[nodiscard]] std::vector<OpenOrder> open_orders(const std::string& state, const std::string& place, AwsTime now);

/// What is known of an instance that EC2 does not keep: how to log in, and its host keys, which a new address does not change.
struct InstanceRecord {
  std::string address, user, identity;
  std::vector<std::string> host_keys;
  std::string host, region;  ///< the name by which it is a host here, or its address; where it is
  std::string name;          ///< what it was launched as
};
[[nodiscard]] Result<void> save_instance(const std::string& state, const std::string& id, const InstanceRecord& record);
[[nodiscard]] std::optional<InstanceRecord> load_instance(const std::string& state, const std::string& id);
void remove_instance(const std::string& state, const std::string& id);

/// An instance that this machine knows, wherever it is.
struct KnownInstance {
  std::string id;
  InstanceRecord record;
  /// Whether that word means it: its id, its name, its address.
  [[nodiscard]] bool is_called(const std::string& word) const;
};
/// All of them, by name.
[[nodiscard]] std::vector<KnownInstance> known_instances(const std::string& state);
/// Other regions than `here` in which this machine knows one that is called so.
[[nodiscard]] std::vector<std::string> other_regions_of(const std::vector<KnownInstance>& known, const std::string& word,
                                                        const std::string& here);
/// All regions in which something was launched from here, `here` left out.
[[nodiscard]] std::vector<std::string> regions_used(const std::string& state, const std::string& here);

/// Whether an instance may be called so: [A-Za-z0-9][A-Za-z0-9._-]{0,62}. It becomes a tag, and a file's name here.
[[nodiscard]] bool is_instance_name(std::string_view name);
/// Whether verbs take the word for an id (i-…, ami-…) or `--image` for a system: no name that is given to anything.
[[nodiscard]] bool means_something_else(std::string_view name);

}  // namespace gpustrap
