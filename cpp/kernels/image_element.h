// SPDX-License-Identifier: Apache-2.0
// The arithmetic of one pixel of kernels/image.h, shared by the CPU and the GPU.
#pragma once

#include <cstdint>

#include "kernels/image.h"
#include "zerolane/cuda.h"

namespace zerolane::kernels {

#define ZL_IMAGE_INLINE [[gnu::always_inline]] ZL_HOST_DEVICE inline

// A weighted run of neighbouring pixels along one axis: `head` for the first, `tail` for the last,
// the axis' middle weight for those between. One pixel alone: 1 and 0.
struct Span {
  int32_t first;
  int32_t count;
  float head;
  float tail;
};

// Positions are fractions with whole numerators, so that all bodies choose the same pixels.

// Pixel `at` of `to` from `from` pixels, linear between pixel centers: the position
// (at + 1/2) from / to - 1/2, held between the first center and the last.
ZL_IMAGE_INLINE Span bilinear_span(int32_t at, int32_t from, int32_t to) {
  const int32_t position = (2 * at + 1) * from - to;  // in units of 1 / (2 to)
  if (position <= 0) return {0, 1, 1.0F, 0.0F};
  const int32_t first = position / (2 * to);
  if (first >= from - 1) return {from - 1, 1, 1.0F, 0.0F};
  const int32_t rest = position - first * 2 * to;
  const float tail = static_cast<float>(rest) / static_cast<float>(2 * to);
  return {first, 2, 1.0F - tail, tail};
}

// Pixel `at` of `to` from `from` pixels, the mean of what it covers, from at from / to to
// (at + 1) from / to: pixels at both ends count by the part that is covered.
ZL_IMAGE_INLINE Span area_span(int32_t at, int32_t from, int32_t to) {
  const int32_t begin = at * from;  // in units of 1 / to
  const int32_t end = begin + from;
  const int32_t first = begin / to;
  const int32_t last = (end - 1) / to;
  if (first == last) return {first, 1, 1.0F, 0.0F};
  const auto covered = static_cast<float>(from);
  return {first, last - first + 1, static_cast<float>((first + 1) * to - begin) / covered,
          static_cast<float>(end - last * to) / covered};
}

ZL_IMAGE_INLINE Span span_of(Interpolation how, int32_t at, int32_t from, int32_t to) {
  return how == Interpolation::kArea ? area_span(at, from, to) : bilinear_span(at, from, to);
}

// The middle weight: only areas have pixels between head and tail.
ZL_IMAGE_INLINE float span_middle(int32_t from, int32_t to) {
  return static_cast<float>(to) / static_cast<float>(from);
}

ZL_IMAGE_INLINE float span_weight(const Span& span, float middle, int32_t index) {
  return index == 0 ? span.head : index + 1 == span.count ? span.tail : middle;
}

// Pixel (y, x) of the output of one picture, by channel of the picture. Vector sources work row by
// row instead, and differ by rounding. `values` has room for kMostChannels.
ZL_IMAGE_INLINE void image_element(const ImageToPlanes& what, const uint8_t* image, int32_t y,
                                   int32_t x, float* values) {
  y -= what.top;
  x -= what.left;
  if (y < 0 || y >= what.height || x < 0 || x >= what.width) {
    for (int32_t c = 0; c < kMostChannels; ++c) values[c] = what.border[c];
    return;
  }
  const Span rows = span_of(what.interpolation, y, what.in_height, what.height);
  const Span columns = span_of(what.interpolation, x, what.in_width, what.width);
  const float middle_y = span_middle(what.in_height, what.height);
  const float middle_x = span_middle(what.in_width, what.width);
  float sums[kMostChannels] = {0, 0, 0, 0};
  for (int32_t i = 0; i < rows.count; ++i) {
    const float row_weight = span_weight(rows, middle_y, i);
    const uint8_t* pixel =
        image +
        (static_cast<int64_t>(rows.first + i) * what.in_width + columns.first) * what.channels;
    for (int32_t j = 0; j < columns.count; ++j, pixel += what.channels) {
      const float weight = row_weight * span_weight(columns, middle_x, j);
      for (int32_t c = 0; c < kMostChannels; ++c) {
        if (c < what.channels) sums[c] += weight * static_cast<float>(pixel[c]);
      }
    }
  }
  for (int32_t c = 0; c < kMostChannels; ++c) {
    values[c] = sums[c] * what.scale[c] + what.offset[c];
  }
}

#undef ZL_IMAGE_INLINE

}  // namespace zerolane::kernels
