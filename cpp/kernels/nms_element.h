// SPDX-License-Identifier: Apache-2.0
// The arithmetic of one box and of one pair, for CPU and GPU. Products are rounded before they are
// added (no fused multiply-add), so that every instruction set, the GPU and ONNX Runtime get the
// same bits: a pair whose IoU lies on the threshold must be decided alike everywhere.
#pragma once

#include <cmath>
#include <cstdint>

#include "kernels/nms.h"
#include "zerolane/cuda.h"

namespace zerolane::kernels {

#define ZL_BOX_INLINE [[gnu::always_inline]] ZL_HOST_DEVICE inline

// Compiled with -ffp-contract=off on CPUs; nvcc contracts plain operators.
ZL_BOX_INLINE float rounded_product(float a, float b) {
#if defined(__CUDA_ARCH__)
  return __fmul_rn(a, b);
#else
  return a * b;
#endif
}

ZL_BOX_INLINE float lesser(float a, float b) { return b < a ? b : a; }
ZL_BOX_INLINE float greater(float a, float b) { return a < b ? b : a; }

ZL_BOX_INLINE bool finite(float x) { return (half_bits::bits_of(x) & 0x7f800000U) != 0x7f800000U; }

// A candidate's place in the order: smaller is earlier. The score, falling, in the upper half; the
// pair's index, class * boxes + box, in the lower. Both zeros are one score.
ZL_BOX_INLINE uint64_t candidate_key(float score, uint32_t pair) {
  const uint32_t bits = half_bits::bits_of(score + 0.0F);
  const uint32_t falling = (bits & 0x80000000U) != 0 ? bits : ~bits & 0x7fffffffU;
  return static_cast<uint64_t>(falling) << 32 | pair;
}

ZL_BOX_INLINE float score_of(uint64_t key) {
  const uint32_t falling = static_cast<uint32_t>(key >> 32);
  return half_bits::float_of((falling & 0x80000000U) != 0 ? falling : ~falling & 0x7fffffffU);
}

ZL_BOX_INLINE uint32_t pair_of(uint64_t key) { return static_cast<uint32_t>(key); }

// Upright bounds, x1 <= x2 and y1 <= y2 (else the box overlaps nothing), and the box's area.
struct BoxBounds {
  float x1, y1, x2, y2, area;
};

struct RotatedBox : BoxBounds {
  float center_x, center_y, half_width, half_height, cosine, sine;
};

ZL_BOX_INLINE bool finite_bounds(const BoxBounds& box) {
  return finite(box.x1) && finite(box.y1) && finite(box.x2) && finite(box.y2);
}

// What IoU is computed from. False for a box that takes part in nothing, as one of its numbers or
// its corners is not finite. A box without area (a size of zero or less) overlaps nothing.
template <class T>
ZL_BOX_INLINE bool place_box(BoxForm form, const T* numbers, BoxBounds* box) {
  const float a = numbers[0];
  const float b = numbers[1];
  const float c = numbers[2];
  const float d = numbers[3];
  if (form == BoxForm::kCorners) {
    // NaN in these would be lost in the comparisons.
    if (!finite(c) || !finite(d)) return false;
    box->x1 = lesser(a, c);
    box->y1 = lesser(b, d);
    box->x2 = greater(a, c);
    box->y2 = greater(b, d);
  } else {
    const float half_width = c * 0.5F;
    const float half_height = d * 0.5F;
    box->x1 = a - half_width;
    box->y1 = b - half_height;
    box->x2 = a + half_width;
    box->y2 = b + half_height;
  }
  box->area = rounded_product(box->x2 - box->x1, box->y2 - box->y1);
  return finite_bounds(*box);
}

template <class T>
ZL_BOX_INLINE bool place_box(BoxForm, const T* numbers, RotatedBox* box) {
  const float width = numbers[2];
  const float height = numbers[3];
  const float angle = numbers[4];
  if (!finite(angle)) return false;
  box->center_x = numbers[0];
  box->center_y = numbers[1];
  box->half_width = width * 0.5F;
  box->half_height = height * 0.5F;
  box->cosine = cosf(angle);
  box->sine = sinf(angle);
  const bool empty = width <= 0.0F || height <= 0.0F;
  box->area = empty ? 0.0F : rounded_product(width, height);
  const float cosine = fabsf(box->cosine);
  const float sine = fabsf(box->sine);
  // A little more than the true bounds, to cover the rounding of the corners.
  const float margin = empty ? 0.0F : 1.00001F;
  const float reach_x = (cosine * box->half_width + sine * box->half_height) * margin;
  const float reach_y = (sine * box->half_width + cosine * box->half_height) * margin;
  box->x1 = box->center_x - reach_x;
  box->y1 = box->center_y - reach_y;
  box->x2 = box->center_x + reach_x;
  box->y2 = box->center_y + reach_y;
  return finite_bounds(*box);
}

// Intersection over union is above the threshold.
ZL_BOX_INLINE bool iou_above(float intersection, float area_a, float area_b, float threshold) {
  const float both = area_a + area_b - intersection;
  return intersection / both > threshold;
}

ZL_BOX_INLINE bool box_iou_above(const BoxBounds& a, const BoxBounds& b, float threshold) {
  const float width = lesser(a.x2, b.x2) - greater(a.x1, b.x1);
  const float height = lesser(a.y2, b.y2) - greater(a.y1, b.y1);
  if (!(width > 0.0F && height > 0.0F)) return false;
  return iou_above(rounded_product(width, height), a.area, b.area, threshold);
}

}  // namespace zerolane::kernels
