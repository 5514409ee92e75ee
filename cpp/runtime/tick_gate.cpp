// SPDX-License-Identifier: Apache-2.0
#include "runtime/tick_gate.h"

#include "core/metrics.h"
#include "runtime/futex.h"

namespace zerolane {
namespace {
constexpr int64_t kFar = INT64_MAX / 2;  // some hundred years after the start of the machine
}

void TickGate::open(int64_t deadline_ns) noexcept {
  // No tick may be open while the deadline changes, or the watcher could take one for the other.
  claim();
  deadline_ns_.store(deadline_ns, std::memory_order_relaxed);
  const uint32_t next = ((phase_.load(std::memory_order_relaxed) & ~kStates) + kStates + 1) | kOpen;
  phase_.store(next, std::memory_order_seq_cst);
  if (parked_.load(std::memory_order_seq_cst)) futex::wake_all(phase_);
}

bool TickGate::claim() noexcept {
  uint32_t phase = phase_.load(std::memory_order_acquire);
  if ((phase & kStates) == kOpen &&
      phase_.compare_exchange_strong(phase, (phase & ~kStates) | kRest)) {
    return true;
  }
  if ((phase & kStates) == kRest) return true;
  while ((phase & kStates) == kExpired) {
    futex::wait(phase_, phase, kFar);
    phase = phase_.load(std::memory_order_acquire);
  }
  phase_.store(phase & ~kStates, std::memory_order_relaxed);
  return false;
}

bool TickGate::wait_expired() noexcept {
  while (!shut_.load()) {
    uint32_t phase = phase_.load(std::memory_order_acquire);
    if ((phase & kStates) == kOpen) {
      const int64_t deadline = deadline_ns_.load(std::memory_order_relaxed);
      if (now_ns() < deadline) {
        // Not woken when the tick is done: it looks again at the deadline, once for many ticks
        // where that is longer than a period.
        futex::wait(phase_, phase, deadline);
      } else if (phase_.compare_exchange_strong(phase, (phase & ~kStates) | kExpired)) {
        return true;
      }
    } else {
      parked_.store(true, std::memory_order_seq_cst);
      if (!shut_.load(std::memory_order_seq_cst)) futex::wait(phase_, phase, kFar);
      parked_.store(false);
    }
  }
  return false;
}

void TickGate::settle() noexcept {
  phase_.store(phase_.load(std::memory_order_relaxed) | kSettled, std::memory_order_release);
  futex::wake_all(phase_);
}

void TickGate::shut() noexcept {
  shut_.store(true, std::memory_order_seq_cst);
  // The word must change, or a watcher that is just falling asleep would miss the wake-up.
  phase_.fetch_add(kStates + 1, std::memory_order_seq_cst);
  futex::wake_all(phase_);
}

}  // namespace zerolane
