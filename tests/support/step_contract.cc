#include "tests/support/step_contract.h"

#include <algorithm>
#include <vector>

#include "agent/base/text.h"
#include "agent/steps/table.h"

namespace gpustrap {

std::ostream& operator<<(std::ostream& out, const ContractCase& row) { return out << row.name; }

std::unique_ptr<Step> make_step(const StepSpec& spec) { return step_type(static_cast<StepKind>(spec.index())).make(spec); }

Result<StepState> run_step(const StepSpec& spec, FakeHost& host, StepLog& log) {
  const std::unique_ptr<Step> step = make_step(spec);
  Result<StepState> before = step->check(host);
  if (!before || before->is == StepState::Is::satisfied) return before;
  if (Result<void> applied = step->apply(host, log); !applied) return fail(std::move(applied).error());
  if (!step->can_verify()) return before;
  return step->check(host);
}

Result<StepState> run_step(const StepSpec& spec, FakeHost& host) {
  RecordingLog log;
  return run_step(spec, host, log);
}

StepState state_of(const StepSpec& spec, const FakeHost& host) {
  Result<StepState> state = make_step(spec)->check(host);
  if (state) return *std::move(state);
  ADD_FAILURE() << state.error().sentence();
  return StepState::unknown("");
}

TEST_P(StepContract, CheckOnlyLooks) {
  const FakeHost host = GetParam().host();
  const std::string before = host.snapshot();
  const StepState state = state_of(GetParam().spec, host);
  EXPECT_NE(state.is, StepState::Is::satisfied) << "the row's host should leave something to do";
  EXPECT_FALSE(state.reason.empty());
  EXPECT_TRUE(host.changes().empty()) << host.changes().front();
  EXPECT_EQ(host.snapshot(), before);
}

TEST_P(StepContract, AppliedMeansSatisfied) {
  FakeHost host = GetParam().host();
  RecordingLog log;
  const std::unique_ptr<Step> step = make_step(GetParam().spec);
  ASSERT_TRUE(step->check(host).has_value());
  const Result<void> applied = step->apply(host, log);
  ASSERT_TRUE(applied.has_value()) << applied.error().sentence();
  const StepState after = state_of(GetParam().spec, host);
  EXPECT_FALSE(after.reason.empty());
  if (step->can_verify())
    EXPECT_EQ(after.is, StepState::Is::satisfied) << after.reason;
  else
    EXPECT_NE(after.is, StepState::Is::satisfied) << "what cannot be verified cannot be known to be done";
}

TEST_P(StepContract, WhatMayBeFetchedAheadIsWhatIsFetched) {
  FakeHost host = GetParam().host();
  const std::unique_ptr<Step> step = make_step(GetParam().spec);
  const FakeHost& looked_at = host;
  const std::vector<FetchRequest> ahead = step->downloads(looked_at);
  EXPECT_TRUE(host.changes().empty()) << host.changes().front();
  if (ahead.empty()) return;  // nothing is promised
  RecordingLog log;
  ASSERT_TRUE(step->apply(host, log).has_value());
  for (const FetchRequest& file : ahead) {
    const std::string fetch = "fetch " + join(file.urls, " ");
    EXPECT_NE(std::find(host.changes().begin(), host.changes().end(), fetch), host.changes().end()) << fetch;
  }
}

TEST_P(StepContract, ASecondRunChangesNothing) {
  FakeHost host = GetParam().host();
  if (!make_step(GetParam().spec)->can_verify()) GTEST_SKIP() << "it always runs, and says so";
  ASSERT_TRUE(run_step(GetParam().spec, host).has_value());
  host.forget();
  const std::string before = host.snapshot();
  const Result<StepState> again = run_step(GetParam().spec, host);
  ASSERT_TRUE(again.has_value()) << again.error().sentence();
  EXPECT_TRUE(host.changes().empty()) << host.changes().front();
  EXPECT_EQ(host.snapshot(), before);
}

}  // namespace gpustrap
