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
  return std::min(index, kBuckets - 1);
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
  // Beyond what a bucket can hold a sum would only overflow.
  sum_ns_.fetch_add(std::min(static_cast<int64_t>(value), upper_edge(kBuckets - 1)),
                    std::memory_order_relaxed);
}

uint64_t LatencyHistogram::count() const noexcept {
  uint64_t total = 0;
  for (const auto& count : counts_) total += count.load(std::memory_order_relaxed);
  return total;
}

namespace {

// Where the `fraction` of `total` lies; `counts` tells the count of a bucket.
template <typename Counts>
size_t bucket_of_rank(double fraction, uint64_t total, size_t buckets, Counts counts) noexcept {
  auto rank = static_cast<uint64_t>(std::ceil(fraction * static_cast<double>(total)));
  rank = std::clamp<uint64_t>(rank, 1, total);
  uint64_t seen = 0;
  for (size_t i = 0; i < buckets; ++i) {
    seen += counts(i);
    if (seen >= rank) return i;
  }
  return buckets - 1;
}

}  // namespace

int64_t LatencyHistogram::percentile(double fraction) const noexcept {
  uint64_t total = count();
  if (total == 0) return 0;
  return upper_edge(bucket_of_rank(fraction, total, counts_.size(), [&](size_t i) {
    return counts_[i].load(std::memory_order_relaxed);
  }));
}

HistogramCounts LatencyHistogram::read() const {
  HistogramCounts out;
  out.counts_.resize(kBuckets);
  // Before the buckets: a sum that lags is better than one ahead of its count.
  out.sum_ns_ = sum_ns_.load(std::memory_order_relaxed);
  for (size_t i = 0; i < kBuckets; ++i) {
    out.counts_[i] = counts_[i].load(std::memory_order_relaxed);
    out.count_ += out.counts_[i];
  }
  return out;
}

int64_t HistogramCounts::percentile(double fraction) const noexcept {
  if (count_ == 0) return 0;
  return LatencyHistogram::upper_edge(
      bucket_of_rank(fraction, count_, counts_.size(), [&](size_t i) { return counts_[i]; }));
}

void HistogramCounts::add(const HistogramCounts& other) {
  if (other.counts_.empty()) return;
  counts_.resize(other.counts_.size());
  for (size_t i = 0; i < counts_.size(); ++i) counts_[i] += other.counts_[i];
  count_ += other.count_;
  sum_ns_ += other.sum_ns_;
}

void HistogramCounts::subtract(const HistogramCounts& earlier) {
  if (earlier.counts_.empty()) return;
  counts_.resize(earlier.counts_.size());
  for (size_t i = 0; i < counts_.size(); ++i) counts_[i] -= earlier.counts_[i];
  count_ -= earlier.count_;
  sum_ns_ -= earlier.sum_ns_;
}

std::vector<std::pair<int64_t, uint64_t>> HistogramCounts::buckets() const {
  std::vector<std::pair<int64_t, uint64_t>> out;
  for (size_t i = 0; i < counts_.size(); ++i) {
    if (counts_[i] != 0) out.emplace_back(LatencyHistogram::upper_edge(i), counts_[i]);
  }
  return out;
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
