#pragma once

#include <functional>
#include <string>

namespace gpustrap {

/// What `act` says, in a child process that has no terminal: nobody can be asked there. Whatever it changes of its process is gone with it.
[[nodiscard]] std::string in_child(const std::function<std::string()>& act);

}  // namespace gpustrap
