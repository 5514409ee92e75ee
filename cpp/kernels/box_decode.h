// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>

#include "zerolane/cuda.h"
#include "zerolane/half.h"

namespace zerolane::kernels {

// Turns what the heads of detectors predict into boxes, [n, 4]: corners x1 y1 x2 y2, or centre and
// size cx cy w h. T is float or Half; arithmetic is in float. NaN in a prediction gives NaN in its
// box.

// Without anchors (FCOS, arXiv:1904.01355, and YOLOv8): each point of a grid predicts its distances
// to the left, top, right and bottom side, in strides. With bins > 1 a distance is the expected bin
// under the softmax of `bins` logits (distribution focal loss, arXiv:2006.04388).
struct DistanceDecode {
  // [3, n]: x and y of the points in pixels, strides.
  const float* points;
  int64_t bins;
  bool channels_first;  // [4 * bins, n], else [n, 4 * bins]
  bool corners;
};
template <class T>
void decode_distances(const DistanceDecode& decode, const T* distances, int64_t n,
                      T* boxes) noexcept;

// Against boxes called anchors, priors or proposals (Faster R-CNN, arXiv:1506.01497, SSD,
// arXiv:1512.02325): centre = anchor centre + d[0,1] variance[0,1] anchor size, and
// size = anchor size exp(min(d[2,3] variance[2,3], largest_log)).
struct DeltaDecode {
  bool anchor_corners;  // of the anchors' form, else centre and size
  float variances[4];
  float largest_log;
  bool corners;
};
template <class T>
void decode_deltas(const DeltaDecode& decode, const T* deltas, const T* anchors, int64_t n,
                   T* boxes) noexcept;

// Cells of grids with anchor sizes. Of t[0..3] with s() the logistic function:
// YOLOv3 (arXiv:1804.02767): centre = cell corner + s(t) stride, size = anchor size exp(t);
// YOLOv5: centre = cell corner + (2 s(t) - 1/2) stride, size = anchor size (2 s(t))^2.
struct CellDecode {
  // [5, n]: x and y of the cells' corners in pixels, strides, anchor widths and heights.
  const float* cells;
  bool version5;
  bool corners;
};
template <class T>
void decode_cells(const CellDecode& decode, const T* raw, int64_t n, T* boxes) noexcept;

}  // namespace zerolane::kernels
