// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "kernels/quantize.h"

namespace zerolane::kernels {

// As the functions in quantize.h, on the stream; scales and zero points lie in GPU memory as well.
// dynamic_quantize_on() is symmetric_scale(), which it writes to `scale`, and quantize() with it;
// `scratch` is one word of GPU memory. Return the launch's status (0: success).
int quantize_on(void* stream, const float* x, int8_t* y, const QuantizeLayout& layout,
                const float* scale, const int8_t* zero_point);
int dequantize_on(void* stream, const int8_t* x, float* y, const QuantizeLayout& layout,
                  const float* scale, const int8_t* zero_point);
int quantize_on(void* stream, const float* x, uint8_t* y, const QuantizeLayout& layout,
                const float* scale, const uint8_t* zero_point);
int dequantize_on(void* stream, const uint8_t* x, float* y, const QuantizeLayout& layout,
                  const float* scale, const uint8_t* zero_point);
int quantize_on(void* stream, const Half* x, int8_t* y, const QuantizeLayout& layout,
                const Half* scale, const int8_t* zero_point);
int dequantize_on(void* stream, const int8_t* x, Half* y, const QuantizeLayout& layout,
                  const Half* scale, const int8_t* zero_point);
int quantize_on(void* stream, const Half* x, uint8_t* y, const QuantizeLayout& layout,
                const Half* scale, const uint8_t* zero_point);
int dequantize_on(void* stream, const uint8_t* x, Half* y, const QuantizeLayout& layout,
                  const Half* scale, const uint8_t* zero_point);
int dynamic_quantize_on(void* stream, const float* x, int8_t* y, float* scale, int64_t n,
                        unsigned* scratch);
int dynamic_quantize_on(void* stream, const Half* x, int8_t* y, Half* scale, int64_t n,
                        unsigned* scratch);

}  // namespace zerolane::kernels
