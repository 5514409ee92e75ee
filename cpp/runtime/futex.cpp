// SPDX-License-Identifier: Apache-2.0
#include "runtime/futex.h"

#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <climits>
#include <ctime>

namespace zerolane::futex {

static_assert(sizeof(std::atomic<uint32_t>) == 4 && std::atomic<uint32_t>::is_always_lock_free);

void wait(const std::atomic<uint32_t>& word, uint32_t expected, int64_t until_ns) noexcept {
  // The form with a bit set is the one whose time is absolute.
  timespec until{until_ns / 1000000000, until_ns % 1000000000};
  ::syscall(SYS_futex, &word, FUTEX_WAIT_BITSET, expected, until_ns == kForever ? nullptr : &until,
            nullptr, FUTEX_BITSET_MATCH_ANY);
}

void wake(const std::atomic<uint32_t>& word, int count) noexcept {
  ::syscall(SYS_futex, &word, FUTEX_WAKE, count, nullptr, nullptr, 0);
}

void wake_all(const std::atomic<uint32_t>& word) noexcept { wake(word, INT_MAX); }

}  // namespace zerolane::futex
