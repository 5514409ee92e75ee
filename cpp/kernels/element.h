// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "zerolane/cuda.h"

// Marks the arithmetic of one element, which vector sources, CUDA kernels and tests share. Always
// inlined: a vector source must leave no copy that others could be linked to (isa.h).
#define ZL_ELEMENT [[gnu::always_inline]] ZL_HOST_DEVICE inline

// Whether a * b + c is one instruction. Elsewhere __builtin_fma calls a function.
#if defined(__FMA__) || defined(__ARM_FEATURE_FMA) || defined(__CUDA_ARCH__)
#define ZL_HAS_FMA 1
#else
#define ZL_HAS_FMA 0
#endif

namespace zerolane::kernels {

// The arithmetic is written as templates of F, which is float or double, or a vector of them
// (lanes.h): conditional expressions and no branches mean the same for all of these.
template <typename F>
struct Lane;

template <>
struct Lane<float> {
  using Bits = uint32_t;
  ZL_ELEMENT static float fused(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
};

template <>
struct Lane<double> {
  using Bits = uint64_t;
  ZL_ELEMENT static double fused(double a, double b, double c) { return __builtin_fma(a, b, c); }
};

// The bits of each lane as an unsigned integer, and back.
template <typename F>
using Bits = typename Lane<F>::Bits;

template <typename F>
ZL_ELEMENT Bits<F> to_bits(F value) {
  return __builtin_bit_cast(Bits<F>, value);
}

template <typename F>
ZL_ELEMENT F from_bits(Bits<F> bits) {
  return __builtin_bit_cast(F, bits);
}

}  // namespace zerolane::kernels
