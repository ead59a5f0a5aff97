#include "agent/idle_rules.h"

#include <algorithm>
#include <utility>

namespace gpustrap {
namespace {

constexpr seconds kHour{3600};
constexpr seconds kUsualWarning{300};
constexpr seconds kLongestInterval{60}, kShortestInterval{1};
/// A budget waits so long for dpkg and for a run: half of a package costs an evening, a quarter of an hour some cents. A run that is cut
/// off goes on at the next boot; one that waits for a secret would wait for ever.
constexpr seconds kBudgetPatience{900};
constexpr seconds kToRaiseBudget{300};

/// Work that is not to be cut off in the middle.
bool holds(const std::vector<UseSign>& signs) {
  return std::any_of(signs.begin(), signs.end(),
                     [](const UseSign& sign) { return sign.of == UseSign::Of::run || sign.of == UseSign::Of::packages; });
}

/// A boot that this memory does not know: what was idle is not any more, somebody has started the host.
void begin_boot(IdleMemory& memory, const IdleMoment& moment) {
  const bool is_first = memory.boot.empty();
  if (!is_first) memory.powered += moment.up.value_or(moment.at);  // on since the boot, whoever looked
  memory.boot = moment.boot;
  memory.active = moment.at;
  memory.last_sign = is_first ? "the guard was set up" : "the host was started";
  memory.warned.reset();
  memory.most_spent_told = false;
}

struct Due {
  StopCause cause;
  seconds at;
};

}  // namespace

seconds IdleBudget::time() const {
  if (price.money.millionths <= 0) return seconds::max();
  // Money is below a million million millionths, so the product fits.
  return seconds(limit.millionths * kHour.count() / price.money.millionths);
}

Money IdleBudget::cost(seconds powered) const {
  // By hours and the rest: years at a hundred an hour times 3600 would not fit otherwise.
  const std::int64_t hours = powered / kHour, rest = (powered % kHour).count();
  return {hours * price.money.millionths + rest * price.money.millionths / kHour.count(), price.money.currency};
}

seconds usual_warning(std::optional<seconds> after) { return after ? std::min(kUsualWarning, *after / 2) : kUsualWarning; }

seconds look_interval(const IdleRules& rules) {
  seconds interval = rules.warn / 2;
  if (rules.after) interval = std::min(interval, *rules.after / 10);
  return std::clamp(interval, kShortestInterval, kLongestInterval);
}

seconds kept_for(const std::optional<Postponement>& keep, const std::string& boot, seconds at, std::int64_t wall_ms) {
  if (!keep) return seconds(0);
  const seconds left = keep->boot == boot ? keep->until - at : seconds((keep->until_ms - wall_ms) / 1000);
  return std::max(left, seconds(0));
}

IdleDecision decide(const IdleRules& rules, IdleMemory memory, const IdleMoment& moment) {
  if (memory.boot != moment.boot)
    begin_boot(memory, moment);
  else
    memory.powered += std::max(moment.at - memory.at, seconds(0));
  memory.at = moment.at;
  if (!rules.budget) memory.powered = seconds(0);
  if (!moment.signs.empty()) {
    memory.active = moment.at;
    memory.last_sign = moment.signs.front().text;
  }

  IdleVerdict verdict;
  verdict.idle = moment.at - memory.active;
  std::vector<Due> all;
  const bool may_idle = rules.after && moment.signs.empty() && moment.kept == seconds(0);
  if (may_idle) all.push_back({StopCause::idle, memory.active + *rules.after});
  if (rules.budget) {
    const seconds time = rules.budget->time();
    if (time != seconds::max()) all.push_back({StopCause::budget, moment.at + time - memory.powered});
    verdict.tell_most_spent = !memory.most_spent_told && memory.powered >= time / 5 * 4;
    memory.most_spent_told = memory.most_spent_told || verdict.tell_most_spent;
  }
  // The first to come; one that people were told of stays the one while it is still to come.
  const auto pending = [&](const Due& due) { return moment.at >= due.at - rules.warn; };
  const Due* due = nullptr;
  for (const Due& one : all) {
    const bool was_told = memory.warned && memory.warned->cause == one.cause;
    if (pending(one) && (due == nullptr || was_told)) due = &one;
  }

  verdict.is = !rules.after                ? IdleVerdict::Is::off
               : !moment.signs.empty()     ? IdleVerdict::Is::busy
               : moment.kept != seconds(0) ? IdleVerdict::Is::kept
                                           : IdleVerdict::Is::quiet;
  if (!moment.signs.empty()) verdict.why = moment.signs.front().text;
  if (due == nullptr) {
    verdict.take_back = memory.warned.has_value();
    memory.warned.reset();
    for (const Due& one : all) {
      if (verdict.stops_in && *verdict.stops_in <= one.at - moment.at) continue;
      verdict.cause = one.cause;
      verdict.stops_in = one.at - moment.at;
    }
    return {std::move(memory), std::move(verdict)};
  }
  verdict.cause = due->cause;
  if (!memory.warned || memory.warned->cause != due->cause) {
    verdict.warn_now = true;
    verdict.take_back = memory.warned.has_value();
    memory.warned = IdleMemory::Warning{due->cause, moment.at};
  }
  // Never without the whole warning, however late this look comes.
  seconds stop_at = std::max(due->at, memory.warned->at + rules.warn);
  // Who starts a host whose budget is spent gets the time to log in and raise it, however short the warning is.
  const seconds up = std::min(moment.up.value_or(moment.at), moment.at);
  if (due->cause == StopCause::budget && memory.powered - up >= rules.budget->time())
    stop_at = std::max(stop_at, moment.at - up + kToRaiseBudget);
  verdict.stops_in = std::max(stop_at - moment.at, seconds(0));
  const bool waits = due->cause == StopCause::budget && holds(moment.signs) && moment.at < stop_at + kBudgetPatience;
  verdict.is = moment.at >= stop_at && !waits ? IdleVerdict::Is::stop : IdleVerdict::Is::warned;
  return {std::move(memory), std::move(verdict)};
}

}  // namespace gpustrap
