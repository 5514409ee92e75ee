// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cmath>
#include <cstdint>

namespace zerolane {

// Due times of a fixed rate: start + k / rate, each computed anew, so that nothing adds up. Exact
// to a nanosecond for a hundred days at any rate.
class Schedule {
 public:
  Schedule(int64_t start_ns, double rate_hz) : start_ns_(start_ns), period_ns_(1e9 / rate_hz) {}

  int64_t tick() const noexcept { return tick_; }
  int64_t due_ns() const noexcept { return due_of(tick_); }
  double period_ns() const noexcept { return period_ns_; }

  void advance() noexcept { ++tick_; }
  // Goes to the last tick that is due at `now_ns`, never back; returns how many it passed over.
  int64_t skip_to_newest(int64_t now_ns) noexcept {
    auto newest = static_cast<int64_t>(static_cast<double>(now_ns - start_ns_) / period_ns_);
    // Rounding may be one off either way.
    while (due_of(newest + 1) <= now_ns) ++newest;
    while (newest > tick_ && due_of(newest) > now_ns) --newest;
    const int64_t passed = newest > tick_ ? newest - tick_ : 0;
    tick_ += passed;
    return passed;
  }
  // Goes to the first tick that is due after `now_ns`; returns how many it passed over.
  int64_t skip_past(int64_t now_ns) noexcept {
    if (due_ns() > now_ns) return 0;
    const int64_t passed = skip_to_newest(now_ns) + 1;
    advance();
    return passed;
  }

 private:
  int64_t due_of(int64_t tick) const noexcept {
    return start_ns_ + std::llround(static_cast<double>(tick) * period_ns_);
  }
  int64_t start_ns_;
  double period_ns_;
  int64_t tick_ = 0;
};

}  // namespace zerolane
