#include "controller/leaving.h"

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <string_view>

#include "agent/base/text.h"
#include "controller/exit_code.h"
#include "controller/screen_text.h"

namespace gpustrap {
namespace {

constexpr std::array kCaught = {SIGINT, SIGTERM, SIGHUP};

std::array<std::atomic<pid_t>, 256> ways{};
static_assert(std::atomic<pid_t>::is_always_lock_free, "signal handlers may only touch lock-free atomics");

std::atomic<bool> is_caught{false};
std::array<char, 512> farewell{};
std::atomic<std::size_t> farewell_length{0};
std::array<struct sigaction, kCaught.size()> before{};

/// Nothing but what a signal handler may call. A jump over two hosts is a ssh with a ssh below it, which would go on alone.
void end_with_children(pid_t process, int depth) {
  constexpr int kDeepest = 6;
  std::array<char, 64> path{};
  char* end = path.data();
  const auto add = [&](std::string_view text) { end = std::copy(text.begin(), text.end(), end); };
  const auto add_number = [&](pid_t number) {
    std::array<char, 16> digits{};
    std::size_t count = 0;
    for (pid_t left = number; left > 0; left /= 10) digits[count++] = static_cast<char>('0' + left % 10);
    while (count > 0) *end++ = digits[--count];
  };
  add("/proc/");
  add_number(process);
  add("/task/");
  add_number(process);
  add("/children");
  std::array<char, 512> children{};
  const int file = depth < kDeepest ? ::open(path.data(), O_RDONLY | O_CLOEXEC) : -1;
  const ssize_t length = file < 0 ? 0 : ::read(file, children.data(), children.size());
  if (file >= 0) ::close(file);
  ::kill(process, SIGTERM);
  pid_t child = 0;
  for (ssize_t i = 0; i < length; ++i) {
    const char c = children[static_cast<std::size_t>(i)];
    if (c >= '0' && c <= '9') {
      child = child * 10 + (c - '0');
      continue;
    }
    if (child > 1) end_with_children(child, depth + 1);
    child = 0;
  }
}

void leave(int) {
  end_ways_to_hosts();
  (void)!::write(STDERR_FILENO, farewell.data(), farewell_length.load());
  ::_exit(static_cast<int>(ExitCode::cancelled));
}

}  // namespace

WayToHost::WayToHost(pid_t process) : process_(process) {
  for (std::atomic<pid_t>& place : ways) {
    pid_t none = 0;
    if (process > 1 && place.compare_exchange_strong(none, process)) return;
  }
}

WayToHost::~WayToHost() {
  for (std::atomic<pid_t>& place : ways) {
    pid_t own = process_;
    if (place.compare_exchange_strong(own, 0)) return;
  }
}

void end_ways_to_hosts() {
  for (std::atomic<pid_t>& place : ways) {
    if (const pid_t process = place.exchange(0); process > 1) end_with_children(process, 0);
  }
}

LeavesAtOnce::LeavesAtOnce(const std::string& line) {
  if (is_caught.exchange(true)) return;  // of several hosts the first speaks for all
  const std::string whole = (::isatty(STDERR_FILENO) == 1 ? line_anew() : "") + first_line(line, farewell.size() - 16) + "\n";
  std::copy(whole.begin(), whole.end(), farewell.begin());
  farewell_length = whole.size();
  struct sigaction action {};
  action.sa_handler = leave;
  ::sigemptyset(&action.sa_mask);
  for (std::size_t i = 0; i < kCaught.size(); ++i) {
    ::sigaction(kCaught[i], nullptr, &before[i]);
    if (before[i].sa_handler == SIG_DFL) ::sigaction(kCaught[i], &action, nullptr);
  }
  catches_ = true;
}

LeavesAtOnce::~LeavesAtOnce() {
  if (!catches_) return;
  for (std::size_t i = 0; i < kCaught.size(); ++i) {
    struct sigaction now {};
    ::sigaction(kCaught[i], nullptr, &now);
    if (now.sa_handler == leave) ::sigaction(kCaught[i], &before[i], nullptr);
  }
  is_caught = false;
}

}  // namespace gpustrap
