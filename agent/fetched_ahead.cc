#include "agent/fetched_ahead.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <memory>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "agent/base/file.h"
#include "agent/base/sha256.h"
#include "agent/fetch.h"
#include "agent/protocol/json.h"
#include "agent/safe_directory.h"
#include "agent/shown_url.h"

namespace gpustrap {
namespace {

constexpr std::string_view kLockSuffix = ".lock";
/// Between two looks at a fetch that another process does: what is added to its end at most.
constexpr auto kLookEvery = std::chrono::milliseconds(20);
constexpr std::uint64_t kMostKeptFree = std::uint64_t{4} << 30U, kLeastKeptFree = std::uint64_t{64} << 20U;

UniqueFd open_lock(const std::string& path, int flags) {
  return UniqueFd(::open((path + std::string(kLockSuffix)).c_str(), O_RDWR | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK | flags, 0600));
}

/// Whether the entry at `path` is still the one that this lock was opened with. Whoever held the lock before may have removed it, and
/// another may have begun a new one: that one is not ours to touch.
bool is_of_entry(int lock, const std::string& path) {
  struct stat ours {
  }, named{};
  return ::fstat(lock, &ours) == 0 && ::lstat((path + std::string(kLockSuffix)).c_str(), &named) == 0 && ours.st_ino == named.st_ino &&
         ours.st_dev == named.st_dev;
}

void remove_entry(const std::string& path) {
  for (const std::string& name : {path, part_of(path), notes_of_part(path), path + std::string(kLockSuffix)}) ::unlink(name.c_str());
}

/// The file that may be taken as it is: whole, and still what is meant.
bool is_usable(const std::string& path, int lock, const FetchRequest& request, const AheadPlace& place) {
  if (!path_exists(path)) return false;
  if (request.sha256) return true;
  const Result<std::string> run = read_all(lock, 4096);
  return run && *run == place.run;
}

/// Until nobody else works on the entry; shows how far its fetcher is.
bool await_lock(int lock, const std::string& path, const FetchRequest& request, StepLog& log) {
  std::uint64_t shown = 0;
  while (::flock(lock, LOCK_EX | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK && errno != EINTR) return false;
    if (const auto progress = progress_of_part(path); progress && progress->first != shown) {
      shown = progress->first;
      log.progress(request.name.empty() ? file_name_of_url(request.urls.front()) : request.name, shown, progress->second);
    }
    std::this_thread::sleep_for(kLookEvery);
  }
  return true;
}

}  // namespace

std::string ahead_folder(const Identity& identity) {
  return (identity.uid == 0 ? std::string("/var/lib/gpustrap/cache") : identity.home + "/.cache/gpustrap") + "/ahead";
}

std::string ahead_path(const AheadPlace& place, const FetchRequest& request) {
  std::string asked = request.sha256.value_or("");
  for (const std::string& url : request.urls) asked += "\n" + url;
  return place.folder + "/" + sha256_hex(asked).substr(0, 40);
}

Result<void> fetch_ahead(const AheadPlace& place, const FetchRequest& request, const std::function<void()>& begun, const FetchTo& fetch) {
  const std::string path = ahead_path(place, request);
  if (Result<UniqueFd> folder = open_directory(place.folder, MissingParents::make); !folder) return fail(std::move(folder).error());
  if (::chmod(place.folder.c_str(), 0700) != 0) return fail(errno_error(errno, "making " + place.folder));
  UniqueFd lock;
  do {
    lock = open_lock(path, O_CREAT);
    if (!lock.valid()) return fail(errno_error(errno, "making " + path));
    if (::flock(lock.get(), LOCK_EX | LOCK_NB) != 0) return {};  // two steps want the same: the first has it fetched
  } while (!is_of_entry(lock.get(), path));
  if (is_usable(path, lock.get(), request, place)) return {};
  ::unlink(path.c_str());
  if (::ftruncate(lock.get(), 0) != 0 || ::lseek(lock.get(), 0, SEEK_SET) != 0) return fail(errno_error(errno, "writing " + path));
  if (Result<void> wrote = write_all(lock.get(), place.run); !wrote) return wrote;
  begun();
  FetchRequest there = request;
  there.to = path;
  there.attributes = {0600, {}, {}};
  const Result<FetchResult> fetched = fetch(there);
  return fetched ? Result<void>() : fail(fetched.error());
}

std::optional<Result<FetchResult>> take_ahead(const AheadPlace& place, const FetchRequest& request, StepLog& log, const FetchTo& fetch) {
  const std::string path = ahead_path(place, request);
  UniqueFd lock;
  do {
    lock = open_lock(path, 0);
    if (!lock.valid() || !await_lock(lock.get(), path, request, log)) return std::nullopt;
  } while (!is_of_entry(lock.get(), path));
  if (!is_usable(path, lock.get(), request, place)) {
    ::unlink(path.c_str());
    if (!path_exists(part_of(path))) return std::nullopt;
    FetchRequest rest = request;
    rest.to = path;
    rest.attributes = {0600, {}, {}};
    if (const Result<FetchResult> fetched = fetch(rest); !fetched) return fail(fetched.error());
  }
  Result<FetchResult> taken = adopt_file(path, request, log);
  remove_entry(path);
  ::rmdir(place.folder.c_str());  // where it was the last
  if (taken) return taken;
  // Another digest than it had when it came, no such file any more, a folder that cannot be written to: fetching tells what is wrong.
  log.say("what was fetched ahead cannot be used (" + taken.error().sentence() + "); fetching it again");
  return std::nullopt;
}

namespace {

constexpr std::size_t kLongestNote = 4U << 20U;

std::string note_path(const AheadPlace& place) {
  return place.folder + "/" + sha256_hex("note\n" + place.run + "\n" + place.step).substr(0, 40);
}

}  // namespace

Result<void> note_ahead(const AheadPlace& place, const std::vector<FetchRequest>& requests) {
  if (Result<UniqueFd> folder = open_directory(place.folder, MissingParents::make); !folder) return fail(std::move(folder).error());
  if (::chmod(place.folder.c_str(), 0700) != 0) return fail(errno_error(errno, "making " + place.folder));
  const std::string path = note_path(place);
  if (!open_lock(path, O_CREAT).valid()) return fail(errno_error(errno, "making " + path));
  return write_file_atomically(path, requests_to_json(requests), 0600);
}

std::vector<FetchRequest> noted_ahead(const AheadPlace& place) {
  const UniqueFd file(::open(note_path(place).c_str(), O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK));
  const Result<std::string> text = file.valid() ? read_all(file.get(), kLongestNote) : Result<std::string>("");
  return requests_from_json(text.value_or(""));
}

std::string requests_to_json(const std::vector<FetchRequest>& requests) {
  Json list = Json::array();
  for (const FetchRequest& request : requests) {
    list.push_back({{"urls", request.urls}, {"to", request.to}, {"sha256", request.sha256.value_or("")}, {"name", request.name}});
  }
  return list.dump(-1, ' ', false, Json::error_handler_t::replace);
}

std::vector<FetchRequest> requests_from_json(std::string_view text) {
  std::vector<FetchRequest> requests;
  const Json list = Json::parse(text, nullptr, false);
  if (!list.is_array()) return requests;
  try {
    for (const Json& item : list) {
      FetchRequest request;
      request.urls = item.at("urls").get<std::vector<std::string>>();
      request.to = item.at("to").get<std::string>();
      request.name = item.at("name").get<std::string>();
      if (std::string sha256 = item.at("sha256").get<std::string>(); !sha256.empty()) request.sha256 = std::move(sha256);
      requests.push_back(std::move(request));
    }
  } catch (const Json::exception&) {
    requests.clear();  // cut by a crash
  }
  return requests;
}

void clear_ahead(const std::string& folder) {
  const std::unique_ptr<DIR, int (*)(DIR*)> entries(::opendir(folder.c_str()), ::closedir);
  std::vector<std::string> names;
  while (const dirent* entry = entries ? ::readdir(entries.get()) : nullptr) names.emplace_back(entry->d_name);
  for (const std::string& name : names) {
    if (!name.ends_with(kLockSuffix)) continue;
    const std::string path = folder + "/" + name.substr(0, name.size() - kLockSuffix.size());
    const UniqueFd lock = open_lock(path, 0);
    if (lock.valid() && ::flock(lock.get(), LOCK_EX | LOCK_NB) == 0 && is_of_entry(lock.get(), path)) remove_entry(path);
  }
  ::rmdir(folder.c_str());
}

std::uint64_t kept_free(const std::string& folder) {
  struct statvfs disk {};
  std::string existing = folder;
  while (::statvfs(existing.c_str(), &disk) != 0 && existing != "/") existing = parent_of(existing);
  return std::clamp(static_cast<std::uint64_t>(disk.f_blocks) * disk.f_frsize / 10, kLeastKeptFree, kMostKeptFree);
}

bool is_short_of_room(const std::string& folder) {
  struct statvfs disk {};
  if (::statvfs(folder.c_str(), &disk) != 0) return false;
  return static_cast<std::uint64_t>(disk.f_bavail) * disk.f_frsize < kept_free(folder) / 2;
}

}  // namespace gpustrap
