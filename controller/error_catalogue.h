#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "agent/base/result.h"
#include "controller/exit_code.h"

namespace gpustrap {

/// A way in which a command can fail, as docs/errors.md tells of it. Tests see to it that the words stand in the source, that the exit
/// code is the one of the error's code, and that the test which provokes it is there.
struct CataloguedError {
  std::string_view group;         ///< heading in the document
  std::string_view what;          ///< what has happened, for people who look for it
  std::string_view says;          ///< words of the message, as the source has them
  std::string_view source;        ///< the file that says it
  std::optional<ErrorCode> code;  ///< none where it is the end of a run, and no error of the command
  ExitCode exit;
  std::string_view todo;
  std::string_view test_file, test;  ///< the one that provokes it: its name or title
};
[[nodiscard]] const std::vector<CataloguedError>& error_catalogue();

/// docs/errors.md.
[[nodiscard]] std::string error_catalogue_document();

}  // namespace gpustrap
