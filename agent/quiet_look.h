#pragma once

#include "agent/host.h"
#include "agent/plan.h"
#include "agent/protocol/event.h"
#include "agent/protocol/facts.h"
#include "agent/secret_store.h"

namespace gpustrap {

/// A look at one step that leaves no event: its outcome as a plan would tell it, `failed` where it came to none within 30 s. Waits for it.
[[nodiscard]] Outcome look_quietly(const PlannedStep& plan, const Facts& facts, const Identity& login, const Mirror& mirror,
                                   SecretStore& secrets);

}  // namespace gpustrap
