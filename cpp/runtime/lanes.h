// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "core/metric_registry.h"
#include "core/trace.h"
#include "runtime/waiting.h"

namespace zerolane {

// Work for a lane. It belongs to whoever made it; the lanes keep a pointer from push() until
// release().
class LaneTask {
 public:
  LaneTask() = default;
  LaneTask(const LaneTask&) = delete;
  LaneTask& operator=(const LaneTask&) = delete;

  // On the lane's thread. Never throws.
  virtual void run(size_t lane) noexcept = 0;
  // Ends it early: it is queued, or run() is under way. On the thread that closes the lanes, under
  // their lock. run() of a queued one is still called, and returns at once.
  virtual void abort() noexcept = 0;
  // The lanes touch it no more. On the lane's thread.
  virtual void release() noexcept = 0;

 protected:
  ~LaneTask() = default;

 private:
  friend class Lanes;
  LaneTask* next_ = nullptr;
  int64_t queued_ns_ = 0;
  uint64_t request_ = 0;  // of the trace, 0 while there is none
};

struct LaneOptions {
  size_t count = 1;
  std::vector<int> cpus;  // lane i is bound to cpus[i % size]; empty: not bound
  int64_t spin_ns = 0;    // how long an idle lane looks for work before it sleeps
  std::string name;       // of the threads, and in messages
};

struct LaneStats {
  uint64_t done = 0;
  int64_t busy_ns = 0;  // in run()
};

// Threads, one a lane, that take work in the order in which it came: what is first goes to the lane
// that is free first, so no lane has a queue of its own that could go unserved. push() from any
// thread; it neither waits nor allocates.
class Lanes {
 public:
  // Throws kInvalidArgument for a CPU that this process may not use.
  explicit Lanes(LaneOptions options);
  // Finishes what is queued, then joins. Without the GIL.
  ~Lanes();
  Lanes(const Lanes&) = delete;
  Lanes& operator=(const Lanes&) = delete;

  // False once the lanes are closing: the task stays with the caller.
  bool push(LaneTask& task) noexcept;
  // Takes no more, ends (`abort`) or finishes what there is, and joins. Any number of times, from
  // any thread that is not a lane; blocks.
  void close(bool abort);

  size_t count() const noexcept { return options_.count; }
  const LaneOptions& options() const noexcept { return options_; }
  size_t queued() const noexcept { return queued_.load(std::memory_order_relaxed); }
  LaneStats stats(size_t lane) const noexcept;
  const LatencyHistogram& waits() const noexcept { return waits_; }  // from push() to run()

 private:
  struct Lane {
    std::thread thread;
    trace::Track track;
    LaneTask* running = nullptr;
    std::atomic<uint64_t> done{0};
    std::atomic<int64_t> busy_ns{0};
  };
  void work(size_t index) noexcept;
  LaneTask* take(Lane& lane);

  const LaneOptions options_;
  const unsigned generation_;
  mutable std::mutex mutex_;  // guards head_, tail_, closing_ and running of each lane
  LaneTask* head_ = nullptr;
  LaneTask* tail_ = nullptr;
  bool closing_ = false;
  std::atomic<size_t> queued_{0};
  std::atomic<uint32_t> epoch_{0};  // counts pushes; what idle lanes sleep on
  std::atomic<uint32_t> sleepers_{0};
  const trace::Track queue_track_;
  LatencyHistogram waits_;
  Gauge depth_;
  std::vector<metrics::Registration> published_;  // behind what they refer to
  std::mutex join_mutex_;                         // one thread joins
  std::unique_ptr<Lane[]> lanes_;
};

}  // namespace zerolane
