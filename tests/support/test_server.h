#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "agent/base/unique_fd.h"

namespace gpustrap {

/// What one request for a path is answered with.
struct Answer {
  int status = 200;
  std::string body;
  std::string etag, modified, location, retry_after;
  bool ranges = true;    ///< honours Range (and If-Range)
  bool if_range = true;  ///< else a range is a range, whatever version it is wanted of
  bool content_length = true;
  std::optional<std::uint64_t> claimed_length;  ///< said instead of the true one
  std::optional<std::size_t> cut_after;         ///< closes after this many bytes of the body
  std::optional<std::size_t> stall_after;       ///< sends nothing more after these, until the peer leaves
  std::optional<std::string> content_range;     ///< said instead of the true one
};

/// An HTTP and an HTTPS server on free loopback ports, in a process of its own: the test process stays free of threads, which
/// matters because what is tested forks. Set the routes, then start.
class TestServer {
 public:
  TestServer();
  ~TestServer();
  TestServer(const TestServer&) = delete;
  TestServer& operator=(const TestServer&) = delete;

  [[nodiscard]] std::string http(const std::string& path) const;
  [[nodiscard]] std::string https(const std::string& path) const;
  /// PEM of the certificate that the HTTPS side shows (127.0.0.1).
  [[nodiscard]] const std::string& certificate() const { return certificate_; }

  /// The n-th request for `path` gets the n-th answer; the last one stays. Before start().
  void route(const std::string& path, std::vector<Answer> answers) { routes_[path] = std::move(answers); }
  /// What a connection brought whole leaves it open for the next request. Before start().
  void keep_connections() { keeps_ = true; }
  void start();
  /// How many connections there were.
  [[nodiscard]] std::size_t connections();
  /// The requests so far, as "GET /path [Range] [If-Range] [Authorization]" with only the headers that were there.
  [[nodiscard]] std::vector<std::string> requests();

 private:
  struct Listener {
    UniqueFd fd;
    std::uint16_t port = 0;
  };
  Listener http_, https_;
  UniqueFd log_read_, log_write_;
  std::string certificate_, key_, log_;
  std::map<std::string, std::vector<Answer>> routes_;
  bool keeps_ = false;
  pid_t pid_ = -1;

  [[nodiscard]] std::vector<std::string> log_lines();
};

}  // namespace gpustrap
