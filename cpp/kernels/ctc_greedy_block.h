// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "kernels/block.h"
#include "kernels/order_element.h"

namespace zerolane::kernels {

// One sequence of ctc_greedy() for a block of GPU threads. Several steps at a time, a group of
// threads each; the classes found are kept where the labels go, then moved together.
template <typename Element>
struct CtcGreedyRow {
  const Element* x;
  int64_t sequence_stride;  // elements between sequences, and between steps
  int64_t step_stride;
  int64_t steps;
  int64_t classes;
  int64_t blank;
  bool merge_repeats;
  const int64_t* lengths;  // of each sequence; null: all have `steps`. What is outside is cut off.
  int64_t* labels;         // [sequences, steps], -1 behind the last
  int64_t* counts;         // [sequences]
  float* scores;           // [sequences]

  static constexpr int kGroup = 32;
  static constexpr int kGroups = kBlockThreads / kGroup;

  struct Shared {
    uint64_t key[kBlockThreads];
    double score[kGroups];
    int64_t label[kBlockThreads];
    int kept[kBlockThreads];
    int other[kBlockThreads];
    int64_t before;  // the class of the last step that was looked at
    int64_t count;
  };

  template <typename Block>
  ZL_HOST_DEVICE void operator()(const Block& block, int64_t row, Shared* shared) const {
    int64_t length = lengths == nullptr ? steps : lengths[row];
    length = length < 0 ? 0 : length > steps ? steps : length;
    int64_t* out = labels + row * steps;
    find_classes(block, x + row * sequence_stride, length, out, shared);
    move_together(block, length, out, shared);
    block.each([&](int thread) {
      for (int64_t i = shared->count + thread; i < steps; i += kBlockThreads) out[i] = -1;
      if (thread != 0) return;
      double score = 0;
      for (const double part : shared->score) score += part;
      scores[row] = static_cast<float>(score);
      counts[row] = shared->count;
    });
  }

 private:
  template <typename Block>
  ZL_HOST_DEVICE void find_classes(const Block& block, const Element* sequence, int64_t length,
                                   int64_t* out, Shared* shared) const {
    block.each([&](int thread) {
      if (thread < kGroups) shared->score[thread] = 0;
    });
    for (int64_t from = 0; from < length; from += kGroups) {
      block.each([&](int thread) {
        const int64_t step = from + thread / kGroup;
        uint64_t best = 0;
        if (step < length) {
          const Element* element = sequence + step * step_stride;
          for (int64_t i = thread % kGroup; i < classes; i += kGroup) {
            const uint64_t key = rank_key(static_cast<float>(element[i]), static_cast<uint32_t>(i));
            best = key > best ? key : best;
          }
        }
        shared->key[thread] = best;
      });
      for (int half = kGroup / 2; half > 0; half /= 2) {
        block.each([&](int thread) {
          if (thread % kGroup >= half) return;
          const uint64_t other = shared->key[thread + half];
          if (other > shared->key[thread]) shared->key[thread] = other;
        });
      }
      block.each([&](int thread) {
        const int64_t step = from + thread;
        if (thread >= kGroups || step >= length) return;
        const int64_t best = place_of(shared->key[thread * kGroup]);
        out[step] = best;
        shared->score[thread] +=
            static_cast<double>(static_cast<float>(sequence[step * step_stride + best]));
      });
    }
  }

  // Labels never move up, and a phase reads all of its steps before the next writes.
  template <typename Block>
  ZL_HOST_DEVICE void move_together(const Block& block, int64_t length, int64_t* out,
                                    Shared* shared) const {
    block.each([&](int thread) {
      if (thread != 0) return;
      shared->before = -1;
      shared->count = 0;
    });
    for (int64_t from = 0; from < length; from += kBlockThreads) {
      block.each([&](int thread) {
        const int64_t step = from + thread;
        const bool there = step < length;
        const int64_t label = there ? out[step] : -1;
        const int64_t before = thread == 0 ? shared->before : there ? out[step - 1] : -1;
        shared->label[thread] = label;
        shared->kept[thread] =
            there && label != blank && !(merge_repeats && label == before) ? 1 : 0;
      });
      running_sums(block, shared->kept, shared->other);
      block.each([&](int thread) {
        const int before = thread == 0 ? 0 : shared->kept[thread - 1];
        if (shared->kept[thread] != before) out[shared->count + before] = shared->label[thread];
      });
      block.each([&](int thread) {
        if (thread != 0) return;
        shared->count += shared->kept[kBlockThreads - 1];
        shared->before = shared->label[kBlockThreads - 1];
      });
    }
  }
};

// One sequence of ctc_flatten_on(): every block sums up for itself what lies before.
struct CtcFlattenRow {
  const int64_t* labels;
  const int64_t* counts;
  int64_t sequences;
  int64_t steps;
  int64_t* values;
  int64_t* row_splits;
  int64_t* total;

  struct Shared {
    int64_t before[kBlockThreads];
  };

  template <typename Block>
  ZL_HOST_DEVICE void operator()(const Block& block, int64_t row, Shared* shared) const {
    block.each([&](int thread) {
      int64_t sum = 0;
      for (int64_t i = thread; i < row; i += kBlockThreads) sum += counts[i];
      shared->before[thread] = sum;
    });
    join_all(block, shared->before, [](int64_t a, int64_t b) { return a + b; });
    block.each([&](int thread) {
      const int64_t before = shared->before[0];
      // There is one row more than there are sequences: the end.
      const int64_t count = row < sequences ? counts[row] : 0;
      for (int64_t i = thread; i < count; i += kBlockThreads) {
        values[before + i] = labels[row * steps + i];
      }
      if (thread != 0) return;
      row_splits[row] = before;
      if (row == sequences) *total = before;
    });
  }
};

}  // namespace zerolane::kernels
