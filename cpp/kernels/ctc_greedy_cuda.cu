// SPDX-License-Identifier: Apache-2.0
#include "kernels/ctc_greedy_cuda.h"

#include "kernels/block_cuda.cuh"
#include "kernels/ctc_greedy_block.h"

namespace zerolane::kernels {
namespace {

template <typename Element, typename Length>
int run(void* stream, const Element* x, const CtcLayout& layout, const Length* lengths,
        int64_t blank, bool merge_repeats, int64_t* labels, int64_t* counts, float* scores) {
  return each_row_on(stream, layout.sequences,
                     CtcGreedyRow<Element, Length>{x, layout.sequence_stride, layout.step_stride,
                                                   layout.steps, layout.classes, blank,
                                                   merge_repeats, lengths, labels, counts, scores});
}

}  // namespace

int ctc_greedy_on(void* stream, const float* x, const CtcLayout& layout, const int32_t* lengths,
                  int64_t blank, bool merge_repeats, int64_t* labels, int64_t* counts,
                  float* scores) {
  return run(stream, x, layout, lengths, blank, merge_repeats, labels, counts, scores);
}

int ctc_greedy_on(void* stream, const float* x, const CtcLayout& layout, const int64_t* lengths,
                  int64_t blank, bool merge_repeats, int64_t* labels, int64_t* counts,
                  float* scores) {
  return run(stream, x, layout, lengths, blank, merge_repeats, labels, counts, scores);
}

int ctc_greedy_on(void* stream, const Half* x, const CtcLayout& layout, const int32_t* lengths,
                  int64_t blank, bool merge_repeats, int64_t* labels, int64_t* counts,
                  float* scores) {
  return run(stream, x, layout, lengths, blank, merge_repeats, labels, counts, scores);
}

int ctc_greedy_on(void* stream, const Half* x, const CtcLayout& layout, const int64_t* lengths,
                  int64_t blank, bool merge_repeats, int64_t* labels, int64_t* counts,
                  float* scores) {
  return run(stream, x, layout, lengths, blank, merge_repeats, labels, counts, scores);
}

int ctc_greedy_on(void* stream, const BFloat16* x, const CtcLayout& layout, const int32_t* lengths,
                  int64_t blank, bool merge_repeats, int64_t* labels, int64_t* counts,
                  float* scores) {
  return run(stream, x, layout, lengths, blank, merge_repeats, labels, counts, scores);
}

int ctc_greedy_on(void* stream, const BFloat16* x, const CtcLayout& layout, const int64_t* lengths,
                  int64_t blank, bool merge_repeats, int64_t* labels, int64_t* counts,
                  float* scores) {
  return run(stream, x, layout, lengths, blank, merge_repeats, labels, counts, scores);
}

}  // namespace zerolane::kernels
