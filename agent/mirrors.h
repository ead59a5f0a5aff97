#pragma once

#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "agent/base/result.h"
#include "agent/host.h"
#include "agent/protocol/network.h"

// What a run's proxy and mirror change in what steps do, in one place for all kinds.

namespace gpustrap {

using EnvironmentVariables = std::vector<std::pair<std::string, std::string>>;

/// The proxy variables of a run: those of the login, with what the run was told in their place. Loopback never goes through a proxy.
[[nodiscard]] EnvironmentVariables proxies_for(const EnvironmentVariables& of_login, const Network& network);

/// What leads pip, uv and conda to the mirror, whoever starts them. The step's own variables are stronger.
[[nodiscard]] EnvironmentVariables mirror_environment(const Mirror& mirror);

/// One attempt at a request: with `Patience::short_one` where another place is left.
enum class Patience { short_one, full };
using FetchOnce = std::function<Result<FetchResult>(const FetchRequest& request, Patience patience)>;
/// From the mirror where it has a place for the addresses, else or where that fails from the addresses themselves; says which, and why. A
/// wanted digest is wanted of the mirror too.
[[nodiscard]] Result<FetchResult> fetch_by_mirror(const FetchRequest& request, const Mirror& mirror, StepLog& log, const FetchOnce& fetch);

/// "taking packages from the mirror uni (https://…)", where there is one for that.
void say_mirror(const Host& host, StepLog& log, std::string_view what, const std::string& url);
/// Adds to an error of the network, and of a package that is not there, what way it took and how to go without: the mirror at `url` (none
/// where it is empty), the proxy.
[[nodiscard]] Error by_way_of(const Host& host, Error error, const std::string& url);

}  // namespace gpustrap
