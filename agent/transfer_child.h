#pragma once

#include <sys/types.h>

#include <string>

#include "agent/base/result.h"
#include "agent/base/unique_fd.h"
#include "agent/fetch.h"
#include "agent/http_transfer.h"

namespace gpustrap {

/// HttpClient::transfer() in a forked child that holds nothing but a pipe to this process, and that is uid 65534 (nobody) where this
/// process is root: what a hostile server makes of HTTP or TLS code ends there. The sink runs here. A child that crashes is an
/// error; it dies with this process.
[[nodiscard]] Result<void> transfer_in_child(const TransferRequest& request, const FetchOptions& options, const Authorities& authorities,
                                             TransferSink& sink);

/// Such a child that is kept, so that files of one server come over the connection it has there. What that server makes of the child, it
/// can use on its own later files alone: whatever is for another server, by another proxy or with other options gets another child, and
/// what a redirect leads elsewhere for gets one for itself. Use it only where a digest will tell, or where all that comes is one server's
/// word.
class TransferChild {
 public:
  TransferChild() = default;
  ~TransferChild() { end(); }
  TransferChild(const TransferChild&) = delete;
  TransferChild& operator=(const TransferChild&) = delete;

  [[nodiscard]] Result<void> transfer(const TransferRequest& request, const FetchOptions& options, const Authorities& authorities,
                                      TransferSink& sink);

 private:
  void end();

  std::string serves_;       ///< what it may be asked for: see transfer()
  bool leads_away_ = false;  ///< that server's files lie elsewhere
  pid_t pid_ = -1;
  UniqueFd requests_, answers_;
};

}  // namespace gpustrap
