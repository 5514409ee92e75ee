// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cstdint>

namespace zerolane {

inline constexpr int64_t kForever = INT64_MAX;  // a time that never comes, on the clock of now_ns()

// Sleeps while `word` is `expected`, until somebody wakes it, or `until_ns` on the clock of
// now_ns(). May return early.
void futex_wait(std::atomic<uint32_t>& word, uint32_t expected, int64_t until_ns) noexcept;
// Wakes up to `count` threads that sleep on `word`, whose memory may be gone already.
void futex_wake(std::atomic<uint32_t>& word, int count) noexcept;

// Calls `done` again and again for up to `spin_ns`; whether it became true.
template <typename Done>
bool spin(int64_t spin_ns, Done done);

// Set once, by one thread, and waited for by any number. Setting costs a system call only where
// somebody sleeps. No memory, no lock.
class Flag {
 public:
  bool is_set() const noexcept { return word_.load(std::memory_order_acquire) == kSet; }
  void set() noexcept {
    if (word_.exchange(kSet, std::memory_order_acq_rel) == kSleepers) futex_wake(word_, INT32_MAX);
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

inline void relax() noexcept {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

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
