// SPDX-License-Identifier: Apache-2.0
#include "kernels/ctc_greedy.h"

#include "kernels/isa.h"

namespace zerolane::kernels {

ZL_DECLARE_ISA(size_t, ctc_greedy_float32,
               (const float* x, size_t steps, size_t stride, size_t classes, int64_t blank,
                bool merge_repeats, int64_t* labels, float* score))
ZL_DECLARE_ISA(size_t, ctc_greedy_float16,
               (const Half* x, size_t steps, size_t stride, size_t classes, int64_t blank,
                bool merge_repeats, int64_t* labels, float* score))
ZL_DECLARE_ISA(size_t, ctc_greedy_bfloat16,
               (const BFloat16* x, size_t steps, size_t stride, size_t classes, int64_t blank,
                bool merge_repeats, int64_t* labels, float* score))

size_t ctc_greedy(const float* x, size_t steps, size_t stride, size_t classes, int64_t blank,
                  bool merge_repeats, int64_t* labels, float* score) noexcept {
  return ZL_CHOOSE_ISA(ctc_greedy_float32)(x, steps, stride, classes, blank, merge_repeats, labels,
                                           score);
}

size_t ctc_greedy(const Half* x, size_t steps, size_t stride, size_t classes, int64_t blank,
                  bool merge_repeats, int64_t* labels, float* score) noexcept {
  return ZL_CHOOSE_ISA(ctc_greedy_float16)(x, steps, stride, classes, blank, merge_repeats, labels,
                                           score);
}

size_t ctc_greedy(const BFloat16* x, size_t steps, size_t stride, size_t classes, int64_t blank,
                  bool merge_repeats, int64_t* labels, float* score) noexcept {
  return ZL_CHOOSE_ISA(ctc_greedy_bfloat16)(x, steps, stride, classes, blank, merge_repeats, labels,
                                            score);
}

}  // namespace zerolane::kernels
