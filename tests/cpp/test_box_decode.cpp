// SPDX-License-Identifier: Apache-2.0
#include "kernels/box_decode.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <random>
#include <type_traits>
#include <vector>

#include "kernel_isas.h"
#include "kernels/box_decode_one.h"

using namespace zerolane;
using namespace zerolane::kernels;

namespace zerolane::kernels {
ZL_DECLARE_ISA(void, decode_distances_float32,
               (const DistanceDecode& decode, const float* from, int64_t n, float* boxes))
ZL_DECLARE_ISA(void, decode_distances_float16,
               (const DistanceDecode& decode, const Half* from, int64_t n, Half* boxes))
ZL_DECLARE_ISA(void, decode_deltas_float32,
               (const DeltaDecode& decode, const float* from, const float* anchors, int64_t n,
                float* boxes))
ZL_DECLARE_ISA(void, decode_deltas_float16,
               (const DeltaDecode& decode, const Half* from, const Half* anchors, int64_t n,
                Half* boxes))
ZL_DECLARE_ISA(void, decode_cells_float32,
               (const CellDecode& decode, const float* raw, int64_t n, float* boxes))
ZL_DECLARE_ISA(void, decode_cells_float16,
               (const CellDecode& decode, const Half* raw, int64_t n, Half* boxes))
}  // namespace zerolane::kernels

