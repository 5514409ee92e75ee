// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>

#include "zerolane/half.h"

namespace zerolane::kernels {

enum class GeluForm { kErf, kTanh };

// y[i] = scale * gelu(alpha * x[i]), in one of gelu's two forms. The formulas, their sources and
// their errors stand in gelu_element.h; 16-bit elements are computed as float. `x` and `y` hold n
// elements and do not overlap; any alignment.
void scaled_gelu(const float* x, float* y, size_t n, double alpha, double scale,
                 GeluForm form) noexcept;
void scaled_gelu(const double* x, double* y, size_t n, double alpha, double scale,
                 GeluForm form) noexcept;
void scaled_gelu(const Half* x, Half* y, size_t n, double alpha, double scale,
                 GeluForm form) noexcept;
void scaled_gelu(const BFloat16* x, BFloat16* y, size_t n, double alpha, double scale,
                 GeluForm form) noexcept;

}  // namespace zerolane::kernels
