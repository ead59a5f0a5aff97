#pragma once

#include <cstddef>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "agent/base/result.h"
#include "agent/fetch.h"
#include "agent/host.h"
#include "agent/transfer_child.h"

namespace gpustrap {

/// Connections at once. A server gets no more of them than browsers open to one.
constexpr std::size_t kFetchesAtOnce = 4;
constexpr std::size_t kMostMissing = 3;

/// Has `fetch` called for each of the requests, in their order, in at most kFetchesAtOnce processes of their own, each with a TransferChild
/// for all of its files; `log` shows how far all
/// of them are, and hears of each download. Returns how many came. One that does not come is said and left out, a third ends it, and so
/// does a full disk: what is missing is then the caller's to get in another way.
using FetchOne = std::function<Result<FetchResult>(const FetchRequest& request, StepLog& log, TransferChild& transfers)>;
std::size_t fetch_at_once(const std::vector<FetchRequest>& requests, const FetchOne& fetch, StepLog& log);

/// The texts at these addresses, which are one server's, kept in memory alone, kAskedAtOnce of them at a time; nullopt for what does not
/// come, is no text of a server that says so, or is larger than kLongestText.
constexpr std::size_t kAskedAtOnce = 8, kLongestText = 8U << 20U, kMostAsked = 400;
[[nodiscard]] std::vector<std::optional<std::string>> ask_at_once(const std::vector<std::string>& urls, const FetchOptions& options);

}  // namespace gpustrap
