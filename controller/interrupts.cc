#include "controller/interrupts.h"

#include <signal.h>
#include <time.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

namespace gpustrap {
namespace {

constexpr std::array kCaught = {SIGINT, SIGTERM, SIGHUP};
/// The first leaves, the second cancels, the third leaves at once: who presses oftener before anybody looks means nothing more by it.
constexpr std::size_t kPressesKept = 16;

std::array<std::atomic<std::int64_t>, kPressesKept> pressed_at{};  // the press with number n at n % kPressesKept
std::atomic<std::size_t> presses{0};
std::atomic<std::size_t> taken{0};
std::atomic<bool> told_to_leave{false};
std::array<struct sigaction, kCaught.size()> before{};
static_assert(std::atomic<std::int64_t>::is_always_lock_free && std::atomic<std::size_t>::is_always_lock_free &&
                  std::atomic<bool>::is_always_lock_free,
              "signal handlers may only touch lock-free atomics");

void note(int number) {
  if (number != SIGINT) return told_to_leave.store(true);
  const std::size_t press = presses.load();
  if (press - taken.load() == kPressesKept) return;
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  pressed_at[press % kPressesKept].store(std::int64_t{now.tv_sec} * 1000 + now.tv_nsec / 1'000'000);
  presses.store(press + 1);
}

}  // namespace

Interrupts::Interrupts() {
  taken = presses.load();
  told_to_leave = false;
  struct sigaction action {};
  action.sa_handler = note;
  ::sigemptyset(&action.sa_mask);
  for (std::size_t i = 0; i < kCaught.size(); ++i) ::sigaction(kCaught[i], &action, &before[i]);
}

Interrupts::~Interrupts() {
  for (std::size_t i = 0; i < kCaught.size(); ++i) ::sigaction(kCaught[i], &before[i], nullptr);
}

std::optional<Interrupt> Interrupts::take() {
  if (told_to_leave.exchange(false)) return Interrupt{Interrupt::What::leave};
  const std::size_t next = taken.load();
  if (next == presses.load()) return std::nullopt;
  const std::chrono::milliseconds at(pressed_at[next % kPressesKept].load());
  taken.store(next + 1);
  return Interrupt{Interrupt::What::ctrl_c, at};
}

}  // namespace gpustrap
