// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>

#include "core/thread_pool.h"
#include "runtime/contract.h"

namespace zerolane {

// A run that keeps a model warm.
class Pulse : public Contract::Cancel {
 public:
  // Blocks; throws what the run throws, kCancelled where cancel() ended it. On the guard's thread.
  virtual void run() = 0;
  // Forgets a cancel() that came when run() was over, or not yet begun.
  virtual void rearm() = 0;
};

// Runs pulses on a thread of its own while a contract sees no calls: the first once nothing has
// been called for `idle_ns`, further ones `idle_ns` after each other, but so far apart that they
// take at most `duty` of the time in between. None begins while a call is in progress, and a call
// that comes in the middle of one cancels it and does not wait.
class IdleGuard {
 public:
  // `contract` outlives the guard. 0 < duty <= 1.
  IdleGuard(Contract& contract, std::unique_ptr<Pulse> pulse, double duty);
  // Cancels a pulse in progress and joins; without the GIL.
  ~IdleGuard();
  IdleGuard(const IdleGuard&) = delete;
  IdleGuard& operator=(const IdleGuard&) = delete;

  struct Figures {
    uint64_t cancelled = 0;
    uint64_t failed = 0;
    int64_t busy_ns = 0;       // in pulses
    int64_t watched_ns = 0;    // since it began
    std::string last_failure;  // its message; "" where none failed
  };
  Figures figures() const;

  // When the pulse after one that began at `begun_ns` and took `taken_ns` may begin.
  static int64_t not_before(int64_t begun_ns, int64_t taken_ns, int64_t idle_ns, double duty);

 private:
  void watch() noexcept;
  void pulse_once(int64_t* earliest_ns) noexcept;

  Contract& contract_;
  const std::unique_ptr<Pulse> pulse_;
  const double duty_;
  const int64_t started_ns_;

  mutable std::mutex mutex_;  // guards all below
  std::condition_variable closed_;
  bool closing_ = false;
  Figures figures_;

  ThreadPool thread_{1};  // last: it uses all of the above
};

}  // namespace zerolane
