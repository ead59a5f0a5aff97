#pragma once

#include <functional>
#include <string>
#include <vector>

#include "agent/base/result.h"
#include "agent/host.h"

namespace gpustrap {

/// Unpacks an archive while `fetch`, which runs in a process of its own, brings it to `unpack.archive`. What comes is read where it grows:
/// at one of `places`, first of them that is there. The bytes that were unpacked are hashed, too, and count only where they are those that
/// `fetch` vouches for; in every other case the whole file is unpacked once it is there. Zips and compressed tars are read that way.
/// `unpack.to` is empty and the caller's own. Errors: those of `fetch`, and of unpack_archive(); where there is no room for what comes, it
/// is not waited for.
[[nodiscard]] Result<FetchedArchive> fetch_and_unpack_streamed(const std::function<Result<FetchResult>()>& fetch,
                                                               const std::vector<std::string>& places, const UnpackRequest& unpack,
                                                               StepLog& log);

}  // namespace gpustrap
