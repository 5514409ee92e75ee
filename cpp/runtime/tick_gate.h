// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cstdint>

namespace zerolane {

// Decides for each tick who writes its output: the loop, which has a result, or the watcher, whose
// deadline came first. Opening and claiming cost the loop no system call while the watcher sleeps
// towards some deadline.
class TickGate {
 public:
  // By the loop's thread. A tick begins whose output is due at `deadline_ns` (of CLOCK_MONOTONIC);
  // replaces one that is open.
  void open(int64_t deadline_ns) noexcept;
  // By the loop's thread. True: the output is the caller's to write. False: the deadline came
  // first; returns when the watcher has written. True also where no tick is open.
  bool claim() noexcept;

  // By the watcher. Blocks until the open tick is past its deadline and takes it; false after
  // shut(). settle() must follow when the output is written.
  bool wait_expired() noexcept;
  void settle() noexcept;
  // Any thread: the watcher returns.
  void shut() noexcept;

 private:
  // The low bits are the state of the tick, the rest counts ticks, so that no old one is taken for
  // a new one.
  static constexpr uint32_t kRest = 0;
  static constexpr uint32_t kOpen = 1;
  static constexpr uint32_t kExpired = 2;  // the watcher writes
  static constexpr uint32_t kSettled = 3;  // it has written, and the loop does not know yet
  static constexpr uint32_t kStates = 3;
  std::atomic<uint32_t> phase_{kRest};
  std::atomic<int64_t> deadline_ns_{0};
  std::atomic<bool> parked_{false};  // the watcher has no deadline to sleep towards
  std::atomic<bool> shut_{false};
};

}  // namespace zerolane
