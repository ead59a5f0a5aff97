#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "agent/base/result.h"
#include "agent/protocol/request.h"

// `fetch: shared`, in the middle: the first host that wants a file fetches it, the others have it from there. Each host is spoken with by
// a thread of its own; what they have in common is here.

namespace gpustrap {

/// The files of one fleet. Of each the source is asked for those blocks that somebody wants next. Hosts that go along with each other share
/// a block; one that is slow holds up neither the source nor the others, and has blocks asked for again. For all threads.
class PassedFiles {
 public:
  using Block = std::shared_ptr<const std::string>;
  using Time = std::chrono::steady_clock::time_point;
  /// Of one file, on its way to one host.
  struct Taking {
    std::string sha256;
    std::uint64_t source = 0;  ///< whose blocks these are: another source would begin again
    std::uint64_t next = 0;    ///< block
    std::optional<Time> waits_since{};
  };
  /// Of one file: how many blocks are asked for ahead (4 MiB, what a link of 1 Gbit/s and 30 ms holds), and how many are kept for others.
  static constexpr std::size_t kBlocksOnTheWay = 16, kBlocksKept = 32;
  /// How long a source may leave somebody waiting and give nothing to anybody. It may lack the file itself for a while, whose server is
  /// asked again; beyond this, the others are quicker with that server.
  static constexpr std::chrono::seconds kSourceSilence{60};

  explicit PassedFiles(std::function<Time()> now = std::chrono::steady_clock::now) : now_(std::move(now)) {}

  /// Who wants a file: nullopt where the caller is its source from now on.
  [[nodiscard]] std::optional<Taking> want(const std::string& sha256);
  /// The source is not one any more; who takes from it gets no more.
  void end_source(const std::string& sha256);
  /// Numbers of blocks that the source is to be asked for now; each is told once.
  [[nodiscard]] std::vector<std::uint64_t> to_ask(const std::string& sha256);
  /// A block of the source has come. One that is not full is the last.
  void came(const std::string& sha256, std::uint64_t number, std::string bytes);
  /// The next block of what is taken; nullptr where it has yet to come. An empty one at the file's end; error unreachable where there is no
  /// such source any more, or it is silent for kSourceSilence.
  [[nodiscard]] Result<Block> next(Taking& taking);
  void end_taking(const Taking& taking);

 private:
  struct File {
    std::uint64_t source = 0;
    std::map<std::uint64_t, Block> blocks;
    std::deque<std::uint64_t> order;  ///< in which they came
    std::set<std::uint64_t> asked;
    std::multiset<std::uint64_t> wanted;  ///< the next block of each host that takes
    std::optional<Time> last_came;        ///< of any block
    bool is_silent = false;
  };
  static void tidy(File& file);
  std::function<Time()> now_;
  std::mutex mutex_;
  std::uint64_t sources_ = 0;
  std::map<std::string, File> files_;  ///< those that have a source
};

/// A conversation with an agent that gives or takes a file. Nothing here blocks.
class ShareChannel {
 public:
  virtual ~ShareChannel() = default;
  [[nodiscard]] virtual Result<std::size_t> read(std::string& into) = 0;
  [[nodiscard]] virtual Result<std::size_t> write(std::string_view bytes) = 0;
  virtual void send_end() = 0;
  [[nodiscard]] virtual bool at_end() const = 0;
};

/// One host's part in it. For that host's thread.
class HostSharing {
 public:
  using Open = std::function<Result<std::unique_ptr<ShareChannel>>(const ShareRequest& request)>;
  /// `refuse` lets the host know that nobody brings files.
  HostSharing(std::shared_ptr<PassedFiles> files, Open open, std::function<void()> refuse);
  ~HostSharing();
  HostSharing(const HostSharing&) = delete;
  HostSharing& operator=(const HostSharing&) = delete;

  /// The host has said that it wants this file, and waits.
  void wanted(const std::string& sha256) { wanted_.push_back(sha256); }
  /// Moves what can be moved now; how long it may wait until the next call.
  std::chrono::milliseconds pump();
  /// Whether others may have a file from here.
  [[nodiscard]] bool gives() const;

 private:
  struct Talk;
  void begin(const std::string& sha256);
  Result<bool> move(Talk& talk);
  Result<bool> give(Talk& talk);
  Result<bool> take(Talk& talk);
  void end(const Talk& talk);

  std::shared_ptr<PassedFiles> files_;
  Open open_;
  std::function<void()> refuse_;
  std::vector<std::string> wanted_;
  std::vector<std::unique_ptr<Talk>> talks_;
};

}  // namespace gpustrap
