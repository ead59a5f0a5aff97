#include "agent/steps/table.h"

#include <algorithm>
#include <array>
#include <memory>
#include <string>

#include <fmt/format.h>

#include "agent/steps/kinds.h"

namespace gpustrap {
namespace {

/// A step of a kind that the recipe language knows and this agent does not.
class MissingStep : public Step {
 public:
  explicit MissingStep(std::string kind) : kind_(std::move(kind)) {}
  [[nodiscard]] Result<StepState> check(const Host& /*host*/) const override { return fail(missing()); }
  Result<void> apply(Host& /*host*/, StepLog& /*log*/) override { return fail(missing()); }

 private:
  [[nodiscard]] Error missing() const {
    return {ErrorCode::unsupported, fmt::format("this agent has no step kind `{}`", kind_), "use a newer gpustrap"};
  }
  std::string kind_;
};

std::unique_ptr<Step> make_missing_step(const StepSpec& spec) {
  return std::make_unique<MissingStep>(std::string(step_kind_name(static_cast<StepKind>(spec.index()))));
}

/// In the order of StepKind, one line a kind.
constexpr auto kStepTypes = std::to_array<StepType>({
    {StepKind::require, make_require_step, StepType::Order::barrier},
    {StepKind::wait, make_wait_step, StepType::Order::barrier},
    {StepKind::apt, make_apt_step, StepType::Order::free, StepType::Uses::dpkg},
    {StepKind::download, make_download_step},
    {StepKind::archive, make_archive_step},
    {StepKind::file, make_file_step},
    {StepKind::block, make_block_step},
    {StepKind::directory, make_directory_step},
    {StepKind::symlink, make_symlink_step},
    {StepKind::environment, make_environment_step},
    {StepKind::command, make_command_step},
    {StepKind::service, make_service_step},
    {StepKind::venv, make_venv_step},
    {StepKind::pip, make_pip_step},
    {StepKind::nvidia_smi, make_nvidia_smi_step},
    {StepKind::jupyter, make_jupyter_step},
});

constexpr StepType kMissing = {StepKind::require, make_missing_step};

}  // namespace

const StepType& step_type(StepKind kind) {
  const auto* row = std::find_if(kStepTypes.begin(), kStepTypes.end(), [kind](const StepType& type) { return type.kind == kind; });
  return row == kStepTypes.end() ? kMissing : *row;
}

}  // namespace gpustrap
