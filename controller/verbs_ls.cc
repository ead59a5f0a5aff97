// What gpustrap has in EC2, what it costs, and what is left over.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "agent/base/text.h"
#include "agent/protocol/json.h"
#include "controller/cloud/asked_prices.h"
#include "controller/cloud/holdings.h"
#include "controller/cloud/launch_record.h"
#include "controller/cloud/prices.h"
#include "controller/cloud/spot_prices.h"
#include "controller/cloud_verb.h"
#include "controller/display_width.h"
#include "controller/machine_use.h"
#include "controller/prompt.h"
#include "controller/run_log.h"

namespace gpustrap {
namespace {

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
Json known_elsewhere(const std::string& state, const std::string& here) {
  Json list = Json::array();
  for (const KnownInstance& one : known_instances(state)) {
    if (!one.record.region.empty() && one.record.region != here)
      list.push_back({{"name", one.record.name}, {"instance", one.id}, {"region", one.record.region}});
  }
  return list;
}

VerbResult list_instances(const Options& options, Ec2& ec2) {
  const Result<std::string> state = state_directory();
  if (!state) return fail(state.error());
  AwsResult<std::vector<Ec2Instance>> all = own_instances(ec2);
  if (!all) return fail(std::move(all).error().error);
  std::sort(all->begin(), all->end(), [](const Ec2Instance& a, const Ec2Instance& b) { return name_of(a) < name_of(b); });
  const std::string& region = ec2.client().settings().region;
  const std::map<std::string, Ec2Status> statuses = statuses_of(ec2, *all);
  Costs costs(ec2, *state, *all);
  const auto use = options.cloud.idle ? use_of_machines(*state, *all) : std::map<std::string, Result<IdleStatus>>{};
  if (options.json) {
    Json list = Json::array();
    for (const Ec2Instance& one : *all) {
      Json entry = {{"name", name_of(one)},
                    {"instance", one.id},
                    {"type", one.type},
                    {"state", one.state},
                    {"address", one.address},
                    {"zone", one.zone},
                    {"spot", one.lifecycle == "spot"}};
      if (one.launched) entry["started"] = iso_time(*one.launched);
      if (one.state == "stopped" && one.stopped) entry["stopped"] = iso_time(*one.stopped);
      if (const std::int64_t gib = costs.disk_gib(one); gib > 0) {
        entry["disk_gib"] = gib;
        entry["usd_per_month"] = std::round(usd_a_month(gib) * 100) / 100;
      }
      if (const std::optional<Price> price = costs.an_hour(one)) {
        entry["usd_per_hour"] = price->usd_per_hour;
        entry["usd_so_far"] = std::round(price->usd_per_hour * hours_since(one.launched) * 100) / 100;
        entry["price_from"] = price->source;
      }
      if (const auto status = statuses.find(one.id); status != statuses.end()) entry["checks"] = status_json(status->second);
      if (const auto told = use.find(one.id); told != use.end())
        entry["idle"] = told->second ? idle_document(*told->second) : Json{{"error", told->second.error().why()}};
      list.push_back(std::move(entry));
    }
    print(Json{{"version", 1},
               {"region", region},
               {"prices_as_of", builtin_prices().as_of},
               {"instances", std::move(list)},
               {"elsewhere", known_elsewhere(*state, region)}}
              .dump(2) +
          "\n");
    return ExitCode::ok;
  }
  tell_open_orders(ec2, *state, *all);
  if (all->empty()) {
    say(fmt::format("gpustrap has no instance in {}.", region));
    tell_other_machines(*state, region, *all);
    return ExitCode::ok;
  }
  std::vector<std::vector<std::string>> rows = {{"NAME", "INSTANCE", "TYPE", "STATE", "SINCE", "ADDRESS", "COST"}};
  if (options.cloud.idle) rows.front().emplace_back("USE");
  std::set<std::string> sources;
  std::vector<std::string> notes;
  for (const Ec2Instance& one : *all) {
    const bool runs = one.state == "running";
    const std::optional<Price> price = costs.an_hour(one);
    const std::string cost = cost_text(one, price, costs.disk_gib(one));
    if (price) sources.insert(price->source);
    std::string shown = one.state;
    if (const auto status = statuses.find(one.id); status != statuses.end()) {
      if (const std::string amiss = checks_text(status->second); !amiss.empty()) shown += ", " + amiss;
      for (const Ec2Status::Event& event : status->second.events) notes.push_back(event_text(name_of(one), event));
    }
    rows.push_back({name_of(one), one.id, one.type, shown, since_text(one), one.address, cost});
    if (options.cloud.idle) {
      const auto told = use.find(one.id);
      rows.back().push_back(told != use.end() ? use_text(told->second) : runs ? "not known here" : "");
    }
  }
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
  print(text);
  for (const std::string& note : notes) say(note);
  if (!sources.empty()) {
    say(fmt::format("Cost since the last start, without disks, by {}{}.", join({sources.begin(), sources.end()}, "; "),
                    costs.trouble().empty() ? "" : fmt::format(" (AWS's price list was not asked: {})", costs.trouble())));
  }
  tell_other_machines(*state, region, *all);
  return ExitCode::ok;
}

VerbResult list_orphans(const Options& options, Ec2& ec2) {
  const AwsResult<std::vector<Orphan>> orphans = find_orphans(ec2);
  if (!orphans) return fail(orphans.error().error);
  const std::string& region = ec2.client().settings().region;
  if (const Result<std::string> state = state_directory()) {
    const std::vector<std::string> others = regions_used(*state, region);
    if (!others.empty())
      say(fmt::format("Looked at: {}. Launched from here was in {}, too: gpustrap ls --orphans --region {}", region, join(others, ", "),
                      others.front()));
  }
  if (orphans->empty() && !options.json) {
    say(fmt::format("Nothing of gpustrap's is left over in {}.", region));
    return ExitCode::ok;
  }
  double total = 0;
  std::string text;
  std::size_t removable = 0;
  for (const Orphan& one : *orphans) {
    text += fmt::format("  {:<8} {:<22} {:>9}/month  {}\n", one.kind, one.id, usd(one.usd_per_month), one.what);
    total += one.usd_per_month;
    removable += one.action.empty() ? 0 : 1;
  }
  if (!options.json) print(fmt::format("{}  in all {} a month\n", text, usd(total)));
  const bool may_ask = !options.json && can_ask();  // a program says -y, or has only a look
  if (removable > 0 && !options.yes && !may_ask) say("Add -y to remove what is not kept.");
  const bool remove = removable > 0 && (options.yes || (may_ask && ask_yes_no(fmt::format("Remove {} of them for good?", removable))));
  bool all = true;
  Json list = Json::array();
  for (const Orphan& one : *orphans) {
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
                    {"what", one.what},
                    {"usd_per_month", one.usd_per_month},
                    {"removable", !one.action.empty()},
                    {"removed", is_gone}});
  }
  if (options.json) print_document({{"version", 1}, {"region", region}, {"usd_per_month", total}, {"orphans", std::move(list)}});
  return all ? ExitCode::ok : ExitCode::cloud;
}

}  // namespace

VerbResult verb_ls(const Options& options) {
  Result<std::unique_ptr<AwsClient>> client = open_cloud(options);
  if (!client) return of_cloud(fail(std::move(client).error()));
  Ec2 ec2(**client);
  return of_cloud(options.cloud.orphans ? list_orphans(options, ec2) : list_instances(options, ec2));
}

}  // namespace gpustrap
