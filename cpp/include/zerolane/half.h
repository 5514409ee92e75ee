// SPDX-License-Identifier: Apache-2.0
// The 16-bit floating-point element types, for op bodies on the CPU and, where nvcc compiles this,
// on a GPU. C++17. Arithmetic is done in float:
//
//   y[i] = static_cast<T>(f(static_cast<float>(x[i])));   // T: float, Half or BFloat16
//
// To float is exact. From float rounds to nearest, ties to even; above the largest number lies
// infinity. NaN stays NaN: on the CPU with its sign and the upper bits of its payload, quiet.
#pragma once

#include <cstdint>
#include <cstring>

#include "zerolane/cuda.h"

namespace zerolane {

// Always inlined, so that code compiled for some instruction set never leaves a copy of these
// behind that other code is linked to.
#define ZL_HALF_INLINE [[gnu::always_inline]] ZL_HOST_DEVICE inline

namespace half_bits {

ZL_HALF_INLINE uint32_t bits_of(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  return bits;
}

ZL_HALF_INLINE float float_of(uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

ZL_HALF_INLINE float half_to_float(uint16_t half) {
#if defined(__CUDA_ARCH__)
  float value;
  asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(half));
  return value;
#else
  const uint32_t sign = static_cast<uint32_t>(half & 0x8000U) << 16;
  const uint32_t magnitude = half & 0x7fffU;
  if (magnitude >= 0x0400U && magnitude < 0x7c00U) {
    return float_of(sign | ((magnitude << 13) + ((127U - 15U) << 23)));
  }
  if (magnitude >= 0x7c00U) {
    const uint32_t quiet = magnitude > 0x7c00U ? 0x00400000U : 0U;
    return float_of(sign | 0x7f800000U | quiet | (magnitude << 13));
  }
  // Subnormal: 2^-24 a unit. Neither operand is subnormal as a float, so flushing does not matter.
  const float value = static_cast<float>(magnitude) * float_of((127U - 24U) << 23);
  return float_of(sign | bits_of(value));
#endif
}

ZL_HALF_INLINE uint16_t float_to_half(float value) {
#if defined(__CUDA_ARCH__)
  uint16_t half;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(half) : "f"(value));
  return half;
#else
  const uint32_t bits = bits_of(value);
  const uint32_t sign = (bits >> 16) & 0x8000U;
  const uint32_t magnitude = bits & 0x7fffffffU;
  uint32_t half;
  if (magnitude >= ((127U + 16U) << 23)) {
    half = magnitude > 0x7f800000U ? 0x7e00U | ((magnitude >> 13) & 0x03ffU) : 0x7c00U;
  } else if (magnitude >= ((127U - 14U) << 23)) {
    // A carry out of the mantissa rightly moves the exponent, up to infinity.
    half = (magnitude - ((127U - 15U) << 23) + 0x0fffU + ((magnitude >> 13) & 1U)) >> 13;
  } else if (magnitude >= ((127U - 25U) << 23)) {
    // Subnormal: units of 2^-24, so the mantissa moves right by 14 to 24.
    const uint32_t shift = 126U - (magnitude >> 23);
    const uint32_t mantissa = (magnitude & 0x007fffffU) | 0x00800000U;
    half = mantissa >> shift;
    const uint32_t rest = mantissa & ((1U << shift) - 1U);
    const uint32_t tie = 1U << (shift - 1U);
    if (rest > tie || (rest == tie && (half & 1U) != 0)) ++half;
  } else {
    half = 0;
  }
  return static_cast<uint16_t>(sign | half);
#endif
}

ZL_HALF_INLINE float bfloat16_to_float(uint16_t value) {
  const uint32_t bits = static_cast<uint32_t>(value) << 16;
  return float_of((bits & 0x7fffffffU) > 0x7f800000U ? bits | 0x00400000U : bits);
}

ZL_HALF_INLINE uint16_t float_to_bfloat16(float value) {
  const uint32_t bits = bits_of(value);
  if ((bits & 0x7fffffffU) > 0x7f800000U) return static_cast<uint16_t>((bits >> 16) | 0x0040U);
  return static_cast<uint16_t>((bits + 0x7fffU + ((bits >> 16) & 1U)) >> 16);
}

}  // namespace half_bits

// IEEE 754 binary16: 5 exponent bits, 11 of precision, largest number 65504.
struct Half {
  uint16_t bits;

  Half() = default;
  ZL_HALF_INLINE explicit Half(float value) : bits(half_bits::float_to_half(value)) {}
  ZL_HALF_INLINE operator float() const { return half_bits::half_to_float(bits); }
};

// The upper half of a float: 8 exponent bits, 8 of precision.
struct BFloat16 {
  uint16_t bits;

  BFloat16() = default;
  ZL_HALF_INLINE explicit BFloat16(float value) : bits(half_bits::float_to_bfloat16(value)) {}
  ZL_HALF_INLINE operator float() const { return half_bits::bfloat16_to_float(bits); }
};

#undef ZL_HALF_INLINE

static_assert(sizeof(Half) == 2 && sizeof(BFloat16) == 2, "elements of arrays of 16-bit numbers");

}  // namespace zerolane
