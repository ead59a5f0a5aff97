#pragma once

#include <string>
#include <string_view>

#include "agent/base/result.h"
#include "agent/protocol/event.h"
#include "agent/protocol/request.h"

// Lines of an agent, read and written whole. What steps print is nearly all of what is said, a hundred megabytes at times: its lines are
// read and written without making a document of them, and are the same byte for byte.

namespace gpustrap {

/// The event as to_line(to_json(event)) writes it, newline included.
[[nodiscard]] std::string to_line(const Event& event);
/// A line of an agent's, without its newline, as agent_line_from_json(parse_line(line)) reads it. Errors: protocol.
[[nodiscard]] Result<AgentLine> agent_line_from(std::string_view line);

}  // namespace gpustrap
