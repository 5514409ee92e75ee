// SPDX-License-Identifier: Apache-2.0
#include "kernels/half.h"
#include "kernels/isa.h"

namespace zerolane::kernels {

ZL_DECLARE_ISA(void, half_to_float, (const Half* x, float* y, size_t n))
ZL_DECLARE_ISA(void, float_to_half, (const float* x, Half* y, size_t n))
ZL_DECLARE_ISA(void, bfloat16_to_float, (const BFloat16* x, float* y, size_t n))
ZL_DECLARE_ISA(void, float_to_bfloat16, (const float* x, BFloat16* y, size_t n))

void half_to_float(const Half* x, float* y, size_t n) noexcept {
  ZL_CHOOSE_ISA(half_to_float)(x, y, n);
}

void float_to_half(const float* x, Half* y, size_t n) noexcept {
  ZL_CHOOSE_ISA(float_to_half)(x, y, n);
}

void bfloat16_to_float(const BFloat16* x, float* y, size_t n) noexcept {
  ZL_CHOOSE_ISA(bfloat16_to_float)(x, y, n);
}

void float_to_bfloat16(const float* x, BFloat16* y, size_t n) noexcept {
  ZL_CHOOSE_ISA(float_to_bfloat16)(x, y, n);
}

}  // namespace zerolane::kernels
