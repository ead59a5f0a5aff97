#include "agent/steps/table.h"

#include <array>
#include <chrono>
#include <cstddef>

#include "agent/steps/kinds.h"

namespace gpustrap {
namespace {

/// conda says nothing while it solves, nor while it links what it has fetched: seconds with today's solver, many minutes with the one
/// before 2023. Past this it is lost.
constexpr std::chrono::minutes kSolverStall{20};

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
    {StepKind::git, make_git_step},
    {StepKind::deb, make_deb_step, StepType::Order::free, StepType::Uses::dpkg},
    {StepKind::apt_repository, make_apt_repository_step, StepType::Order::free, StepType::Uses::dpkg},
    {StepKind::reboot, make_reboot_step, StepType::Order::barrier},
    {StepKind::conda, make_conda_step},
    {StepKind::conda_env, make_conda_env_step, StepType::Order::free, StepType::Uses::nothing, kSolverStall},
    {StepKind::nvidia_driver, make_nvidia_driver_step, StepType::Order::free, StepType::Uses::dpkg},
    {StepKind::cuda, make_cuda_step, StepType::Order::free, StepType::Uses::dpkg},
    {StepKind::idle_stop, make_idle_stop_step},
});

constexpr bool rows_follow_enum() {
  for (std::size_t index = 0; index < kStepTypes.size(); ++index) {
    if (static_cast<std::size_t>(kStepTypes[index].kind) != index) return false;
  }
  return kStepTypes.size() == kStepKindCount;
}
static_assert(rows_follow_enum(), "one row per StepKind, in enum order");

}  // namespace

const StepType& step_type(StepKind kind) { return kStepTypes.at(static_cast<std::size_t>(kind)); }

}  // namespace gpustrap
