// SPDX-License-Identifier: Apache-2.0
#include "core/metrics.h"

#include <time.h>

#include <algorithm>
#include <bit>
#include <cmath>

namespace zerolane {

size_t LatencyHistogram::bucket(uint64_t value) noexcept {
  constexpr uint64_t kLinear = uint64_t{1} << kSubBits;
  if (value < kLinear) return value;
  int power = std::bit_width(value) - 1 - kSubBits;  // value >> power is in [32, 64)
  size_t index = (static_cast<size_t>(power) << kSubBits) + (value >> power);
  return std::min(index, (static_cast<size_t>(kPowers + 1) << kSubBits) - 1);
}

int64_t LatencyHistogram::upper_edge(size_t bucket) noexcept {
  constexpr size_t kLinear = size_t{1} << kSubBits;
  if (bucket < 2 * kLinear) return static_cast<int64_t>(bucket);
  size_t power = (bucket >> kSubBits) - 1;
  uint64_t mantissa = (bucket & (kLinear - 1)) + kLinear;
  return static_cast<int64_t>(((mantissa + 1) << power) - 1);
}

void LatencyHistogram::record(int64_t nanoseconds) noexcept {
  uint64_t value = nanoseconds < 0 ? 0 : static_cast<uint64_t>(nanoseconds);
  counts_[bucket(value)].fetch_add(1, std::memory_order_relaxed);
}

uint64_t LatencyHistogram::count() const noexcept {
  uint64_t total = 0;
  for (const auto& count : counts_) total += count.load(std::memory_order_relaxed);
  return total;
}

int64_t LatencyHistogram::percentile(double fraction) const noexcept {
  uint64_t total = count();
  if (total == 0) return 0;
  auto rank = static_cast<uint64_t>(std::ceil(fraction * static_cast<double>(total)));
  rank = std::clamp<uint64_t>(rank, 1, total);
  uint64_t seen = 0;
  for (size_t i = 0; i < counts_.size(); ++i) {
    seen += counts_[i].load(std::memory_order_relaxed);
    if (seen >= rank) return upper_edge(i);
  }
  return upper_edge(counts_.size() - 1);
}

namespace {
std::array<std::atomic<int64_t>, static_cast<size_t>(LiveKind::kCount)> live{};
}

LiveCount::LiveCount(LiveKind kind) noexcept : kind_(kind) { ++live[static_cast<size_t>(kind_)]; }
LiveCount::LiveCount(const LiveCount& other) noexcept : LiveCount(other.kind_) {}
LiveCount::~LiveCount() { --live[static_cast<size_t>(kind_)]; }
int64_t LiveCount::of(LiveKind kind) noexcept { return live[static_cast<size_t>(kind)].load(); }

int64_t now_ns() noexcept {
  timespec now;
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<int64_t>(now.tv_sec) * 1000000000 + now.tv_nsec;
}

}  // namespace zerolane
