#pragma once

#include <string>
#include <string_view>

namespace gpustrap {

/// Opens the agent's own log (1 MiB, one old file kept) for the developers of gpustrap; users read events. Silent where it cannot be
/// opened.
void open_log(const std::string& path);
void log_note(std::string_view line);

}  // namespace gpustrap
