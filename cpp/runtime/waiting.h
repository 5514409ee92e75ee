// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cstdint>

#include "runtime/futex.h"

namespace zerolane {

// Calls `done` again and again for up to `spin_ns`; whether it became true.
template <typename Done>
bool spin(int64_t spin_ns, Done done);

// Set once, by one thread, and waited for by any number. Setting costs a system call only where
// somebody sleeps. No memory, no lock.
class Flag {
 public:
  bool is_set() const noexcept { return word_.load(std::memory_order_acquire) == kSet; }
  void set() noexcept {
    if (word_.exchange(kSet, std::memory_order_acq_rel) == kSleepers) futex::wake_all(word_);
  }
  // Blocks: spins up to `spin_ns`, then sleeps until `until_ns`. Whether it is set.
  bool wait(int64_t spin_ns, int64_t until_ns) noexcept;
  // For the next use, while nobody waits.
  void reset() noexcept { word_.store(kUnset, std::memory_order_relaxed); }

 private:
  static constexpr uint32_t kUnset = 0, kSleepers = 1, kSet = 2;
  std::atomic<uint32_t> word_{kUnset};
};

int64_t spin_clock() noexcept;

// In a loop that looks at memory: tells the CPU so.
inline void relax() noexcept {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// A mutex for sections far below a microsecond: whoever finds it taken looks for a while before it
// sleeps. Sleeping and being woken costs both sides more than many sections. Looking only reads,
// so that it does not hold up who has the lock.
class BriefMutex {
 public:
  void lock() noexcept {
    uint32_t found = kFree;
    if (word_.compare_exchange_strong(found, kTaken, std::memory_order_acquire)) return;
    for (int i = 0; i < kLooks; ++i) {
      relax();
      found = kFree;
      if (word_.load(std::memory_order_relaxed) == kFree &&
          word_.compare_exchange_strong(found, kTaken, std::memory_order_acquire)) {
        return;
      }
    }
    while (word_.exchange(kSleepers, std::memory_order_acquire) != kFree) {
      futex::wait(word_, kSleepers, kForever);
    }
  }
  void unlock() noexcept {
    if (word_.exchange(kFree, std::memory_order_release) == kSleepers) futex::wake(word_, 1);
  }

 private:
  static constexpr int kLooks = 1000;  // some 20 us
  static constexpr uint32_t kFree = 0, kTaken = 1, kSleepers = 2;
  std::atomic<uint32_t> word_{kFree};
};

template <typename Done>
bool spin(int64_t spin_ns, Done done) {
  if (done()) return true;
  if (spin_ns <= 0) return false;
  const int64_t end = spin_clock() + spin_ns;
  do {
    for (int i = 0; i < 16; ++i) {
      if (done()) return true;
      relax();
    }
  } while (spin_clock() < end);
  return false;
}

}  // namespace zerolane
