#pragma once

#include <string>
#include <vector>

#include "agent/base/result.h"
#include "controller/options.h"

namespace gpustrap {

/// Which machines of EC2 the words --gpu and --type name.
struct Machines {
  std::vector<std::string> types;
  std::string gpu;  ///< as compat.yaml knows it, with its count; empty: none or not known
};
/// "t4", "4xa10g": the types that have them.
[[nodiscard]] Result<Machines> machines_of(const Options& options);

/// The recipe is checked, and its CUDA against the GPU, before anything is rented.
[[nodiscard]] Result<void> check_recipe(const Options& options, const std::string& gpu);

}  // namespace gpustrap
