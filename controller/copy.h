#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "agent/base/result.h"
#include "controller/copy_plan.h"
#include "controller/ssh_session.h"

namespace gpustrap {

enum class CopyDirection { pull, push };

struct CopyRequest {
  CopyDirection direction = CopyDirection::pull;
  std::string source;  ///< a file, or a folder; with a slash at its end: what is in that folder
  std::string target;  ///< the folder that it goes to
  CopyRules rules;
  bool dry_run = false;
  std::string nonce;  ///< that no file of the host's can know
  std::string stage;  ///< the folder's name at the host's end where files wait for their names; the same when the command is given again
};

/// What a copy came to. Paths are as they may be shown.
struct CopyReport {
  struct Line {
    std::string path, why;
  };
  std::uint64_t copied = 0, same = 0, bytes = 0;  ///< bytes: that travelled
  std::uint64_t modes = 0;                        ///< of those that are the same, how many got another mode
  std::vector<Line> kept, failed, skipped;
  std::vector<std::string> would;  ///< of a dry run
  std::string to;                  ///< the folder in which everything lies now
};

/// Hears of a copy as it goes on.
struct CopyProgress {
  std::uint64_t files = 0, all_files = 0, bytes = 0, all_bytes = 0;
};
struct CopyWatch {
  std::function<void(const CopyProgress&)> progress;
  std::function<void(const std::string& path)> copied;
  std::function<void()> begins;     ///< all is known, and nothing has been changed yet
  std::function<bool()> stopped;    ///< whether it is to end, and tidy up behind itself: error cancelled
  std::function<bool()> abandoned;  ///< whether it is to end without that
};

/// Makes the target what the source is, as far as nothing newer is lost, over one connection and in few round trips however many files
/// there are. `report` has what was done also where it ends in an error; the same again goes on from there. Errors: not_found,
/// unreachable, no_space, cancelled, and what concerns the whole; what concerns one file is in the report.
[[nodiscard]] Result<void> copy_files(SshSession& session, const CopyRequest& request, CopyMemory& memory, const CopyWatch& watch,
                                      CopyReport& report);

/// Where things go: "~/notebooks" to "results" is "results/notebooks". For the memory of a pair of folders.
struct CopyPlaces {
  std::string source;  ///< the folder that paths are below, or the single file
  std::string target;  ///< the folder that they come below, where the source is a folder
  std::string folder;  ///< the folder that it comes to, where it is a single file
};
[[nodiscard]] CopyPlaces places_of(const CopyRequest& request);

}  // namespace gpustrap
