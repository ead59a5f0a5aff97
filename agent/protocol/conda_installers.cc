#include "agent/protocol/conda_installers.h"

#include <algorithm>
#include <array>

#include <fmt/format.h>

namespace gpustrap {
namespace {

struct Pin {
  CondaDistribution distribution;
  std::string_view version, arch, sha256;
};

/// The publishers' digests as pyenv's python-build lists them (pyenv/pyenv, plugins/python-build/share/python-build, of 2026-07-18).
/// In the program and not in recipes/compat.yaml, because the agent reads no YAML and must know them in a standalone run too. The
/// first version of a distribution is the one that is taken where a recipe names none.
constexpr auto kPins = std::to_array<Pin>({
    {CondaDistribution::miniforge, "26.3.2-3", "x86_64", "848194851a98903134187fbb4ab50efe87b003e0c0f808f97644b7524a62bf2c"},
    {CondaDistribution::miniforge, "26.3.2-3", "aarch64", "2c113a69297e612b01ca0f320c22a3107a11f2ab9b573d79ac868a175945ce29"},
    {CondaDistribution::miniconda, "py313_26.5.3-1", "x86_64", "7358a5961dc6a4941d087281cd70313728fcc68695735e18a337321bc31c7f51"},
    {CondaDistribution::miniconda, "py313_26.5.3-1", "aarch64", "4eaf1f2d83ede3ad010afa6ad19bef69893ca4667ba5996f51efb3080c08a70d"},
    {CondaDistribution::miniconda, "py313_26.3.2-2", "x86_64", "2284bafb7863a23411b19874d216e237964d4b32dd9beb6807fa8b2d84570961"},
    {CondaDistribution::miniconda, "py313_26.3.2-2", "aarch64", "81a5e828724478a7a036027a74356ceff0206147d3b1243c8ba32e0cfa187967"},
    {CondaDistribution::anaconda, "2025.12-2", "x86_64", "57b2b48cc5b8665e25fce7011f0389d47c1288288007844b3b1ba482d4f39029"},
    {CondaDistribution::anaconda, "2025.12-2", "aarch64", "be13a20f31d82508a061984fa3555369cfd8e4692643721415c19e7dc2e9e0f9"},
});

constexpr std::string_view kDigits = "0123456789";

}  // namespace

std::string_view pinned_conda_version(CondaDistribution distribution) {
  const auto* found = std::find_if(kPins.begin(), kPins.end(), [&](const Pin& pin) { return pin.distribution == distribution; });
  return found->version;
}

bool is_pinned_conda_version(CondaDistribution distribution, std::string_view version) {
  return std::any_of(kPins.begin(), kPins.end(),
                     [&](const Pin& pin) { return pin.distribution == distribution && pin.version == version; });
}

std::string_view pinned_conda_digest(CondaDistribution distribution, std::string_view version, std::string_view arch) {
  const auto* found = std::find_if(kPins.begin(), kPins.end(), [&](const Pin& pin) {
    return pin.distribution == distribution && pin.version == version && pin.arch == arch;
  });
  return found == kPins.end() ? std::string_view() : found->sha256;
}

std::string conda_installer_name(CondaDistribution distribution, std::string_view version, std::string_view arch) {
  constexpr auto kNames = std::to_array<std::string_view>({"Miniforge3", "Miniconda3", "Anaconda3"});
  return fmt::format("{}-{}-Linux-{}.sh", kNames.at(static_cast<std::size_t>(distribution)), version, arch);
}

std::string conda_installer_url(CondaDistribution distribution, std::string_view version, std::string_view arch) {
  const std::string name = conda_installer_name(distribution, version, arch);
  switch (distribution) {
    case CondaDistribution::miniforge:
      return fmt::format("https://github.com/conda-forge/miniforge/releases/download/{}/{}", version, name);
    case CondaDistribution::miniconda: return "https://repo.anaconda.com/miniconda/" + name;
    case CondaDistribution::anaconda: break;
  }
  return "https://repo.anaconda.com/archive/" + name;
}

std::string_view conda_digest_source(CondaDistribution distribution) {
  switch (distribution) {
    case CondaDistribution::miniforge: return "https://github.com/conda-forge/miniforge/releases";
    case CondaDistribution::miniconda: return "https://repo.anaconda.com/miniconda/";
    case CondaDistribution::anaconda: break;
  }
  return "https://repo.anaconda.com/archive/";
}

std::string comparable_conda_version(std::string_view version) {
  if (version.starts_with("py")) {
    const std::size_t end = version.find('_');
    if (end != std::string_view::npos) version.remove_prefix(end + 1);
  }
  const std::size_t dash = version.rfind('-');
  if (dash != std::string_view::npos && version.find_first_not_of(kDigits, dash + 1) == std::string_view::npos)
    version = version.substr(0, dash);
  return std::string(version);
}

}  // namespace gpustrap
