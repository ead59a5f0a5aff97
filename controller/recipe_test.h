#pragma once

#include <chrono>
#include <optional>
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
  std::optional<Outcome> outcome = std::nullopt;  ///< none: the run ended before the step did
};

struct RecipeTestRun {
  std::string title;  ///< "first run", "second run"
  std::vector<RecipeTestCase> cases;
  std::chrono::milliseconds took{0};
  std::string run = {};  ///< its id; empty: it never began
  std::string log = {};  ///< its events, where they are kept; empty: nowhere
  int exit = 0;          ///< of `gpustrap up`

  [[nodiscard]] std::size_t failures() const;
};

/// What a first run must be: nothing of it failed. A second: nothing of it was changed, either.
enum class RunOf { first, second };
[[nodiscard]] RecipeTestRun judge_run(const RunReport& report, RunOf run);
/// A run that there is no report of, or that ended badly although no step did: one case says so.
[[nodiscard]] RecipeTestRun broken_run(RunOf run, const std::string& why);

/// As CI systems read them: a test suite for each run, a case for each step.
[[nodiscard]] std::string junit_document(const std::string& recipe, const std::vector<RecipeTestRun>& runs);
/// A host that stays after the test (`--keep-host`).
struct KeptHost {
  std::string destination, key, ends_by;
};
/// The verdict for programs: one line of JSON (docs/json.md).
[[nodiscard]] std::string recipe_test_json(const std::string& recipe, const std::string& system, const std::vector<RecipeTestRun>& runs,
                                           const std::optional<KeptHost>& host);
/// The verdict for people, a line for each failure first.
[[nodiscard]] std::string recipe_test_text(const std::string& recipe, const std::string& system, const std::vector<RecipeTestRun>& runs);

}  // namespace gpustrap
