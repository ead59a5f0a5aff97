#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace gpustrap {

// What an index of Python packages says of one of them (the "simple repository API"): its page is foreign bytes, and large.

/// One file that the index has.
struct IndexedFile {
  std::string name;     ///< torch-2.9.0+cu126-cp311-cp311-manylinux_2_28_x86_64.whl
  bool yanked = false;  ///< withdrawn by its author: only whoever asks for that very version still gets it
  std::string reason;   ///< as the author says, perhaps nothing
};
/// The files of a page, as JSON (PEP 691) or as HTML (PEP 503, PEP 592). nullopt where it is neither.
[[nodiscard]] std::optional<std::vector<IndexedFile>> indexed_files(std::string_view page, std::string_view content_type);

/// The version in the name of a wheel or an sdist; empty where there is none.
[[nodiscard]] std::string version_of_file(std::string_view name);
/// Whether that is the version a recipe pins: "1.2" is 1.2.0 too, "1.2.*" all of 1.2, and "1.2" also 1.2+cpu.
[[nodiscard]] bool is_version_of(std::string_view version, std::string_view pinned);

/// A requirement's name as indexes have it, and the version behind `==` or `===` where there is one and it is fixed.
struct PinnedPackage {
  std::string name, version;
};
/// nullopt for what is no plain requirement: an option, an address, a placeholder.
[[nodiscard]] std::optional<PinnedPackage> read_pinned(std::string_view requirement);

}  // namespace gpustrap
