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
#include <variant>
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
  /// Of one file, from one host.
  struct Giving {
    std::string sha256;
    std::uint64_t source = 0;  ///< another one may take its place
  };
  /// Of one file, on its way to one host.
  struct Taking {
    std::string sha256;
    std::uint64_t source = 0;  ///< whose blocks these are
    std::uint64_t next = 0;    ///< block
    bool waits = false;
  };
  /// Of one file: how many blocks are asked for ahead (4 MiB, what a link of 1 Gbit/s and 30 ms holds), and how many are kept for others.
  static constexpr std::size_t kBlocksOnTheWay = 16, kBlocksKept = 32;
  /// While somebody waits, a source gives at least so much in so long (0.6 Mbit/s). It may lack the file itself for a while, whose server
  /// is asked again; beyond this, the others are quicker with that server, and one that has taken hold of a file's name holds up nobody.
  static constexpr std::chrono::seconds kPatience{60};
  static constexpr std::uint64_t kLeastGiven = 4U << 20U;
  /// No file is larger. Where a host says that it has more, it is taken to have nothing.
  static constexpr std::uint64_t kLargestFile = std::uint64_t{1} << 50U;

  explicit PassedFiles(std::function<Time()> now = std::chrono::steady_clock::now) : now_(std::move(now)) {}

  /// Who wants a file, and has so many bytes of it: Giving where the caller is its source from now on.
  [[nodiscard]] std::variant<Giving, Taking> want(const std::string& sha256, std::uint64_t have);
  /// The source is not one any more; who takes from it gets no more.
  void end_source(const Giving& giving);
  /// Numbers of blocks that the source is to be asked for now; each is told once. Error cancelled where it is the source no longer.
  [[nodiscard]] Result<std::vector<std::uint64_t>> to_ask(const Giving& giving);
  /// A block of the source has come. One that is not full is the last.
  void came(const Giving& giving, std::uint64_t number, std::string bytes);
  /// The next block of what is taken; nullptr where it has yet to come. An empty one at the file's end; error unreachable where there is no
  /// such source any more, or it has just lost its place because it gives too little: who wants the file next is its source.
  [[nodiscard]] Result<Block> next(Taking& taking);
  void end_taking(Taking& taking);

 private:
  struct File {
    std::uint64_t source = 0;
    std::map<std::uint64_t, Block> blocks;
    std::deque<std::uint64_t> order;  ///< in which they came
    std::set<std::uint64_t> asked;
    std::multiset<std::uint64_t> wanted;  ///< the next block of each host that takes
    // Since its pace was last looked at:
    std::uint64_t given = 0;
    std::chrono::steady_clock::duration waited{};  ///< time in which anybody did
    std::size_t waiting = 0;                       ///< hosts that do now,
    Time waiting_since{};                          ///< and since when
  };
  static void tidy(File& file);
  [[nodiscard]] bool is_too_slow(File& file) const;
  void stop_waiting(File& file, Taking& taking) const;
  [[nodiscard]] File* find(const std::string& sha256, std::uint64_t source);
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

  /// A run has fewer files than this, and asks for each again where what it takes from ends, and where its step is tried again. Beyond
  /// these nobody brings the host any more: each has an agent started there.
  static constexpr std::size_t kMostFiles = 64;
  static constexpr int kMostAsks = 16;

  /// The host has said that it wants this file, of which it has so many bytes, and waits.
  void wanted(const std::string& sha256, std::uint64_t have);
  /// Moves what can be moved now; how long it may wait until the next call.
  std::chrono::milliseconds pump();
  /// Whether others may have a file from here.
  [[nodiscard]] bool gives() const;

 private:
  struct Talk;
  struct Wish {
    int asked = 0;
    std::optional<std::uint64_t> have;  ///< while it is not answered
  };
  void begin(const std::string& sha256, std::uint64_t have);
  /// Whether what was taken of it for an earlier wish still goes on.
  [[nodiscard]] bool is_taken(const std::string& sha256);
  Result<bool> move(Talk& talk);
  Result<bool> give(Talk& talk);
  Result<bool> take(Talk& talk);
  void end(Talk& talk);

  std::shared_ptr<PassedFiles> files_;
  Open open_;
  std::function<void()> refuse_;
  std::map<std::string, Wish> wishes_;
  bool refuses_ = false;  ///< has yet to be told
  std::vector<std::unique_ptr<Talk>> talks_;
};

}  // namespace gpustrap
