#pragma once

#include <string>
#include <vector>

#include "agent/base/result.h"
#include "controller/options.h"

namespace gpustrap {

/// Which machines of EC2 the words --gpu and --type name.
struct Machines {
  std::vector<std::string> types;
  std::vector<std::string> gpus;  ///< of each type, as compat.yaml knows it, with its count; "none"; empty: not known
};
/// "t4", "4xa10g": the types that have them.
[[nodiscard]] Result<Machines> machines_of(const Options& options);

enum class GpuNeed { never, always };
/// The recipe is checked, and its CUDA against the GPU of each type that may be taken, before anything is rented. Whether it runs on a GPU
/// alone.
[[nodiscard]] Result<GpuNeed> check_recipe(const Options& options, const Machines& machines);

}  // namespace gpustrap
