#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "agent/base/result.h"
#include "agent/host.h"
#include "agent/steps/nvidia_query.h"

namespace gpustrap {

// The proof that the GPUs compute: on every one of them memory is allocated, a kernel runs, and its results are read back and
// compared. A static program cannot load the driver's libcuda, so the host's own Python does it, with nothing but its standard library.

/// The Python that can run the probe: the host's own, else one of conda's in the login user's home, which root never runs; empty where
/// there is none.
[[nodiscard]] std::string probe_interpreter(const Host& host);

/// Runs it on all of `gpus`; an error names the first GPU that failed, why, and what to do.
[[nodiscard]] Result<void> probe_gpus(Host& host, StepLog& log, const std::string& interpreter, const std::vector<AnsweringGpu>& gpus);

/// What a probe has proven, and when. It holds for as long as boot, driver, GPUs and the driver's faults are the same.
struct GpuProof {
  std::string boot_id, driver;
  std::vector<std::string> uuids;  ///< sorted
  std::size_t xids = 0;            ///< faults logged by then
  std::int64_t time = 0;           ///< seconds since 1970
};
[[nodiscard]] GpuProof proof_of(const Host& host, const std::vector<AnsweringGpu>& gpus);

/// /run/gpustrap/gpu-proof.json for root; below the home of anybody else, where the boot id tells an old one.
[[nodiscard]] std::string proof_path(const Host& host);
/// nullopt where there is none that can be read.
[[nodiscard]] std::optional<GpuProof> read_proof(const Host& host);
[[nodiscard]] Result<void> write_proof(Host& host, const GpuProof& proof);
/// Why the old proof does not hold now; empty where it does.
[[nodiscard]] std::string proof_difference(const GpuProof& then, const GpuProof& now);

}  // namespace gpustrap