namespace {

using Box = std::array<double, 4>;

template <class T>
std::vector<T> numbers(unsigned seed, int64_t count, float least, float most) {
  std::mt19937 random(seed);
  std::uniform_real_distribution<float> any(least, most);
  std::vector<T> all;
  for (int64_t i = 0; i < count; ++i) all.push_back(static_cast<T>(any(random)));
  return all;
}

Box centered_box(double x, double y, double w, double h, bool corners) {
  return corners ? Box{x - w / 2, y - h / 2, x + w / 2, y + h / 2} : Box{x, y, w, h};
}

double logistic_of(double x) { return 1 / (1 + std::exp(-x)); }

// Numbers of boxes are up to some 1000 pixels: 1e-6 and 1e-3 of those.
template <class T>
void check_boxes(const std::vector<T>& got, const std::vector<Box>& wanted) {
  const double tolerance = std::is_same_v<T, Half> ? 1.0 : 1e-3;
  for (size_t i = 0; i < wanted.size(); ++i) {
    for (size_t k = 0; k < 4; ++k) {
      const auto found = static_cast<double>(static_cast<float>(got[4 * i + k]));
      CAPTURE(i);
      CAPTURE(k);
      CAPTURE(wanted[i][k]);
      REQUIRE(std::abs(found - wanted[i][k]) <= tolerance);
    }
  }
  CHECK(static_cast<float>(got[4 * wanted.size()]) == 77.0F);  // not written
}

template <class T>
std::vector<T> room(int64_t n) {
  return std::vector<T>(static_cast<size_t>(4 * n + 4), static_cast<T>(77.0F));
}

// Calls run(body, n, seed, corners) for sizes about the width of vectors.
template <class Run>
void for_sizes(const Run& run) {
  unsigned seed = 0;
  for (const int64_t n : {0, 1, 3, 7, 16, 17, 67}) {
    for (const bool corners : {false, true}) run(n, ++seed, corners);
  }
}

template <class T, class EachBody>
void check_distances(int64_t bins, bool channels_first, const EachBody& each_body) {
  for_sizes([&](int64_t n, unsigned seed, bool corners) {
    const auto points = numbers<float>(seed, 3 * n, 1, 32);
    const auto from = numbers<T>(seed + 100, 4 * bins * n, -4, 9);
    std::vector<Box> wanted;
    for (int64_t i = 0; i < n; ++i) {
      double side[4];
      for (int64_t s = 0; s < 4; ++s) {
        const auto logit = [&](int64_t k) {
          return static_cast<double>(static_cast<float>(from[static_cast<size_t>(
              channels_first ? (s * bins + k) * n + i : (4 * i + s) * bins + k)]));
        };
        double sum = 0;
        double weighted = 0;
        for (int64_t k = 0; k < bins; ++k) {
          sum += std::exp(logit(k));
          weighted += std::exp(logit(k)) * static_cast<double>(k);
        }
        side[s] = (bins == 1 ? logit(0) : weighted / sum) * points[static_cast<size_t>(2 * n + i)];
      }
      const double x = points[static_cast<size_t>(i)];
      const double y = points[static_cast<size_t>(n + i)];
      const Box box{x - side[0], y - side[1], x + side[2], y + side[3]};
      wanted.push_back(corners ? box
                               : Box{(box[0] + box[2]) / 2, (box[1] + box[3]) / 2, box[2] - box[0],
                                     box[3] - box[1]});
    }
    const DistanceDecode decode{points.data(), bins, channels_first, corners};
    each_body([&](const char* body, const auto& run) {
      CAPTURE(body);
      CAPTURE(n);
      auto boxes = room<T>(n);
      run(decode, from.data(), n, boxes.data());
      check_boxes(boxes, wanted);
    });
  });
}

TEST_CASE("distances from grid points, with and without bins") {
  for (const int64_t bins : {1, 2, 7, 16, 17, 40}) {
    for (const bool channels_first : {false, true}) {
      CAPTURE(bins);
      CAPTURE(channels_first);
      check_distances<float>(bins, channels_first, [](const auto& check) {
        ZL_FOR_EACH_ISA(decode_distances_float32, check);
        check("one", [](const DistanceDecode& decode, const float* from, int64_t n, float* to) {
          for (int64_t i = 0; i < n; ++i) DecodeOneDistance<float>{decode, from, n, to}(i);
        });
      });
      check_distances<Half>(bins, channels_first, [](const auto& check) {
        ZL_FOR_EACH_ISA(decode_distances_float16, check);
        check("one", [](const DistanceDecode& decode, const Half* from, int64_t n, Half* to) {
          for (int64_t i = 0; i < n; ++i) DecodeOneDistance<Half>{decode, from, n, to}(i);
        });
      });
    }
  }
}

template <class T, class EachBody>
void check_deltas(const EachBody& each_body) {
  for (const bool anchor_corners : {false, true}) {
    for_sizes([&](int64_t n, unsigned seed, bool corners) {
      const auto from = numbers<T>(seed, 4 * n, -4, 4);
      auto anchors = numbers<T>(seed + 100, 4 * n, 1, 100);
      const DeltaDecode decode{anchor_corners, {0.1F, 0.2F, 0.3F, 0.5F}, 0.7F, corners};
      std::vector<Box> wanted;
      for (size_t i = 0; i < static_cast<size_t>(n); ++i) {
        double d[4];
        double a[4];
        for (size_t k = 0; k < 4; ++k) {
          d[k] = static_cast<float>(from[4 * i + k]) * static_cast<double>(decode.variances[k]);
          a[k] = static_cast<float>(anchors[4 * i + k]);
        }
        const double w = anchor_corners ? a[2] - a[0] : a[2];
        const double h = anchor_corners ? a[3] - a[1] : a[3];
        const double x = anchor_corners ? (a[0] + a[2]) / 2 : a[0];
        const double y = anchor_corners ? (a[1] + a[3]) / 2 : a[1];
        wanted.push_back(centered_box(x + d[0] * w, y + d[1] * h, w * std::exp(std::min(d[2], 0.7)),
                                      h * std::exp(std::min(d[3], 0.7)), corners));
      }
      each_body([&](const char* body, const auto& run) {
        CAPTURE(body);
        CAPTURE(n);
        auto boxes = room<T>(n);
        run(decode, from.data(), anchors.data(), n, boxes.data());
        check_boxes(boxes, wanted);
      });
    });
  }
}

TEST_CASE("deltas from anchors") {
  check_deltas<float>([](const auto& check) {
    ZL_FOR_EACH_ISA(decode_deltas_float32, check);
    check("one", [](const DeltaDecode& decode, const float* from, const float* anchors, int64_t n,
                    float* to) {
      for (int64_t i = 0; i < n; ++i) {
        DecodeOneDelta<float>{decode, from, anchors, n, /*anchors_of_images=*/false, to}(i);
      }
    });
  });
  check_deltas<Half>([](const auto& check) { ZL_FOR_EACH_ISA(decode_deltas_float16, check); });
}

template <class T, class EachBody>
void check_cells(const EachBody& each_body) {
  for (const bool version5 : {false, true}) {
    for_sizes([&](int64_t n, unsigned seed, bool corners) {
      const auto from = numbers<T>(seed, 4 * n, -4, 2);
      const auto cells = numbers<float>(seed + 100, 5 * n, 1, 100);
      std::vector<Box> wanted;
      for (size_t i = 0; i < static_cast<size_t>(n); ++i) {
        double t[4];
        double cell[5];
        for (size_t k = 0; k < 4; ++k) t[k] = static_cast<float>(from[4 * i + k]);
        for (size_t k = 0; k < 5; ++k) cell[k] = cells[k * static_cast<size_t>(n) + i];
        const double wide = version5 ? 2 : 1;
        const double start = version5 ? -0.5 : 0;
        const auto size = [&](double raw) {
          return version5 ? std::pow(2 * logistic_of(raw), 2) : std::exp(raw);
        };
        wanted.push_back(centered_box(cell[0] + (wide * logistic_of(t[0]) + start) * cell[2],
                                      cell[1] + (wide * logistic_of(t[1]) + start) * cell[2],
                                      cell[3] * size(t[2]), cell[4] * size(t[3]), corners));
      }
      const CellDecode decode{cells.data(), version5, corners};
      each_body([&](const char* body, const auto& run) {
        CAPTURE(body);
        CAPTURE(n);
        auto boxes = room<T>(n);
        run(decode, from.data(), n, boxes.data());
        check_boxes(boxes, wanted);
      });
    });
  }
}

TEST_CASE("cells with anchor sizes") {
  check_cells<float>([](const auto& check) {
    ZL_FOR_EACH_ISA(decode_cells_float32, check);
    check("one", [](const CellDecode& decode, const float* from, int64_t n, float* to) {
      for (int64_t i = 0; i < n; ++i) DecodeOneCell<float>{decode, from, n, to}(i);
    });
  });
  check_cells<Half>([](const auto& check) { ZL_FOR_EACH_ISA(decode_cells_float16, check); });
}

TEST_CASE("boxes of several images are decoded one by one") {
  const auto anchors = numbers<float>(1, 4 * 3, 1, 100);
  const auto from = numbers<float>(2, 2 * 4 * 3, -1, 1);
  const DeltaDecode decode{false, {1, 1, 1, 1}, 4, true};
  std::vector<float> shared(24);
  std::vector<float> own(24);
  std::vector<float> both = anchors;
  both.insert(both.end(), anchors.begin(), anchors.end());
  for (int64_t i = 0; i < 6; ++i) {
    DecodeOneDelta<float>{decode, from.data(), anchors.data(), 3, false, shared.data()}(i);
    DecodeOneDelta<float>{decode, from.data(), both.data(), 3, true, own.data()}(i);
  }
  CHECK(shared == own);
  std::vector<float> second(12);
  for (int64_t i = 0; i < 3; ++i) {
    DecodeOneDelta<float>{decode, from.data() + 12, anchors.data(), 3, false, second.data()}(i);
  }
  CHECK(std::equal(second.begin(), second.end(), shared.begin() + 12));
}

TEST_CASE("NaN stays in its box, extremes do not trap") {
  const float infinity = std::numeric_limits<float>::infinity();
  std::vector<float> cells(5 * 17, 8.0F);
  std::vector<float> from(4 * 17, 0.0F);
  from[4 * 5 + 2] = std::numeric_limits<float>::quiet_NaN();
  from[4 * 6 + 2] = 1e30F;
  from[4 * 7 + 3] = -infinity;
  from[4 * 8 + 0] = -1e30F;
  const CellDecode decode{cells.data(), false, false};
  ZL_FOR_EACH_ISA(decode_cells_float32, [&](const char* isa, const auto& run) {
    CAPTURE(isa);
    std::vector<float> boxes(4 * 17);
    run(decode, from.data(), 17, boxes.data());
    for (size_t i = 0; i < boxes.size(); ++i) CHECK(std::isnan(boxes[i]) == (i == 4 * 5 + 2));
    CHECK(boxes[4 * 6 + 2] == infinity);
    CHECK(boxes[4 * 7 + 3] == 0.0F);
    CHECK(boxes[4 * 8] == 8.0F);
  });
}

}  // namespace
