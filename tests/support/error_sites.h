#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace gpustrap {

/// A place of the sources at which an error is made: `ErrorCode::x` as the first of an Error's arguments. docs/errors.md lists them, and
/// tests/provoked_errors.cc asks of each which test has come by.
struct ErrorSite {
  std::string file;                ///< "agent/fetch.cc"
  int first_line = 0;              ///< of what is called
  int last_line = 0;               ///< of its closing bracket
  std::vector<std::string> codes;  ///< names in ErrorCode: more than one where a condition chooses
  std::string says, todo;          ///< as people read them, "…" for what a value fills in; alternatives are separated by " / "
};

/// The sites of one file's text, in the order of the text. Text that is not C++ gives no sites, or odd ones; never an error.
[[nodiscard]] std::vector<ErrorSite> error_sites_in(const std::string& file, std::string_view text);
/// The sites of all sources below `root`'s agent and controller, ordered by file and line.
[[nodiscard]] std::vector<ErrorSite> error_sites(const std::string& root);

}  // namespace gpustrap
