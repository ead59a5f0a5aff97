#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "agent/base/result.h"
#include "agent/fetch.h"

namespace gpustrap {

/// One file to get from one URL, and what is there of it already.
struct TransferRequest {
  std::string url;
  std::uint64_t have = 0;  ///< bytes of it that are already kept
  /// Strong ETag or date of the version those bytes are from; empty where the server gave none.
  std::string validator;
  std::optional<std::uint64_t> total;  ///< size of that version, where it is known
  /// Without a validator: `checked_later` lets the transfer go on behind `have`, because a digest will tell.
  enum class Resume { only_validated, checked_later } resume = Resume::only_validated;
  /// `within_origin`: what leads to another server is not followed, and TransferEnd::leads_away.
  enum class Redirects { followed, within_origin } redirects = Redirects::followed;
};

/// The body that follows begins at `offset` of the file. 0 voids everything received before.
struct BodyStart {
  std::uint64_t offset = 0;
  std::optional<std::uint64_t> total;  ///< size of the whole file
  std::string validator;
  std::int64_t modified_s = 0;  ///< when the server says the file was changed, in seconds since 1970; 0 where it does not say
};

/// Takes what a transfer brings, in order. An error stops the transfer and is its result. A file is one kind of sink; an archive
/// that is unpacked while it arrives can be another.
class TransferSink {
 public:
  virtual ~TransferSink() = default;
  virtual Result<void> begin(const BodyStart& start) = 0;
  virtual Result<void> add(std::string_view bytes) = 0;
  /// Something people should know, such as why the transfer is tried again.
  virtual void say(std::string_view line) = 0;
};

/// The certificate authorities as PEM text, or why there are none. An error matters only once an https URL comes up.
using Authorities = Result<std::string>;

/// How a transfer ended that has not failed.
enum class TransferEnd { whole, leads_away };

/// Gets files, one after the other, over connections that it keeps. The agent's only user of libcurl; have it in a process that may
/// crash: see transfer_in_child() and TransferChild.
class HttpClient {
 public:
  HttpClient();
  ~HttpClient();
  HttpClient(const HttpClient&) = delete;
  HttpClient& operator=(const HttpClient&) = delete;

  /// Gets the file, with retries, redirects and resumption. Blocks.
  [[nodiscard]] Result<TransferEnd> transfer(const TransferRequest& request, const FetchOptions& options, const Authorities& authorities,
                                             TransferSink& sink);

 private:
  struct Handles;
  std::unique_ptr<Handles> handles_;
};

/// A question to a service at hand: a notebook on the loopback, a cloud's metadata. No proxy, no redirect, no second attempt.
struct HttpQuestion {
  std::string method = "GET";
  std::string url;
  std::vector<std::string> headers;        ///< "Name: value"
  std::chrono::milliseconds limit{2'000};  ///< for all of it
  bool any_certificate = false;            ///< whoever answers there is known otherwise
};
struct HttpAnswer {
  int status = 0;
  std::string body;
};
/// An error (network) where there is no answer in time, or one of more than 2 MiB.
[[nodiscard]] Result<HttpAnswer> http_ask(const HttpQuestion& question);

}  // namespace gpustrap
