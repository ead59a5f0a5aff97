#pragma once

#include <chrono>
#include <memory>
#include <string_view>

#include "agent/protocol/step_spec.h"
#include "agent/steps/step.h"

namespace gpustrap {

/// What the runner must know of a kind beyond its steps.
struct StepType {
  StepKind kind;
  std::unique_ptr<Step> (*make)(const StepSpec& spec);
  enum class Order { free, barrier } order = Order::free;  ///< a barrier ends before any later step starts
  enum class Uses { nothing, dpkg } uses = Uses::nothing;  ///< steps that use the same thing never overlap
  std::chrono::seconds stall{0};                           ///< how long it may be silent where the recipe says nothing; 0: for ever
};

/// The row of a kind.
[[nodiscard]] const StepType& step_type(StepKind kind);

}  // namespace gpustrap
