// SPDX-License-Identifier: Apache-2.0
#include "kernels/gelu_element.h"
#include "kernels/lanes.h"
#include "kernels/scaled_gelu.h"

namespace zerolane::kernels::ZL_ISA {
namespace {

template <typename Element>
void run(const Element* x, Element* y, size_t n, float alpha, float scale, GeluForm form) {
  if (form == GeluForm::kErf) {
    map_lanes(x, y, n, [=](Floats lanes) { return gelu_erf_32(lanes * alpha) * scale; });
  } else {
    map_lanes(x, y, n, [=](Floats lanes) { return gelu_tanh_32(lanes * alpha) * scale; });
  }
}

}  // namespace

void scaled_gelu_float32(const float* x, float* y, size_t n, float alpha, float scale,
                         GeluForm form) {
  run(x, y, n, alpha, scale, form);
}

void scaled_gelu_float64(const double* x, double* y, size_t n, double alpha, double scale,
                         GeluForm form) {
  if (form == GeluForm::kErf) {
    map_lanes(x, y, n, [=](Doubles lanes) { return gelu_erf_64(lanes * alpha) * scale; });
  } else {
    map_lanes(x, y, n, [=](Doubles lanes) { return gelu_tanh_64(lanes * alpha) * scale; });
  }
}

void scaled_gelu_float16(const Half* x, Half* y, size_t n, float alpha, float scale,
                         GeluForm form) {
  run(x, y, n, alpha, scale, form);
}

void scaled_gelu_bfloat16(const BFloat16* x, BFloat16* y, size_t n, float alpha, float scale,
                          GeluForm form) {
  run(x, y, n, alpha, scale, form);
}

}  // namespace zerolane::kernels::ZL_ISA
