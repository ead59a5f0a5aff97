// What gpustrap has in EC2, what it costs, and what is left over.
#include <algorithm>
#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "agent/base/text.h"
#include "agent/protocol/json.h"
#include "controller/cloud/holdings.h"
#include "controller/cloud/prices.h"
#include "controller/cloud_verb.h"
#include "controller/display_width.h"
#include "controller/prompt.h"

namespace gpustrap {
namespace {

VerbResult list_instances(const Options& options, Ec2& ec2) {
  AwsResult<std::vector<Ec2Instance>> all = own_instances(ec2);
  if (!all) return fail(std::move(all).error().error);
  std::sort(all->begin(), all->end(), [](const Ec2Instance& a, const Ec2Instance& b) { return name_of(a) < name_of(b); });
  const std::string& region = ec2.client().settings().region;
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
      const auto price = usd_per_hour(one);
      if (price && one.state == "running") entry["usd_so_far"] = std::round(*price * hours_since(one.launched) * 100) / 100;
      list.push_back(std::move(entry));
    }
    print(Json{{"version", 1}, {"region", region}, {"prices_as_of", builtin_prices().as_of}, {"instances", std::move(list)}}.dump(2) +
          "\n");
    return ExitCode::ok;
  }
  if (all->empty()) {
    say(fmt::format("gpustrap has no instance in {}.", region));
    return ExitCode::ok;
  }
  std::vector<std::vector<std::string>> rows = {{"NAME", "INSTANCE", "TYPE", "STATE", "SINCE", "ADDRESS", "COST"}};
  for (const Ec2Instance& one : *all) {
    const auto price = usd_per_hour(one);
    const bool runs = one.state == "running";
    const std::string cost = !runs                     ? (one.state == "stopped" ? "its disk" : "")
                             : price                   ? usd(*price * hours_since(one.launched))
                             : one.lifecycle == "spot" ? "spot"
                                                       : "?";
    rows.push_back({name_of(one), one.id, one.type, one.state, runs ? age_of(one) : "", one.address, cost});
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
  say(fmt::format("Since the last start, without disks; prices of us-east-1, {}.", builtin_prices().as_of));
  return ExitCode::ok;
}

VerbResult list_orphans(const Options& options, Ec2& ec2) {
  const AwsResult<std::vector<Orphan>> orphans = find_orphans(ec2);
  if (!orphans) return fail(orphans.error().error);
  if (orphans->empty()) {
    say(fmt::format("Nothing of gpustrap's is left over in {}.", ec2.client().settings().region));
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
  print(fmt::format("{}  in all {} a month\n", text, usd(total)));
  if (removable == 0) return ExitCode::ok;
  if (!options.yes && !can_ask()) {
    say("Add -y to remove what is not kept.");
    return ExitCode::ok;
  }
  if (!options.yes && !ask_yes_no(fmt::format("Remove {} of them for good?", removable))) return ExitCode::ok;
  for (const Orphan& one : *orphans) {
    if (one.action.empty()) continue;
    if (const AwsResult<void> removed = ec2.remove(one.action, one.parameter, one.id); !removed)
      return fail(Error(removed.error().error).in(fmt::format("removing {} {}", one.kind, one.id)));
    say(fmt::format("Removed: {} {}.", one.kind, one.id));
  }
  return ExitCode::ok;
}

}  // namespace

VerbResult verb_ls(const Options& options) {
  Result<std::unique_ptr<AwsClient>> client = open_cloud(options);
  if (!client) return of_cloud(fail(std::move(client).error()));
  Ec2 ec2(**client);
  return of_cloud(options.cloud.orphans ? list_orphans(options, ec2) : list_instances(options, ec2));
}

}  // namespace gpustrap
