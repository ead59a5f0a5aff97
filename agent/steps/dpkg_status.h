#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "agent/base/result.h"
#include "agent/host.h"

namespace gpustrap {

/// One package as dpkg's database has it.
struct DpkgPackage {
  std::string version;
  std::string architecture;  ///< "amd64", "all" …
  std::string wanted;        ///< "install", "hold", "deinstall" …
  std::string state;         ///< "installed", "half-configured", "unpacked", "config-files" …
  std::vector<std::string> provides;
};

/// dpkg's database, read as a file: a warm check starts no process. A name may say which architecture ("libc6:i386"); one that does not
/// means whichever is installed.
class DpkgStatus {
 public:
  [[nodiscard]] static Result<DpkgStatus> read(const Host& host);
  [[nodiscard]] static DpkgStatus parse(std::string_view text);

  /// The installed package of exactly this name; nullptr where there is none.
  [[nodiscard]] const DpkgPackage* installed_itself(std::string_view name) const;
  /// The installed package of this name, or one that provides it; nullptr where there is none.
  [[nodiscard]] const DpkgPackage* installed(std::string_view name) const;
  [[nodiscard]] bool is_held(std::string_view name) const;
  /// Names of all installed packages, sorted.
  [[nodiscard]] std::vector<std::string> installed_names() const;
  /// Names whose installation was cut short; with the architecture where the database knows several of one name.
  [[nodiscard]] std::vector<std::string> unfinished() const;
  /// Of those, the ones that were not even unpacked whole: configuring cannot finish them.
  [[nodiscard]] std::vector<std::string> half_installed() const;

 private:
  [[nodiscard]] std::vector<std::string> names_in(bool (*state)(const std::string& state)) const;
  std::multimap<std::string, DpkgPackage, std::less<>> packages_;
};

}  // namespace gpustrap
