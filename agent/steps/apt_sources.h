#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "agent/base/result.h"
#include "agent/host.h"
#include "agent/steps/edited_file.h"

// The files in which apt's repositories stand: one a line (`deb URL SUITE …`), or in deb822 stanzas.

namespace gpustrap {

/// A repository, as far as apt tells one from another: two entries of one place must agree on their key, or apt refuses to work.
struct AptPlace {
  std::string url;
  std::vector<std::string> suites;
};

/// A file with entries of that place in it, and its text with those switched off.
struct AptConflict {
  EditedFile file;
  std::string text;     ///< the wanted content
  std::string summary;  ///< "/etc/apt/sources.list.d/cuda.list:1"
};

/// All files but `own` that name the place. Error unsafe where an entry names other places too, so that it cannot be switched off.
[[nodiscard]] Result<std::vector<AptConflict>> conflicting_sources(const Host& host, const AptPlace& place, const std::string& own);

/// `text` with the lines that name the place commented out; `lines` gets their numbers.
[[nodiscard]] std::string without_one_line_entries(std::string_view text, const AptPlace& place, std::vector<int>& lines);
/// `text` with `Enabled: no` in the stanzas that name the place. Error as above.
[[nodiscard]] Result<std::string> without_deb822_entries(std::string_view text, const AptPlace& place, std::vector<int>& lines);

/// How the names of the place's files in /var/lib/apt/lists begin.
[[nodiscard]] std::string list_name_prefix(std::string_view url);

}  // namespace gpustrap
