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

// Threads that have given up the GIL and are taking it back; leave_callbacks() waits for them.
inline std::atomic<int> returning{0};

class ReleaseGil {
 public:
  ReleaseGil() : state_(PyEval_SaveThread()) {}
  ReleaseGil(const ReleaseGil&) = delete;
  ReleaseGil& operator=(const ReleaseGil&) = delete;
  ~ReleaseGil() {
    // A daemon thread that comes back from a run now would be ended by Python in the middle of our
    // frames (before 3.14), which ends the process. It waits for the process to end instead.
    // One that asked just before is counted, and the exit waits until it has the GIL.
    returning.fetch_add(1);
    if (interpreter_exits.load() && !on_main_thread()) {
      returning.fetch_sub(1);
      for (;;) ::pause();
    }
    PyEval_RestoreThread(state_);
    returning.fetch_sub(1);
  }

 private:
  static bool on_main_thread() noexcept { return ::syscall(SYS_gettid) == ::getpid(); }
  PyThreadState* state_;
};

// The GIL for a callback from native code into Python. While it lives the interpreter does not go
// away: leave_callbacks() waits for it. Once that has begun, threads that would begin a callback
// wait for the process to end, as Python would end them inside our frames. Threads of our own,
// which are joined at exit, still finish theirs until `callbacks_over`.
inline std::atomic<int> callbacks{0};  // that have begun
inline std::atomic<bool> callbacks_over{false};

class CallbackGil {
 public:
  CallbackGil() {
    if (!enter()) {
      for (;;) ::pause();
    }
    gil_.emplace();
  }
  ~CallbackGil() {
    gil_.reset();
    callbacks.fetch_sub(1);
  }
  CallbackGil(const CallbackGil&) = delete;
  CallbackGil& operator=(const CallbackGil&) = delete;

  // Counts the calling thread in, unless the interpreter exits; callbacks.fetch_sub(1) ends it.
  static bool enter() noexcept {
    callbacks.fetch_add(1);
    const bool exits = interpreter_exits.load() && (callbacks_over.load() || of_python());
    if (!exits || ::syscall(SYS_gettid) == ::getpid()) return true;
    callbacks.fetch_sub(1);
    return false;
  }

 private:
  // Whether Python made this thread, or knows it.
  static bool of_python() noexcept { return PyGILState_GetThisThreadState() != nullptr; }
  std::optional<AcquireGil> gil_;
};

// At exit, without the GIL, when threads of our own are joined: no callback begins any more, and
// those that have begun are waited for, and so are threads that return from runs; one second at
// most.
void leave_callbacks() noexcept;

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
