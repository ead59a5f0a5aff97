#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

// What a requirements file with digests, the names of wheels and the pages of a package index say, as far as it takes to fetch the right
// wheels before pip or uv does. Both check everything once more; what is not understood here is left to them.

namespace gpustrap {

/// The lines of a requirements file without comments, those that end with a backslash put together.
[[nodiscard]] std::vector<std::string> requirement_lines(std::string_view text);

/// "numpy==2.1.0 --hash=sha256:… --hash=sha256:…"
struct LockedPackage {
  std::string name;  ///< normalised
  std::string version;
  std::vector<std::string> sha256;
};
struct WheelLock {
  std::vector<LockedPackage> packages;
  std::string index;  ///< of the file's own `--index-url`
};
/// Lines with conditions are left out. Nullopt where another line is not locked, or sends pip to other files and places.
[[nodiscard]] std::optional<WheelLock> read_wheel_lock(std::string_view text);

/// Where a wheel is to run.
struct WheelTarget {
  unsigned python = 0;  ///< of Python 3: 11 for 3.11
  std::string arch;     ///< x86_64, aarch64
  unsigned glibc = 0;   ///< of glibc 2: 36 for 2.36
};
/// By a wheel's file name, how well it fits: what pip would rather take has more. 0: it does not, or that is no wheel's name.
[[nodiscard]] unsigned wheel_fitness(std::string_view file, const WheelTarget& target);

struct IndexedFile {
  std::string name, url, sha256;
};
/// The files that a page of a package index (PEP 503) names with their digests; `url` is the page's own.
[[nodiscard]] std::vector<IndexedFile> read_index_page(std::string_view html, std::string_view url);
/// Whether that may be a file's name in a folder of wheels.
[[nodiscard]] bool is_wheel_name(std::string_view name);

}  // namespace gpustrap
