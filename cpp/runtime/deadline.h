// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <semaphore.h>

#include <atomic>
#include <cstdint>
#include <mutex>
#include <thread>
#include <vector>

#include "core/session.h"

namespace zerolane {

// Ends runs whose time is over, or that the user interrupts. One sleeping thread a process, started
// at first use.
class Watchdog {
 public:
  // The one of this process; a forked child gets its own.
  static Watchdog& instance();

  enum class Fired { kNo, kDeadline, kInterrupt };

  // Watches one run from construction to destruction, on the thread that runs it. `context`
  // outlives the guard. When it fired, the context stays cancelled until it is rearmed.
  class Guard {
   public:
    static constexpr int64_t kNever = INT64_MAX;
    // `deadline_ns` on the clock of now_ns(). `interruptible`: interrupt() ends this run too.
    Guard(Context& context, int64_t deadline_ns, bool interruptible);
    ~Guard();
    Guard(const Guard&) = delete;
    Guard& operator=(const Guard&) = delete;
    Fired fired() const noexcept { return fired_.load(); }

   private:
    friend class Watchdog;
    Watchdog& dog_;
    Context& context_;
    int64_t deadline_ns_;
    bool interruptible_;
    std::atomic<Fired> fired_{Fired::kNo};
  };

  // Async-signal-safe: asks the thread to end the interruptible runs.
  void interrupt() noexcept;

 private:
  Watchdog();
  [[noreturn]] void watch();
  int64_t fire_due();  // returns when to look again

  std::mutex mutex_;  // guards guards_; held while a run is ended, so a guard never dies under it
  std::vector<Guard*> guards_;
  sem_t wake_;
  std::atomic<bool> interrupted_{false};
  unsigned generation_;
};

}  // namespace zerolane
