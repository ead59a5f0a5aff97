#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "agent/base/result.h"
#include "controller/copy.h"
#include "controller/copy_channel.h"
#include "controller/copy_listing.h"

namespace gpustrap {

// What copy.cc, copy_pull.cc and copy_push.cc share: one copy, from the listings of both sides to what each file came to.

/// Of a file that is read or written at a time.
constexpr std::size_t kCopyPiece = 256U << 10U;

/// One file or link that is to travel.
struct CopyItem {
  std::string path;
  CopyEntry entry;
  std::optional<CopyEntry> before;  ///< what stood at the target when it was decided
  /// The same, null where nothing stood there.
  [[nodiscard]] const CopyEntry* expected() const { return before ? &*before : nullptr; }
};

class CopyJob {
 public:
  CopyJob(SshSession& session, const CopyRequest& request, CopyMemory& memory, const CopyWatch& watch, CopyReport& report);
  virtual ~CopyJob() = default;
  Result<void> run();

 protected:
  using Items = std::vector<const CopyItem*>;
  using Digests = std::map<std::string, std::string>;

  /// Each lists one side and says whether the source is a single file.
  virtual Result<bool> list_source() = 0;
  virtual Result<void> list_target() = 0;
  /// Brings what was decided on to the target.
  virtual Result<void> copy() = 0;

  Result<HostListing> list_there(const std::string& path);
  /// The file and its part: whatever else lies in that folder is of no interest, and may be a whole home.
  [[nodiscard]] std::vector<std::string> names_of_single() const;
  /// SHA-256 of files on the host, by path.
  Result<Digests> digests_there(const std::string& root, const std::vector<std::string>& paths);
  static Result<std::string> digest_of(int file);

  /// A command of the host's that a request to stop cuts short; the error is `cancelled` then.
  Result<CopyChannel> start(const std::string& command, std::string_view input);
  /// What a command of the host's said on its way out.
  static Error host_error(const CopyChannel::End& end, const std::string& doing);
  static bool ended_well(const CopyChannel::End& end) { return end.status.value_or(0) == 0; }

  /// Whether it travels by itself. A link to a file that is the named one itself would be packed as what it is.
  [[nodiscard]] bool is_alone(const CopyItem& item) const;
  /// The small ones that `travels`, many in a batch, then the large ones one by one. What is wrong with one file alone is noted.
  Result<void> copy_all(const std::function<bool(const CopyItem&)>& travels, const std::function<Result<void>(Items)>& batch,
                        const std::function<Result<void>(const CopyItem&)>& alone);

  void tell() const;
  void count_bytes(std::size_t bytes);
  void add_line(std::vector<CopyReport::Line>& lines, const std::string& path, const std::string& why);
  void done(const CopyItem& item);
  void failed(const CopyItem& item, const std::string& why);
  void kept(const CopyItem& item, const std::string& why);
  /// Of the whole where it is about the whole, else of one file.
  Result<void> settle(const CopyItem& item, const Error& error);

  SshSession& session_;
  const CopyRequest& request_;
  CopyMemory& memory_;
  const CopyWatch& watch_;
  CopyReport& report_;
  CopyPlaces places_;
  std::string source_root_, target_root_;
  CopyTree source_, target_;
  std::map<std::string, std::uint64_t> parts_;  ///< what earlier copies have left at the target
  std::vector<std::pair<std::string, unsigned>> folders_;
  std::vector<CopyItem> items_;
  std::vector<std::pair<std::string, std::int64_t>> same_times_;
  std::vector<std::pair<std::string, unsigned>> modes_;  ///< of files that differ in nothing else
  HostTools tools_ = HostTools::gnu;
  std::string errors_;  ///< of the last listing
  CopyProgress progress_;
  bool single_ = false;  ///< the source is one file

 private:
  [[nodiscard]] bool is_pull() const { return request_.direction == CopyDirection::pull; }
  Result<void> decide_all();
  void take(const std::string& path, const CopyEntry& entry, const CopyEntry* target, const CopyDecision& decision);
};

/// From the host, and to it.
[[nodiscard]] Result<void> pull_files(SshSession& session, const CopyRequest& request, CopyMemory& memory, const CopyWatch& watch,
                                      CopyReport& report);
[[nodiscard]] Result<void> push_files(SshSession& session, const CopyRequest& request, CopyMemory& memory, const CopyWatch& watch,
                                      CopyReport& report);

}  // namespace gpustrap
