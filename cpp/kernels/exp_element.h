// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernels/element.h"

namespace zerolane::kernels {

// e^(x + rest) for kExpLeast <= x <= 0, where `rest` is a correction of at most 2^-8 in size. At
// kExpLeast the result is 0, and it may be 0 wherever it is below the normal numbers. NaN gives
// NaN. _32 is for floats, _64 for doubles.
//
// e^x = 2^n e^r, n = round(x / ln 2), |r| <= ln(2)/2, e^r by the minimax polynomial for the
// relative error. n is found by adding 1.5 * 2^23 (2^52): it is then in the last bits of the sum,
// biased as in an exponent. ln 2 is split so that n times its upper part is exact.
//
// Error in normal results: at most 1.5 ulp; tests measure it.
inline constexpr float kExpLeast32 = -88.0F;   // n = -127
inline constexpr double kExpLeast64 = -709.0;  // n = -1023

template <typename F>
ZL_ELEMENT F exp_of_negative_32(F x, F rest) {
  constexpr float kMagic = 12582912.0F + 127.0F;
  const F sum = x * 1.44269504F + kMagic;
  const F n = sum - kMagic;
  const F r = (x - n * 0.693359375F) + (n * 2.12194440e-4F + rest);
  F p = r * 1.381392696e-3F + 8.369407519e-3F;
  p = p * r + 0.0416684448F;
  p = p * r + 0.1666651487F;
  p = p * r + 0.49999993076F;
  p = p * r + 1.0F;
  p = p * r + 1.0F;
  return p * from_bits<F>(to_bits(sum) << 23);
}

template <typename F>
ZL_ELEMENT F exp_of_negative_64(F x, F rest) {
  constexpr double kMagic = 6755399441055744.0 + 1023.0;
  const F sum = x * 1.4426950408889634 + kMagic;
  const F n = sum - kMagic;
  const F r = (x - n * 0.693147180369123816490) + (rest - n * 1.90821492927058770002e-10);
  F p = r * 2.4998411300772816e-8 + 2.76316804887637507e-7;
  p = p * r + 2.75575994623194446e-6;
  p = p * r + 2.48014893769544289e-5;
  p = p * r + 1.98412694829712495e-4;
  p = p * r + 0.0013888888946885439;
  p = p * r + 0.00833333333350951847;
  p = p * r + 0.0416666666665193592;
  p = p * r + 0.166666666666663826;
  p = p * r + 0.500000000000001166;
  p = p * r + 1.0;
  p = p * r + 1.0;
  return p * from_bits<F>(to_bits(sum) << 52);
}

// e^(-a^2/2) for 0 <= a <= kNormalMost, the square taken exactly, since its rounding would be
// magnified; 0 at kNormalMost. Without fused multiplication, a is split into its upper digits h,
// whose square is exact, and the rest: a^2 = h^2 + (a - h)(a + h).
inline constexpr float kNormalMost32 = 13.27F;
inline constexpr double kNormalMost64 = 37.656;

template <typename F>
ZL_ELEMENT F exp_of_half_square_32(F a) {
#if ZL_HAS_FMA
  const F half = a * -0.5F;
  const F square = half * a;
  return exp_of_negative_32(square, Lane<F>::fused(half, a, -square));
#else
  const F h = from_bits<F>(to_bits(a) & 0xfffff000U);
  return exp_of_negative_32(h * h * -0.5F, (a - h) * (a + h) * -0.5F);
#endif
}

template <typename F>
ZL_ELEMENT F exp_of_half_square_64(F a) {
#if ZL_HAS_FMA
  const F half = a * -0.5;
  const F square = half * a;
  return exp_of_negative_64(square, Lane<F>::fused(half, a, -square));
#else
  const F h = from_bits<F>(to_bits(a) & 0xfffffffff8000000U);
  return exp_of_negative_64(h * h * -0.5, (a - h) * (a + h) * -0.5);
#endif
}

}  // namespace zerolane::kernels
