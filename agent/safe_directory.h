#pragma once

#include <string>

#include "agent/base/result.h"
#include "agent/base/unique_fd.h"

namespace gpustrap {

enum class MissingParents { error, make };

/// The directory at `path`, open for the calls that take one (openat, renameat …), not for reading.
///
/// Whoever may write into a directory may put a link there, and root must not be led elsewhere by it: as root, a link on the way
/// is followed only where nobody but root could have put it there. Error unsafe for any other. As any other user every link is
/// followed: it can lead only where that user may go anyway.
/// `make`: what is missing is made, mode 0755 less the umask.
[[nodiscard]] Result<UniqueFd> open_directory(const std::string& path, MissingParents missing = MissingParents::error);

}  // namespace gpustrap
