#pragma once

#include <memory>

#include "agent/protocol/step_spec.h"
#include "agent/steps/step.h"

// The makers that table.cc lists: one for each kind, defined in the kind's own file. Each takes the spec of its kind; any other
// alternative of the variant is a defect.

namespace gpustrap {

[[nodiscard]] std::unique_ptr<Step> make_require_step(const StepSpec& spec);
[[nodiscard]] std::unique_ptr<Step> make_wait_step(const StepSpec& spec);
[[nodiscard]] std::unique_ptr<Step> make_apt_step(const StepSpec& spec);
[[nodiscard]] std::unique_ptr<Step> make_download_step(const StepSpec& spec);
[[nodiscard]] std::unique_ptr<Step> make_archive_step(const StepSpec& spec);
[[nodiscard]] std::unique_ptr<Step> make_file_step(const StepSpec& spec);
[[nodiscard]] std::unique_ptr<Step> make_block_step(const StepSpec& spec);
[[nodiscard]] std::unique_ptr<Step> make_directory_step(const StepSpec& spec);
[[nodiscard]] std::unique_ptr<Step> make_symlink_step(const StepSpec& spec);
[[nodiscard]] std::unique_ptr<Step> make_environment_step(const StepSpec& spec);
[[nodiscard]] std::unique_ptr<Step> make_command_step(const StepSpec& spec);
[[nodiscard]] std::unique_ptr<Step> make_service_step(const StepSpec& spec);
[[nodiscard]] std::unique_ptr<Step> make_venv_step(const StepSpec& spec);
[[nodiscard]] std::unique_ptr<Step> make_pip_step(const StepSpec& spec);
[[nodiscard]] std::unique_ptr<Step> make_nvidia_smi_step(const StepSpec& spec);
[[nodiscard]] std::unique_ptr<Step> make_jupyter_step(const StepSpec& spec);
[[nodiscard]] std::unique_ptr<Step> make_git_step(const StepSpec& spec);
[[nodiscard]] std::unique_ptr<Step> make_deb_step(const StepSpec& spec);
[[nodiscard]] std::unique_ptr<Step> make_apt_repository_step(const StepSpec& spec);
[[nodiscard]] std::unique_ptr<Step> make_reboot_step(const StepSpec& spec);
[[nodiscard]] std::unique_ptr<Step> make_conda_step(const StepSpec& spec);
[[nodiscard]] std::unique_ptr<Step> make_conda_env_step(const StepSpec& spec);
[[nodiscard]] std::unique_ptr<Step> make_nvidia_driver_step(const StepSpec& spec);
[[nodiscard]] std::unique_ptr<Step> make_cuda_step(const StepSpec& spec);
[[nodiscard]] std::unique_ptr<Step> make_idle_stop_step(const StepSpec& spec);

}  // namespace gpustrap
