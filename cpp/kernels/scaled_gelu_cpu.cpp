// SPDX-License-Identifier: Apache-2.0
#include "kernels/isa.h"
#include "kernels/scaled_gelu.h"

namespace zerolane::kernels {

ZL_DECLARE_ISA(void, scaled_gelu_float32,
               (const float* x, float* y, size_t n, float alpha, float scale, GeluForm form))
ZL_DECLARE_ISA(void, scaled_gelu_float64,
               (const double* x, double* y, size_t n, double alpha, double scale, GeluForm form))
ZL_DECLARE_ISA(void, scaled_gelu_float16,
               (const Half* x, Half* y, size_t n, float alpha, float scale, GeluForm form))
ZL_DECLARE_ISA(void, scaled_gelu_bfloat16,
               (const BFloat16* x, BFloat16* y, size_t n, float alpha, float scale, GeluForm form))

void scaled_gelu(const float* x, float* y, size_t n, double alpha, double scale,
                 GeluForm form) noexcept {
  ZL_CHOOSE_ISA(scaled_gelu_float32)
  (x, y, n, static_cast<float>(alpha), static_cast<float>(scale), form);
}

void scaled_gelu(const double* x, double* y, size_t n, double alpha, double scale,
                 GeluForm form) noexcept {
  ZL_CHOOSE_ISA(scaled_gelu_float64)(x, y, n, alpha, scale, form);
}

void scaled_gelu(const Half* x, Half* y, size_t n, double alpha, double scale,
                 GeluForm form) noexcept {
  ZL_CHOOSE_ISA(scaled_gelu_float16)
  (x, y, n, static_cast<float>(alpha), static_cast<float>(scale), form);
}

void scaled_gelu(const BFloat16* x, BFloat16* y, size_t n, double alpha, double scale,
                 GeluForm form) noexcept {
  ZL_CHOOSE_ISA(scaled_gelu_bfloat16)
  (x, y, n, static_cast<float>(alpha), static_cast<float>(scale), form);
}

}  // namespace zerolane::kernels
