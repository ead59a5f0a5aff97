#pragma once

#include <chrono>
#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "agent/base/result.h"
#include "controller/cloud/http.h"
#include "controller/lint_review.h"

namespace gpustrap {

/// How `recipe lint --upstream` asks the servers that a recipe names.
struct UpstreamOptions {
  /// Whether files whose digest the recipe names are fetched whole and compared.
  enum class Depth { headers, whole } depth = Depth::headers;
  std::function<std::unique_ptr<Http>()> connect;  ///< one for each of the askers
  std::size_t askers = 8;
  std::chrono::seconds limit{300};  ///< what was not asked by then is said to be so
  /// What is wrong with a repository's key, as gpg reads it; empty where nothing is. An error where nobody can read it.
  std::function<Result<std::string>(const std::string& key)> look_at_key;
};

/// One address of a recipe, and what is to be there.
struct UpstreamAddress {
  std::string url;
  std::string pointer;  ///< of the value in the recipe
  std::string sha256;   ///< empty: none is promised
  bool is_key = false;
};
/// Of all steps, mirrors included. An address that a fact fills in is not known yet and is left out.
[[nodiscard]] std::vector<UpstreamAddress> upstream_addresses(const LintReview& review);

/// Asks for all of them and adds what is gone, changed, silent or expired.
void lint_upstream(LintReview& review, const UpstreamOptions& options);

/// Where a redirect leads: absolute, or of the server or folder of `base`.
[[nodiscard]] std::string redirect_target(const std::string& base, const std::string& location);
/// What is wrong with a key by what `gpg --show-keys --with-colons` says of it at `now` (Unix time); empty: nothing.
[[nodiscard]] std::string fault_of_key(const std::string& colons, std::int64_t now);
/// By gpg itself, in a home of its own.
[[nodiscard]] Result<std::string> look_at_key_with_gpg(const std::string& key);

}  // namespace gpustrap
