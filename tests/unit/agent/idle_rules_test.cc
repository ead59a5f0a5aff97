#include "agent/idle_rules.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "agent/idle_signs.h"
#include "agent/notebook_use.h"

namespace gpustrap {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using Is = IdleVerdict::Is;
using std::chrono::hours;
using std::chrono::minutes;

IdleRules half_an_hour() { return {minutes(30), minutes(5), std::nullopt}; }
IdleRules with_budget() {
  IdleRules rules = half_an_hour();
  rules.budget = IdleBudget{{5'000'000, "USD"}, {{500'000, "USD"}}, "the recipe"};  // ten hours
  return rules;
}

/// A host that is looked at each minute, from its first look on.
class Guarded {
 public:
  explicit Guarded(IdleRules rules) : rules_(std::move(rules)) { look(); }

  IdleVerdict look(std::vector<UseSign> signs = {}) {
    IdleDecision decision = decide(rules_, memory_, {boot_, at_, std::move(signs), kept_});
    memory_ = decision.memory;
    if (decision.verdict.is == Is::stop && !stopped_) stopped_ = at_;
    warnings_ += decision.verdict.warn_now ? 1 : 0;
    return decision.verdict;
  }
  /// For so long, with these signs at every look; the last verdict.
  IdleVerdict pass(seconds time, const std::vector<UseSign>& signs = {}) {
    IdleVerdict last;
    for (const seconds end = at_ + time; at_ < end;) {
      at_ += minutes(1);
      kept_ = std::max(kept_ - minutes(1), seconds(0));
      last = look(signs);
    }
    return last;
  }
  Guarded& keep(seconds time) { return kept_ = time, *this; }
  Guarded& restart(seconds until_first_look = minutes(1)) { return boot_ += "'", at_ = until_first_look, *this; }
  Guarded& rules(IdleRules rules) { return rules_ = std::move(rules), *this; }

  IdleMemory& memory() { return memory_; }
  [[nodiscard]] int warnings() const { return warnings_; }
  [[nodiscard]] seconds at() const { return at_; }

 private:
  IdleRules rules_;
  IdleMemory memory_;
  std::string boot_ = "boot";
  seconds at_{600}, kept_{0};
  std::optional<seconds> stopped_;
  int warnings_ = 0;
};

// ---- scenarios: a sample of the host, and what comes of it after an hour of samples like that

struct Scenario {
  std::string name;
  std::function<void(IdleSample& sample, int minute)> live;
  Is after_an_hour;
  std::string why;  ///< part of it
};
std::ostream& operator<<(std::ostream& out, const Scenario& scenario) { return out << scenario.name; }

constexpr double kTicks = 100;

ProcessTime process(int pid, std::string name, std::uint64_t own) { return {pid, 1, 50, own, 0, std::move(name)}; }

void notebook(IdleSample& sample, const char* state, int minute_of_use, int minute_of_saving = 0) {
  add_notebook_use(std::string(R"({"kernels":[{"id":"3f2a","last_activity":")") + std::to_string(minute_of_use) +
                       R"(","execution_state":")" + state +
                       R"("}],"sessions":[{"path":"train.ipynb","kernel":{"id":"3f2a"}}],"files":{"train.ipynb":)" +
                       std::to_string(minute_of_saving) + "}}",
                   sample);
}

void gpu(IdleSample& sample, unsigned percent) {
  for (UseSign& sign : signs_of_gpus({{"0", percent}}, {"812 (python3)"})) sample.now.push_back(sign);
}

void terminal(IdleSample& sample, int typed) {
  sample.marks.push_back({{UseSign::Of::typing, "somebody types at pts/0 (ubuntu)"}, std::to_string(typed)});
}

class Scenarios : public ::testing::TestWithParam<Scenario> {};

TEST_P(Scenarios, AreDecidedRight) {
  IdleMemory memory;
  IdleSample before;
  IdleVerdict verdict;
  bool stopped = false;
  for (int minute = 0; minute <= 60; ++minute) {
    IdleSample sample;
    sample.boot = "boot";
    sample.at = minutes(10 + minute);
    GetParam().live(sample, minute);
    const IdleMoment moment{"boot", std::chrono::duration_cast<seconds>(sample.at), signs_of_use(before, sample, kTicks), seconds(0)};
    IdleDecision decision = decide(half_an_hour(), memory, moment);
    memory = decision.memory;
    verdict = decision.verdict;
    stopped = stopped || verdict.is == Is::stop;
    before = sample;
    if (stopped) break;
  }
  EXPECT_EQ(stopped ? Is::stop : verdict.is, GetParam().after_an_hour) << verdict.why;
  EXPECT_THAT(verdict.why, HasSubstr(GetParam().why));
}

INSTANTIATE_TEST_SUITE_P(
    Idle, Scenarios,
    ::testing::Values(
        Scenario{"nothing_at_all", [](IdleSample&, int) {}, Is::stop, ""},
        Scenario{"training_without_a_notebook", [](IdleSample& sample, int) { gpu(sample, 97); }, Is::busy, "GPU 0 is 97 % busy"},
        Scenario{"idle_notebook_with_an_open_tab",
                 [](IdleSample& sample, int minute) {
                   notebook(sample, "idle", 0);
                   sample.network = {{"eth0", 60'000U * static_cast<unsigned>(minute)}};  // its tab asks
                   sample.processes = {process(700, "jupyter-lab", 90U * static_cast<unsigned>(minute))};
                 },
                 Is::stop, ""},
        Scenario{"kernel_busy_without_gpu", [](IdleSample& sample, int) { notebook(sample, "busy", 0); }, Is::busy, "train.ipynb computes"},
        Scenario{"cells_run_at_times", [](IdleSample& sample, int minute) { notebook(sample, "idle", minute / 25); }, Is::quiet, ""},
        Scenario{"notebook_written_without_running_it", [](IdleSample& sample, int minute) { notebook(sample, "idle", 0, minute / 10); },
                 Is::busy, "train.ipynb was saved"},
        Scenario{"kernel_idle_but_holding_gpu_memory",
                 [](IdleSample& sample, int) {
                   notebook(sample, "idle", 0);
                   gpu(sample, 0);
                 },
                 Is::stop, ""},
        Scenario{
            "busy_cpu_only",
            [](IdleSample& sample, int minute) { sample.processes = {process(900, "prepare", 5'900U * static_cast<unsigned>(minute))}; },
            Is::busy, "prepare (900) uses 98 % of a core"},
        Scenario{"a_host_that_breathes",
                 [](IdleSample& sample, int minute) { sample.processes = {process(1, "systemd", 240U * static_cast<unsigned>(minute))}; },
                 Is::stop, ""},
        Scenario{"logged_in_shell_doing_nothing", [](IdleSample& sample, int) { terminal(sample, 17); }, Is::stop, ""},
        Scenario{"logged_in_shell_being_used", [](IdleSample& sample, int minute) { terminal(sample, minute); }, Is::busy,
                 "somebody types at pts/0 (ubuntu)"},
        Scenario{"a_download",
                 [](IdleSample& sample, int minute) {
                   sample.network = {{"eth0", 12'000'000U * static_cast<unsigned>(minute)}};
                 },
                 Is::busy, "eth0 carries 200 kB/s"},
        Scenario{"a_run_of_gpustrap",
                 [](IdleSample& sample, int) {
                   sample.now.push_back({UseSign::Of::run, "run r1 of gpustrap is in progress"});
                 },
                 Is::busy, "run r1"},
        Scenario{"apt_at_work",
                 [](IdleSample& sample, int) {
                   sample.now.push_back({UseSign::Of::packages, "process 8 (apt) installs packages"});
                 },
                 Is::busy, "apt"},
        Scenario{
            "somebody_inhibits_a_shutdown",
            [](IdleSample& sample, int) {
              for (
                  UseSign& sign : inhibitors_in(
                      R"x({"type":"a(ssssuu)","data":[[["shutdown:sleep","backup","copies","block",0,9],["shutdown","u-u","x","delay",0,1]]]})x"))
                sample.now.push_back(sign);
            },
            Is::busy, "backup keeps the host from shutting down: copies"},
        Scenario{"only_a_delaying_inhibitor",
                 [](IdleSample& sample, int) {
                   for (UseSign& sign : inhibitors_in(R"x({"type":"a(ssssuu)","data":[[["shutdown","u-u","x","delay",0,1]]]})x"))
                     sample.now.push_back(sign);
                 },
                 Is::stop, ""},
        Scenario{"a_program_on_a_slice_of_a_gpu",
                 [](IdleSample& sample, int) {
                   for (UseSign& sign : signs_of_gpus({{"0", std::nullopt}}, {"812 (python3)"})) sample.now.push_back(sign);
                 },
                 Is::busy, "does not tell how busy it is"},
        Scenario{"a_training_under_a_driver_that_answers_nobody",
                 [](IdleSample& sample, int) {
                   for (UseSign& sign : signs_of_gpus({}, {"812 (python3)"})) sample.now.push_back(sign);
                 },
                 Is::busy, "does not tell how busy it is"},
        Scenario{"nobody_on_a_slice_of_a_gpu",
                 [](IdleSample& sample, int) {
                   EXPECT_TRUE(signs_of_gpus({{"0", std::nullopt}}, {}).empty()), static_cast<void>(sample);
                 },
                 Is::stop, ""}),
    [](const auto& row) { return row.param.name; });

// ---- the decision over time

TEST(IdleDecision, WarnsOnceAndStopsAWarningLater) {
  Guarded host(half_an_hour());
  EXPECT_EQ(host.pass(minutes(24)).is, Is::quiet);
  const IdleVerdict warned = host.pass(minutes(1));
  EXPECT_TRUE(warned.warn_now);
  EXPECT_EQ(warned.stops_in, minutes(5));
  EXPECT_EQ(warned.cause, StopCause::idle);
  EXPECT_EQ(host.pass(minutes(4)).is, Is::warned);
  EXPECT_EQ(host.pass(minutes(1)).is, Is::stop);
  EXPECT_EQ(host.warnings(), 1);
}

TEST(IdleDecision, UseTakesAWarningBackAndCountsAnew) {
  Guarded host(half_an_hour());
  host.pass(minutes(27));
  const IdleVerdict used = host.pass(minutes(1), {{UseSign::Of::typing, "somebody types"}});
  EXPECT_TRUE(used.take_back);
  EXPECT_EQ(used.is, Is::busy);
  EXPECT_EQ(used.why, "somebody types");
  EXPECT_EQ(host.pass(minutes(24)).is, Is::quiet);
  EXPECT_EQ(host.memory().last_sign, "somebody types");
  EXPECT_EQ(host.pass(minutes(6)).is, Is::stop);
  EXPECT_EQ(host.warnings(), 2);
}

TEST(IdleDecision, KeepPutsTheStopOffAndTheWarningComesBeforeIt) {
  Guarded host(half_an_hour());
  host.pass(minutes(26));
  const IdleVerdict kept = host.keep(hours(2)).pass(minutes(1));
  EXPECT_TRUE(kept.take_back);
  EXPECT_EQ(kept.is, Is::kept);
  EXPECT_EQ(host.pass(minutes(118)).is, Is::kept);
  EXPECT_TRUE(host.pass(minutes(1)).warn_now) << "idle for long by then, but nobody is stopped without a warning";
  EXPECT_EQ(host.pass(minutes(4)).is, Is::warned);
  EXPECT_EQ(host.pass(minutes(1)).is, Is::stop);
}

TEST(IdleDecision, ALookThatComesLateWarnsBeforeItStops) {
  Guarded host(half_an_hour());
  host.memory().active = host.at() - hours(9);  // a machine that was suspended, or a guard that was
  EXPECT_EQ(host.look().is, Is::warned);
  EXPECT_EQ(host.pass(minutes(4)).is, Is::warned);
  EXPECT_EQ(host.pass(minutes(1)).is, Is::stop);
}

TEST(IdleDecision, ARestartBeginsAnew) {
  Guarded host(half_an_hour());
  host.pass(minutes(27));
  const IdleVerdict first = host.restart().look();
  EXPECT_EQ(first.is, Is::quiet);
  EXPECT_EQ(first.idle, seconds(0));
  EXPECT_FALSE(host.memory().warned);
  EXPECT_EQ(host.memory().last_sign, "the host was started");
  EXPECT_EQ(host.pass(minutes(24)).is, Is::quiet);
  EXPECT_EQ(host.pass(minutes(6)).is, Is::stop);
}

TEST(IdleDecision, ASuspendedGuardOrAStrangeClockNeverCountsBackwards) {
  Guarded host(with_budget());
  host.pass(hours(1), {{UseSign::Of::cpu, "x"}});
  const seconds powered = host.memory().powered;
  host.memory().at = host.at() + hours(3);  // a record from a time that has not been yet
  host.pass(minutes(1), {{UseSign::Of::cpu, "x"}});
  EXPECT_EQ(host.memory().powered, powered);
}

// ---- the budget

TEST(IdleBudgetRules, AHostThatIsStartedWithASpentBudgetStaysLongEnoughToRaiseIt) {
  IdleRules rules = with_budget();
  rules.warn = seconds(1);
  Guarded host(rules);
  const std::vector<UseSign> training = {{UseSign::Of::gpu, "GPU 0 is 97 % busy"}};
  EXPECT_EQ(host.pass(hours(11), training).is, Is::stop);
  host.restart();
  EXPECT_EQ(host.look(training).is, Is::warned);
  EXPECT_EQ(host.pass(minutes(3), training).is, Is::warned);
  EXPECT_EQ(host.pass(minutes(1), training).is, Is::stop);
}

TEST(IdleBudgetTest, CountsTimeAndMoney) {
  const IdleBudget budget = *with_budget().budget;
  EXPECT_EQ(budget.time(), hours(10));
  EXPECT_EQ(budget.cost(hours(3) + minutes(30)).millionths, 1'750'000);
  EXPECT_EQ((IdleBudget{{999'999'000'000, "USD"}, {{142'416'000, "USD"}}, ""}.time()), seconds(25278033));
}

TEST(IdleBudgetTest, TellsAtFourFifthsWarnsAndStopsAHostAtWork) {
  const std::vector<UseSign> training = {{UseSign::Of::gpu, "GPU 0 is 97 % busy"}};
  Guarded host(with_budget());
  EXPECT_FALSE(host.pass(hours(8) - minutes(1), training).tell_most_spent);
  EXPECT_TRUE(host.pass(minutes(1), training).tell_most_spent);
  EXPECT_FALSE(host.pass(minutes(1), training).tell_most_spent);
  EXPECT_EQ(host.pass(hours(2) - minutes(7), training).is, Is::busy);
  const IdleVerdict warned = host.pass(minutes(1), training);
  EXPECT_TRUE(warned.warn_now);
  EXPECT_EQ(warned.cause, StopCause::budget);
  EXPECT_EQ(host.pass(minutes(4), training).is, Is::warned);
  const IdleVerdict stopped = host.pass(minutes(1), training);
  EXPECT_EQ(stopped.is, Is::stop);
  EXPECT_EQ(host.memory().powered, hours(10));
}

TEST(IdleBudgetTest, KeepDoesNotPutItOff) {
  Guarded host(with_budget());
  EXPECT_EQ(host.keep(hours(20)).pass(hours(10) - minutes(4)).is, Is::warned);
  EXPECT_EQ(host.pass(minutes(4)).is, Is::stop);
}

TEST(IdleBudgetTest, WaitsAWhileForDpkgAndForARun) {
  const std::vector<UseSign> run = {{UseSign::Of::run, "run r1 of gpustrap is in progress"}};
  Guarded host(with_budget());
  EXPECT_EQ(host.pass(hours(10) + minutes(14), run).is, Is::warned);
  EXPECT_EQ(host.pass(minutes(1), run).is, Is::stop);
}

TEST(IdleBudgetTest, CountsOverRestartsAndWarnsAgainBeforeItStopsTheNextBoot) {
  Guarded host(with_budget());
  host.pass(hours(10) + minutes(1), {{UseSign::Of::cpu, "x"}});
  const IdleVerdict again = host.restart(minutes(2)).look();
  EXPECT_EQ(host.memory().powered, hours(10) + minutes(3)) << "on since the boot, whoever looked";
  EXPECT_TRUE(again.warn_now) << "who has started it has the time of the warning";
  EXPECT_EQ(host.pass(minutes(5)).is, Is::stop);
  // A container tells its kernel's time.
  IdleMemory memory = host.memory();
  const seconds powered = memory.powered;
  EXPECT_EQ(decide(with_budget(), memory, {"next", hours(90), {}, seconds(0), seconds(7)}).memory.powered, powered + seconds(7));
}

TEST(IdleBudgetTest, ALargerOneIsATotalAndTakesTheWarningBack) {
  Guarded host(with_budget());
  host.pass(hours(10) - minutes(2), {{UseSign::Of::cpu, "x"}});
  IdleRules larger = with_budget();
  larger.budget->limit.millionths = 10'000'000;
  const IdleVerdict verdict = host.rules(larger).pass(minutes(1), {{UseSign::Of::cpu, "x"}});
  EXPECT_TRUE(verdict.take_back);
  EXPECT_EQ(verdict.is, Is::busy);
  EXPECT_EQ(verdict.stops_in, hours(10) + minutes(1));
}

TEST(IdleBudgetTest, AloneItLeavesAnIdleHostOn) {
  IdleRules rules = with_budget();
  rules.after.reset();
  Guarded host(rules);
  EXPECT_EQ(host.pass(hours(5)).is, Is::off);
  EXPECT_EQ(host.pass(hours(5)).is, Is::stop);
}

TEST(IdleBudgetTest, TheFirstToComeStopsIt) {
  Guarded host(with_budget());
  host.pass(hours(9) + minutes(45), {{UseSign::Of::cpu, "x"}});
  EXPECT_EQ(host.pass(minutes(11)).cause, StopCause::budget);
  EXPECT_EQ(host.pass(minutes(4)).is, Is::stop);
}

// ---- keep

TEST(Keep, IsCountedByTheStarterOfTheBootAndByTheWallClockBeyondIt) {
  const Postponement keep{"boot", seconds(8000), 1'000'000'000};
  EXPECT_EQ(kept_for(keep, "boot", seconds(800), 5), seconds(7200)) << "a wall clock that was set wrong changes nothing";
  EXPECT_EQ(kept_for(keep, "boot", seconds(9000), 5), seconds(0));
  EXPECT_EQ(kept_for(keep, "next", seconds(3), 1'000'000'000 - 60'000), seconds(60));
  EXPECT_EQ(kept_for(keep, "next", seconds(3), 1'000'000'001), seconds(0));
  EXPECT_EQ(kept_for(std::nullopt, "boot", seconds(1), 5), seconds(0));
}

TEST(IdleRulesTest, LooksOftenEnough) {
  EXPECT_EQ(look_interval(half_an_hour()), seconds(60));
  EXPECT_EQ(look_interval({seconds(20), seconds(6), std::nullopt}), seconds(2));
  EXPECT_EQ(look_interval({seconds(2), seconds(1), std::nullopt}), seconds(1));
  EXPECT_EQ(usual_warning(minutes(30)), minutes(5));
  EXPECT_EQ(usual_warning(minutes(4)), minutes(2));
  EXPECT_EQ(usual_warning(std::nullopt), minutes(5));
}

}  // namespace
}  // namespace gpustrap
