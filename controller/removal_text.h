#pragma once

#include <string>
#include <string_view>

#include "agent/base/result.h"
#include "agent/protocol/json_fwd.h"

namespace gpustrap {

// How the answers to `cancel` and `remove` are said, of one host and of many.

/// What goes, a line each, of the agent's reply; printable.
[[nodiscard]] std::string removal_text(const Json& reply);
/// "stops after its current step", or `now`.
[[nodiscard]] std::string_view stop_text(bool now);
/// The id of the run that a reply is about; empty where there is none.
[[nodiscard]] std::string run_of_reply(const Json& reply);

/// docs/json.md, remove and cancel.
[[nodiscard]] Json removal_document(const std::string& host, const Json& reply, bool removed);
[[nodiscard]] Json cancel_document(const std::string& host, const Result<Json>& answer);

}  // namespace gpustrap
