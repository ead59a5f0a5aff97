#pragma once

#include "agent/base/result.h"
#include "agent/fetch.h"
#include "agent/http_transfer.h"

namespace gpustrap {

/// http_transfer() in a forked child that holds nothing but a pipe to this process, and that is uid 65534 (nobody) where this
/// process is root: what a hostile server makes of HTTP or TLS code ends there. The sink runs here. A child that crashes is an
/// error; it dies with this process.
[[nodiscard]] Result<void> transfer_in_child(const TransferRequest& request, const FetchOptions& options, const Authorities& authorities,
                                             TransferSink& sink);

}  // namespace gpustrap
