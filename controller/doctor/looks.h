#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "controller/doctor/diagnosis.h"

namespace gpustrap {

// One function for each class: the evidence in, a verdict out. Their table is in classes.cc.

// looks_login.cc
[[nodiscard]] Verdict look_login_files(const Patient& p);
[[nodiscard]] Verdict look_limits(const Patient& p);
[[nodiscard]] Verdict look_programs(const Patient& p);
[[nodiscard]] Verdict look_null_device(const Patient& p);
[[nodiscard]] Verdict look_files_closed(const Patient& p);
[[nodiscard]] Verdict look_preload(const Patient& p);
[[nodiscard]] Verdict look_python_gone(const Patient& p);
[[nodiscard]] Verdict look_venv_gone(const Patient& p);
[[nodiscard]] Verdict look_python_variables(const Patient& p);
[[nodiscard]] Verdict look_sudo_terminal(const Patient& p);
// looks_driver.cc
[[nodiscard]] Verdict look_no_gpu(const Patient& p);
[[nodiscard]] Verdict look_gpu_vfio(const Patient& p);
[[nodiscard]] Verdict look_nouveau(const Patient& p);
[[nodiscard]] Verdict look_driver_missing(const Patient& p);
[[nodiscard]] Verdict look_driver_too_new(const Patient& p);
[[nodiscard]] Verdict look_wrong_modules(const Patient& p);
[[nodiscard]] Verdict look_secure_boot(const Patient& p);
[[nodiscard]] Verdict look_headers_missing(const Patient& p);
[[nodiscard]] Verdict look_dkms_failed(const Patient& p);
[[nodiscard]] Verdict look_module_other_kernel(const Patient& p);
[[nodiscard]] Verdict look_sources_mixed(const Patient& p);
[[nodiscard]] Verdict look_blacklisted(const Patient& p);
[[nodiscard]] Verdict look_driver_not_loaded(const Patient& p);
[[nodiscard]] Verdict look_driver_mismatch(const Patient& p);
[[nodiscard]] Verdict look_driver_library_missing(const Patient& p);
[[nodiscard]] Verdict look_smi_missing(const Patient& p);
[[nodiscard]] Verdict look_device_files(const Patient& p);
[[nodiscard]] Verdict look_driver_silent(const Patient& p);
[[nodiscard]] Verdict look_fabric_missing(const Patient& p);
[[nodiscard]] Verdict look_fabric_version(const Patient& p);
[[nodiscard]] Verdict look_fabric_stopped(const Patient& p);
[[nodiscard]] Verdict look_persistence_off(const Patient& p);
// looks_gpu.cc
[[nodiscard]] Verdict look_fallen_off(const Patient& p);
[[nodiscard]] Verdict look_xid_hardware(const Patient& p);
[[nodiscard]] Verdict look_xid_program(const Patient& p);
[[nodiscard]] Verdict look_adapter_failed(const Patient& p);
[[nodiscard]] Verdict look_ecc(const Patient& p);
[[nodiscard]] Verdict look_row_remap(const Patient& p);
[[nodiscard]] Verdict look_gpus_missing(const Patient& p);
[[nodiscard]] Verdict look_slowed_down(const Patient& p);
[[nodiscard]] Verdict look_aer(const Patient& p);
[[nodiscard]] Verdict look_mig_empty(const Patient& p);
[[nodiscard]] Verdict look_compute_prohibited(const Patient& p);
// looks_cuda.cc
[[nodiscard]] Verdict look_cuda_too_new(const Patient& p);
[[nodiscard]] Verdict look_cuda_dangling(const Patient& p);
[[nodiscard]] Verdict look_libcuda_stub(const Patient& p);
[[nodiscard]] Verdict look_library_path(const Patient& p);
[[nodiscard]] Verdict look_visible_devices(const Patient& p);
[[nodiscard]] Verdict look_framework_driver(const Patient& p);
[[nodiscard]] Verdict look_framework_cpu(const Patient& p);
[[nodiscard]] Verdict look_framework_libraries(const Patient& p);
[[nodiscard]] Verdict look_wheel_architecture(const Patient& p);
[[nodiscard]] Verdict look_cudnn_twice(const Patient& p);
[[nodiscard]] Verdict look_toolkit_missing(const Patient& p);
[[nodiscard]] Verdict look_toolkit_not_set(const Patient& p);
[[nodiscard]] Verdict look_docker_group(const Patient& p);
[[nodiscard]] Verdict look_conda_terms(const Patient& p);
// looks_system.cc
[[nodiscard]] Verdict look_root_read_only(const Patient& p);
[[nodiscard]] Verdict look_disk_full(const Patient& p);
[[nodiscard]] Verdict look_inodes_full(const Patient& p);
[[nodiscard]] Verdict look_boot_full(const Patient& p);
[[nodiscard]] Verdict look_disk_errors(const Patient& p);
[[nodiscard]] Verdict look_out_of_memory(const Patient& p);
[[nodiscard]] Verdict look_shm_small(const Patient& p);
[[nodiscard]] Verdict look_swap(const Patient& p);
[[nodiscard]] Verdict look_clock(const Patient& p);
[[nodiscard]] Verdict look_reboot_required(const Patient& p);
[[nodiscard]] Verdict look_service_failed(const Patient& p);
[[nodiscard]] Verdict look_first_boot(const Patient& p);
[[nodiscard]] Verdict look_tmp(const Patient& p);
[[nodiscard]] Verdict look_noexec(const Patient& p);
[[nodiscard]] Verdict look_foreign_files(const Patient& p);
[[nodiscard]] Verdict look_sudo_broken(const Patient& p);
// looks_packages.cc
[[nodiscard]] Verdict look_apt_locked(const Patient& p);
[[nodiscard]] Verdict look_apt_interrupted(const Patient& p);
[[nodiscard]] Verdict look_apt_sources(const Patient& p);
[[nodiscard]] Verdict look_apt_preferences(const Patient& p);
[[nodiscard]] Verdict look_apt_release(const Patient& p);
[[nodiscard]] Verdict look_apt_lists_broken(const Patient& p);
[[nodiscard]] Verdict look_apt_no_sources(const Patient& p);
[[nodiscard]] Verdict look_dpkg_database(const Patient& p);
[[nodiscard]] Verdict look_apt_lists(const Patient& p);
[[nodiscard]] Verdict look_rpm_database(const Patient& p);
[[nodiscard]] Verdict look_rpm_twice(const Patient& p);
[[nodiscard]] Verdict look_dnf_busy(const Patient& p);
[[nodiscard]] Verdict look_apt_dependencies(const Patient& p);
[[nodiscard]] Verdict look_packages_held(const Patient& p);
[[nodiscard]] Verdict look_key_expired(const Patient& p);
[[nodiscard]] Verdict look_key_missing(const Patient& p);
[[nodiscard]] Verdict look_key_rotated(const Patient& p);
[[nodiscard]] Verdict look_key_legacy(const Patient& p);
[[nodiscard]] Verdict look_repository_release(const Patient& p);
[[nodiscard]] Verdict look_driver_upgrade(const Patient& p);
// looks_network.cc
[[nodiscard]] Verdict look_names(const Patient& p);
[[nodiscard]] Verdict look_no_route(const Patient& p);
[[nodiscard]] Verdict look_nsswitch(const Patient& p);
[[nodiscard]] Verdict look_loopback(const Patient& p);
[[nodiscard]] Verdict look_localhost(const Patient& p);
[[nodiscard]] Verdict look_forwarding(const Patient& p);
[[nodiscard]] Verdict look_index_silent(const Patient& p);
[[nodiscard]] Verdict look_certificates(const Patient& p);
[[nodiscard]] Verdict look_own_name(const Patient& p);
[[nodiscard]] Verdict look_mtu(const Patient& p);
[[nodiscard]] Verdict look_proxy_half(const Patient& p);
[[nodiscard]] Verdict look_mirror_silent(const Patient& p);
[[nodiscard]] Verdict look_proxy_silent(const Patient& p);
[[nodiscard]] Verdict look_notebook_open(const Patient& p);
[[nodiscard]] Verdict look_notebook_public(const Patient& p);
[[nodiscard]] Verdict look_notebook_config(const Patient& p);

// Lines of login files, "FILE:NUMBER:TEXT".

/// Those that name a variable, of the login's own files and of the system's.
[[nodiscard]] std::vector<std::string> settings_of(const Patient& p, std::string_view variable);
/// The value that a line gives to it for all that follows, without quotes; the last, where there are several.
[[nodiscard]] std::optional<std::string> value_set(const std::string& line, std::string_view variable);
/// The command that takes the line out.
[[nodiscard]] std::string take_out(const std::string& line);

// What looks end with.

[[nodiscard]] Verdict fine();
[[nodiscard]] Verdict irrelevant();
/// Where the section was not seen: what was missing.
[[nodiscard]] Verdict unseen(const Patient& p, std::string_view section);
/// At most six lines of evidence are kept.
[[nodiscard]] Verdict found(std::vector<std::string> evidence, std::string cause, std::vector<std::string> commands,
                            std::vector<Json> steps = {});

/// A step of a recipe, as root.
[[nodiscard]] Json step_of(const char* id, const char* kind, Json spec);
/// The step that puts a fitting driver on the host, in the place of most repairs by hand.
[[nodiscard]] std::vector<Json> driver_steps();
[[nodiscard]] std::vector<Json> reboot_steps();

}  // namespace gpustrap
