#pragma once

#include <fcntl.h>

namespace gpustrap {

/// Lets a pipe hold a megabyte: whoever writes and reads much in it wakes up less often. Where that is not allowed, what it has will do.
inline void hold_more(int pipe_end) { (void)::fcntl(pipe_end, F_SETPIPE_SZ, 1 << 20); }

}  // namespace gpustrap
