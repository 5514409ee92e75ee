// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <pybind11/pybind11.h>

#include <atomic>
#include <cstdint>
#include <optional>

namespace zerolane::bindings {

// The only spellings of giving up and taking the GIL.
using ReleaseGil = pybind11::gil_scoped_release;
using AcquireGil = pybind11::gil_scoped_acquire;

// Decides, for one session or binding, whether a run gives the GIL away. Taking it back costs a few
// microseconds when nobody wants it and up to the switch interval (5 ms) when another thread is
// busy, so a run shorter than kShort keeps it. "auto" measures: the first runs release; while runs
// are short, one in sixteen is timed.
class GilPolicy {
 public:
  enum class Mode { kAuto, kHold, kRelease };
  static constexpr int64_t kShort = 40000;  // ns

  explicit GilPolicy(Mode mode) : mode_(mode) {}

  bool hold() const noexcept {
    return mode_ == Mode::kHold || (mode_ == Mode::kAuto && hold_.load(std::memory_order_relaxed));
  }
  // Whether this run should be timed. Released runs always are.
  bool timed() noexcept { return (ticket_.fetch_add(1, std::memory_order_relaxed) & 15) == 0; }
  // What a timed run took. Two long ones in a row end holding; eight short ones in a row begin it.
  void note(int64_t nanoseconds) noexcept {
    if (nanoseconds <= kShort) {
      long_.store(0, std::memory_order_relaxed);
      if (short_.fetch_add(1, std::memory_order_relaxed) + 1 >= 8) hold_.store(true);
    } else {
      short_.store(0, std::memory_order_relaxed);
      if (long_.fetch_add(1, std::memory_order_relaxed) + 1 >= 2) hold_.store(false);
    }
  }
  const char* name() const noexcept { return hold() ? "hold" : "release"; }

 private:
  Mode mode_;
  std::atomic<bool> hold_{false};
  std::atomic<int> short_{0};
  std::atomic<int> long_{0};
  std::atomic<uint32_t> ticket_{0};
};

// Throws kInvalidArgument for anything but "auto", "hold", "release".
GilPolicy::Mode parse_gil_mode(const std::string& text);

}  // namespace zerolane::bindings
