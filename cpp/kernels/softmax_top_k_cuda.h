// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "zerolane/half.h"

namespace zerolane::kernels {

// As softmax_top_k() in softmax_top_k.h, on the stream and without scratch memory. Returns the
// launch's status (0: success).
int softmax_top_k_on(void* stream, const float* logits, float* probability, int64_t* index,
                     int64_t rows, int64_t classes, int64_t k, float temperature);
int softmax_top_k_on(void* stream, const Half* logits, Half* probability, int64_t* index,
                     int64_t rows, int64_t classes, int64_t k, float temperature);
int softmax_top_k_on(void* stream, const BFloat16* logits, BFloat16* probability, int64_t* index,
                     int64_t rows, int64_t classes, int64_t k, float temperature);

}  // namespace zerolane::kernels
