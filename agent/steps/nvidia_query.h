#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "agent/base/result.h"
#include "agent/host.h"

namespace gpustrap {

/// One line of nvidia-smi's CSV answer.
struct AnsweringGpu {
  std::string index;                    ///< "0"
  std::string uuid;                     ///< "GPU-5d1a…"
  std::string name;                     ///< "Tesla T4"
  std::string bus_id;                   ///< "00000000:00:1E.0"
  std::string driver;                   ///< "580.95.05"
  std::optional<std::uint64_t> memory;  ///< bytes; nothing where the GPU has no memory of its own ("[N/A]")
  std::string memory_text;              ///< as it was printed
  bool mig = false;                     ///< cut into slices
};

/// What nvidia-smi did when it was asked for the GPUs.
struct SmiAnswer {
  int exit_code = 0;
  bool timed_out = false;
  std::string said;  ///< all it printed; its errors come on standard output
  std::vector<AnsweringGpu> gpus;

  [[nodiscard]] bool works() const { return exit_code == 0 && !timed_out && !gpus.empty(); }
};

/// Asks it, within a time limit: where a GPU hangs, nvidia-smi may never come back. An error only where no process can be made.
[[nodiscard]] Result<SmiAnswer> ask_nvidia_smi(const Host& host);

/// The rows of the CSV answer; lines that are no rows are left out.
[[nodiscard]] std::vector<AnsweringGpu> parse_gpu_rows(const std::string& csv);

/// How busy a GPU is just now.
struct GpuUse {
  std::string index;                ///< "0"
  std::optional<unsigned> percent;  ///< nothing where it does not tell (MIG)
};
/// None where nvidia-smi does not answer: then nothing computes there either.
[[nodiscard]] std::vector<GpuUse> ask_gpu_use(const Host& host);
[[nodiscard]] std::vector<GpuUse> parse_gpu_use(const std::string& csv);

/// "Tesla T4 (15 GiB)", "8 × NVIDIA H100 80GB HBM3 (79.6 GiB)", "Tesla T4, NVIDIA L4".
[[nodiscard]] std::string describe_gpus(const std::vector<AnsweringGpu>& gpus);

}  // namespace gpustrap
