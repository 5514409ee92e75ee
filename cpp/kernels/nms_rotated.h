// SPDX-License-Identifier: Apache-2.0
// Overlap of two rotated boxes, for CPU and GPU: one is clipped at the sides of the other
// (Sutherland and Hodgman, 1974), and the area of what is left taken by the shoelace formula.
#pragma once

#include "kernels/nms_element.h"

namespace zerolane::kernels {

struct Polygon {
  // Each of four clips adds one corner at most.
  float x[8];
  float y[8];
  int corners;
};

// Keeps the part where limit - sign * coordinate >= 0, the coordinate being x or y.
ZL_BOX_INLINE void clip(const Polygon& from, bool along_x, float sign, float limit, Polygon* to) {
  to->corners = 0;
  if (from.corners == 0) return;
  float last_x = from.x[from.corners - 1];
  float last_y = from.y[from.corners - 1];
  float last_inside = limit - sign * (along_x ? last_x : last_y);
  for (int i = 0; i < from.corners; ++i) {
    const float x = from.x[i];
    const float y = from.y[i];
    const float inside = limit - sign * (along_x ? x : y);
    // Rounding may make a polygon that is not quite convex; a ninth corner is of no account.
    if ((inside >= 0.0F) != (last_inside >= 0.0F) && to->corners < 8) {
      const float part = last_inside / (last_inside - inside);
      to->x[to->corners] = last_x + part * (x - last_x);
      to->y[to->corners] = last_y + part * (y - last_y);
      ++to->corners;
    }
    if (inside >= 0.0F && to->corners < 8) {
      to->x[to->corners] = x;
      to->y[to->corners] = y;
      ++to->corners;
    }
    last_x = x;
    last_y = y;
    last_inside = inside;
  }
}

// In the frame of `a`, so that large coordinates cost no precision.
ZL_BOX_INLINE float rotated_intersection(const RotatedBox& a, const RotatedBox& b) {
  const float dx = b.center_x - a.center_x;
  const float dy = b.center_y - a.center_y;
  const float x = dx * a.cosine + dy * a.sine;
  const float y = dy * a.cosine - dx * a.sine;
  const float cosine = b.cosine * a.cosine + b.sine * a.sine;
  const float sine = b.sine * a.cosine - b.cosine * a.sine;
  const float wide_x = cosine * b.half_width;
  const float wide_y = sine * b.half_width;
  const float high_x = -sine * b.half_height;
  const float high_y = cosine * b.half_height;
  Polygon even;
  Polygon odd;
  even.x[0] = x - wide_x - high_x;
  even.y[0] = y - wide_y - high_y;
  even.x[1] = x + wide_x - high_x;
  even.y[1] = y + wide_y - high_y;
  even.x[2] = x + wide_x + high_x;
  even.y[2] = y + wide_y + high_y;
  even.x[3] = x - wide_x + high_x;
  even.y[3] = y - wide_y + high_y;
  even.corners = 4;
  clip(even, /*along_x=*/true, 1.0F, a.half_width, &odd);
  clip(odd, /*along_x=*/true, -1.0F, a.half_width, &even);
  clip(even, /*along_x=*/false, 1.0F, a.half_height, &odd);
  clip(odd, /*along_x=*/false, -1.0F, a.half_height, &even);
  float twice = 0.0F;
  for (int i = 0, last = even.corners - 1; i < even.corners; last = i++) {
    twice += even.x[last] * even.y[i] - even.x[i] * even.y[last];
  }
  return twice > 0.0F ? twice * 0.5F : 0.0F;
}

// `a` is the one selected first: with its sides swapped the result may round otherwise.
ZL_BOX_INLINE bool box_iou_above(const RotatedBox& a, const RotatedBox& b, float threshold) {
  if (!(a.x1 < b.x2 && b.x1 < a.x2 && a.y1 < b.y2 && b.y1 < a.y2)) return false;
  const float intersection = rotated_intersection(a, b);
  return intersection > 0.0F && iou_above(intersection, a.area, b.area, threshold);
}

}  // namespace zerolane::kernels
