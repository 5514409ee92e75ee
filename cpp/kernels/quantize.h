// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>

#include "zerolane/half.h"

namespace zerolane::kernels {

// Which scale an element has: tensors are [outer, axis, inner], and the middle index chooses. With
// one scale for all: {1, 1, elements}.
struct QuantizeLayout {
  size_t outer;
  size_t axis;
  size_t inner;
};

// y = saturate(round(x / scale) + zero_point), ties to even, as ONNX QuantizeLinear says and ONNX
// Runtime computes it: 16-bit floats as float, NaN to the least integer. scale and zero_point are
// [axis]; zero_point may be null: 0. Results are the same bits on every instruction set.
void quantize(const float* x, int8_t* y, const QuantizeLayout& layout, const float* scale,
              const int8_t* zero_point) noexcept;
void quantize(const float* x, uint8_t* y, const QuantizeLayout& layout, const float* scale,
              const uint8_t* zero_point) noexcept;
void quantize(const Half* x, int8_t* y, const QuantizeLayout& layout, const Half* scale,
              const int8_t* zero_point) noexcept;
void quantize(const Half* x, uint8_t* y, const QuantizeLayout& layout, const Half* scale,
              const uint8_t* zero_point) noexcept;

// y = (x - zero_point) * scale, as ONNX DequantizeLinear says, rounded once.
void dequantize(const int8_t* x, float* y, const QuantizeLayout& layout, const float* scale,
                const int8_t* zero_point) noexcept;
void dequantize(const uint8_t* x, float* y, const QuantizeLayout& layout, const float* scale,
                const uint8_t* zero_point) noexcept;
void dequantize(const int8_t* x, Half* y, const QuantizeLayout& layout, const Half* scale,
                const int8_t* zero_point) noexcept;
void dequantize(const uint8_t* x, Half* y, const QuantizeLayout& layout, const Half* scale,
                const uint8_t* zero_point) noexcept;

// The scale that maps the largest finite size among n elements to 127, for quantize() without a
// zero point; 1 if that is 0 or too small for such a scale.
float symmetric_scale(const float* x, size_t n) noexcept;
Half symmetric_scale(const Half* x, size_t n) noexcept;

}  // namespace zerolane::kernels
