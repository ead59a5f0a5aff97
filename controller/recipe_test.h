#pragma once

#include <chrono>
#include <string>
#include <vector>

#include "controller/run_report.h"

namespace gpustrap {

/// A step of one of the two runs of `recipe test`, judged.
struct RecipeTestCase {
  std::string step;
  std::string reason;   ///< what the step itself says
  std::string failure;  ///< why it counts as failed; empty where it does not
  bool skipped = false;
  std::chrono::milliseconds took{0};
};

struct RecipeTestRun {
  std::string title;  ///< "first run", "second run"
  std::vector<RecipeTestCase> cases;
  std::chrono::milliseconds took{0};

  [[nodiscard]] std::size_t failures() const;
};

/// What a first run must be: nothing of it failed. A second: nothing of it was changed, either.
enum class RunOf { first, second };
[[nodiscard]] RecipeTestRun judge_run(const RunReport& report, RunOf run);
/// A run that there is no report of, or that ended badly although no step did: one case says so.
[[nodiscard]] RecipeTestRun broken_run(RunOf run, const std::string& why);

/// As CI systems read them: a test suite for each run, a case for each step.
[[nodiscard]] std::string junit_document(const std::string& recipe, const std::vector<RecipeTestRun>& runs);
/// The verdict for people, a line for each failure first.
[[nodiscard]] std::string recipe_test_text(const std::string& recipe, const std::string& system, const std::vector<RecipeTestRun>& runs);

}  // namespace gpustrap
