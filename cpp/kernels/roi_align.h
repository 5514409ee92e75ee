// SPDX-License-Identifier: Apache-2.0
// Boxes of feature maps, pooled to one size: RoiAlign as ONNX (opset 16) has it.
#pragma once

#include <cstddef>
#include <cstdint>

#include "zerolane/half.h"

namespace zerolane::kernels {

enum class RoiPooling : int32_t { kAverage, kMax };

struct RoiAlign {
  RoiPooling pooling;
  int32_t sampling_ratio;  // samples along each side of a bin; 0: about one a pixel
  bool half_pixel;      // pixel centers at halves; else at whole numbers, and boxes are 1 at least
  float spatial_scale;  // from coordinates of boxes to those of the maps
  int64_t channels;
  int32_t height;  // of a map: 1 to kMostMapSide
  int32_t width;
  int32_t out_height;
  int32_t out_width;
};

constexpr int32_t kMostMapSide = 1 << 20;

// Bytes of scratch memory, aligned to 64, for roi_align.
size_t roi_align_scratch(const RoiAlign& what) noexcept;

// Pools `count` boxes (x1, y1, x2, y2), box i from the maps [channels, height, width] at
// maps + map[i] channels height width, into pooled [count, channels, out_height, out_width].
// roi_align_element.h has the formula. Samples more than one pixel outside a map count as 0, and so
// do those of boxes that are not finite. The maximum is taken over the four weighted neighbours of
// each sample and not over their sums: ONNX Runtime and TensorRT do so.
void roi_align(const RoiAlign& what, const float* maps, const float* boxes, const int64_t* map,
               int64_t count, float* pooled, void* scratch) noexcept;
void roi_align(const RoiAlign& what, const Half* maps, const Half* boxes, const int64_t* map,
               int64_t count, Half* pooled, void* scratch) noexcept;

}  // namespace zerolane::kernels
