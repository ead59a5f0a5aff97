#pragma once

#include <string_view>

// Features that a hello names beside kZlibFeature (request.h). Who does not know one passes it over.

namespace gpustrap {

/// A controller's: the host is far away, so that what is packed arrives sooner; the agent is to pack from its first line on, without
/// finding out by itself that the link is slow.
constexpr std::string_view kZlibAtOnceFeature = "zlib-at-once";

}  // namespace gpustrap
