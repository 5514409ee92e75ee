// SPDX-License-Identifier: Apache-2.0
#include "kernels/ctc_greedy_cuda.h"

#include "kernels/block_cuda.cuh"
#include "kernels/ctc_greedy_block.h"

namespace zerolane::kernels {
namespace {

template <typename Element>
int run(void* stream, const Element* x, const CtcLayout& layout, const int64_t* lengths,
        int64_t blank, bool merge_repeats, int64_t* labels, int64_t* counts, float* scores) {
  return each_row_on(
      stream, layout.sequences,
      CtcGreedyRow<Element>{x, layout.sequence_stride, layout.step_stride, layout.steps,
                            layout.classes, blank, merge_repeats, lengths, labels, counts, scores});
}

}  // namespace

int ctc_greedy_on(void* stream, const float* x, const CtcLayout& layout, const int64_t* lengths,
                  int64_t blank, bool merge_repeats, int64_t* labels, int64_t* counts,
                  float* scores) {
  return run(stream, x, layout, lengths, blank, merge_repeats, labels, counts, scores);
}

int ctc_greedy_on(void* stream, const Half* x, const CtcLayout& layout, const int64_t* lengths,
                  int64_t blank, bool merge_repeats, int64_t* labels, int64_t* counts,
                  float* scores) {
  return run(stream, x, layout, lengths, blank, merge_repeats, labels, counts, scores);
}

int ctc_greedy_on(void* stream, const BFloat16* x, const CtcLayout& layout, const int64_t* lengths,
                  int64_t blank, bool merge_repeats, int64_t* labels, int64_t* counts,
                  float* scores) {
  return run(stream, x, layout, lengths, blank, merge_repeats, labels, counts, scores);
}

int ctc_flatten_on(void* stream, const int64_t* labels, const int64_t* counts, int64_t sequences,
                   int64_t steps, int64_t* values, int64_t* row_splits, int64_t* total) {
  return each_row_on(stream, sequences + 1,
                     CtcFlattenRow{labels, counts, sequences, steps, values, row_splits, total});
}

}  // namespace zerolane::kernels
