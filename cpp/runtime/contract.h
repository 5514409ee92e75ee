// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "core/metric_registry.h"
#include "core/metrics.h"
#include "core/trace.h"

namespace zerolane {

// The latencies of the last `size` calls, against a limit. The 99th percentile is the smallest
// duration that at least 99 % of them do not exceed (rank ceil(0.99 size)), so it keeps the limit
// while at most floor(size / 100) are above. Any thread; recording allocates nothing and takes no
// lock.
class LatencyWindow {
 public:
  LatencyWindow(size_t size, int64_t limit_ns);
  // Returns how many of the calls in the window are above the limit now.
  int64_t record(int64_t nanoseconds) noexcept;
  int64_t above() const noexcept { return above_.load(std::memory_order_relaxed); }
  // How many may be.
  int64_t allowed() const noexcept { return static_cast<int64_t>(size_ / 100); }
  bool full() const noexcept { return next_.load(std::memory_order_relaxed) >= size_; }
  // The calls in it, unsorted.
  std::vector<int64_t> read() const;
  // The 99th percentile of those; 0 when empty.
  int64_t p99() const;

 private:
  const size_t size_;
  const int64_t limit_ns_;
  std::unique_ptr<std::atomic<int64_t>[]> calls_;  // negative: none yet
  std::atomic<uint64_t> next_{0};
  std::atomic<int64_t> above_{0};
};

struct ContractTerms {
  int64_t p99_ns = 0;       // 0: none promised
  int64_t deadline_ns = 0;  // 0: none promised
  size_t window = 1000;     // calls that the p99 is taken over
  int64_t idle_ns = 0;      // a call after so long without one is a first call; above 0
};

// Counts the calls of one callable against what was promised. Before set_ready() calls are only
// counted as early ones. Any thread; nothing between begin() and the end of end() allocates or
// takes a lock, unless a breach is traced or a pulse is in the way.
class Contract {
 public:
  // A call in progress.
  struct Call {
    int64_t begin_ns;
    bool first;  // after idling
  };

  Contract(std::string name, const ContractTerms& terms);

  Call begin() noexcept;
  void end(const Call& call, bool failed) noexcept;

  void set_ready() noexcept;
  bool ready() const noexcept { return ready_.value() != 0; }

  // For the guard that keeps the callable warm: whether a pulse may begin now; if so, end_pulse()
  // follows. It may not while a call is in progress. A call that comes during the pulse runs
  // `cancel` once, on its own thread.
  class Cancel {
   public:
    virtual ~Cancel() = default;
    virtual void cancel() noexcept = 0;
  };
  bool begin_pulse(Cancel& cancel) noexcept;
  void end_pulse() noexcept;
  int64_t last_end_ns() const noexcept { return last_end_ns_.load(std::memory_order_relaxed); }

  const std::string& name() const noexcept { return name_; }
  const ContractTerms& terms() const noexcept { return terms_; }
  const LatencyWindow& window() const noexcept { return window_; }
  // Whether the window's p99 is above the promise now.
  bool broken() const noexcept { return broken_.load(std::memory_order_relaxed); }

  Counter calls;            // since ready, failed ones too
  Counter early_calls;      // before
  Counter failures;         // calls that raised
  Counter deadline_misses;  // calls above the deadline, failed ones too
  Counter p99_breaches;     // times that the window's p99 rose above the promise
  Counter pulses;
  LatencyHistogram latency;        // of calls that did not fail, but for
  LatencyHistogram first_latency;  // first calls after idling

 private:
  void judge(int64_t taken_ns) noexcept;

  const std::string name_;
  const ContractTerms terms_;
  LatencyWindow window_;
  const char* const traced_name_;
  Gauge ready_;
  std::atomic<bool> broken_{false};
  std::atomic<int64_t> last_end_ns_;

  // A call counts itself and then looks for a pulse; a pulse shows itself and then looks for calls,
  // both sequentially consistent: one of them sees the other.
  alignas(64) std::atomic<uint32_t> in_flight_{0};
  std::atomic<Cancel*> pulse_{nullptr};
  std::atomic<uint32_t> cancelling_{0};  // calls that hold the pulse they saw

  std::vector<metrics::Registration> published_;  // last: they refer to what is above
};

}  // namespace zerolane
