#pragma once

#include <optional>
#include <string>
#include <vector>

#include "agent/base/result.h"
#include "agent/protocol/event.h"
#include "agent/protocol/json_fwd.h"
#include "agent/protocol/members.h"

// What event.cc and request.cc share of reading and writing lines.

namespace gpustrap {

/// In the order of RunMode.
[[nodiscard]] const std::vector<std::string>& run_mode_names();
[[nodiscard]] Json to_json(const ErrorText& error);
/// The member `error`; nullopt where there is none.
[[nodiscard]] std::optional<ErrorText> read_error_text(Members& members, Members::Wanted wanted);
/// nullopt for a signal that this version does not know: signals may be dropped.
[[nodiscard]] Result<std::optional<Signal>> signal_from_json(const Json& document);

}  // namespace gpustrap
