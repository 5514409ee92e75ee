// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <pybind11/pybind11.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <optional>

namespace zerolane::bindings {

// The only spellings of giving up and taking the GIL.
using AcquireGil = pybind11::gil_scoped_acquire;

// Set when the interpreter begins to exit.
inline std::atomic<bool> interpreter_exits{false};

class ReleaseGil {
 public:
  ReleaseGil() : state_(PyEval_SaveThread()) {}
  ReleaseGil(const ReleaseGil&) = delete;
  ReleaseGil& operator=(const ReleaseGil&) = delete;
  ~ReleaseGil() {
    // A daemon thread that comes back from a run now would be ended by Python in the middle of our
    // frames (before 3.14), which ends the process. It waits for the process to end instead.
    if (interpreter_exits.load(std::memory_order_relaxed) && !on_main_thread()) {
      for (;;) ::pause();
    }
    PyEval_RestoreThread(state_);
  }

 private:
  static bool on_main_thread() noexcept { return ::syscall(SYS_gettid) == ::getpid(); }
  PyThreadState* state_;
};

// Decides, for one session or binding, whether a run gives the GIL away. Taking it back costs a few
// microseconds when nobody wants it and up to the switch interval (5 ms) when another thread is
// busy, so a short run keeps it. "auto" measures the runs alone, without the wait for the GIL: the
// first ones release; while they hold, one in sixteen is timed.
class GilPolicy {
 public:
  enum class Mode { kAuto, kHold, kRelease };
  static constexpr int64_t kShort = 100000;  // ns: so short a run begins to hold
  static constexpr int64_t kLong =
      250000;  // ns: so long a run ends holding; apart, so that noise does not flip it

  explicit GilPolicy(Mode mode) : mode_(mode) {}

  bool hold() const noexcept {
    return mode_ == Mode::kHold || (mode_ == Mode::kAuto && hold_.load(std::memory_order_relaxed));
  }
  // Whether this run should be timed. Released runs always are.
  bool timed() noexcept { return (ticket_.fetch_add(1, std::memory_order_relaxed) & 15) == 0; }
  // What a timed run took. Eight short ones in a row begin holding, three long ones in a row end
  // it.
  void note(int64_t nanoseconds) noexcept {
    if (nanoseconds <= kShort) {
      if (short_.fetch_add(1, std::memory_order_relaxed) + 1 >= 8) hold_.store(true);
    } else {
      short_.store(0, std::memory_order_relaxed);
    }
    if (nanoseconds > kLong) {
      if (long_.fetch_add(1, std::memory_order_relaxed) + 1 >= 3) hold_.store(false);
    } else {
      long_.store(0, std::memory_order_relaxed);
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
