// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>

namespace zerolane::kernels {

// Calls emit(run, size) with all n different keys in rising order, a run at a time, until it
// returns true. Both arrays hold n keys and are working memory; on entry the keys are in `keys`.
//
// A radix sort from the upper digits down that sorts a bucket only when its turn comes: where a few
// of many candidates are wanted, most are moved once. The digits are those in which the keys
// differ, so that scores of any range spread over the buckets.
template <class Emit>
bool sorted_runs(uint64_t* keys, uint64_t* other, size_t n, Emit&& emit) {
  constexpr size_t kSmall = 24;
  constexpr int kMostBits = 11;
  if (n <= kSmall) {
    for (size_t i = 1; i < n; ++i) {
      const uint64_t key = keys[i];
      size_t at = i;
      for (; at > 0 && keys[at - 1] > key; --at) keys[at] = keys[at - 1];
      keys[at] = key;
    }
    return n > 0 && emit(static_cast<const uint64_t*>(keys), n);
  }
  uint64_t least = keys[0];
  uint64_t most = keys[0];
  for (size_t i = 1; i < n; ++i) {
    least = std::min(least, keys[i]);
    most = std::max(most, keys[i]);
  }
  // Four keys to a bucket; n > kSmall makes bits and the range at least 3.
  const int bits = std::min(static_cast<int>(std::bit_width(n)) - 2, kMostBits);
  const int shift = std::max(static_cast<int>(std::bit_width(most - least)) - bits, 0);
  const size_t buckets = ((most - least) >> shift) + 1;
  uint32_t ends[(1 << kMostBits) + 1];
  std::fill(ends, ends + buckets, 0U);
  for (size_t i = 0; i < n; ++i) ++ends[(keys[i] - least) >> shift];
  uint32_t begin = 0;
  for (size_t b = 0; b < buckets; ++b) {
    const uint32_t size = ends[b];
    ends[b] = begin;
    begin += size;
  }
  for (size_t i = 0; i < n; ++i) other[ends[(keys[i] - least) >> shift]++] = keys[i];
  begin = 0;
  for (size_t b = 0; b < buckets; ++b) {
    const uint32_t size = ends[b] - begin;
    if (size > 0 && sorted_runs(other + begin, keys + begin, size, emit)) return true;
    begin = ends[b];
  }
  return false;
}

}  // namespace zerolane::kernels
