// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cstdint>

namespace zerolane::futex {

// Sleeping and waking on a word that several processes may map. Spurious wake-ups happen.

// Sleeps while `word` holds `expected`, until `until_ns` of CLOCK_MONOTONIC at the latest. A
// read-only mapping will do.
void wait(const std::atomic<uint32_t>& word, uint32_t expected, int64_t until_ns) noexcept;
void wake_all(const std::atomic<uint32_t>& word) noexcept;

}  // namespace zerolane::futex
