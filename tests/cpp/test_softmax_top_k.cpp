// SPDX-License-Identifier: Apache-2.0
#include "kernels/softmax_top_k.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <random>
#include <vector>

#include "kernel_isas.h"
#include "kernels/softmax_top_k_block.h"

using namespace zerolane;
using namespace zerolane::kernels;

namespace zerolane::kernels {
ZL_DECLARE_ISA(void, softmax_top_k_float32,
               (const float* logits, float* probability, int64_t* index, size_t rows,
                size_t classes, size_t k, float temperature, uint64_t* scratch))
ZL_DECLARE_ISA(void, softmax_top_k_float16,
               (const Half* logits, Half* probability, int64_t* index, size_t rows, size_t classes,
                size_t k, float temperature, uint64_t* scratch))
ZL_DECLARE_ISA(void, softmax_top_k_bfloat16,
               (const BFloat16* logits, BFloat16* probability, int64_t* index, size_t rows,
                size_t classes, size_t k, float temperature, uint64_t* scratch))
}  // namespace zerolane::kernels

namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

template <typename Element>
struct Case {
  size_t rows, classes, k;
  float temperature;
  std::vector<Element> logits;
  std::vector<double> probability;
  std::vector<int64_t> index;
};

// What the contract says, in double and with a stable sort.
template <typename Element>
Case<Element> reference(size_t rows, size_t classes, size_t k, float temperature,
                        std::vector<Element> logits) {
  Case<Element> c{rows, classes, k, temperature, std::move(logits), {}, {}};
  for (size_t row = 0; row < rows; ++row) {
    std::vector<double> x(classes);
    for (size_t i = 0; i < classes; ++i) {
      x[i] = static_cast<double>(static_cast<float>(c.logits[row * classes + i]));
    }
    std::vector<int64_t> order(classes);
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) {
      return !std::isnan(x[a]) && (std::isnan(x[b]) || x[a] > x[b]);
    });
    const double most = x[order[0]];
    double sum = 0;
    for (const double value : x) sum += std::exp((value - most) / temperature);
    for (size_t j = 0; j < k; ++j) {
      c.index.push_back(order[j]);
      c.probability.push_back(std::exp((x[order[j]] - most) / temperature) / sum);
    }
  }
  return c;
}

template <typename Element>
std::vector<Case<Element>> cases() {
  std::mt19937 random(20240607);
  std::vector<Case<Element>> all;
  struct Size {
    size_t rows, classes, k;
  };
  for (const Size& size : std::vector<Size>{{1, 1, 1},
                                            {3, 2, 2},
                                            {2, 7, 5},
                                            {3, 64, 64},
                                            {2, 65, 3},
                                            {2, 127, 17},
                                            {1, 1000, 5},
                                            {2, 1000, 1000},
                                            {1, 1023, 300},
                                            {1, 20011, 50}}) {
    for (int kind = 0; kind < 8; ++kind) {
      std::normal_distribution<float> normal(0, 3);
      std::uniform_real_distribution<float> uniform(0, 1);
      std::vector<float> x(size.rows * size.classes);
      for (float& value : x) {
        value = normal(random);
        const float chance = uniform(random);
        if (kind == 1) value = std::round(value);  // many equal
        if (kind == 2 && chance < 0.3F) value = std::nanf("");
        if (kind == 3 && chance < 0.4F) value = -kInfinity;
        if (kind == 4) value = chance < 0.5F ? 0.0F : -0.0F;
        if (kind == 5) value = chance < 0.9F ? std::nanf("") : -kInfinity;
        if (kind == 6 && chance < 0.01F) value = kInfinity;
      }
      if (kind == 7) std::sort(x.begin(), x.end());
      std::vector<Element> logits;
      for (const float value : x) logits.push_back(static_cast<Element>(value));
      all.push_back(reference(size.rows, size.classes, size.k, kind == 7 ? 2.5F : 1.0F, logits));
    }
  }
  return all;
}

