// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "core/metric_registry.h"
#include "core/session.h"
#include "core/trace.h"
#include "runtime/batch_queue.h"
#include "runtime/batch_run.h"
#include "runtime/lanes.h"

namespace zerolane {

// Extents that a named dimension is padded to, ascending; one above the last is refused.
struct BatchBuckets {
  std::string dim;
  std::vector<int64_t> extents;
};

struct BatchOptions {
  size_t max_batch = 16;  // rows of a run; a request of more runs alone
  int64_t max_delay_ns = 500000;
  size_t max_queue = 8192;  // waiting requests; one more is refused
  std::vector<BatchBuckets> buckets;
  std::vector<std::vector<std::byte>> pads;  // one element an input
  LaneOptions lanes;
};

struct BatchStats {
  uint64_t requests = 0;  // taken in
  uint64_t answered = 0;  // with a result or the run's error
  uint64_t failed = 0;    // of those, with an error
  uint64_t late = 0;      // their deadline had passed
  uint64_t cancelled = 0;
  uint64_t refused = 0;  // the queue was full, or the batcher closed
  uint64_t runs = 0;
  uint64_t rows = 0;  // in these runs
};

// Gathers requests of one model into runs: by size and by age, the higher priority first. Any
// thread. Every request that submit() or run() took is completed exactly once.
//
// A lane that is free takes at once what waits, so nobody waits for company while lanes idle. Only
// a lane that comes from a run of several rows waits, up to `max_delay_ns` since the oldest request
// came, for as many to come back. How many rows a run has at most is learnt (BatchSizes). If a
// joined run fails, its requests run once more, each alone, so that a bad one fails alone.
class Batcher {
 public:
  Batcher(std::shared_ptr<Session> session, BatchOptions options);
  ~Batcher();  // close(false)
  Batcher(const Batcher&) = delete;
  Batcher& operator=(const Batcher&) = delete;

  // Reads the request's inputs against the model; throws what a call of the session would for them.
  // Before submit() and run().
  void prepare(BatchRequest& request);
  // Queues it for the lanes. Neither waits nor allocates. Throws kUnavailable where the queue is
  // full or the batcher closed: then it is not taken.
  void submit(BatchRequest& request);
  // The same, for requests that run_here() or the next submit() sees to.
  void enqueue(BatchRequest& request);
  // Lets lanes look at what enqueue() left.
  void wake() noexcept;
  // Runs what waits on the calling thread, as long as a lane's memory is free; false where it was
  // not. What is left is for the lanes.
  bool run_here();
  // Takes it out if it still waits, and completes it with kCancelled; false if it does not wait.
  bool cancel(BatchRequest& request);
  // The same for the first that `is_it` holds for, with the lock held.
  bool cancel(const std::function<bool(const BatchRequest&)>& is_it);

  // Takes no more; answers or (`abort`) cancels what waits; joins. Blocks; any number of times.
  void close(bool abort);

  const BatchModel& model() const noexcept { return model_; }
  const BatchOptions& options() const noexcept { return options_; }
  BatchStats stats() const noexcept;
  size_t waiting() const noexcept { return static_cast<size_t>(depth_.value()); }
  const LatencyHistogram& waits() const noexcept { return waits_; }  // from queue to run
  const LatencyHistogram& run_times() const noexcept { return run_times_; }
  double mean_run_ns() const noexcept { return mean_run_ns_.load(std::memory_order_relaxed); }

 private:
  // One lane's worth of memory and its task.
  struct Worker final : LaneTask {
    Worker(Batcher& owner, const BatchModel& model, size_t most)
        : batcher(owner), run_(model, most) {
      batch.reserve(most);
      late.reserve(most);
    }
    void run(size_t lane) noexcept override;
    void abort() noexcept override {}
    void release() noexcept override {}

    Batcher& batcher;
    BatchRun run_;
    std::vector<BatchRequest*> batch;
    std::vector<BatchRequest*> late;
    size_t last_rows = 0;  // of its run before
  };

  // Who has to look at the queue: a worker that idled, taken out of idle_, or lanes that sleep
  // until more has come.
  struct Needed {
    Worker* worker = nullptr;
    bool sleepers = false;
  };

  // Queues it; wakes who is needed, if `wakes`.
  void put(BatchRequest& request, bool wakes);
  Needed whom_to_wake() noexcept;  // with the mutex
  void wake(const Needed& needed) noexcept;
  std::shared_ptr<BatchGroup> find_group(const BatchRequest& request);
  void publish(const std::string& model);
  void note_depth() noexcept;  // with the mutex
  bool fits(const BatchGroup& group, const BatchRequest& request) const noexcept;
  int64_t extent_of(size_t input, size_t axis, int64_t extent) const;
  // Makes runs on `worker` until nothing waits; gives it back.
  void serve(Worker& worker, bool may_wait) noexcept;
  bool next(Worker& worker, bool may_wait) noexcept;
  // How many rows are worth waiting for.
  size_t more_to_come(const Worker& worker, const BatchRequest& oldest, int64_t now) const noexcept;
  // Until arrivals_ is `wanted`, or until `until`.
  void wait_for(uint32_t wanted, int64_t now, int64_t until) noexcept;
  void run_batch(Worker& worker) noexcept;

  const BatchOptions options_;
  BatchModel model_;
  const unsigned generation_;
  std::vector<std::vector<const BatchBuckets*>> padded_;  // of each input and axis, or null

  mutable BriefMutex mutex_;  // guards all up to the blank line
  BatchQueue queue_;
  std::vector<Worker*> idle_;
  std::vector<std::shared_ptr<BatchGroup>> groups_;
  bool closed_ = false;
  uint32_t expecting_ = 0;  // lanes that wait for more
  uint32_t awaited_ = 0;    // at which arrivals_ the first of them goes on

  // Rows that came, wrapping round; changed with the mutex, read and slept on without.
  std::atomic<uint32_t> arrivals_{0};
  const trace::Track track_;
  Counter requests_, answered_, failed_, late_, cancelled_, refused_, runs_, rows_;
  std::atomic<double> mean_run_ns_{0};
  LatencyHistogram waits_;
  LatencyHistogram run_times_;
  Gauge depth_;
  std::vector<metrics::Registration> published_;  // behind what they refer to
  std::vector<std::unique_ptr<Worker>> workers_;
  std::unique_ptr<Lanes> lanes_;  // last: its threads use the members above
};

}  // namespace zerolane
