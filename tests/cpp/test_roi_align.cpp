// SPDX-License-Identifier: Apache-2.0
#include "kernels/roi_align.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <vector>

#include "kernel_isas.h"
#include "kernels/roi_align_element.h"
#include "kernels/roi_align_vector.h"

using namespace zerolane;
using namespace zerolane::kernels;

namespace {

constexpr int64_t kMaps = 2;

// Inside, across each side, outside, inverted, of no size, of one pixel, over all, far, not finite.
std::vector<float> boxes() {
  const float huge = std::numeric_limits<float>::max();
  const float infinite = std::numeric_limits<float>::infinity();
  const float nan = std::numeric_limits<float>::quiet_NaN();
  return {1,     2,        9,    8,    -5.5F, -4,   3,    3,    8,     7,     40,   30,
          50,    60,       70,   80,   9,     8,    2,    1,    4,     4,     4,    4,
          3.25F, 2.5F,     4,    3.5F, 0,     0,    17,   11,   -1e6F, -1e6F, 1e6F, 1e6F,
          -huge, -huge,    huge, huge, 1e9F,  1e9F, 2e9F, 2e9F, nan,   0,     5,    5,
          0,     infinite, 5,    5,    -1e4F, 3,    20,   5,    15.9F, 10.9F, 16,   11};
}

std::vector<RoiAlign> cases() {
  std::vector<RoiAlign> all;
  for (const auto pooling : {RoiPooling::kAverage, RoiPooling::kMax}) {
    for (const bool half_pixel : {true, false}) {
      for (const int ratio : {0, 1, 2, 3}) {
        for (const float scale : {1.0F, 0.3125F}) {
          all.push_back({pooling, ratio, half_pixel, scale, 3, 11, 17, 7, 7});
          all.push_back({pooling, ratio, half_pixel, scale, 1, 1, 1, 3, 2});
          all.push_back({pooling, ratio, half_pixel, scale, 2, 23, 61, 5, 17});
          all.push_back({pooling, ratio, half_pixel, scale, 2, 61, 5, 1, 9});
        }
      }
    }
  }
  return all;
}

template <class Element>
std::vector<Element> numbers(int64_t count) {
  std::mt19937 random(11);
  std::normal_distribution<float> normal;
  std::vector<Element> all(static_cast<size_t>(count));
  for (auto& number : all) number = static_cast<Element>(normal(random));
  return all;
}

// By the arithmetic that a GPU runs.
template <class Element>
std::vector<float> by_element(const RoiAlign& what, const std::vector<Element>& maps,
                              const std::vector<Element>& all_boxes,
                              const std::vector<int64_t>& map) {
  std::vector<float> pooled;
  for (size_t i = 0; i < map.size(); ++i) {
    const Element* box = all_boxes.data() + 4 * i;
    const RoiAxis rows = roi_axis(what, static_cast<float>(box[1]), static_cast<float>(box[3]),
                                  what.out_height, what.height);
    const RoiAxis columns = roi_axis(what, static_cast<float>(box[0]), static_cast<float>(box[2]),
                                     what.out_width, what.width);
    for (int64_t c = 0; c < what.channels; ++c) {
      const Element* from = maps.data() + (map[i] * what.channels + c) * what.height * what.width;
      for (int32_t y = 0; y < what.out_height; ++y) {
        for (int32_t x = 0; x < what.out_width; ++x) {
          pooled.push_back(roi_align_element(what, from, rows, columns, y, x));
        }
      }
    }
  }
  return pooled;
}

template <class Element>
void check(RoiBody<Element> body, const RoiAlign& what, float tolerance) {
  std::vector<Element> all_boxes;
  for (const float side : boxes()) all_boxes.push_back(static_cast<Element>(side));
  std::vector<int64_t> map(all_boxes.size() / 4);
  for (size_t i = 0; i < map.size(); ++i) map[i] = static_cast<int64_t>(i) % kMaps;
  const auto maps = numbers<Element>(kMaps * what.channels * what.height * what.width);
  const auto expected = by_element(what, maps, all_boxes, map);
  std::vector<unsigned char> scratch(roi_align_scratch(what) + 64);
  void* aligned = scratch.data() + (64 - reinterpret_cast<uintptr_t>(scratch.data()) % 64) % 64;
  std::vector<Element> found(expected.size(), Element(std::nanf("")));
  roi_align_by(body, what, maps.data(), all_boxes.data(), map.data(),
               static_cast<int64_t>(map.size()), found.data(), aligned);
  for (size_t i = 0; i < expected.size(); ++i) {
    CAPTURE(i);
    CAPTURE(expected[i]);
    REQUIRE(std::abs(static_cast<float>(found[i]) - expected[i]) <= tolerance);
  }
}

}  // namespace

TEST_CASE("roi_align: each instruction set agrees with the element") {
  for (const auto& what : cases()) {
    CAPTURE(what.sampling_ratio);
    CAPTURE(what.half_pixel);
    CAPTURE(what.height);
    CAPTURE(static_cast<int>(what.pooling));
    ZL_FOR_EACH_ISA(roi_align_float, [&](const char* name, auto body) {
      CAPTURE(name);
      check<float>(body, what, 4e-6F);
    });
    ZL_FOR_EACH_ISA(roi_align_half, [&](const char* name, auto body) {
      CAPTURE(name);
      check<Half>(body, what, 2e-3F);
    });
  }
}
