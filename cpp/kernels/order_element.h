// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "kernels/element.h"

namespace zerolane::kernels {

// Numbers as unsigned integers in the same order: NaN is least, 0 and -0 are one.
ZL_ELEMENT uint32_t order_of(float x) {
  const uint32_t bits = to_bits(x + 0.0F);  // -0 + 0 = 0
  const uint32_t ordered = (bits & 0x80000000U) != 0 ? ~bits : bits | 0x80000000U;
  return x == x ? ordered : 0U;
}

// The number again; of NaN, a NaN.
ZL_ELEMENT float value_of(uint32_t order) {
  return from_bits<float>((order & 0x80000000U) != 0 ? order & 0x7fffffffU : ~order);
}

// An element and its place as one integer: of two, the larger integer comes first when sorted by
// value, largest first, and equal values by place, lowest first.
ZL_ELEMENT uint64_t rank_key(float x, uint32_t place) {
  return static_cast<uint64_t>(order_of(x)) << 32 | ~place;
}

ZL_ELEMENT uint32_t place_of(uint64_t key) { return ~static_cast<uint32_t>(key); }

}  // namespace zerolane::kernels
