#pragma once

#include <chrono>
#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "agent/base/result.h"
#include "agent/protocol/network.h"
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
  Mirror mirror;                    ///< where the hosts look first
  /// What is wrong with a repository's key, as gpg reads it; empty where nothing is. An error where nobody can read it.
  std::function<Result<std::string>(const std::string& key)> look_at_key;
};

/// One address of a recipe, and what is to be there.
struct UpstreamAddress {
  enum class What {
    file,     ///< or a repository's: whatever a step fetches
    key,      ///< of a repository of apt
    command,  ///< an address in a command, which may not be there to be fetched
    package,  ///< the page of a Python package in its index
    channel,  ///< of conda: its index of what is for all machines, which each has
  } what = What::file;
  std::string url;
  std::string pointer;     ///< of the value in the recipe
  std::string sha256;      ///< empty: none is promised
  std::string evidence{};  ///< a part of that value
  std::string name{};      ///< of a package or channel
  std::string version{};   ///< "1.2", "1.2.*" of a package that is pinned
  bool is_usual = false;   ///< an index or channel that nobody has named: a host's own settings may name another
  bool is_fetched = true;  ///< of a command: whether it is one that fetches
};
/// Of all steps, mirrors included. An address that a fact fills in is not known yet and is left out.
/// lint_upstream_addresses.cc
[[nodiscard]] std::vector<UpstreamAddress> upstream_addresses(const LintReview& review, const Mirror& mirror = {});
/// The addresses in a shell text: what stands in its commands' words, whole, with whether the command is one that fetches it.
[[nodiscard]] std::vector<std::pair<std::string, bool>> addresses_in_command(const std::string& text);

/// Asks for all of them and adds what is gone, changed, silent or expired.
void lint_upstream(LintReview& review, const UpstreamOptions& options);

/// Where a redirect leads: absolute, or of the server or folder of `base`.
[[nodiscard]] std::string redirect_target(const std::string& base, const std::string& location);
/// What is wrong with a key by what `gpg --show-keys --with-colons` says of it at `now` (Unix time); empty: nothing.
[[nodiscard]] std::string fault_of_key(const std::string& colons, std::int64_t now);
/// By gpg itself, in a home of its own.
[[nodiscard]] Result<std::string> look_at_key_with_gpg(const std::string& key);

}  // namespace gpustrap
