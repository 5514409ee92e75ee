// SPDX-License-Identifier: Apache-2.0
#include "kernels/ctc_greedy.h"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "kernel_isas.h"
#include "kernels/ctc_greedy_block.h"

using namespace zerolane;
using namespace zerolane::kernels;

namespace zerolane::kernels {
ZL_DECLARE_ISA(size_t, ctc_greedy_float32,
               (const float* x, size_t steps, size_t stride, size_t classes, int64_t blank,
                bool merge_repeats, int64_t* labels, float* score))
ZL_DECLARE_ISA(size_t, ctc_greedy_float16,
               (const Half* x, size_t steps, size_t stride, size_t classes, int64_t blank,
                bool merge_repeats, int64_t* labels, float* score))
ZL_DECLARE_ISA(size_t, ctc_greedy_bfloat16,
               (const BFloat16* x, size_t steps, size_t stride, size_t classes, int64_t blank,
                bool merge_repeats, int64_t* labels, float* score))
}  // namespace zerolane::kernels

namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

template <typename Element>
struct Case {
  size_t steps, stride, classes;
  int64_t blank;
  bool merge_repeats;
  std::vector<Element> x;
  std::vector<int64_t> labels;
  double score;
};

template <typename Element>
Case<Element> reference(Case<Element> c) {
  int64_t before = -1;
  c.score = 0;
  for (size_t step = 0; step < c.steps; ++step) {
    const Element* x = c.x.data() + step * c.stride;
    size_t best = 0;
    for (size_t i = 1; i < c.classes; ++i) {
      const auto value = static_cast<float>(x[i]);
      const auto held = static_cast<float>(x[best]);
      if (value > held || (std::isnan(held) && !std::isnan(value))) best = i;
    }
    c.score += static_cast<double>(static_cast<float>(x[best]));
    const auto label = static_cast<int64_t>(best);
    if (label != c.blank && !(c.merge_repeats && label == before)) c.labels.push_back(label);
    before = label;
  }
  return c;
}

template <typename Element>
std::vector<Case<Element>> cases() {
  std::mt19937 random(77);
  std::vector<Case<Element>> all;
  for (const size_t steps : {size_t{0}, size_t{1}, size_t{7}, size_t{256}, size_t{601}}) {
    for (const size_t classes :
         {size_t{1}, size_t{2}, size_t{5}, size_t{29}, size_t{64}, size_t{131}}) {
      for (int kind = 0; kind < 5; ++kind) {
        Case<Element> c{
            steps,     classes + (kind == 1 ? 3U : 0U),
            classes,   static_cast<int64_t>(kind == 2 ? classes - 1 : kind == 3 ? classes + 4 : 0),
            kind != 4, {},
            {},        0};
        std::normal_distribution<float> normal(-2, 1);
        std::uniform_real_distribution<float> uniform(0, 1);
        for (size_t i = 0; i < steps * c.stride; ++i) {
          float value = std::round(normal(random) * 2);  // many equal
          if (kind == 2 && uniform(random) < 0.7F) value = std::nanf("");
          if (kind == 3 && uniform(random) < 0.7F) value = -kInfinity;
          if (i % c.stride == 0 && uniform(random) < 0.5F) value = 3;  // runs of one class
          c.x.push_back(static_cast<Element>(value));
        }
        all.push_back(reference(std::move(c)));
      }
    }
  }
  return all;
}

template <typename Element>
void check(const Case<Element>& c, size_t count, const int64_t* labels, float score) {
  CAPTURE(c.steps);
  CAPTURE(c.classes);
  REQUIRE(count == c.labels.size());
  for (size_t i = 0; i < count; ++i) REQUIRE(labels[i] == c.labels[i]);
  if (std::isnan(c.score)) {
    REQUIRE(std::isnan(score));
  } else if (std::isinf(c.score)) {
    REQUIRE(static_cast<double>(score) == c.score);
  } else {
    REQUIRE(static_cast<double>(score) == doctest::Approx(c.score).epsilon(1e-6));
  }
}

template <typename Element>
void check_kernel(const char* isa, size_t (*function)(const Element*, size_t, size_t, size_t,
                                                      int64_t, bool, int64_t*, float*)) {
  CAPTURE(isa);
  for (const Case<Element>& c : cases<Element>()) {
    std::vector<int64_t> labels(c.steps + 1, -7);
    float score = -7;
    const size_t count = function(c.x.data(), c.steps, c.stride, c.classes, c.blank,
                                  c.merge_repeats, labels.data(), &score);
    check(c, count, labels.data(), score);
    REQUIRE(labels[c.steps] == -7);
  }
}

template <typename Element>
void check_block() {
  for (const Case<Element>& c : cases<Element>()) {
    std::vector<int64_t> labels(c.steps + 1, -7);
    int64_t count = -7;
    float score = -7;
    // The length is cut to what there is.
    const auto length = static_cast<int64_t>(c.steps + 5);
    typename CtcGreedyRow<Element>::Shared shared;
    const CtcGreedyRow<Element> row{c.x.data(),
                                    0,
                                    static_cast<int64_t>(c.stride),
                                    static_cast<int64_t>(c.steps),
                                    static_cast<int64_t>(c.classes),
                                    c.blank,
                                    c.merge_repeats,
                                    &length,
                                    labels.data(),
                                    &count,
                                    &score};
    row(HostBlock{}, 0, &shared);
    check(c, static_cast<size_t>(count), labels.data(), score);
    for (size_t i = c.labels.size(); i < c.steps; ++i) REQUIRE(labels[i] == -1);
    REQUIRE(labels[c.steps] == -7);
  }
}

}  // namespace

TEST_CASE("greedy CTC decoding keeps its contract on the CPU") {
  ZL_FOR_EACH_ISA(ctc_greedy_float32, check_kernel<float>);
  ZL_FOR_EACH_ISA(ctc_greedy_float16, check_kernel<Half>);
  ZL_FOR_EACH_ISA(ctc_greedy_bfloat16, check_kernel<BFloat16>);
}

TEST_CASE("greedy CTC decoding keeps its contract as a block of GPU threads") {
  check_block<float>();
  check_block<Half>();
  check_block<BFloat16>();
}

TEST_CASE("labels of several sequences are put one behind the other") {
  constexpr int64_t kSequences = 300;
  constexpr int64_t kSteps = 7;
  std::vector<int64_t> labels(kSequences * kSteps, -1);
  std::vector<int64_t> counts(kSequences);
  std::vector<int64_t> values;
  std::vector<int64_t> splits{0};
  for (int64_t row = 0; row < kSequences; ++row) {
    counts[row] = row * row % (kSteps + 1);
    for (int64_t i = 0; i < counts[row]; ++i) {
      labels[row * kSteps + i] = 1000 * row + i;
      values.push_back(1000 * row + i);
    }
    splits.push_back(static_cast<int64_t>(values.size()));
  }
  std::vector<int64_t> got(values.size() + 1, -7);
  std::vector<int64_t> got_splits(kSequences + 1, -7);
  int64_t total = -7;
  const CtcFlattenRow flatten{labels.data(), counts.data(),     kSequences, kSteps,
                              got.data(),    got_splits.data(), &total};
  CtcFlattenRow::Shared shared;
  for (int64_t row = 0; row <= kSequences; ++row) flatten(HostBlock{}, row, &shared);
  CHECK(total == static_cast<int64_t>(values.size()));
  CHECK(got.back() == -7);
  got.pop_back();
  CHECK(got == values);
  CHECK(got_splits == splits);
}
