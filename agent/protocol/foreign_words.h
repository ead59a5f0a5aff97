#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace gpustrap {

/// The kind of step that `word` stands for in other tools and in shells ("shell": command, "unarchive": archive); empty for none.
[[nodiscard]] std::string_view kind_meant_by(std::string_view word);
/// The one of `names` that `word` stands for in other tools ("branch": ref, "dest": to, "become": as); empty for none.
[[nodiscard]] std::string field_meant_by(std::string_view word, const std::vector<std::string>& names);

/// The fact that `word` stands for ("gpus": gpu.count, "cores": cpus); empty for none.
[[nodiscard]] std::string_view fact_meant_by(std::string_view word);

}  // namespace gpustrap
