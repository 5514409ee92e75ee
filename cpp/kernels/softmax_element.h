// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernels/exp_element.h"

namespace zerolane::kernels {

// e^((x - most) / temperature): what softmax divides by the sum of.
template <typename F>
ZL_ELEMENT F softmax_weight(F x, float most, float inverse_temperature) {
  const F exponent = (x - most) * inverse_temperature;
  return exp_of_negative_32(exponent < kExpLeast32 ? F{} + kExpLeast32 : exponent, F{});
}

}  // namespace zerolane::kernels
