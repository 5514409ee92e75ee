// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <vector>

namespace zerolane {

// Counts of durations in log-linear buckets (32 to a power of two, so a reading is within 3.2 %);
// nanoseconds. Recording is one relaxed atomic increment and allocates nothing. Any thread.
class LatencyHistogram {
 public:
  void record(int64_t nanoseconds) noexcept;
  uint64_t count() const noexcept;
  // The duration that `fraction` (0..1) of the recorded ones do not exceed, in ns; 0 when empty.
  int64_t percentile(double fraction) const noexcept;

 private:
  static constexpr int kSubBits = 5;
  static constexpr int kPowers = 42;  // up to over an hour
  static size_t bucket(uint64_t value) noexcept;
  static int64_t upper_edge(size_t bucket) noexcept;
  std::array<std::atomic<uint64_t>, (kPowers + 1) << kSubBits> counts_{};
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
