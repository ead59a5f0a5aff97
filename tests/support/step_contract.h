#pragma once

#include <functional>
#include <memory>
#include <ostream>
#include <string>

#include <gtest/gtest.h>

#include "agent/protocol/step_spec.h"
#include "agent/steps/step.h"
#include "tests/support/fake_host.h"

namespace gpustrap {

/// One row of the contract that every kind keeps: check never writes, applied means satisfied, satisfied means nothing to do, and
/// a reason is never empty. The name begins with the kind's name: "file_new". The host is one where there is something to do.
///
///   INSTANTIATE_TEST_SUITE_P(File, StepContract, ::testing::Values(ContractCase{"file_new", FileSpec{…}, [] { return FakeHost(); }}),
///   contract_name);
struct ContractCase {
  std::string name;
  StepSpec spec;
  std::function<FakeHost()> host;
};
std::ostream& operator<<(std::ostream& out, const ContractCase& row);

class StepContract : public ::testing::TestWithParam<ContractCase> {};

inline std::string contract_name(const ::testing::TestParamInfo<ContractCase>& row) { return row.param.name; }

/// The step of a spec, made by the table as the runner makes it.
[[nodiscard]] std::unique_ptr<Step> make_step(const StepSpec& spec);
/// Runs check, apply and check as the runner does; the step's final state, or the error.
[[nodiscard]] Result<StepState> run_step(const StepSpec& spec, FakeHost& host, StepLog& log);
[[nodiscard]] Result<StepState> run_step(const StepSpec& spec, FakeHost& host);
/// The state that check sees; an error fails the test.
[[nodiscard]] StepState state_of(const StepSpec& spec, const FakeHost& host);

}  // namespace gpustrap
