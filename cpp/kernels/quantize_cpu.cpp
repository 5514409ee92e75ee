// SPDX-License-Identifier: Apache-2.0
#include "kernels/isa.h"
#include "kernels/quantize.h"
#include "kernels/quantize_element.h"

namespace zerolane::kernels {

#define ZL_QUANTIZE(element, Element, integer, Integer)                                           \
  ZL_DECLARE_ISA(void, quantize_##element##_##integer,                                            \
                 (const Element* x, Integer* y, const QuantizeLayout& layout,                     \
                  const Element* scale, const Integer* zero_point))                               \
  ZL_DECLARE_ISA(void, dequantize_##integer##_##element,                                          \
                 (const Integer* x, Element* y, const QuantizeLayout& layout,                     \
                  const Element* scale, const Integer* zero_point))                               \
  void quantize(const Element* x, Integer* y, const QuantizeLayout& layout, const Element* scale, \
                const Integer* zero_point) noexcept {                                             \
    ZL_CHOOSE_ISA(quantize_##element##_##integer)(x, y, layout, scale, zero_point);               \
  }                                                                                               \
  void dequantize(const Integer* x, Element* y, const QuantizeLayout& layout,                     \
                  const Element* scale, const Integer* zero_point) noexcept {                     \
    ZL_CHOOSE_ISA(dequantize_##integer##_##element)(x, y, layout, scale, zero_point);             \
  }
ZL_QUANTIZE(float32, float, int8, int8_t)
ZL_QUANTIZE(float32, float, uint8, uint8_t)
ZL_QUANTIZE(float16, Half, int8, int8_t)
ZL_QUANTIZE(float16, Half, uint8, uint8_t)
#undef ZL_QUANTIZE

ZL_DECLARE_ISA(float, largest_size_float32, (const float* x, size_t n))
ZL_DECLARE_ISA(float, largest_size_float16, (const Half* x, size_t n))

float symmetric_scale(const float* x, size_t n) noexcept {
  return scale_of_size<float>(ZL_CHOOSE_ISA(largest_size_float32)(x, n));
}

Half symmetric_scale(const Half* x, size_t n) noexcept {
  return scale_of_size<Half>(ZL_CHOOSE_ISA(largest_size_float16)(x, n));
}

}  // namespace zerolane::kernels
