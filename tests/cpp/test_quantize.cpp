// SPDX-License-Identifier: Apache-2.0
#include "kernels/quantize.h"

#include <doctest/doctest.h>

#include <bit>
#include <cfenv>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "kernel_isas.h"
#include "kernels/quantize_element.h"

using namespace zerolane;
using namespace zerolane::kernels;

namespace zerolane::kernels {
#define ZL_QUANTIZE(element, Element, integer, Integer)                       \
  ZL_DECLARE_ISA(void, quantize_##element##_##integer,                        \
                 (const Element* x, Integer* y, const QuantizeLayout& layout, \
                  const Element* scale, const Integer* zero_point))           \
  ZL_DECLARE_ISA(void, dequantize_##integer##_##element,                      \
                 (const Integer* x, Element* y, const QuantizeLayout& layout, \
                  const Element* scale, const Integer* zero_point))
ZL_QUANTIZE(float32, float, int8, int8_t)
ZL_QUANTIZE(float32, float, uint8, uint8_t)
ZL_QUANTIZE(float16, Half, int8, int8_t)
ZL_QUANTIZE(float16, Half, uint8, uint8_t)
#undef ZL_QUANTIZE
}  // namespace zerolane::kernels

namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

// The words of the ONNX operators, NaN to the least integer.
template <typename Integer>
Integer quantize_one(float x, float scale, int zero_point) {
  const float quotient = x / scale;
  if (std::isnan(quotient)) return std::numeric_limits<Integer>::min();
  const double shifted = std::nearbyint(static_cast<double>(quotient)) + zero_point;
  const double least = std::numeric_limits<Integer>::min();
  const double most = std::numeric_limits<Integer>::max();
  return static_cast<Integer>(shifted < least ? least : shifted > most ? most : shifted);
}

template <typename Element, typename Integer>
struct Data {
  QuantizeLayout layout;
  std::vector<Element> x;
  std::vector<Element> scale;
  std::vector<Integer> zero_point;
  std::vector<Integer> quantized;
  std::vector<Element> dequantized;
};

template <typename Element, typename Integer>
std::vector<Data<Element, Integer>> data() {
  std::mt19937 random(4711);
  std::uniform_int_distribution<int> integer(std::numeric_limits<Integer>::min(),
                                             std::numeric_limits<Integer>::max());
  std::normal_distribution<float> normal(0, 60);
  std::uniform_real_distribution<float> uniform(0, 1);
  std::vector<Data<Element, Integer>> all;
  for (const QuantizeLayout& layout : std::vector<QuantizeLayout>{{1, 1, 0},
                                                                  {1, 1, 1},
                                                                  {1, 1, 257},
                                                                  {5, 1, 3},
                                                                  {3, 7, 1},
                                                                  {2, 300, 1},
                                                                  {2, 5, 63},
                                                                  {3, 90, 7},
                                                                  {2, 3, 65},
                                                                  {0, 3, 5},
                                                                  {1, 2, 131}}) {
    for (int kind = 0; kind < 4; ++kind) {
      Data<Element, Integer> d{layout, {}, {}, {}, {}, {}};
      for (size_t i = 0; i < layout.axis; ++i) {
        float scale = kind == 0 ? 0.25F : 0.5F + uniform(random);
        // Beyond what is multiplied instead of divided.
        if (kind == 2 && std::is_same_v<Element, float>) scale *= 0x1p-90F;
        d.scale.push_back(static_cast<Element>(scale));
        if (kind != 1) d.zero_point.push_back(static_cast<Integer>(integer(random)));
      }
      for (size_t i = 0; i < layout.outer * layout.axis * layout.inner; ++i) {
        float x = normal(random);
        if (kind == 0) x = std::round(x) * 0.125F;  // many ties
        if (kind == 2 && std::is_same_v<Element, float>) x *= 0x1p-90F;
        if (kind == 3 && uniform(random) < 0.2F) {
          const float special[] = {kInfinity, -kInfinity, std::nanf(""), 6e4F, -6e4F, 0.0F, -0.0F};
          x = special[random() % 7];
        }
        d.x.push_back(static_cast<Element>(x));
        const size_t at = i / layout.inner % layout.axis;
        const int zero = d.zero_point.empty() ? 0 : d.zero_point[at];
        const auto scale = static_cast<float>(d.scale[at]);
        const auto y = quantize_one<Integer>(static_cast<float>(d.x[i]), scale, zero);
        d.quantized.push_back(y);
        d.dequantized.push_back(static_cast<Element>(static_cast<float>(y - zero) * scale));
      }
      all.push_back(std::move(d));
    }
  }
  return all;
}