template <typename Element>
void check(const Case<Element>& c, const std::vector<Element>& probability,
           const std::vector<int64_t>& index) {
  CAPTURE(c.classes);
  CAPTURE(c.k);
  constexpr double kRounding = std::is_same_v<Element, float>  ? 0
                               : std::is_same_v<Element, Half> ? 0x1p-11
                                                               : 0x1p-8;
  for (size_t j = 0; j < c.index.size(); ++j) {
    REQUIRE(index[j] == c.index[j]);
    const double got = static_cast<double>(static_cast<float>(probability[j]));
    const double expected = c.probability[j];
    if (std::isnan(expected)) {
      REQUIRE(std::isnan(got));
      continue;
    }
    // The bound of the header, with |x - m| / temperature from the probability; then the smallest
    // numbers of the element type.
    const double exponent = expected > 0 ? -std::log(expected) : 0;
    const double bound = (4 + exponent) * 0x1p-24 + kRounding;
    REQUIRE(std::abs(got - expected) <= bound * expected + (kRounding > 0 ? 3e-8 : 1e-37));
  }
}

template <typename Element>
void check_kernel(const char* isa, void (*function)(const Element*, Element*, int64_t*, size_t,
                                                    size_t, size_t, float, uint64_t*)) {
  CAPTURE(isa);
  for (const Case<Element>& c : cases<Element>()) {
    for (const bool with_scratch : {false, true}) {
      std::vector<uint64_t> scratch(c.classes);
      std::vector<Element> probability(c.rows * c.k);
      std::vector<int64_t> index(c.rows * c.k, -7);
      function(c.logits.data(), probability.data(), index.data(), c.rows, c.classes, c.k,
               c.temperature, with_scratch ? scratch.data() : nullptr);
      check(c, probability, index);
    }
  }
}

template <typename Element>
void check_block() {
  for (const Case<Element>& c : cases<Element>()) {
    std::vector<Element> probability(c.rows * c.k);
    std::vector<int64_t> index(c.rows * c.k, -7);
    const SoftmaxTopKRow<Element> row_of{c.logits.data(),
                                         probability.data(),
                                         index.data(),
                                         static_cast<int64_t>(c.classes),
                                         static_cast<int64_t>(c.k),
                                         1.0F / c.temperature};
    typename SoftmaxTopKRow<Element>::Shared shared;
    for (size_t row = 0; row < c.rows; ++row) {
      row_of(HostBlock{}, static_cast<int64_t>(row), &shared);
    }
    check(c, probability, index);
  }
}

}  // namespace

TEST_CASE("softmax with top k keeps its contract on the CPU") {
  ZL_FOR_EACH_ISA(softmax_top_k_float32, check_kernel<float>);
  ZL_FOR_EACH_ISA(softmax_top_k_float16, check_kernel<Half>);
  ZL_FOR_EACH_ISA(softmax_top_k_bfloat16, check_kernel<BFloat16>);
}

TEST_CASE("softmax with top k keeps its contract as a block of GPU threads") {
  check_block<float>();
  check_block<Half>();
  check_block<BFloat16>();
}

TEST_CASE("sorted, reversed and equal logits are no trouble for top k") {
  constexpr size_t kClasses = 30011;
  for (const int step : {1, -1, 0}) {
    std::vector<float> x(kClasses);
    for (size_t i = 0; i < kClasses; ++i) x[i] = static_cast<float>(step) * static_cast<float>(i);
    std::vector<float> probability(kClasses);
    std::vector<int64_t> index(kClasses);
    std::vector<uint64_t> scratch(softmax_top_k_scratch(kClasses, kClasses) / sizeof(uint64_t));
    REQUIRE(scratch.size() == kClasses);
    softmax_top_k(x.data(), probability.data(), index.data(), 1, kClasses, kClasses, 1.0F,
                  scratch.data());
    for (size_t j = 0; j < kClasses; ++j) {
      REQUIRE(index[j] == static_cast<int64_t>(step > 0 ? kClasses - 1 - j : j));
    }
  }
}
