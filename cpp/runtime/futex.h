// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cstdint>

namespace zerolane {

inline constexpr int64_t kForever = INT64_MAX;  // a time that never comes, on the clock of now_ns()

}  // namespace zerolane

namespace zerolane::futex {

// Sleeping and waking on a word that several processes may map. Spurious wake-ups happen.

// Sleeps while `word` holds `expected`, until `until_ns` of now_ns() at the latest. A read-only
// mapping will do.
void wait(const std::atomic<uint32_t>& word, uint32_t expected, int64_t until_ns) noexcept;
// Wakes up to `count` threads that sleep on `word`, whose memory may be gone already.
void wake(const std::atomic<uint32_t>& word, int count) noexcept;
void wake_all(const std::atomic<uint32_t>& word) noexcept;

}  // namespace zerolane::futex
