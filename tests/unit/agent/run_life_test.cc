#include "agent/run_life.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

namespace gpustrap {
namespace {

using ::testing::HasSubstr;

constexpr RunPhase kRunPhases[] = {RunPhase::opening,    RunPhase::going,   RunPhase::stopping, RunPhase::holding,
                                   RunPhase::restarting, RunPhase::leaving, RunPhase::left,     RunPhase::ended};
constexpr RunSign kRunSigns[] = {RunSign::opened,          RunSign::given_up,      RunSign::step_failed,    RunSign::cancelled,
                                 RunSign::restart_wished,  RunSign::restart_begun, RunSign::host_goes_down, RunSign::nothing_runs,
                                 RunSign::nothing_is_left, RunSign::no_room};
constexpr StepPhase kStepPhases[] = {StepPhase::waiting, StepPhase::running,     StepPhase::pausing,
                                     StepPhase::asking,  StepPhase::interrupted, StepPhase::ended};

/// The signs that lead from the beginning to each phase, by the table alone.
std::map<RunPhase, std::vector<RunSign>> ways() {
  std::map<RunPhase, std::vector<RunSign>> found = {{RunPhase::opening, {}}};
  for (bool grew = true; grew;) {
    grew = false;
    for (const RunMove& move : kRunMoves) {
      if (!found.contains(move.from) || found.contains(move.to)) continue;
      std::vector<RunSign> way = found.at(move.from);
      way.push_back(move.sign);
      found.emplace(move.to, std::move(way));
      grew = true;
    }
  }
  return found;
}

RunLife life_in(RunPhase phase) {
  RunLife life;
  const std::vector<RunSign> way = ways().at(phase);
  for (const RunSign sign : way) EXPECT_TRUE(life.meet(sign).has_value());
  EXPECT_EQ(life.phase(), phase);
  return life;
}

/// As the design has it, written down once more: a row that is lost or bent in the table fails here.
std::optional<RunPhase> expected(RunPhase from, RunSign sign) {
  using P = RunPhase;
  using S = RunSign;
  const bool works = from == P::going || from == P::stopping || from == P::holding;
  switch (sign) {
    case S::opened: return from == P::opening ? std::optional(P::going) : std::nullopt;
    case S::given_up: return from == P::opening ? std::optional(P::ended) : std::nullopt;
    case S::step_failed:
      if (works || from == P::restarting) return P::stopping;
      return from == P::leaving ? std::optional(P::leaving) : std::nullopt;
    case S::cancelled:
    case S::no_room:
      if (works) return P::stopping;
      return from == P::restarting || from == P::leaving ? std::optional(from) : std::nullopt;
    case S::restart_wished:
      if (from == P::going) return P::holding;
      return works || from == P::leaving ? std::optional(from) : std::nullopt;
    case S::restart_begun: return from == P::holding ? std::optional(P::restarting) : std::nullopt;
    case S::host_goes_down: return works || from == P::restarting || from == P::leaving ? std::optional(P::leaving) : std::nullopt;
    case S::nothing_runs: return from == P::leaving ? std::optional(P::left) : std::nullopt;
    case S::nothing_is_left: return from == P::going || from == P::stopping ? std::optional(P::ended) : std::nullopt;
  }
  return std::nullopt;
}

TEST(RunLife, EveryPhaseAnswersEverySignAsDesigned) {
  for (const RunPhase from : kRunPhases) {
    for (const RunSign sign : kRunSigns) {
      SCOPED_TRACE(std::string(run_phase_name(from)) + " meets " + std::string(run_sign_name(sign)));
      RunLife life = life_in(from);
      const std::optional<RunPhase> to = expected(from, sign);
      const Result<void> met = life.meet(sign);
      EXPECT_EQ(met.has_value(), to.has_value());
      EXPECT_EQ(life.phase(), to.value_or(from));
    }
  }
}

TEST(RunLife, AForbiddenSignChangesNothingAndIsNamed) {
  RunLife life = life_in(RunPhase::ended);
  const Result<void> met = life.meet(RunSign::step_failed);
  ASSERT_FALSE(met.has_value());
  EXPECT_EQ(met.error().code(), ErrorCode::internal);
  EXPECT_THAT(met.error().sentence(), HasSubstr("ended has met step_failed"));
  EXPECT_EQ(life.phase(), RunPhase::ended);
}

TEST(RunLife, EveryPhaseIsReachedAndComesToAnEnd) {
  EXPECT_EQ(ways().size(), std::size(kRunPhases));
  for (const RunPhase from : kRunPhases) {
    std::set<RunPhase> reached = {from};
    for (bool grew = true; grew;) {
      grew = false;
      for (const RunMove& move : kRunMoves) grew = (reached.contains(move.from) && reached.insert(move.to).second) || grew;
    }
    EXPECT_TRUE(reached.contains(RunPhase::ended) || reached.contains(RunPhase::left)) << run_phase_name(from);
  }
}

TEST(RunLife, NothingComesBackFromStopping) {
  for (const RunMove& move : kRunMoves) {
    EXPECT_TRUE(move.to != RunPhase::going || move.from == RunPhase::opening);
    EXPECT_FALSE(move.from == RunPhase::stopping && move.to == RunPhase::restarting) << "a run that was cancelled restarts its host";
  }
}

/// A step that got into `phase`.
StepLife step_in(StepPhase phase) {
  StepLife step;
  if (phase == StepPhase::waiting) return step;
  bool entered = phase == StepPhase::ended || step.enter(StepPhase::running).has_value();
  entered = entered && (phase == StepPhase::running || step.enter(phase).has_value());
  EXPECT_TRUE(entered) << step_phase_name(phase);
  return step;
}

TEST(StepLife, GoesOnlyWhereItMay) {
  using P = StepPhase;
  const std::map<P, std::set<P>> may = {
      {P::waiting, {P::running, P::ended}},
      {P::running, {P::pausing, P::asking, P::ended, P::interrupted}},
      {P::pausing, {P::running, P::ended}},
      {P::asking, {P::ended}},
      {P::interrupted, {}},
      {P::ended, {}},
  };
  for (const P from : kStepPhases) {
    for (const P to : kStepPhases) {
      SCOPED_TRACE(std::string(step_phase_name(from)) + " to " + std::string(step_phase_name(to)));
      StepLife step = step_in(from);
      const bool allowed = may.at(from).contains(to);
      EXPECT_EQ(step.enter(to).has_value(), allowed);
      EXPECT_EQ(step.phase(), allowed ? to : from);
    }
  }
}

}  // namespace
}  // namespace gpustrap
