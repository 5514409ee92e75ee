// SPDX-License-Identifier: Apache-2.0
#include "runtime/batch_sizes.h"

#include <algorithm>
#include <bit>

namespace zerolane {

size_t BatchSizes::index_of(size_t rows) noexcept {
  return std::min<size_t>(std::bit_width(std::max<size_t>(rows, 1)) - 1, kSizes - 1);
}

void BatchSizes::record(size_t rows, int64_t nanoseconds) noexcept {
  if (rows == 0) return;
  const size_t index = index_of(rows);
  Size& size = sizes_[index];
  const size_t last = last_.exchange(index, std::memory_order_relaxed);
  auto now = static_cast<float>(nanoseconds) / static_cast<float>(rows);
  const uint32_t runs = size.runs.fetch_add(1, std::memory_order_relaxed);
  const float before = size.cost.load(std::memory_order_relaxed);
  // The first run of a size also pays for its memory.
  float kept = 0;
  if (runs > 1) {
    // One after another size pays for the change.
    if (last != index && now > before) return;
    // What a neighbour on the machine adds comes and goes, so less counts at once and more counts
    // slowly, and no more than twice as much at a time: the thread may have been away for long.
    now = std::min(now, 2 * before);
    kept = now < before ? 0.5F : 0.98F;
  }
  size.cost.store(kept * before + (1 - kept) * now, std::memory_order_relaxed);
}

double BatchSizes::cost(size_t rows) const noexcept {
  const Size& size = sizes_[index_of(rows)];
  return size.runs.load(std::memory_order_relaxed) == 0 ? 0
                                                        : size.cost.load(std::memory_order_relaxed);
}

size_t BatchSizes::choose(size_t waiting, size_t most) noexcept {
  const size_t rows = std::clamp<size_t>(std::min(waiting, most), 1, kMost);
  const size_t last = index_of(rows);
  const uint32_t turn = turn_.fetch_add(1, std::memory_order_relaxed);
  const size_t best = best_of(waiting, most);
  if (turn % kAgain < kAgain - kRepeat) return rows_of(best, rows);
  const bool larger = turn / kAgain % 2 == 0;
  if (larger) return rows_of(std::min(best + 1, last), rows);
  return rows_of(best > 0 ? best - 1 : 0, rows);
}

size_t BatchSizes::prefer(size_t waiting, size_t most) const noexcept {
  return rows_of(best_of(waiting, most), std::clamp<size_t>(std::min(waiting, most), 1, kMost));
}

size_t BatchSizes::rows_of(size_t index, size_t rows) noexcept {
  return index == index_of(rows) ? rows : size_t{1} << index;
}

size_t BatchSizes::best_of(size_t waiting, size_t most) const noexcept {
  const size_t last = index_of(std::clamp<size_t>(std::min(waiting, most), 1, kMost));
  const float gain = waiting >= 2 * most ? kGainBehind : kGain;
  size_t best = 0;
  for (size_t i = 0; i <= last; ++i) {
    if (sizes_[i].runs.load(std::memory_order_relaxed) < kTries) return i;
    const float least = sizes_[best].cost.load(std::memory_order_relaxed);
    if (sizes_[i].cost.load(std::memory_order_relaxed) < gain * least) best = i;
  }
  return best;
}

}  // namespace zerolane
