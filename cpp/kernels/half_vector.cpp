// SPDX-License-Identifier: Apache-2.0
#include "kernels/half_vector.h"

namespace zerolane::kernels::ZL_ISA {

void half_to_float(const Half* __restrict x, float* __restrict y, size_t n) { to_float(x, y, n); }

void float_to_half(const float* __restrict x, Half* __restrict y, size_t n) { from_float(x, y, n); }

void bfloat16_to_float(const BFloat16* __restrict x, float* __restrict y, size_t n) {
  to_float(x, y, n);
}

void float_to_bfloat16(const float* __restrict x, BFloat16* __restrict y, size_t n) {
  from_float(x, y, n);
}

}  // namespace zerolane::kernels::ZL_ISA
