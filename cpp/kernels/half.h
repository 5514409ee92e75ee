// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>

#include "zerolane/half.h"

namespace zerolane::kernels {

// Arrays of 16-bit numbers to float (exact) and back (to nearest, ties to even), bit for bit as the
// element types in zerolane/half.h convert. `x` and `y` hold n elements and do not overlap; any
// alignment. In vector sources, half_vector.h has the same for a few elements at a time.
void half_to_float(const Half* x, float* y, size_t n) noexcept;
void float_to_half(const float* x, Half* y, size_t n) noexcept;
void bfloat16_to_float(const BFloat16* x, float* y, size_t n) noexcept;
void float_to_bfloat16(const float* x, BFloat16* y, size_t n) noexcept;

}  // namespace zerolane::kernels
