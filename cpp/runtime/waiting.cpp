// SPDX-License-Identifier: Apache-2.0
#include "runtime/waiting.h"

#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <ctime>

#include "core/metrics.h"

namespace zerolane {

void futex_wait(std::atomic<uint32_t>& word, uint32_t expected, int64_t until_ns) noexcept {
  timespec until{until_ns / 1000000000, until_ns % 1000000000};
  // With the bit set the time is absolute, on the monotonic clock.
  ::syscall(SYS_futex, &word, FUTEX_WAIT_BITSET | FUTEX_PRIVATE_FLAG, expected,
            until_ns == kForever ? nullptr : &until, nullptr, FUTEX_BITSET_MATCH_ANY);
}

void futex_wake(std::atomic<uint32_t>& word, int count) noexcept {
  ::syscall(SYS_futex, &word, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, count, nullptr, nullptr, 0);
}

int64_t spin_clock() noexcept { return now_ns(); }

bool Flag::wait(int64_t spin_ns, int64_t until_ns) noexcept {
  if (spin(spin_ns, [this] { return is_set(); })) return true;
  for (;;) {
    uint32_t seen = kUnset;
    word_.compare_exchange_strong(seen, kSleepers, std::memory_order_acq_rel);
    if (seen == kSet) return true;
    futex_wait(word_, kSleepers, until_ns);
    if (is_set()) return true;
    if (until_ns != kForever && now_ns() >= until_ns) return false;
  }
}

}  // namespace zerolane
