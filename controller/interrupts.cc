#include "controller/interrupts.h"

#include <signal.h>

#include <array>
#include <atomic>
#include <cstddef>

namespace gpustrap {
namespace {

constexpr std::array kCaught = {SIGINT, SIGTERM, SIGHUP};
std::atomic<int> ctrl_c_count{0};
std::atomic<bool> told_to_leave{false};
std::array<struct sigaction, kCaught.size()> before{};
static_assert(std::atomic<int>::is_always_lock_free && std::atomic<bool>::is_always_lock_free,
              "signal handlers may only touch lock-free atomics");

void note(int number) {
  if (number == SIGINT)
    ctrl_c_count.fetch_add(1);
  else
    told_to_leave.store(true);
}

}  // namespace

Interrupts::Interrupts() {
  ctrl_c_count = 0;
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
  if (told_to_leave.exchange(false)) return Interrupt::leave;
  int count = ctrl_c_count.load();
  while (count > 0) {
    if (ctrl_c_count.compare_exchange_weak(count, count - 1)) return Interrupt::ctrl_c;
  }
  return std::nullopt;
}

}  // namespace gpustrap
