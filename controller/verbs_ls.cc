// What gpustrap has in EC2, what it costs, and what is left over.
#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "agent/base/text.h"
#include "agent/protocol/json.h"
#include "controller/cloud/asked_prices.h"
#include "controller/cloud/holdings.h"
#include "controller/cloud/http.h"
#include "controller/cloud/launch_record.h"
#include "controller/cloud/prices.h"
#include "controller/cloud/spot_prices.h"
#include "controller/cloud_verb.h"
#include "controller/complaint.h"
#include "controller/display_width.h"
#include "controller/machine_use.h"
#include "controller/prompt.h"
#include "controller/run_log.h"

namespace gpustrap {
namespace {

/// A few seconds for all regions there are, and far below the rate that an account may ask at.
constexpr std::size_t kAtOnce = 8;

/// One that is asked, and what came of it.
struct Region {
  std::unique_ptr<AwsClient> client;
  std::optional<Error> trouble;
  std::vector<Ec2Instance> instances;
  std::vector<Orphan> orphans;
  [[nodiscard]] const std::string& name() const { return client->settings().region; }
};

/// The one that holds, or all that the account has enabled.
Result<std::vector<Region>> regions_to_ask(const Options& options) {
  Result<std::unique_ptr<AwsClient>> client = open_cloud(options);
  if (!client) return fail(std::move(client).error());
  std::vector<Region> regions;
  if (options.cloud.all_regions) {
    Ec2 ec2(**client);
    const AwsResult<std::vector<std::string>> names = enabled_regions(ec2);
    if (!names) return fail(names.error().error);
    for (const std::string& name : *names)
      regions.push_back({(*client)->in_region(name, make_http((*client)->settings().ca_bundle)), {}, {}, {}});
  }
  if (regions.empty()) regions.push_back({*std::move(client), {}, {}, {}});
  return regions;
}

/// Asks all of them, some at once. One that fails is told, and stops nothing; where none answers, its reason is that of all.
Result<void> ask_each(std::vector<Region>& regions, const std::function<AwsResult<void>(Ec2&, Region&)>& ask) {
  std::atomic<std::size_t> next = 0;
  const auto work = [&] {
    for (std::size_t mine = next++; mine < regions.size(); mine = next++) {
      Ec2 ec2(*regions[mine].client);
      if (AwsResult<void> asked = ask(ec2, regions[mine]); !asked) regions[mine].trouble = std::move(asked).error().error;
    }
  };
  std::vector<std::thread> others;
  for (std::size_t i = 1; i < std::min(kAtOnce, regions.size()); ++i) others.emplace_back(work);
  work();
  for (std::thread& other : others) other.join();
  const auto is_lost = [](const Region& one) { return one.trouble.has_value(); };
  if (std::all_of(regions.begin(), regions.end(), is_lost)) return fail(*regions.front().trouble);
  for (const Region& one : regions) {
    if (one.trouble) complain(Error(*one.trouble).in(fmt::format("what is in {} is not known", one.name())));
  }
  return {};
}

VerbResult result_of(const std::vector<Region>& regions) {
  const bool all = std::none_of(regions.begin(), regions.end(), [](const Region& one) { return one.trouble.has_value(); });
  return all ? ExitCode::ok : ExitCode::cloud;
}

std::set<std::string> names_of_asked(const std::vector<Region>& regions) {
  std::set<std::string> names;
  for (const Region& one : regions) {
    if (!one.trouble) names.insert(one.name());
  }
  return names;
}

/// "us-east-1", "any of the 17 regions that answered"
std::string place_text(const std::vector<Region>& regions) {
  const std::size_t asked = names_of_asked(regions).size();
  return regions.size() == 1 ? regions.front().name() : fmt::format("any of the {} regions that answered", asked);
}

/// What both documents begin with.
Json document_of(const std::vector<Region>& regions) {
  Json failed = Json::array();
  for (const Region& one : regions) {
    if (one.trouble) failed.push_back({{"region", one.name()}, {"error", error_document(*one.trouble)}});
  }
  return {{"version", 1},
          {"region", regions.size() == 1 ? Json(regions.front().name()) : Json()},
          {"regions", names_of_asked(regions)},
          {"failed", std::move(failed)}};
}

/// By the instance; empty where AWS does not say.
std::map<std::string, Ec2Status> statuses_of(Ec2& ec2, const std::vector<Ec2Instance>& all) {
  std::map<std::string, Ec2Status> statuses;
  Parameters ids;
  for (const Ec2Instance& one : all) {
    if (one.state == "running") ids.emplace_back(fmt::format("InstanceId.{}", ids.size() + 1), one.id);
  }
  if (ids.empty()) return statuses;
  const AwsResult<std::vector<Ec2Status>> told = ec2.describe<Ec2Status>("DescribeInstanceStatus", ids);
  if (!told) say(fmt::format("What AWS's own checks find is not shown: {}", told.error().error.why()));
  for (const Ec2Status& one : told ? *told : std::vector<Ec2Status>{}) statuses[one.instance] = one;
  return statuses;
}

/// "t4: AWS retires it from 2026-12-01 on: The instance is running on degraded hardware"
std::string event_text(const std::string& name, const Ec2Status::Event& event) {
  const std::string when = event.not_before ? iso_time(*event.not_before).substr(0, 16) + "Z" : "";
  return strip_control(fmt::format("{}: AWS plans {}{}{}", name, event.code, when.empty() ? "" : ", not before " + when,
                                   event.description.empty() ? "" : ": " + event.description));
}

Json status_json(const Ec2Status& status) {
  Json events = Json::array();
  for (const Ec2Status::Event& event : status.events) {
    Json entry = {{"code", event.code}, {"description", event.description}};
    if (event.not_before) entry["not_before"] = iso_time(*event.not_before);
    events.push_back(std::move(entry));
  }
  return {{"system", status.system}, {"instance", status.machine}, {"events", std::move(events)}};
}

/// What those that run cost an hour now, and the disks of those that are stopped.
class Costs {
 public:
  Costs(Ec2& ec2, const std::string& state, const std::vector<Ec2Instance>& all) : listed_(ec2.client(), state) {
    std::set<std::string> types;
    Parameters volumes;
    for (const Ec2Instance& one : all) {
      if (one.state == "running" && one.lifecycle == "spot") types.insert(one.type);
      for (const Ec2Instance::Disk& disk : one.disks) {
        if (one.state == "stopped") volumes.emplace_back(fmt::format("VolumeId.{}", volumes.size() + 1), disk.volume);
      }
    }
    if (!types.empty()) spot_ = spot_prices(ec2, {types.begin(), types.end()}).value_or(SpotPrices{});
    if (volumes.empty()) return;
    const AwsResult<std::vector<Ec2Volume>> told = ec2.describe<Ec2Volume>("DescribeVolumes", volumes);
    for (const Ec2Volume& one : told ? *told : std::vector<Ec2Volume>{}) gib_[one.id] = one.gib;
  }
  /// Of spot what its zone costs now: what it has cost since its start may be more or less.
  std::optional<Price> an_hour(const Ec2Instance& one) {
    if (one.state != "running") return std::nullopt;
    if (one.lifecycle != "spot") return listed_.price_of(one);
    const auto now = spot_.find({one.type, one.zone});
    if (now == spot_.end()) return std::nullopt;
    return Price{now->second, false, true, "what spot costs now in " + one.zone};
  }
  /// 0: not known.
  [[nodiscard]] std::int64_t disk_gib(const Ec2Instance& one) const {
    std::int64_t gib = 0;
    for (const Ec2Instance::Disk& disk : one.disks) {
      const auto found = gib_.find(disk.volume);
      if (one.state == "stopped" && found != gib_.end()) gib += found->second;
    }
    return gib;
  }
  [[nodiscard]] const std::string& trouble() const { return listed_.trouble(); }

