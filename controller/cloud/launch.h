#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "agent/base/result.h"
#include "controller/cloud/asked_prices.h"
#include "controller/cloud/ec2.h"
#include "controller/cloud/launch_record.h"
#include "controller/cloud/own_key.h"

namespace gpustrap {

struct LaunchWish {
  std::vector<std::string> types;  ///< the best first; the others where there is none
  std::string name;
  std::string image;     ///< "ubuntu:24.04", "dlami", "ami-…", or the name of an image of one's own
  std::string user;      ///< to log in as; empty: the image's
  std::string ssh_from;  ///< CIDR; empty: this machine's address, as the internet sees it
  std::string identity;  ///< -i; empty: a key of gpustrap's own
  std::int64_t disk_gib = 64;
  bool image_said = false, disk_said = false;  ///< by somebody; else they are what is usual
  bool spot = false;
  std::string gpu_needed_by;  ///< the recipe that runs on a GPU alone; empty: none does
  std::string stops;          ///< how it will stop by itself, in words, for who agrees to the launch; empty: it will not
};

/// Who is told and asked.
struct LaunchTalk {
  std::function<void(const std::string&)> say;
  /// Whether what was described may be rented. An error where nobody can be asked.
  std::function<Result<bool>(const std::string& description)> agree;
  bool asks = true;  ///< false: `agree` says yes to whatever it is
};

struct Launched {
  Ec2Instance instance;
  std::string user, identity;
  std::vector<std::string> host_keys;
  bool was_there = false;
  bool taken_up = false;  ///< by an order that an earlier command gave
};

/// From a wish to an instance that runs and has an address. The same wish again, at whatever point the last one ended, goes on from
/// there: the instance is found by its tag, the order by its token, key and group by their names.
class Launch {
 public:
  Launch(Ec2& ec2, std::string state, LaunchWish wish, LaunchTalk talk);
  /// cancelled where the person said no.
  [[nodiscard]] Result<Launched> run();
  /// The host keys from the console; waits for them, some minutes where `patient`. Empty: it shows none. What AWS's own checks find
  /// meanwhile is told; an instance that does not go on running is an error.
  [[nodiscard]] Result<std::vector<std::string>> read_host_keys(const std::string& instance, bool patient);
  /// What AWS's own checks find amiss, which is told, in words; empty: nothing is known to be.
  [[nodiscard]] Result<std::string> look_at_checks(const std::string& instance);
  /// Waits until AWS's own checks have found the instance well, for whoever cannot log in to see it.
  [[nodiscard]] Result<void> wait_for_checks(const std::string& instance);

 private:
  struct Image {
    std::string id, name, root_device, user, architecture;
    std::int64_t least_gib = 0;
  };
  struct Place {
    std::string type, subnet, vpc, zone;
    double spot_usd = 0;  ///< an hour now; 0: not known, or not asked
  };
  /// What there is, or was ordered, as far as it can differ from the wish.
  struct Found {
    bool spot = false;
    std::string image, image_word, key_name;
    std::int64_t disk_gib = 0;  ///< 0: not known
  };
  Result<std::optional<Ec2Instance>> existing();
  Result<Launched> take_existing(Ec2Instance instance);
  [[nodiscard]] std::vector<std::string> differences(const Found& found) const;
  std::int64_t disk_of(const Ec2Instance& instance);
  // launch_offer.cc
  Result<void> know_types();
  Result<void> check_quota();
  Result<void> find_image();
  Result<void> find_places();
  Result<std::string> description();
  Result<void> know_prices(const std::vector<std::string>& types);
  void sort_by_spot_price();
  /// "now 0.21 to 0.35 USD an hour, by zone", of all zones that are to be asked; empty where none is known.
  [[nodiscard]] std::string spot_text(const std::string& type) const;
  /// With who says so, unless that is known.
  std::string price_text(const std::string& type, const std::string& known_source = "");
  // launch.cc
  Result<void> upload_key();
  Result<Ec2Instance> order();
  Result<std::optional<Ec2Instance>> order_again();
  AwsResult<Ec2Instance> order_at(const Place& place, const std::string& group);
  Result<Ec2Instance> wait_until_running(std::string id);
  [[nodiscard]] const Ec2InstanceType* known(const std::string& type) const;
  [[nodiscard]] std::string region() const { return ec2_.client().settings().region; }

  Ec2& ec2_;
  std::string state_;
  LaunchWish wish_;
  LaunchTalk talk_;
  std::optional<OrderRecord> record_;  ///< from the beginning of run() on
  AskedPrices prices_;
  std::vector<Ec2InstanceType> types_;
  std::vector<Place> places_;
  Image image_;
  std::string caller_;
  std::optional<OwnKey> key_;
  bool fault_told_ = false;
  std::map<std::string, std::string> groups_;  ///< by network
};

/// The private key here that an instance was launched with: `said`, the one that it was used with, gpustrap's own. Empty: it is not on this
/// computer.
[[nodiscard]] std::string key_file_of(const Ec2Instance& instance, const std::string& state, const std::string& said);

/// The user that images of that name let in.
[[nodiscard]] std::string login_user_of(const std::string& image_name);

}  // namespace gpustrap
