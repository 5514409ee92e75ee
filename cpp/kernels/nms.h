// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>

#include "zerolane/cuda.h"
#include "zerolane/half.h"

namespace zerolane::kernels {

// What the numbers of a box are.
enum class BoxForm {
  kCorners,     // x1 y1 x2 y2, two opposite corners in any order
  kCenterSize,  // centre x y, width, height
  kRotated,     // centre x y, width, height, angle in radians (of either sense)
};

enum class ScoreLayout { kClassesFirst, kBoxesFirst };  // [classes, boxes] or [boxes, classes]

// Non-maximum suppression. Candidates are the pairs of box and class whose score is above the
// threshold; a pair whose score is not finite, or whose box (its corners, too) is not, never is
// one. They are taken by falling score, equal scores by rising class, then by rising box; one that
// overlaps an already selected one of its class with an IoU above the threshold is dropped.
struct NmsSettings {
  BoxForm form = BoxForm::kCorners;
  ScoreLayout layout = ScoreLayout::kClassesFirst;
  // Boxes suppress each other whatever their classes, and each box is a candidate once, with the
  // class of its highest score.
  bool class_agnostic = false;
  float iou_threshold = 0.5F;    // 0 to 1
  float score_threshold = 0.0F;  // not NaN
  int32_t top_k = 0;             // best candidates of a class (agnostic: of all) looked at; 0: all
  int32_t max_per_class = 0;     // most selected of a class
};

struct Detection {
  int32_t box;
  int32_t class_id;
  float score;
};

// Numbers of one box: 4 or 5.
ZL_HOST_DEVICE inline int box_numbers(BoxForm form) { return form == BoxForm::kRotated ? 5 : 4; }

// Bytes of scratch memory for one image and at most `limit` selected; 64-byte alignment wanted.
// boxes * classes must be below 2^31. Saturates instead of overflowing.
size_t nms_scratch_bytes(const NmsSettings& settings, int64_t boxes, int64_t classes,
                         int64_t limit) noexcept;

// One image: boxes [box_count, 4 or 5], scores as the layout says. Writes what is selected to
// `selected` and returns how many.

// All that is selected, class by class, within a class by falling score: the order of ONNX
// NonMaxSuppression-11, whose results these are (class_agnostic is not looked at). `selected` and
// the scratch memory are for class_count * min(max_per_class, box_count).
template <class T>
int64_t nms_by_class(const NmsSettings& settings, const T* boxes, const T* scores,
                     int64_t box_count, int64_t class_count, void* scratch,
                     Detection* selected) noexcept;

// The first `limit` that are selected, by falling score. `selected` and the scratch memory are for
// `limit`.
template <class T>
int64_t nms_by_score(const NmsSettings& settings, const T* boxes, const T* scores,
                     int64_t box_count, int64_t class_count, int64_t limit, void* scratch,
                     Detection* selected) noexcept;

}  // namespace zerolane::kernels
