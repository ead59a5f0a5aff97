#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "agent/base/result.h"
#include "agent/protocol/json_fwd.h"

namespace gpustrap {

/// Advice of the agent's, which calls the host HOST, with what the user calls it in its place.
[[nodiscard]] std::string with_host(const std::string& advice, std::string_view host);

/// What goes to stderr where a command ends in an error: what failed and why, then what to do. `host` stands in for the HOST of the
/// agent's advice, which does not know how the user calls it; empty where no host is in question. Lines are broken between words
/// at `columns`; 0 leaves them whole. Parts of it may be a host's words: control characters are taken out.
[[nodiscard]] std::string complaint(const Error& error, std::string_view host, std::size_t columns);

/// The member `error` of what --json prints.
[[nodiscard]] Json error_document(const Error& error);

}  // namespace gpustrap
