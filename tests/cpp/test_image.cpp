// SPDX-License-Identifier: Apache-2.0
#include "kernels/image.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <vector>

#include "kernel_isas.h"
#include "kernels/image_element.h"
#include "kernels/image_vector.h"

using namespace zerolane;
using namespace zerolane::kernels;

namespace {

// One axis of the definition in real numbers: weights of all `from` pixels.
std::vector<double> weights(Interpolation how, int at, int from, int to) {
  std::vector<double> all(static_cast<size_t>(from), 0.0);
  const double ratio = static_cast<double>(from) / to;
  if (how == Interpolation::kBilinear) {
    const double position = std::clamp((at + 0.5) * ratio - 0.5, 0.0, from - 1.0);
    const auto first = static_cast<size_t>(position);
    const double rest = position - static_cast<double>(first);
    all[first] = 1 - rest;
    if (rest > 0) all[std::min(first + 1, all.size() - 1)] += rest;
  } else {
    for (int i = 0; i < from; ++i) {
      const double covered = std::min((at + 1) * ratio, i + 1.0) - std::max(at * ratio, i + 0.0);
      all[static_cast<size_t>(i)] = std::max(covered, 0.0) / ratio;
    }
  }
  return all;
}

ImageToPlanes picture(Interpolation how, int channels, int in_height, int in_width, int out_height,
                      int out_width) {
  ImageToPlanes what{};
  what.interpolation = how;
  what.channels = channels;
  what.in_height = in_height;
  what.in_width = in_width;
  what.out_height = what.height = out_height;
  what.out_width = what.width = out_width;
  for (int c = 0; c < channels; ++c) {
    what.plane[c] = channels - 1 - c;
    what.scale[c] = 0.01F * static_cast<float>(c + 1);
    what.offset[c] = -0.5F * static_cast<float>(c);
    what.border[c] = 7.0F + static_cast<float>(c);
  }
  return what;
}

std::vector<ImageToPlanes> cases() {
  std::vector<ImageToPlanes> all;
  const int sizes[][4] = {{1, 1, 1, 1},    {1, 1, 5, 7},     {2, 3, 1, 1},     {9, 13, 9, 13},
                          {10, 26, 5, 13}, {31, 37, 12, 17}, {12, 17, 31, 37}, {64, 5, 7, 33},
                          {3, 67, 19, 8},  {97, 201, 2, 3}};
  for (const auto how : {Interpolation::kBilinear, Interpolation::kArea}) {
    for (int channels = 1; channels <= kMostChannels; ++channels) {
      for (const auto& size : sizes) {
        auto what = picture(how, channels, size[0], size[1], size[2], size[3]);
        all.push_back(what);
        what.out_height += 5;
        what.out_width += 4;
        what.top = 3;
        what.left = 1;
        all.push_back(what);
      }
    }
  }
  return all;
}

std::vector<uint8_t> pixels(int64_t count) {
  std::mt19937 random(7);
  std::vector<uint8_t> all(static_cast<size_t>(count));
  for (auto& pixel : all) pixel = static_cast<uint8_t>(random());
  return all;
}

constexpr int64_t kBatch = 2;

int64_t image_size(const ImageToPlanes& what) {
  return int64_t{what.in_height} * what.in_width * what.channels;
}
int64_t plane_size(const ImageToPlanes& what) { return int64_t{what.out_height} * what.out_width; }

// By the arithmetic that a GPU runs.
std::vector<float> by_element(const ImageToPlanes& what, const std::vector<uint8_t>& images) {
  std::vector<float> all(static_cast<size_t>(kBatch * what.channels * plane_size(what)));
  for (int64_t n = 0; n < kBatch; ++n) {
    for (int y = 0; y < what.out_height; ++y) {
      for (int x = 0; x < what.out_width; ++x) {
        float values[kMostChannels];
        image_element(what, images.data() + n * image_size(what), y, x, values);
        for (int c = 0; c < what.channels; ++c) {
          all[static_cast<size_t>((n * what.channels + what.plane[c]) * plane_size(what) +
                                  int64_t{y} * what.out_width + x)] = values[c];
        }
      }
    }
  }
  return all;
}

}  // namespace

