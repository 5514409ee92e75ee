// SPDX-License-Identifier: Apache-2.0
// Where RoiAlign takes its samples, and one element of it; shared by the CPU and the GPU.
#pragma once

#include <cmath>
#include <cstdint>

#include "kernels/roi_align.h"
#include "zerolane/cuda.h"

namespace zerolane::kernels {

#define ZL_ROI_INLINE [[gnu::always_inline]] ZL_HOST_DEVICE inline

// A product that is rounded before it is added to something: whether a sample lies inside a map
// must not depend on fused instructions.
ZL_ROI_INLINE float rounded_product(float a, float b) {
#if defined(__CUDA_ARCH__)
  return __fmul_rn(a, b);
#else
  return a * b;
#endif
}

// One side of a box, cut into bins, on one axis of a map.
struct RoiAxis {
  float start;
  float bin;        // its size, in pixels of the map
  int32_t samples;  // in a bin, may be none
  int32_t extent;   // of the map
};

ZL_ROI_INLINE RoiAxis roi_axis(const RoiAlign& what, float low, float high, int32_t bins,
                               int32_t extent) {
  const float offset = what.half_pixel ? 0.5F : 0.0F;
  const float start = rounded_product(low, what.spatial_scale) - offset;
  float size = rounded_product(high, what.spatial_scale) - offset - start;
  if (!what.half_pixel && size < 1.0F) size = 1.0F;
  const float bin = size / static_cast<float>(bins);
  constexpr float kFinite = 3.4e38F;
  if (!(fabsf(start) <= kFinite && fabsf(size) <= kFinite)) return {0, 0, 0, extent};
  if (what.sampling_ratio > 0) return {start, bin, what.sampling_ratio, extent};
  // Beyond 2^24 a float counts no further.
  const float samples = fminf(fmaxf(ceilf(bin), 0.0F), 16777216.0F);
  return {start, bin, static_cast<int32_t>(samples), extent};
}

// The samples of a bin that can lie on the map: first to last, which may be none. A box may have
// millions of others.
struct RoiRange {
  int32_t first;
  int32_t last;
};

ZL_ROI_INLINE RoiRange roi_range(const RoiAxis& axis, int32_t bin) {
  if (axis.samples == 0 || axis.bin == 0.0F) return {0, axis.samples - 1};
  // Sample i lies at origin + (i + 1/2) step; one more at each end covers rounding.
  const double step = static_cast<double>(axis.bin) / axis.samples;
  const double origin =
      static_cast<double>(axis.start) + static_cast<double>(axis.bin) * static_cast<double>(bin);
  const double a = (-1.0 - origin) / step - 0.5;
  const double b = (axis.extent - origin) / step - 0.5;
  const double first = fmax(fmin(a, b) - 1.0, 0.0);
  const double last = fmin(fmax(a, b) + 1.0, static_cast<double>(axis.samples - 1));
  if (!(first <= last)) return {0, -1};
  return {static_cast<int32_t>(first), static_cast<int32_t>(last)};
}

// The two pixels next to a sample and their weights.
struct RoiSample {
  bool inside;
  int32_t low;
  int32_t high;
  float low_weight;
  float high_weight;
};

ZL_ROI_INLINE RoiSample roi_sample(const RoiAxis& axis, int32_t bin, int32_t index) {
  const float in_bin = rounded_product(static_cast<float>(index) + 0.5F, axis.bin) /
                       static_cast<float>(axis.samples);
  const float at = axis.start + rounded_product(static_cast<float>(bin), axis.bin) + in_bin;
  if (!(at >= -1.0F && at <= static_cast<float>(axis.extent))) return {false, 0, 0, 0, 0};
  const float position = at <= 0.0F ? 0.0F : at;
  const auto low = static_cast<int32_t>(position);
  if (low >= axis.extent - 1) return {true, axis.extent - 1, axis.extent - 1, 1.0F, 0.0F};
  const float high_weight = position - static_cast<float>(low);
  return {true, low, low + 1, 1.0F - high_weight, high_weight};
}

// The greater one; NaN if either is.
ZL_ROI_INLINE float roi_greater(float a, float b) { return b > a || b != b ? b : a; }

// Element (row, column) of a box's output from one channel of its map.
template <class Element>
ZL_ROI_INLINE float roi_align_element(const RoiAlign& what, const Element* map, const RoiAxis& rows,
                                      const RoiAxis& columns, int32_t row, int32_t column) {
  const RoiRange in_rows = roi_range(rows, row);
  const RoiRange in_columns = roi_range(columns, column);
  float sum = 0;
  float most = -INFINITY;
  int64_t inside = 0;
  for (int32_t i = in_rows.first; i <= in_rows.last; ++i) {
    const RoiSample y = roi_sample(rows, row, i);
    if (!y.inside) continue;
    const Element* low = map + static_cast<int64_t>(y.low) * what.width;
    const Element* high = map + static_cast<int64_t>(y.high) * what.width;
    for (int32_t j = in_columns.first; j <= in_columns.last; ++j) {
      const RoiSample x = roi_sample(columns, column, j);
      if (!x.inside) continue;
      const float a = y.low_weight * x.low_weight * static_cast<float>(low[x.low]);
      const float b = y.low_weight * x.high_weight * static_cast<float>(low[x.high]);
      const float c = y.high_weight * x.low_weight * static_cast<float>(high[x.low]);
      const float d = y.high_weight * x.high_weight * static_cast<float>(high[x.high]);
      sum += a + b + c + d;
      most = roi_greater(most, roi_greater(roi_greater(a, b), roi_greater(c, d)));
      ++inside;
    }
  }
  const int64_t all = static_cast<int64_t>(rows.samples) * columns.samples;
  if (what.pooling == RoiPooling::kAverage) return all > 0 ? sum / static_cast<float>(all) : 0.0F;
  // Samples outside are zeros, and so is the maximum of none.
  return inside < all || all == 0 ? roi_greater(most, 0.0F) : most;
}

#undef ZL_ROI_INLINE

}  // namespace zerolane::kernels
