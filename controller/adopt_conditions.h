#pragma once

#include <optional>
#include <string>
#include <vector>

#include "controller/adopt_functions.h"
#include "controller/adopt_state.h"
#include "controller/shell_reader.h"

namespace gpustrap {

/// A test that can stand in `unless`: of a file, or whether there is a program. `holds` is what it says where it is not negated.
struct HostTest {
  std::string holds;
  bool negated = false;
};
[[nodiscard]] std::optional<HostTest> host_test(std::string text, const AdoptState& state);

/// What a condition says by the values that the script has set, such as `[ "$WITH_CUDA" = yes ]`; none where only a host can tell.
[[nodiscard]] std::optional<bool> known_condition(const std::string& text, const AdoptState& state);

/// `if [ $? -ne 0 ]; then echo failed; exit 1; fi`.
[[nodiscard]] bool is_failure_check(const ShellStatement& statement, const ScriptFunctions& functions);
/// The command of `if ! COMMAND; then echo failed; exit 1; fi`: a run ends by itself where it fails. Empty where it is none, or asks.
[[nodiscard]] std::string required_command(const ShellStatement& statement, const ScriptFunctions& functions);
/// `if [ $# -lt 1 ]; then usage; exit 1; fi`, or a loop that reads the script's arguments: without any it does nothing.
[[nodiscard]] bool reads_arguments(const ShellStatement& statement, const ScriptFunctions& functions);

/// Whether a step knows by itself that it is done where `holds` holds: it makes that very path or program.
[[nodiscard]] bool is_what_the_step_makes(const AdoptedStep& step, const std::string& holds);

}  // namespace gpustrap
