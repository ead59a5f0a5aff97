#include <algorithm>
#include <vector>

#include <fmt/format.h>

#include "agent/base/text.h"
#include "agent/steps/kinds.h"

namespace gpustrap {
namespace {

/// "ubuntu >= 22.04" or "debian" against the host's release.
bool release_matches(const std::string& wanted, const Facts& facts) {
  const std::vector<std::string> parts = words(wanted);
  if (parts.empty() || parts[0] != facts.os) return false;
  if (parts.size() == 1) return true;
  std::string condition;
  for (std::size_t i = 1; i < parts.size(); ++i) condition += parts[i];
  return version_matches(facts.os_version, condition).value_or(false);
}

class RequireStep : public Step {
 public:
  explicit RequireStep(RequireSpec spec) : spec_(std::move(spec)) {}

  [[nodiscard]] Result<StepState> check(const Host& host) const override {
    const std::vector<std::string> unmet = unmet_demands(host);
    const Result<std::string> room = missing_room(host);
    if (!room) return fail(room.error());
    std::vector<std::string> all = unmet;
    if (!room->empty()) all.push_back(*room);
    if (!all.empty()) return StepState::unsatisfied(join(all, "; "));
    return StepState::satisfied(describe(host));
  }

  Result<void> apply(Host& host, StepLog& /*log*/) override {
    // Nothing that a step may change: the demands are the author's, and the run ends here.
    const std::vector<std::string> unmet = unmet_demands(host);
    if (!unmet.empty()) return fail(ErrorCode::unsupported, join(unmet, "; "), "use a host that fits, or change the recipe's `require`");
    const Result<std::string> room = missing_room(host);
    if (!room) return fail(room.error());
    return fail(ErrorCode::no_space, *room, "make room (df -h /; du -xh / | sort -h | tail), or use a larger disk");
  }

 private:
  [[nodiscard]] std::vector<std::string> unmet_demands(const Host& host) const {
    const Facts& facts = host.facts();
    std::vector<std::string> unmet;
    const auto any = [](const StringList& list, auto&& fits) {
      return list.items.empty() || std::any_of(list.items.begin(), list.items.end(), fits);
    };
    if (!any(spec_.os, [&](const std::string& os) { return release_matches(os, facts); })) {
      unmet.push_back(fmt::format("this is {}, {} wanted", facts.os_name.empty() ? facts.os + " " + facts.os_version : facts.os_name,
                                  join(spec_.os.items, " or ")));
    }
    if (!any(spec_.arch, [&](const std::string& arch) { return arch == facts.arch; })) {
      unmet.push_back(fmt::format("this is {}, {} wanted", facts.arch, join(spec_.arch.items, " or ")));
    }
    if (spec_.memory && facts.memory < spec_.memory->bytes) {
      unmet.push_back(fmt::format("{} of memory, {} wanted", human_size(facts.memory), human_size(spec_.memory->bytes)));
    }
    if (spec_.cpus && facts.cpus < static_cast<std::uint64_t>(std::max<std::int64_t>(*spec_.cpus, 0))) {
      unmet.push_back(fmt::format("{} processors, {} wanted", facts.cpus, *spec_.cpus));
    }
    if (spec_.gpu && *spec_.gpu && facts.gpus.empty()) unmet.emplace_back("no NVIDIA GPU is on the PCI bus");
    if (spec_.gpu && !*spec_.gpu && !facts.gpus.empty()) unmet.emplace_back("an NVIDIA GPU is on the PCI bus, and none is wanted");
    if (spec_.systemd && *spec_.systemd != facts.systemd) {
      unmet.emplace_back(facts.systemd ? "systemd runs here, and is not wanted" : "systemd is not PID 1 here");
    }
    return unmet;
  }

  [[nodiscard]] Result<std::string> missing_room(const Host& host) const {
    if (!spec_.disk_free) return std::string();
    const Result<std::uint64_t> free = host.disk_free("/");
    if (!free) return fail(free.error());
    if (*free >= spec_.disk_free->bytes) return std::string();
    return fmt::format("{} free on /, {} wanted", human_size(*free), human_size(spec_.disk_free->bytes));
  }

  [[nodiscard]] std::string describe(const Host& host) const {
    const Facts& facts = host.facts();
    std::string text = facts.os_name.empty() ? facts.os + " " + facts.os_version : facts.os_name;
    if (spec_.disk_free) {
      if (const Result<std::uint64_t> free = host.disk_free("/")) text += fmt::format(", {} free", human_size(*free));
    }
    return text;
  }

  RequireSpec spec_;
};

}  // namespace

std::unique_ptr<Step> make_require_step(const StepSpec& spec) { return std::make_unique<RequireStep>(std::get<RequireSpec>(spec)); }

}  // namespace gpustrap
