#include "agent/steps/apt_lock.h"

#include <array>
#include <vector>

#include <fmt/format.h>

#include "agent/base/text.h"

namespace gpustrap {
namespace {

constexpr std::array<const char*, 4> kLocks = {"/var/lib/dpkg/lock-frontend", "/var/lib/dpkg/lock", "/var/lib/apt/lists/lock",
                                               "/var/cache/apt/archives/lock"};
constexpr auto kPause = std::chrono::seconds(1);

}  // namespace

Result<std::optional<std::string>> apt_lock_holder(const Host& host) {
  std::vector<std::string> inodes;
  for (const char* path : kLocks) {
    const Result<std::optional<FileInfo>> info = host.info(path);
    if (info && *info && (*info)->inode != 0) inodes.push_back(fmt::format("{}", (*info)->inode));
  }
  const Result<std::string> locks = host.read("/proc/locks");
  if (!locks) return std::optional<std::string>();  // a host that does not show its locks: apt itself will tell
  for (const std::string& line : split(*locks, '\n')) {
    // "3: POSIX  ADVISORY  WRITE 812 fe:00:131073 0 EOF"; waiting ones have "->" behind the number.
    const std::vector<std::string> fields = words(line);
    if (fields.size() < 8 || fields[1] == "->" || fields[3] != "WRITE") continue;
    const std::string inode = fields[5].substr(fields[5].rfind(':') + 1);
    for (const std::string& wanted : inodes) {
      if (inode != wanted) continue;
      const Result<std::string> name = host.read("/proc/" + fields[4] + "/comm");
      return std::optional<std::string>(fmt::format("process {}{}", fields[4], name ? fmt::format(" ({})", trim(*name)) : ""));
    }
  }
  return std::optional<std::string>();
}

Result<void> wait_for_apt_locks(Host& host, StepLog& log, std::chrono::seconds limit) {
  std::string told;
  for (std::chrono::seconds waited{0};; waited += kPause) {
    const Result<std::optional<std::string>> holder = apt_lock_holder(host);
    if (!holder) return fail(holder.error());
    if (!*holder) return {};
    if (**holder != told) log.say(fmt::format("waiting for {} to release the locks of apt", **holder));
    told = **holder;
    if (waited >= limit) {
      return fail(ErrorCode::busy, fmt::format("{} still holds the locks of apt after {}", told, human_duration(limit)),
                  "let it finish (first-boot updates can take many minutes), then run the same command again");
    }
    host.pause(kPause);
  }
}

}  // namespace gpustrap
