// SPDX-License-Identifier: Apache-2.0
#include "kernels/half.h"

#include <doctest/doctest.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "kernel_isas.h"

using namespace zerolane;

namespace zerolane::kernels {
ZL_DECLARE_ISA(void, half_to_float, (const Half* x, float* y, size_t n))
ZL_DECLARE_ISA(void, float_to_half, (const float* x, Half* y, size_t n))
ZL_DECLARE_ISA(void, bfloat16_to_float, (const BFloat16* x, float* y, size_t n))
ZL_DECLARE_ISA(void, float_to_bfloat16, (const float* x, BFloat16* y, size_t n))
}  // namespace zerolane::kernels

namespace {

template <class T>
T from_bits(unsigned bits) {
  return std::bit_cast<T>(static_cast<uint16_t>(bits));
}

// From the definition of a format with a sign, `exponent_bits` and the rest: exact in double.
double meaning(unsigned bits, int exponent_bits) {
  const int mantissa_bits = 15 - exponent_bits;
  const int bias = (1 << (exponent_bits - 1)) - 1;
  const auto exponent = static_cast<int>((bits & 0x7fffU) >> mantissa_bits);
  const auto mantissa = static_cast<int>(bits & ((1U << mantissa_bits) - 1U));
  const double sign = (bits & 0x8000U) != 0 ? -1.0 : 1.0;
  if (exponent == (1 << exponent_bits) - 1) {
    return mantissa != 0 ? std::nan("") : sign * std::numeric_limits<double>::infinity();
  }
  if (exponent == 0) return sign * std::ldexp(mantissa, 1 - bias - mantissa_bits);
  return sign * std::ldexp((1 << mantissa_bits) + mantissa, exponent - bias - mantissa_bits);
}

template <class T>
void check_every_number(int exponent_bits) {
  for (unsigned bits = 0; bits < 0x10000U; ++bits) {
    const auto value = static_cast<float>(from_bits<T>(bits));
    const double expected = meaning(bits, exponent_bits);
    CAPTURE(bits);
    if (std::isnan(expected)) {
      REQUIRE(std::isnan(value));
      REQUIRE(std::signbit(value) == ((bits & 0x8000U) != 0));
      const unsigned quiet = 1U << (14 - exponent_bits);
      REQUIRE(static_cast<T>(value).bits == (bits | quiet));
    } else {
      REQUIRE(static_cast<double>(value) == expected);
      REQUIRE(std::signbit(value) == std::signbit(expected));
      REQUIRE(static_cast<T>(value).bits == bits);
    }
  }
}

// Between two neighbours: the halfway point goes to the even one, its neighbours to the nearer one.
template <class T>
void check_rounding(int exponent_bits) {
  const unsigned infinity = ((1U << exponent_bits) - 1U) << (15 - exponent_bits);
  for (unsigned sign = 0; sign <= 0x8000U; sign += 0x8000U) {
    for (unsigned low = 0; low < infinity; ++low) {
      const double below = meaning(low, exponent_bits);
      // Rounding treats infinity as the next number of a format without an upper end.
      const double above = low + 1 == infinity ? 2 * below - meaning(low - 1, exponent_bits)
                                               : meaning(low + 1, exponent_bits);
      const double middle = (below + above) / 2;
      const auto tie = static_cast<float>(middle);
      CAPTURE(low);
      const auto rounded = [&](float value) {
        return static_cast<T>(sign != 0 ? -value : value).bits;
      };
      if (static_cast<double>(tie) == middle) {
        REQUIRE(rounded(tie) == (sign | (low + (low & 1U))));
        REQUIRE(rounded(std::nextafter(tie, 0.0F)) == (sign | low));
        REQUIRE(rounded(std::nextafter(tie, std::numeric_limits<float>::infinity())) ==
                (sign | (low + 1U)));
      } else {
        // The upper end of bfloat16, or a point below the smallest float.
        REQUIRE(exponent_bits == 8);
      }
    }
    const float largest = std::numeric_limits<float>::max();
    REQUIRE(static_cast<T>(sign != 0 ? -largest : largest).bits == (sign | infinity));
  }
}

std::vector<float> floats_of_every_kind() {
  std::vector<float> values;
  for (uint64_t bits = 0; bits < (uint64_t{1} << 32); bits += 65521) {
    values.push_back(std::bit_cast<float>(static_cast<uint32_t>(bits)));
  }
  return values;
}

template <class T>
void check_arrays_to_float(const char* isa, void (*convert)(const T*, float*, size_t)) {
  CAPTURE(isa);
  std::vector<T> x(0x10000);
  for (unsigned bits = 0; bits < 0x10000U; ++bits) x[bits] = from_bits<T>(bits);
  std::vector<float> y(x.size());
  convert(x.data(), y.data(), x.size());
  for (size_t i = 0; i < x.size(); ++i) {
    REQUIRE(std::bit_cast<uint32_t>(y[i]) == std::bit_cast<uint32_t>(static_cast<float>(x[i])));
  }
  for (size_t n = 0; n < 71; ++n) {
    std::vector<float> odd(n + 1, -7.0F);
    convert(x.data() + 15361 + n, odd.data(), n);
    for (size_t i = 0; i < n; ++i) REQUIRE(odd[i] == static_cast<float>(x[15361 + n + i]));
    REQUIRE(odd[n] == -7.0F);
  }
}

template <class T>
void check_arrays_from_float(const char* isa, void (*convert)(const float*, T*, size_t)) {
  CAPTURE(isa);
  const std::vector<float> x = floats_of_every_kind();
  std::vector<T> y(x.size());
  convert(x.data(), y.data(), x.size());
  for (size_t i = 0; i < x.size(); ++i) {
    CAPTURE(std::bit_cast<uint32_t>(x[i]));
    REQUIRE(y[i].bits == static_cast<T>(x[i]).bits);
  }
  for (size_t n = 0; n < 71; ++n) {
    std::vector<T> odd(n + 1, from_bits<T>(0x1234));
    convert(x.data() + 101 + n, odd.data(), n);
    for (size_t i = 0; i < n; ++i) REQUIRE(odd[i].bits == static_cast<T>(x[101 + n + i]).bits);
    REQUIRE(odd[n].bits == 0x1234);
  }
}

}  // namespace

TEST_CASE("16-bit numbers have the meaning of their format") {
  check_every_number<Half>(5);
  check_every_number<BFloat16>(8);
}

TEST_CASE("floats round to the nearest 16-bit number, ties to even") {
  check_rounding<Half>(5);
  check_rounding<BFloat16>(8);
}

TEST_CASE("arrays of 16-bit numbers convert as single ones do") {
  ZL_FOR_EACH_ISA(half_to_float, check_arrays_to_float<Half>);
  ZL_FOR_EACH_ISA(bfloat16_to_float, check_arrays_to_float<BFloat16>);
  ZL_FOR_EACH_ISA(float_to_half, check_arrays_from_float<Half>);
  ZL_FOR_EACH_ISA(float_to_bfloat16, check_arrays_from_float<BFloat16>);
}
