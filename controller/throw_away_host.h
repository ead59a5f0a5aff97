#pragma once

#include <string>
#include <vector>

#include "agent/base/result.h"

namespace gpustrap {

/// The testbed's program, which boots hosts on this machine: $GPUSTRAP_TESTBED, else what lies beside `program` in a release or in the
/// sources. Error usage where there is none.
[[nodiscard]] Result<std::string> find_testbed(const std::string& said, const std::string& program);

/// What this machine lacks for throw-away hosts, looked for in these folders: names of Debian's packages. Empty: nothing.
[[nodiscard]] std::vector<std::string> missing_packages(const std::vector<std::string>& folders);

/// A host that was booted on this machine for one purpose. It goes with the last of its kind: host, network and files.
class ThrowAwayHost {
 public:
  /// `options` are those of `testbed boot`. Asks sudo for its rights where needed. Errors: usage (what this machine lacks), and what the
  /// testbed says.
  [[nodiscard]] static Result<ThrowAwayHost> boot(const std::string& testbed, const std::vector<std::string>& options);
  ThrowAwayHost(ThrowAwayHost&& from) noexcept;
  ThrowAwayHost& operator=(ThrowAwayHost&&) = delete;
  ~ThrowAwayHost();

  [[nodiscard]] std::string destination() const { return user_ + "@" + address_; }
  [[nodiscard]] const std::string& key() const { return key_; }
  /// Where a command about it keeps what it remembers: the user's own memory stays as it is.
  [[nodiscard]] std::string state() const { return folder_ + "/state"; }
  /// Holds a program `ssh` that reads no configuration of the user's and knows no hosts but this.
  [[nodiscard]] std::string programs() const { return folder_ + "/programs"; }
  /// Leaves it running; the command that ends it.
  [[nodiscard]] std::string keep();

 private:
  ThrowAwayHost(std::string testbed, std::string folder) : testbed_(std::move(testbed)), folder_(std::move(folder)) {}

  std::string testbed_, folder_;  ///< no folder: nothing to take away
  std::string address_, user_, key_;
};

}  // namespace gpustrap
