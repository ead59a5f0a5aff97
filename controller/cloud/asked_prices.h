#pragma once

#include <map>
#include <optional>
#include <string>

#include "agent/protocol/json_fwd.h"
#include "controller/cloud/aws_client.h"
#include "controller/cloud/ec2_types.h"

namespace gpustrap {

/// What an instance costs on demand, and who says so.
struct Price {
  double usd_per_hour = 0;
  bool confirmed = true;
  bool listed = false;  ///< by AWS's price list, of this region and day; else by the table that was built in
  std::string source;   ///< "AWS's price list for eu-west-1, 2026-11-22"; "table of us-east-1, 2026-07-20"
};

/// Asks AWS's price list (the Pricing API), and the table where it is not reached or may not be asked. What it said is kept for a day.
class AskedPrices {
 public:
  AskedPrices(AwsClient& client, std::string state);
  /// Nothing where neither knows the type.
  [[nodiscard]] std::optional<Price> price_of(const std::string& type);
  /// Of an instance; nothing for spot, whose price changes by the hour.
  [[nodiscard]] std::optional<Price> price_of(const Ec2Instance& instance);
  /// Why the price list was not asked, in a few words; empty where it was, or need not be.
  [[nodiscard]] const std::string& trouble() const { return trouble_; }

 private:
  struct Listed {
    double usd_per_hour = 0;
    AwsTime when;
  };
  void load();
  void save() const;
  std::optional<Listed> ask(const std::string& type);

  AwsClient& client_;
  std::string path_, trouble_;
  std::map<std::string, Listed> listed_;
};

/// USD an hour, from an answer of GetProducts; of several prices the highest. Nothing where it holds none.
[[nodiscard]] std::optional<double> read_price(const Json& answer);

}  // namespace gpustrap
