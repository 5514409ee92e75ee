// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "zerolane/half.h"

namespace zerolane::kernels {

// Where the elements of ctc_greedy_on() lie: [sequences, steps, classes] by its strides.
struct CtcLayout {
  int64_t sequences;
  int64_t steps;
  int64_t classes;
  int64_t sequence_stride;  // elements between sequences, and between steps
  int64_t step_stride;
};

// ctc_greedy() of ctc_greedy.h for each sequence, on the stream. `lengths` has the steps that count
// in each, or is null: all; what is outside 0 to steps is cut off. labels [sequences, steps] is -1
// behind the last label; counts and scores are [sequences]. classes < 2^32. Returns the launch's
// status (0: success).
int ctc_greedy_on(void* stream, const float* x, const CtcLayout& layout, const int64_t* lengths,
                  int64_t blank, bool merge_repeats, int64_t* labels, int64_t* counts,
                  float* scores);
int ctc_greedy_on(void* stream, const Half* x, const CtcLayout& layout, const int64_t* lengths,
                  int64_t blank, bool merge_repeats, int64_t* labels, int64_t* counts,
                  float* scores);
int ctc_greedy_on(void* stream, const BFloat16* x, const CtcLayout& layout, const int64_t* lengths,
                  int64_t blank, bool merge_repeats, int64_t* labels, int64_t* counts,
                  float* scores);

// The labels of ctc_greedy_on() without what is behind the last of each sequence: values, where
// each sequence begins in them (row_splits [sequences + 1], the last one is the end), and how many
// there are.
int ctc_flatten_on(void* stream, const int64_t* labels, const int64_t* counts, int64_t sequences,
                   int64_t steps, int64_t* values, int64_t* row_splits, int64_t* total);

}  // namespace zerolane::kernels
