#pragma once

#include <string>

#include "agent/base/result.h"
#include "agent/host.h"
#include "agent/steps/step.h"

namespace gpustrap {

/// Whether logins of the step's user know this conda: the block that `conda init` keeps in ~/.bashrc names it, or another conda
/// that is there (then it is left: the user's choice). Unsatisfied where there is no such block, or its conda is gone.
[[nodiscard]] Result<StepState> check_conda_init(const Host& host, const std::string& prefix);
/// Lets `conda init bash` write its block. It works on a copy, since it writes without a temporary file: a full disk would
/// cost the user's own lines.
[[nodiscard]] Result<void> init_conda(Host& host, StepLog& log, const std::string& prefix);

/// Whether the Terms of Service of Anaconda's channels are accepted for the step's user, from the files that conda's own plugin keeps.
/// Satisfied too where this conda does not ask for them.
[[nodiscard]] Result<StepState> check_conda_terms(const Host& host, const std::string& prefix);
/// `conda tos accept` for them. Only after the user's explicit consent.
[[nodiscard]] Result<void> accept_conda_terms(Host& host, StepLog& log, const std::string& prefix);

}  // namespace gpustrap
