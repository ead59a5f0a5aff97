#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "controller/run_report.h"

namespace gpustrap {

/// One page that asks nobody for anything: no script, no picture, no font from elsewhere, and a policy that forbids them. What a host
/// said is text in it and nothing else.
[[nodiscard]] std::string report_html(const std::vector<RunReport>& reports);

/// Whether that is what `text` is: report_html() has made it, this version's or an earlier one's.
[[nodiscard]] bool is_report_page(std::string_view text);

/// controller/report.css
[[nodiscard]] std::string_view report_css();

/// For text and for values of attributes in double quotes: control characters are gone, markup means itself.
[[nodiscard]] std::string html_text(std::string_view text);

}  // namespace gpustrap
