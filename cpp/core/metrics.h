// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

namespace zerolane {

// A number that only grows. Adding is one relaxed atomic increment, on one of a few cache lines, so
// that threads seldom share one. Any thread.
class Counter {
 public:
  void add(uint64_t count = 1) noexcept {
    cells_[stripe()].value.fetch_add(count, std::memory_order_relaxed);
  }
  uint64_t value() const noexcept {
    uint64_t total = 0;
    for (const Cell& cell : cells_) total += cell.value.load(std::memory_order_relaxed);
    return total;
  }

 private:
  static constexpr int kStripeBits = 2;
  struct alignas(64) Cell {
    std::atomic<uint64_t> value{0};
  };
  // Threads have stacks of their own, megabytes apart: cheaper to tell them by than their ids.
  static size_t stripe() noexcept {
    auto stack = reinterpret_cast<uintptr_t>(__builtin_frame_address(0));
    return static_cast<size_t>((uint64_t{stack >> 20} * 0x9E3779B97F4A7C15u) >> (64 - kStripeBits));
  }
  std::array<Cell, size_t{1} << kStripeBits> cells_;
};

// A number that goes up and down. Any thread.
class Gauge {
 public:
  void set(int64_t value) noexcept { value_.store(value, std::memory_order_relaxed); }
  void add(int64_t count) noexcept { value_.fetch_add(count, std::memory_order_relaxed); }
  int64_t value() const noexcept { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<int64_t> value_{0};
};

// What a histogram held at one moment; those of several threads can be added, and an earlier one of
// the same histogram taken away, which leaves what was recorded between. Nanoseconds.
class HistogramCounts {
 public:
  uint64_t count() const noexcept { return count_; }
  int64_t sum_ns() const noexcept { return sum_ns_; }
  // As LatencyHistogram::percentile.
  int64_t percentile(double fraction) const noexcept;
  void add(const HistogramCounts& other);
  void subtract(const HistogramCounts& earlier);
  // The largest duration of a bucket and how many are in it, in order, without empty ones.
  std::vector<std::pair<int64_t, uint64_t>> buckets() const;

 private:
  friend class LatencyHistogram;
  std::vector<uint64_t> counts_;  // empty: all zero
  uint64_t count_ = 0;
  int64_t sum_ns_ = 0;
};

// Counts of durations in log-linear buckets (32 to a power of two, so a reading is within 3.2 %);
// nanoseconds. Recording is two relaxed atomic additions and allocates nothing. Any thread.
class LatencyHistogram {
 public:
  void record(int64_t nanoseconds) noexcept;
  uint64_t count() const noexcept;
  // The duration that `fraction` (0..1) of the recorded ones do not exceed, in ns; 0 when empty.
  int64_t percentile(double fraction) const noexcept;
  HistogramCounts read() const;

 private:
  friend class HistogramCounts;
  static constexpr int kSubBits = 5;
  static constexpr int kPowers = 42;  // up to over an hour
  static constexpr size_t kBuckets = size_t{kPowers + 1} << kSubBits;
  static size_t bucket(uint64_t value) noexcept;
  static int64_t upper_edge(size_t bucket) noexcept;
  std::array<std::atomic<uint64_t>, kBuckets> counts_{};
  std::atomic<int64_t> sum_ns_{0};
};

// Counts of one kind of live native object, for leak checks: construct one inside each object.
enum class LiveKind { kSession, kContext, kBinding, kFuture, kCount };
class LiveCount {
 public:
  explicit LiveCount(LiveKind kind) noexcept;
  LiveCount(const LiveCount& other) noexcept;
  LiveCount& operator=(const LiveCount&) = delete;
  ~LiveCount();
  static int64_t of(LiveKind kind) noexcept;

 private:
  LiveKind kind_;
};

int64_t now_ns() noexcept;  // monotonic clock

}  // namespace zerolane
