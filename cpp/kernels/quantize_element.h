// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "kernels/element.h"

namespace zerolane::kernels {

template <typename Integer>
struct IntegerRange;
template <>
struct IntegerRange<int8_t> {
  static constexpr float kLeast = -128.0F;
  static constexpr float kMost = 127.0F;
};
template <>
struct IntegerRange<uint8_t> {
  static constexpr float kLeast = 0.0F;
  static constexpr float kMost = 255.0F;
};

// A quotient to the integer that is stored, in a signed integer for each lane (as Bits<F>). Cut to
// [least, most] first, NaN to least; then adding 1.5 * 2^23 leaves the rounded number in the last
// bits. `least` and `most` are the ends of the integer's range less the zero point.
template <typename F>
ZL_ELEMENT Bits<F> quantized(F quotient, F least, F most, F zero_point) {
  constexpr float kMagic = 12582912.0F;
  const F above = quotient > least ? quotient : least;
  const F cut = above < most ? above : most;
  return to_bits(cut + kMagic) + (to_bits(zero_point + kMagic) - 2 * 0x4b400000U);
}

// A quotient x / scale that quantized() rounds as it does the division's, from the rounded
// reciprocal of a scale for which may_multiply() holds: the error of the first quotient, exact by
// fused multiplication, corrects it (after Markstein 1990). Compared with the division for all 2^23
// mantissas of scales, with the floats next to each of the 384 places where rounding changes: no
// difference in 22.5 billion. NaN stays NaN.
template <typename F>
ZL_ELEMENT F corrected_quotient(F x, F scale, F reciprocal, F least, F most) {
  const F first = x * reciprocal;
  const F above = first > least ? first : least;  // else inf - inf might follow
  const F cut = above < most ? above : most;
  return Lane<F>::fused(Lane<F>::fused(-cut, scale, x), reciprocal, cut);
}

// Far enough from the ends of the exponents that nothing in a corrected quotient overflows or
// vanishes.
ZL_ELEMENT bool may_multiply(float scale) { return scale > 0x1p-60F && scale < 0x1p60F; }

// symmetric_scale() of tensors whose largest finite size is this.
template <typename Element>
ZL_ELEMENT Element scale_of_size(float largest) {
  const auto scale = static_cast<Element>(largest / 127.0F);
  return static_cast<float>(scale) > 0.0F ? scale : static_cast<Element>(1.0F);
}

}  // namespace zerolane::kernels
