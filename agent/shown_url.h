#pragma once

#include <string>
#include <string_view>

namespace gpustrap {

/// The URL as it may stand in a message, a journal or a state file: without user, password, query and fragment, where
/// passwords and signatures live. A query that was there shows as "?…".
[[nodiscard]] std::string shown_url(std::string_view url);

/// The last part of the URL's path, percent-decoded; empty where it is no usable file name ("", ".", "..", one with a slash or
/// a control character).
[[nodiscard]] std::string file_name_of_url(std::string_view url);

}  // namespace gpustrap
