// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

namespace zerolane {

// Learns how many rows a run should have: measures what a row costs in runs of 1, 2, 4, ... rows
// and prefers the fewest rows that cost about the least each, for more would only let requests wait
// for one another. Any thread; a lost update costs a little accuracy.
class BatchSizes {
 public:
  static constexpr size_t kMost = size_t{1} << 15;

  void record(size_t rows, int64_t nanoseconds) noexcept;
  // The rows that the next run should have at most, of `waiting` ones and never above `most`. Sizes
  // not measured yet are tried first; now and then the next smaller or larger one is tried again.
  size_t choose(size_t waiting, size_t most) noexcept;
  // The same without measuring any again, for a look ahead.
  size_t prefer(size_t waiting, size_t most) const noexcept;
  // What a row costs in runs of about so many rows, in ns; 0: not known.
  double cost(size_t rows) const noexcept;

 private:
  static constexpr size_t kSizes = 16;  // 1, 2, 4, ...
  static constexpr uint32_t kTries = 3;
  // Runs between two such trials, and their length: what they cost others is seen by few.
  static constexpr uint32_t kAgain = 2048;
  static constexpr uint32_t kRepeat = 2;
  // So much less must a row cost to make more of them wait; and where more than two runs wait
  // already, so that all wait for the rows before them.
  static constexpr float kGain = 0.92F;
  static constexpr float kGainBehind = 0.98F;
  static size_t index_of(size_t rows) noexcept;
  static size_t rows_of(size_t index, size_t rows) noexcept;  // of `rows` at most
  size_t best_of(size_t waiting, size_t most) const noexcept;

  struct Size {
    std::atomic<uint32_t> runs{0};
    std::atomic<float> cost{0};
  };
  std::array<Size, kSizes> sizes_;
  std::atomic<uint32_t> turn_{0};
  std::atomic<size_t> last_{0};  // index of the run before
};

}  // namespace zerolane
