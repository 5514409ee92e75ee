// SPDX-License-Identifier: Apache-2.0
#include "kernels/softmax_top_k_cuda.h"

#include "kernels/block_cuda.cuh"
#include "kernels/softmax_top_k_block.h"

namespace zerolane::kernels {
namespace {

template <typename Element>
int run(void* stream, const Element* logits, Element* probability, int64_t* index, int64_t rows,
        int64_t classes, int64_t k, float temperature) {
  return each_row_on(
      stream, rows,
      SoftmaxTopKRow<Element>{logits, probability, index, classes, k, 1.0F / temperature});
}

}  // namespace

int softmax_top_k_on(void* stream, const float* logits, float* probability, int64_t* index,
                     int64_t rows, int64_t classes, int64_t k, float temperature) {
  return run(stream, logits, probability, index, rows, classes, k, temperature);
}

int softmax_top_k_on(void* stream, const Half* logits, Half* probability, int64_t* index,
                     int64_t rows, int64_t classes, int64_t k, float temperature) {
  return run(stream, logits, probability, index, rows, classes, k, temperature);
}

int softmax_top_k_on(void* stream, const BFloat16* logits, BFloat16* probability, int64_t* index,
                     int64_t rows, int64_t classes, int64_t k, float temperature) {
  return run(stream, logits, probability, index, rows, classes, k, temperature);
}

}  // namespace zerolane::kernels