TEST_CASE("image: pixels and weights are those of the definition") {
  for (const auto how : {Interpolation::kBilinear, Interpolation::kArea}) {
    for (const auto& [from, to] : {std::pair{1, 1},
                                   {1, 9},
                                   {9, 1},
                                   {2, 3},
                                   {7, 7},
                                   {64, 32},
                                   {33, 32},
                                   {31, 77},
                                   {1920, 641},
                                   {5, 32767},
                                   {32767, 5},
                                   {32767, 32767}}) {
      for (int at = 0; at < to; at += std::max(1, to / 50)) {
        CAPTURE(from);
        CAPTURE(to);
        CAPTURE(at);
        const Span span = span_of(how, at, from, to);
        REQUIRE(span.first >= 0);
        REQUIRE(span.count >= 1);
        REQUIRE(span.first + span.count <= from);
        auto expected = weights(how, at, from, to);
        for (int i = 0; i < span.count; ++i) {
          expected[static_cast<size_t>(span.first + i)] -=
              static_cast<double>(span_weight(span, span_middle(from, to), i));
        }
        for (const double rest : expected) REQUIRE(std::abs(rest) < 1e-6);
      }
    }
  }
}

TEST_CASE("image: one element is the weighted sum of the definition") {
  for (const auto& what : cases()) {
    const auto images = pixels(kBatch * image_size(what));
    const auto found = by_element(what, images);
    for (int y = 0; y < what.height; ++y) {
      const auto rows = weights(what.interpolation, y, what.in_height, what.height);
      for (int x = 0; x < what.width; ++x) {
        const auto columns = weights(what.interpolation, x, what.in_width, what.width);
        for (int c = 0; c < what.channels; ++c) {
          double sum = 0;
          for (int i = 0; i < what.in_height; ++i) {
            for (int j = 0; j < what.in_width; ++j) {
              sum += rows[static_cast<size_t>(i)] * columns[static_cast<size_t>(j)] *
                     images[static_cast<size_t>((i * what.in_width + j) * what.channels + c)];
            }
          }
          const double value = found[static_cast<size_t>(
              what.plane[c] * plane_size(what) + (y + what.top) * what.out_width + x + what.left)];
          REQUIRE(value == doctest::Approx(sum * static_cast<double>(what.scale[c]) +
                                           static_cast<double>(what.offset[c]))
                               .epsilon(2e-6));
        }
      }
    }
  }
}

TEST_CASE("image: each instruction set agrees with the element") {
  for (const auto& what : cases()) {
    const auto images = pixels(kBatch * image_size(what));
    const auto expected = by_element(what, images);
    std::vector<unsigned char> scratch(image_to_planes_scratch(what) + 64);
    void* aligned = scratch.data() + (64 - reinterpret_cast<uintptr_t>(scratch.data()) % 64) % 64;
    const float nan = std::numeric_limits<float>::quiet_NaN();
    const auto check = [&](const auto& found) {
      float most = 0;
      for (size_t i = 0; i < expected.size(); ++i) {
        most = std::max(most, std::abs(expected[i]));
        REQUIRE(std::abs(static_cast<float>(found[i]) - expected[i]) <=
                (sizeof(found[0]) == 2 ? 1e-3F : 2e-6F) * most + 2e-6F);
      }
    };
    ZL_FOR_EACH_ISA(image_to_planes_float, [&](const char* name, auto convert) {
      CAPTURE(name);
      std::vector<float> found(expected.size(), nan);
      convert(what, images.data(), kBatch, found.data(), aligned);
      check(found);
    });
    ZL_FOR_EACH_ISA(image_to_planes_half, [&](const char* name, auto convert) {
      CAPTURE(name);
      std::vector<Half> found(expected.size(), Half(nan));
      convert(what, images.data(), kBatch, found.data(), aligned);
      check(found);
    });
  }
}
