// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "kernels/scaled_gelu.h"

namespace zerolane::kernels {

// As scaled_gelu() in scaled_gelu.h, on the stream. Returns the launch's status (0: success).
int scaled_gelu_on(void* stream, const float* x, float* y, int64_t n, double alpha, double scale,
                   GeluForm form);
int scaled_gelu_on(void* stream, const double* x, double* y, int64_t n, double alpha, double scale,
                   GeluForm form);
int scaled_gelu_on(void* stream, const Half* x, Half* y, int64_t n, double alpha, double scale,
                   GeluForm form);
int scaled_gelu_on(void* stream, const BFloat16* x, BFloat16* y, int64_t n, double alpha,
                   double scale, GeluForm form);

}  // namespace zerolane::kernels