 private:
  AskedPrices listed_;
  SpotPrices spot_;
  std::map<std::string, std::int64_t> gib_;
};

double usd_a_month(std::int64_t gib) { return static_cast<double>(gib) * kVolumeUsdPerGibMonth; }

std::string cost_text(const Ec2Instance& one, const std::optional<Price>& price, std::int64_t gib) {
  if (price) return (one.lifecycle == "spot" ? "about " : "") + usd(price->usd_per_hour * hours_since(one.launched));
  if (one.state == "stopped") return gib > 0 ? usd(usd_a_month(gib)) + " a month" : "its disk";
  return one.state != "running" ? "" : one.lifecycle == "spot" ? "spot" : "?";
}

std::string since_text(const Ec2Instance& one) {
  if (one.state == "running") return age_of(one);
  return one.state == "stopped" && one.stopped ? age_since(one.stopped) : "";
}

/// What this machine knows in other regions, which were not asked.
Json known_elsewhere(const std::string& state, const std::set<std::string>& asked) {
  Json list = Json::array();
  for (const KnownInstance& one : known_instances(state)) {
    if (!one.record.region.empty() && !asked.contains(one.record.region))
      list.push_back({{"name", one.record.name}, {"instance", one.id}, {"region", one.record.region}});
  }
  return list;
}

/// One that is listed, with what else is known of it.
struct Listed {
  const Ec2Instance& instance;
  const std::string& region;
  std::optional<Ec2Status> status;
  std::optional<Price> price;  ///< of an hour
  std::int64_t disk_gib = 0;
  std::optional<Result<IdleStatus>> use;
};

Json listed_document(const Listed& one) {
  const Ec2Instance& instance = one.instance;
  Json entry = {{"name", name_of(instance)},   {"instance", instance.id}, {"type", instance.type}, {"state", instance.state},
                {"address", instance.address}, {"region", one.region},    {"zone", instance.zone}, {"spot", instance.lifecycle == "spot"}};
  if (instance.launched) entry["started"] = iso_time(*instance.launched);
  if (instance.state == "stopped" && instance.stopped) entry["stopped"] = iso_time(*instance.stopped);
  if (one.disk_gib > 0) {
    entry["disk_gib"] = one.disk_gib;
    entry["usd_per_month"] = std::round(usd_a_month(one.disk_gib) * 100) / 100;
  }
  if (one.price) {
    entry["usd_per_hour"] = one.price->usd_per_hour;
    entry["usd_so_far"] = std::round(one.price->usd_per_hour * hours_since(instance.launched) * 100) / 100;
    entry["price_from"] = one.price->source;
  }
  if (one.status) entry["checks"] = status_json(*one.status);
  if (one.use) entry["idle"] = *one.use ? idle_document(**one.use) : Json{{"error", one.use->error().why()}};
  return entry;
}

/// In columns as wide as what stands in them.
std::string table_text(std::vector<std::vector<std::string>> rows) {
  std::vector<std::size_t> widths(rows.front().size(), 0);
  for (std::vector<std::string>& row : rows) {
    for (std::size_t i = 0; i < row.size(); ++i) {
      row[i] = strip_control(row[i]);
      widths[i] = std::max(widths[i], display_width(row[i]));
    }
  }
  std::string text;
  for (const std::vector<std::string>& row : rows) {
    std::string line;
    for (std::size_t i = 0; i < row.size(); ++i) line += fit_to_width(row[i], widths[i]) + "  ";
    while (line.ends_with(' ')) line.pop_back();
    text += line + "\n";
  }
  return text;
}

VerbResult list_instances(const Options& options, std::vector<Region>& regions) {
  const Result<std::string> state = state_directory();
  if (!state) return fail(state.error());
  const Result<void> asked = ask_each(regions, [](Ec2& ec2, Region& one) -> AwsResult<void> {
    AwsResult<std::vector<Ec2Instance>> there = own_instances(ec2);
    if (!there) return tl::unexpected(std::move(there).error());
    one.instances = *std::move(there);
    return {};
  });
  if (!asked) return fail(asked.error());
  std::vector<Ec2Instance> all;
  std::vector<Listed> list;
  std::string trouble;
  for (Region& region : regions) {
    if (region.instances.empty()) continue;
    std::sort(region.instances.begin(), region.instances.end(),
              [](const Ec2Instance& a, const Ec2Instance& b) { return name_of(a) < name_of(b); });
    Ec2 ec2(*region.client);
    const std::map<std::string, Ec2Status> statuses = statuses_of(ec2, region.instances);
    Costs costs(ec2, *state, region.instances);
    for (const Ec2Instance& one : region.instances) {
      const auto status = statuses.find(one.id);
      list.push_back({one, region.name(), status == statuses.end() ? std::nullopt : std::optional(status->second), costs.an_hour(one),
                      costs.disk_gib(one), std::nullopt});
      all.push_back(one);
    }
    if (trouble.empty()) trouble = costs.trouble();
  }
  if (options.cloud.idle) {
    const std::map<std::string, Result<IdleStatus>> use = use_of_machines(*state, all);
    for (Listed& one : list) {
      if (const auto told = use.find(one.instance.id); told != use.end()) one.use = told->second;
    }
  }
  const std::set<std::string> known = names_of_asked(regions);
  if (options.json) {
    Json document = document_of(regions);
    document["prices_as_of"] = builtin_prices().as_of;
    document["instances"] = Json::array();
    for (const Listed& one : list) document["instances"].push_back(listed_document(one));
    document["elsewhere"] = known_elsewhere(*state, known);
    print(document.dump(2) + "\n");
    return result_of(regions);
  }
  for (const Region& region : regions) {
    Ec2 ec2(*region.client);
    if (!region.trouble) tell_open_orders(ec2, *state, region.instances);
  }
  if (list.empty()) {
    say(fmt::format("gpustrap has no instance in {}.", place_text(regions)));
    tell_other_machines(*state, known, all);
    return result_of(regions);
  }
  std::vector<std::vector<std::string>> rows = {{"NAME", "INSTANCE", "TYPE", "STATE", "SINCE", "ADDRESS", "COST"}};
  if (options.cloud.all_regions) rows.front().insert(rows.front().begin() + 1, "REGION");
  if (options.cloud.idle) rows.front().emplace_back("USE");
  std::set<std::string> sources;
  std::vector<std::string> notes;
  for (const Listed& one : list) {
    const Ec2Instance& instance = one.instance;
    if (one.price) sources.insert(one.price->source);
    std::string shown = instance.state;
    if (one.status) {
      if (const std::string amiss = checks_text(*one.status); !amiss.empty()) shown += ", " + amiss;
      for (const Ec2Status::Event& event : one.status->events) notes.push_back(event_text(name_of(instance), event));
    }
    rows.push_back({name_of(instance), instance.id, instance.type, shown, since_text(instance), instance.address,
                    cost_text(instance, one.price, one.disk_gib)});
    if (options.cloud.all_regions) rows.back().insert(rows.back().begin() + 1, one.region);
    if (options.cloud.idle) rows.back().push_back(one.use ? use_text(*one.use) : instance.state == "running" ? "not known here" : "");
  }
  print(table_text(std::move(rows)));
  for (const std::string& note : notes) say(note);
  if (!sources.empty()) {
    say(fmt::format("Cost since the last start, without disks, by {}{}.", join({sources.begin(), sources.end()}, "; "),
                    trouble.empty() ? "" : fmt::format(" (AWS's price list was not asked: {})", trouble)));
  }
  tell_other_machines(*state, known, all);
  return result_of(regions);
}

double usd_a_month(const std::vector<Orphan>& orphans) {
  double total = 0;
  for (const Orphan& one : orphans) total += one.usd_per_month;
  return total;
}

/// What is left over in each region, and what that costs there.
std::string orphans_text(const std::vector<Region>& regions) {
  std::string text;
  double total = 0;
  for (const Region& region : regions) {
    if (region.orphans.empty()) continue;
    const double here = usd_a_month(region.orphans);
    if (regions.size() > 1) text += fmt::format("{}: {} a month\n", region.name(), usd(here));
    for (const Orphan& one : region.orphans)
      text += fmt::format("  {:<8} {:<22} {:>9}/month  {}\n", one.kind, one.id, usd(one.usd_per_month), one.what);
    total += here;
  }
  return fmt::format("{}{}in all {} a month\n", text, regions.size() > 1 ? "" : "  ", usd(total));
}

VerbResult list_orphans(const Options& options, std::vector<Region>& regions) {
  const Result<void> asked = ask_each(regions, [](Ec2& ec2, Region& one) -> AwsResult<void> {
    AwsResult<std::vector<Orphan>> found = find_orphans(ec2);
    if (!found) return tl::unexpected(std::move(found).error());
    one.orphans = *std::move(found);
    return {};
  });
  if (!asked) return fail(asked.error());
  if (const Result<std::string> state = state_directory(); state && !options.cloud.all_regions) {
    const std::string& here = regions.front().name();
    const std::vector<std::string> others = regions_used(*state, here);
    if (!others.empty())
      say(fmt::format("Looked at: {}. Launched from here was in {}, too: gpustrap ls --orphans --all-regions", here, join(others, ", ")));
  }
  std::size_t count = 0, removable = 0;
  for (const Region& region : regions) {
    count += region.orphans.size();
    for (const Orphan& one : region.orphans) removable += one.action.empty() ? 0 : 1;
  }
  if (count == 0 && !options.json) {
    say(fmt::format("Nothing of gpustrap's is left over in {}.", place_text(regions)));
    return result_of(regions);
  }
  if (!options.json) print(orphans_text(regions));
  const bool may_ask = !options.json && can_ask();  // a program says -y, or has only a look
  if (removable > 0 && !options.yes && !may_ask) say("Add -y to remove what is not kept.");
  const bool remove = removable > 0 && (options.yes || (may_ask && ask_yes_no(fmt::format("Remove {} of them for good?", removable))));
  bool all = true;
  Json document = document_of(regions), list = Json::array(), by_region = Json::array();
  double total = 0;
  for (const Region& region : regions) {
    if (region.trouble) continue;
    Ec2 ec2(*region.client);
    by_region.push_back({{"region", region.name()}, {"usd_per_month", usd_a_month(region.orphans)}});
    total += usd_a_month(region.orphans);
    for (const Orphan& one : region.orphans) {
      bool is_gone = false;
      if (remove && !one.action.empty()) {
        if (const AwsResult<void> removed = ec2.remove(one.action, one.parameter, one.id); !removed) {
          complain(Error(removed.error().error).in(fmt::format("removing {} {}", one.kind, one.id)));
          all = false;
        } else {
          say(fmt::format("Removed: {} {}.", one.kind, one.id));
          is_gone = true;
        }
      }
      list.push_back({{"kind", one.kind},
                      {"id", one.id},
                      {"region", region.name()},
                      {"what", one.what},
                      {"usd_per_month", one.usd_per_month},
                      {"removable", !one.action.empty()},
                      {"removed", is_gone}});
    }
  }
  document["usd_per_month"] = total;
  document["by_region"] = std::move(by_region);
  document["orphans"] = std::move(list);
  if (options.json) print_document(document);
  return all ? result_of(regions) : ExitCode::cloud;
}

}  // namespace

VerbResult verb_ls(const Options& options) {
  Result<std::vector<Region>> regions = regions_to_ask(options);
  if (!regions) return of_cloud(fail(std::move(regions).error()));
  return of_cloud(options.cloud.orphans ? list_orphans(options, *regions) : list_instances(options, *regions));
}

}  // namespace gpustrap
