#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace gpustrap {

/// What `$3` means where two arguments are given: nothing, as to a shell; or, of a script whose arguments nobody has said, that only its
/// user knows.
enum class MissingArgument { empty, unknown };

/// `text` with $1, "$@", $# and the like filled in for one call, an element without value being an argument that only a shell knows. None
/// where a shell alone can say what it comes to: `shift`, `set --`, `${1%.deb}`, a value that its place would take apart.
[[nodiscard]] std::optional<std::string> with_arguments(std::string_view text, const std::vector<std::optional<std::string>>& arguments,
                                                        MissingArgument missing = MissingArgument::empty);
/// The first of them that a shell would fill in, such as "$1"; empty where there is none.
[[nodiscard]] std::string argument_in(std::string_view text);

}  // namespace gpustrap