template <typename Element, typename Integer>
void check_quantize(const char* isa,
                    void (*function)(const Element*, Integer*, const QuantizeLayout&,
                                     const Element*, const Integer*)) {
  CAPTURE(isa);
  for (const auto& d : data<Element, Integer>()) {
    std::vector<Integer> y(d.x.size() + 1, Integer(77));
    function(d.x.data(), y.data(), d.layout, d.scale.data(),
             d.zero_point.empty() ? nullptr : d.zero_point.data());
    for (size_t i = 0; i < d.x.size(); ++i) {
      CAPTURE(static_cast<float>(d.x[i]));
      REQUIRE(static_cast<int>(y[i]) == static_cast<int>(d.quantized[i]));
    }
    REQUIRE(static_cast<int>(y.back()) == 77);
  }
}

template <typename Element, typename Integer>
void check_dequantize(const char* isa,
                      void (*function)(const Integer*, Element*, const QuantizeLayout&,
                                       const Element*, const Integer*)) {
  CAPTURE(isa);
  for (const auto& d : data<Element, Integer>()) {
    std::vector<Element> y(d.x.size() + 1, static_cast<Element>(77.0F));
    function(d.quantized.data(), y.data(), d.layout, d.scale.data(),
             d.zero_point.empty() ? nullptr : d.zero_point.data());
    for (size_t i = 0; i < d.x.size(); ++i) {
      REQUIRE(static_cast<float>(y[i]) == static_cast<float>(d.dequantized[i]));
    }
    REQUIRE(static_cast<float>(y.back()) == 77.0F);
  }
}

}  // namespace

TEST_CASE("quantizing is what ONNX says, on every instruction set") {
  ZL_FOR_EACH_ISA(quantize_float32_int8, (check_quantize<float, int8_t>));
  ZL_FOR_EACH_ISA(quantize_float32_uint8, (check_quantize<float, uint8_t>));
  ZL_FOR_EACH_ISA(quantize_float16_int8, (check_quantize<Half, int8_t>));
  ZL_FOR_EACH_ISA(quantize_float16_uint8, (check_quantize<Half, uint8_t>));
}

TEST_CASE("dequantizing is what ONNX says, on every instruction set") {
  ZL_FOR_EACH_ISA(dequantize_int8_float32, (check_dequantize<float, int8_t>));
  ZL_FOR_EACH_ISA(dequantize_uint8_float32, (check_dequantize<float, uint8_t>));
  ZL_FOR_EACH_ISA(dequantize_int8_float16, (check_dequantize<Half, int8_t>));
  ZL_FOR_EACH_ISA(dequantize_uint8_float16, (check_dequantize<Half, uint8_t>));
}

// Where rounding changes, next to every place and for a sample of the mantissas of scales.
TEST_CASE("multiplying instead of dividing rounds the same") {
  for (uint32_t mantissa = 0; mantissa < (1U << 23); mantissa += 100'003) {
    const auto scale = std::bit_cast<float>(0x3f800000U | mantissa);
    std::vector<float> x;
    for (int k = 0; k < 256; ++k) {
      const float tie = scale * (static_cast<float>(k) + 0.5F);
      for (int step = -3; step <= 3; ++step) {
        x.push_back(
            std::bit_cast<float>(std::bit_cast<uint32_t>(tie) + static_cast<uint32_t>(step)));
        x.push_back(-x.back());
      }
    }
    std::vector<int8_t> y(x.size());
    const int8_t zero_point = mantissa % 2 == 0 ? int8_t{-128} : int8_t{127};
    quantize(x.data(), y.data(), {1, 1, x.size()}, &scale, &zero_point);
    for (size_t i = 0; i < x.size(); ++i) {
      REQUIRE(y[i] == quantize_one<int8_t>(x[i], scale, zero_point));
    }
  }
}

TEST_CASE("a symmetric scale is found among finite elements") {
  for (size_t n = 0; n < 150; ++n) {
    std::vector<float> x(n, 0.5F);
    std::vector<Half> half(n, static_cast<Half>(0.5F));
    if (n > 3) {
      x[n / 2] = -12.7F;
      half[n / 2] = static_cast<Half>(-12.7F);
      x[n - 1] = kInfinity;
      half[0] = static_cast<Half>(std::nanf(""));
    }
    const float expected = n > 3 ? 12.7F / 127.0F : n > 0 ? 0.5F / 127.0F : 1.0F;
    CHECK(symmetric_scale(x.data(), n) == expected);
    CHECK(static_cast<float>(symmetric_scale(half.data(), n)) ==
          doctest::Approx(static_cast<double>(expected)).epsilon(1e-3));
  }
  const float zeros[3] = {0.0F, -0.0F, std::nanf("")};
  CHECK(symmetric_scale(zeros, 3) == 1.0F);
}
