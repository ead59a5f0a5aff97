#include "agent/fetch_at_once.h"

#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>

#include <fmt/format.h>

#include "agent/base/file.h"
#include "agent/fetch.h"

namespace gpustrap {
namespace {

using Index = std::uint16_t;

constexpr std::size_t kMostRequests = 10'000;  ///< their numbers fit into a pipe at once
constexpr int kProgressEvery_ms = 200;
constexpr Index kGivenUp = 0xffff;

/// Each process would show its own file, over that of the others.
class OnlyDownloads : public StepLog {
 public:
  explicit OnlyDownloads(StepLog& log) : log_(log) {}
  void say(std::string_view) override {}
  void progress(std::string_view, std::uint64_t, std::uint64_t) override {}
  void share(std::string_view, double) override {}
  void downloaded(std::string_view shown_url, std::uint64_t bytes, std::chrono::milliseconds elapsed) override {
    log_.downloaded(shown_url, bytes, elapsed);
  }

 private:
  StepLog& log_;
};

void show(const std::vector<FetchRequest>& requests, StepLog& log) {
  std::uint64_t done = 0, total = 0;
  for (const FetchRequest& request : requests) {
    total += request.size;
    if (const auto part = progress_of_part(request.to)) {
      done += part->first;
    } else if (path_exists(request.to)) {
      done += request.size;
    }
  }
  log.progress(fmt::format("{} files", requests.size()), std::min(done, total), total);
}

}  // namespace

std::size_t fetch_at_once(const std::vector<FetchRequest>& requests,
                          const std::function<Result<FetchResult>(const FetchRequest& request, StepLog& log)>& fetch, StepLog& log) {
  Result<Pipe> wanted = make_pipe(), told = make_pipe();
  const std::size_t count = std::min(requests.size(), kMostRequests);
  if (!wanted || !told) return 0;
  std::vector<Index> indices;
  for (std::size_t i = 0; i < count; ++i) indices.push_back(static_cast<Index>(i));
  if (!write_all(wanted->write_end.get(), {reinterpret_cast<const char*>(indices.data()), indices.size() * sizeof(Index)})) return 0;
  wanted->write_end.reset();

  const pid_t parent = ::getpid();
  std::vector<pid_t> children;
  for (std::size_t i = 0; i < std::min(count, kFetchesAtOnce); ++i) {
    const pid_t child = ::fork();
    if (child < 0) break;
    if (child > 0) {
      children.push_back(child);
      continue;
    }
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (::getppid() != parent) ::_exit(1);
    OnlyDownloads quiet(log);
    for (Index index = 0; ::read(wanted->read_end.get(), &index, sizeof index) == sizeof index;) {
      const Result<FetchResult> came = fetch(requests[index], quiet);
      if (!came) log.say(came.error().sentence());
      const Index said = came ? index : kGivenUp;
      if (::write(told->write_end.get(), &said, sizeof said) != sizeof said || !came) ::_exit(1);
    }
    ::_exit(0);
  }
  told->write_end.reset();

  std::size_t came = 0;
  for (bool goes_on = true; goes_on;) {
    pollfd polled{told->read_end.get(), POLLIN, 0};
    const int ready = ::poll(&polled, 1, kProgressEvery_ms);
    if (ready == 0) show(requests, log);
    if (ready <= 0) continue;
    Index index = kGivenUp;
    goes_on = ::read(told->read_end.get(), &index, sizeof index) == sizeof index && index != kGivenUp;
    if (goes_on) ++came;
  }
  for (const pid_t child : children) ::kill(child, SIGKILL);
  for (const pid_t child : children) {
    while (::waitpid(child, nullptr, 0) < 0 && errno == EINTR) {}
  }
  return came;
}

}  // namespace gpustrap
