#pragma once

#include <string>
#include <string_view>

namespace gpustrap {

/// Who packs the conda: Miniforge speaks to conda-forge alone; the other two to Anaconda's channels, under its Terms of Service.
enum class CondaDistribution { miniforge, miniconda, anaconda };

/// The installer that is taken where a recipe names no version.
[[nodiscard]] std::string_view pinned_conda_version(CondaDistribution distribution);

/// Whether digests of this version are known, for any architecture.
[[nodiscard]] bool is_pinned_conda_version(CondaDistribution distribution, std::string_view version);

/// sha256 of an installer; empty where it is not known. `arch` as in the facts: x86_64, aarch64.
[[nodiscard]] std::string_view pinned_conda_digest(CondaDistribution distribution, std::string_view version, std::string_view arch);

/// "Miniforge3-26.3.2-3-Linux-x86_64.sh": the publisher's name of it.
[[nodiscard]] std::string conda_installer_name(CondaDistribution distribution, std::string_view version, std::string_view arch);

/// Where the publisher serves it.
[[nodiscard]] std::string conda_installer_url(CondaDistribution distribution, std::string_view version, std::string_view arch);

/// Where the publisher lists the digests of its installers, for people.
[[nodiscard]] std::string_view conda_digest_source(CondaDistribution distribution);

/// What of an installer's version can be compared with what is installed: "26.5.3" of "py313_26.5.3-1", "2025.12" of "2025.12-2".
[[nodiscard]] std::string comparable_conda_version(std::string_view version);

}  // namespace gpustrap
