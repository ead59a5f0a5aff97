#pragma once

#include <vector>

#include "agent/base/result.h"
#include "agent/protocol/compat_lookup.h"
#include "agent/protocol/compat_resolver.h"

// The part of resolve_compat that says where things come from.

namespace gpustrap {

struct Chosen {
  const std::vector<GpuKind>& gpus;
  const DistributionRow* distribution;  ///< nullptr where NVIDIA's repository does not serve the release
  const CudaRow* cuda;                  ///< nullptr where none is wanted
};

/// Adds repository and packages to an answer that has its driver and CUDA. An error (unsupported) where nothing installable is left.
[[nodiscard]] Result<void> add_sources(const Compat& compat, const CompatQuestion& question, const Chosen& chosen, CompatAnswer& answer);
/// "NVIDIA's repository does not serve fedora 40".
[[nodiscard]] Error not_served(const Compat& compat, const CompatQuestion& question);

}  // namespace gpustrap
