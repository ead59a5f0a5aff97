#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "agent/base/text.h"
#include "agent/protocol/demands.h"
#include "agent/steps/kinds.h"

namespace gpustrap {
namespace {

class RequireStep : public Step {
 public:
  explicit RequireStep(RequireSpec spec) : spec_(std::move(spec)) {}

  [[nodiscard]] Result<StepState> check(const Host& host) const override {
    const std::vector<std::string> unmet = unmet_demands(spec_, host.facts());
    const Result<std::string> room = missing_room(host);
    if (!room) return fail(room.error());
    std::vector<std::string> all = unmet;
    if (!room->empty()) all.push_back(*room);
    if (!all.empty()) return StepState::unsatisfied(join(all, "; "));
    return StepState::satisfied(describe(host));
  }

  Result<void> apply(Host& host, StepLog& /*log*/) override {
    // Nothing that a step may change: the demands are the author's, and the run ends here.
    const std::vector<std::string> unmet = unmet_demands(spec_, host.facts());
    if (!unmet.empty()) return fail(ErrorCode::unsupported, join(unmet, "; "), "use a host that fits, or change the recipe's `require`");
    const Result<std::string> room = missing_room(host);
    if (!room) return fail(room.error());
    return fail(ErrorCode::no_space, *room, "make room (df -h /; du -xh / | sort -h | tail), or use a larger disk");
  }

 private:
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
