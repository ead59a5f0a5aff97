#pragma once

#include <string>
#include <string_view>

#include "controller/console.h"
#include "controller/run_report.h"

namespace gpustrap {

/// The report for a terminal as wide as the console says: a waterfall, then what was slow, fetched, tried again and changed.
[[nodiscard]] std::string report_text(const RunReport& report, const Console& console);

// What both forms of the report say.

/// Shorter times in which nothing ran are not listed: the sum counts them.
[[nodiscard]] std::chrono::milliseconds least_gap_told(std::chrono::milliseconds wall);

/// "12 ms", "0.9s", "4m12s": shorter times than a second matter in a rerun.
[[nodiscard]] std::string took_text(std::chrono::milliseconds time);
/// Host, or the name that it gives itself.
[[nodiscard]] std::string host_of(const RunReport& report);
/// "ok in 4m12s: 9 changed, 2 unchanged"
[[nodiscard]] std::string outcome_of(const RunReport& report);
/// "nothing ran for 1.2s, in 3 gaps" and the like: one sentence for each share of the time, without control characters.
[[nodiscard]] std::vector<std::string> shares_of(const RunReport& report);
/// Last part of a URL's path, without control characters: "d2l-en-1.0.3.zip".
[[nodiscard]] std::string file_of_url(std::string_view url);
/// "a file", "a file, ahead of its step", with size and rate.
[[nodiscard]] std::string download_text(const ReportedDownload& download);

}  // namespace gpustrap
