// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>

#include "zerolane/half.h"

namespace zerolane::kernels {

// The head of a classifier: for each of `rows` rows of `classes` logits, the `k` largest and what
// softmax makes of them.
//
//   probability[row][j] = e^((x[i] - m) / temperature) / sum over c of e^((x[c] - m) / temperature)
//   index[row][j] = i, the class with the j-th largest logit; m = the row's largest
//
// Sorted, largest first; equal logits (-0 and 0 are equal) by class, lowest first; NaN behind all
// others. A row with a NaN or with +inf, or of nothing but -inf, has no softmax: the formula gives
// NaN for its probabilities (0 for finite logits beside +inf never arises: the sum is NaN). Its
// order still holds.
//
// 16-bit elements are computed as float, and sums as double over runs of floats. `logits` is
// [rows, classes], `probability` and `index` are [rows, k]; 1 <= k <= classes < 2^32;
// 1e-30 <= temperature. Relative error of a float probability: (4 + |x - m| / temperature) 2^-24.
//
// `scratch` has softmax_top_k_scratch(classes, k) bytes, aligned to 8; null where that is 0, which
// it is where k is small.
size_t softmax_top_k_scratch(size_t classes, size_t k) noexcept;

void softmax_top_k(const float* logits, float* probability, int64_t* index, size_t rows,
                   size_t classes, size_t k, float temperature, void* scratch) noexcept;
void softmax_top_k(const Half* logits, Half* probability, int64_t* index, size_t rows,
                   size_t classes, size_t k, float temperature, void* scratch) noexcept;
void softmax_top_k(const BFloat16* logits, BFloat16* probability, int64_t* index, size_t rows,
                   size_t classes, size_t k, float temperature, void* scratch) noexcept;

}  // namespace zerolane::kernels
