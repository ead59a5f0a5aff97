#include "agent/fetch_at_once.h"

#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include <fmt/format.h>

#include "agent/base/file.h"
#include "agent/base/unique_fd.h"
#include "agent/http_transfer.h"
#include "agent/transfer_child.h"

namespace gpustrap {
namespace {

using Index = std::uint16_t;

constexpr std::size_t kMostRequests = 10'000;  ///< their numbers fit into a pipe at once
constexpr auto kProgressEvery = std::chrono::milliseconds(200);
constexpr Index kMissed = 0xfffe, kGivenUp = 0xffff;  ///< told instead of a number

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
    struct stat whole {};
    total += request.size;
    if (const auto part = progress_of_part(request.to)) {
      done += part->first;
    } else if (::lstat(request.to.c_str(), &whole) == 0) {
      done += static_cast<std::uint64_t>(whole.st_size);
    }
  }
  log.progress(fmt::format("{} files", requests.size()), done, done > total ? 0 : total);
}

/// Of what a server sends, as much as a text may have, into a file in memory that other processes hold too.
class TextSink : public TransferSink {
 public:
  explicit TextSink(int file) : file_(file) {}
  Result<void> begin(const BodyStart& start) override {
    size_ = start.offset;
    const auto offset = static_cast<off_t>(start.offset);
    if (::ftruncate(file_, offset) != 0 || ::lseek(file_, offset, SEEK_SET) != offset) return fail(errno_error(errno, "keeping a page"));
    return {};
  }
  Result<void> add(std::string_view bytes) override {
    size_ += bytes.size();
    if (size_ > kLongestText) return fail(ErrorCode::io, "the page is too long");
    return write_all(file_, bytes);
  }
  void say(std::string_view) override {}

 private:
  int file_;
  std::uint64_t size_ = 0;
};

}  // namespace

std::vector<std::optional<std::string>> ask_at_once(const std::vector<std::string>& urls, const FetchOptions& options) {
  std::vector<std::optional<std::string>> texts(urls.size());
  Result<Pipe> told = make_pipe();
  if (!told || urls.size() > kMostAsked) return texts;
  std::vector<UniqueFd> pages;
  for (std::size_t i = 0; i < urls.size(); ++i) {
    pages.emplace_back(::memfd_create("page", MFD_CLOEXEC));
    if (!pages.back().valid()) return texts;
  }
  const Authorities authorities = read_authorities(options);
  const pid_t parent = ::getpid();
  std::vector<pid_t> children;
  for (std::size_t first = 0; first < std::min(urls.size(), kAskedAtOnce); ++first) {
    const pid_t child = ::fork();
    if (child < 0) break;
    if (child > 0) {
      children.push_back(child);
      continue;
    }
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (::getppid() != parent) ::_exit(1);
    auto transfers = std::make_unique<TransferChild>();
    for (std::size_t i = first; i < urls.size(); i += kAskedAtOnce) {
      TextSink sink(pages[i].get());
      TransferRequest request;
      request.url = urls[i];
      if (!transfers->transfer(request, options, authorities, sink)) continue;
      const auto index = static_cast<Index>(i);
      if (::write(told->write_end.get(), &index, sizeof index) != sizeof index) ::_exit(1);
    }
    transfers.reset();
    ::_exit(0);
  }
  told->write_end.reset();
  for (Index index = 0; ::read(told->read_end.get(), &index, sizeof index) == sizeof index;) {
    const int page = pages.at(index).get();
    if (::lseek(page, 0, SEEK_SET) != 0) continue;
    if (Result<std::string> text = read_all(page, kLongestText)) texts.at(index) = *std::move(text);
  }
  for (const pid_t child : children) {
    while (::waitpid(child, nullptr, 0) < 0 && errno == EINTR) {}
  }
  return texts;
}

std::size_t fetch_at_once(const std::vector<FetchRequest>& requests, const FetchOne& fetch, StepLog& log) {
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
    auto transfers = std::make_unique<TransferChild>();
    for (Index index = 0; ::read(wanted->read_end.get(), &index, sizeof index) == sizeof index;) {
      const Result<FetchResult> came = fetch(requests[index], quiet, *transfers);
      if (!came) log.say(came.error().sentence());
      const bool is_over = !came && came.error().code() == ErrorCode::no_space;
      const Index said = came ? index : is_over ? kGivenUp : kMissed;
      if (::write(told->write_end.get(), &said, sizeof said) != sizeof said || is_over) ::_exit(1);
    }
    transfers.reset();
    ::_exit(0);
  }
  told->write_end.reset();

  std::size_t came = 0, missed = 0;
  auto next_show = std::chrono::steady_clock::now() + kProgressEvery;
  while (missed < kMostMissing) {
    // By time: small files come more often than that.
    const auto now = std::chrono::steady_clock::now();
    if (now >= next_show) {
      show(requests, log);
      next_show = now + kProgressEvery;
    }
    pollfd polled{told->read_end.get(), POLLIN, 0};
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(next_show - now);
    if (::poll(&polled, 1, static_cast<int>(std::max<std::int64_t>(left.count(), 0))) <= 0) continue;
    Index index = kGivenUp;
    if (::read(told->read_end.get(), &index, sizeof index) != sizeof index || index == kGivenUp) break;
    ++(index == kMissed ? missed : came);
  }
  for (const pid_t child : children) ::kill(child, SIGKILL);
  for (const pid_t child : children) {
    while (::waitpid(child, nullptr, 0) < 0 && errno == EINTR) {}
  }
  return came;
}

}  // namespace gpustrap
