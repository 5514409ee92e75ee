// SPDX-License-Identifier: Apache-2.0
#include "kernels/isa.h"
#include "kernels/softmax_top_k.h"

namespace zerolane::kernels {

ZL_DECLARE_ISA(void, softmax_top_k_float32,
               (const float* logits, float* probability, int64_t* index, size_t rows,
                size_t classes, size_t k, float temperature, uint64_t* scratch))
ZL_DECLARE_ISA(void, softmax_top_k_float16,
               (const Half* logits, Half* probability, int64_t* index, size_t rows, size_t classes,
                size_t k, float temperature, uint64_t* scratch))
ZL_DECLARE_ISA(void, softmax_top_k_bfloat16,
               (const BFloat16* logits, BFloat16* probability, int64_t* index, size_t rows,
                size_t classes, size_t k, float temperature, uint64_t* scratch))

size_t softmax_top_k_scratch(size_t classes, size_t k) noexcept {
  // A heap of k is built by some k log(classes / k) insertions, each as dear as making and sorting
  // some 30 keys.
  return k <= 16 || k <= classes / 32 ? 0 : classes * sizeof(uint64_t);
}

void softmax_top_k(const float* logits, float* probability, int64_t* index, size_t rows,
                   size_t classes, size_t k, float temperature, void* scratch) noexcept {
  ZL_CHOOSE_ISA(softmax_top_k_float32)
  (logits, probability, index, rows, classes, k, temperature, static_cast<uint64_t*>(scratch));
}

void softmax_top_k(const Half* logits, Half* probability, int64_t* index, size_t rows,
                   size_t classes, size_t k, float temperature, void* scratch) noexcept {
  ZL_CHOOSE_ISA(softmax_top_k_float16)
  (logits, probability, index, rows, classes, k, temperature, static_cast<uint64_t*>(scratch));
}

void softmax_top_k(const BFloat16* logits, BFloat16* probability, int64_t* index, size_t rows,
                   size_t classes, size_t k, float temperature, void* scratch) noexcept {
  ZL_CHOOSE_ISA(softmax_top_k_bfloat16)
  (logits, probability, index, rows, classes, k, temperature, static_cast<uint64_t*>(scratch));
}

}  // namespace zerolane::kernels
