#pragma once

#include <optional>
#include <string>

#include "agent/base/result.h"
#include "agent/host.h"
#include "agent/protocol/step_spec.h"

namespace gpustrap {

/// Mode, owner and group as a recipe names them; what is empty may be as it is.
struct WantedOwnership {
  std::optional<FileMode> mode;
  std::string owner, group;
};

/// The same in numbers. Error not_found for a user or group that this host does not have.
[[nodiscard]] Result<FileAttributes> attributes_of(const WantedOwnership& wanted, const Host& host);

/// What differs, for people: "mode is 0644, 0600 wanted; owner is uid 0, ubuntu wanted". Empty where nothing does. A user that
/// does not exist yet is a difference: an earlier step may still make it.
[[nodiscard]] Result<std::string> ownership_difference(const FileInfo& info, const WantedOwnership& wanted, const Host& host);

/// Follows the links that `path` itself may be, not those among its parents: what a step that edits a file or directory in place
/// works on. Root follows only links that root made in a directory that only root may write to: anybody else's link could lead
/// its work anywhere. Error unsafe for others, and for a circle.
[[nodiscard]] Result<std::string> follow_link(const std::string& path, const Host& host);

/// Whether somebody else than root may have put the file at `path`, which `info` tells of, for root to take it for its own: it is a
/// user's, in a folder that everybody may write to (/tmp). Its owner can change it at any time, through descriptors of old, too. False
/// for whoever is not root, who trusts itself.
[[nodiscard]] Result<bool> may_be_planted(const std::string& path, const FileInfo& info, const Host& host);

/// "a file", "a directory", "a symbolic link", "neither a file nor a directory".
[[nodiscard]] std::string describe_type(FileType type);

}  // namespace gpustrap
