// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>
#include <string>

#include "kernels/nms.h"
#include "zerolane/op.h"

namespace zerolane::ops {

// What the ops of non-maximum suppression share: attributes, inputs, and the checks of those.
template <class Self>
struct NmsAttributes {
  std::string box_format = "corners";
  std::string score_layout = "classes_first";
  bool class_agnostic = false;
  float iou_threshold = 0.5F;
  float score_threshold = 0.0F;
  int32_t top_k = 0;
  int32_t max_per_class = 0;

  template <class T>
  static void define_shared(op::Definition<Self>& op, T type) {
    constexpr double kLargest = std::numeric_limits<float>::max();
    constexpr double kMost = std::numeric_limits<int32_t>::max();
    op.attribute("box_format", of_self(&NmsAttributes::box_format))
        .choices({"corners", "center", "rotated"})
        .doc("two opposite corners; cx, cy, w, h; or cx, cy, w, h and an angle in radians");
    op.attribute("score_layout", of_self(&NmsAttributes::score_layout))
        .choices({"classes_first", "boxes_first"})
        .doc("[batch, classes, boxes] or [batch, boxes, classes]");
    op.attribute("class_agnostic", of_self(&NmsAttributes::class_agnostic))
        .doc("1: boxes of all classes suppress each other, each counts with its best class");
    op.attribute("iou_threshold", of_self(&NmsAttributes::iou_threshold))
        .bounds(0, 1)
        .doc("boxes that overlap more than this are suppressed");
    op.attribute("score_threshold", of_self(&NmsAttributes::score_threshold))
        .bounds(-kLargest, kLargest)
        .doc("scores must be above this");
    op.attribute("top_k", of_self(&NmsAttributes::top_k))
        .bounds(0, kMost)
        .doc("candidates looked at of each class, class-agnostic: of each image; 0: all");
    op.attribute("max_per_class", of_self(&NmsAttributes::max_per_class))
        .bounds(0, kMost)
        .doc("most selected of a class in an image; 0: any number");
    op.input("boxes", type, "[batch, boxes, 4], or 5 where rotated");
    op.input("scores", type, "as score_layout says");
  }

  void init() {
    settings_.form = box_format == "corners"  ? kernels::BoxForm::kCorners
                     : box_format == "center" ? kernels::BoxForm::kCenterSize
                                              : kernels::BoxForm::kRotated;
    settings_.layout = score_layout == "classes_first" ? kernels::ScoreLayout::kClassesFirst
                                                       : kernels::ScoreLayout::kBoxesFirst;
    settings_.class_agnostic = class_agnostic;
    settings_.iou_threshold = iou_threshold;
    settings_.score_threshold = score_threshold;
    settings_.top_k = top_k;
    settings_.max_per_class =
        max_per_class == 0 ? std::numeric_limits<int32_t>::max() : max_per_class;
  }

 protected:
  struct Extents {
    int64_t images, boxes, classes;
    int64_t pairs() const { return boxes * classes; }
  };

  const kernels::NmsSettings& settings() const { return settings_; }
  int numbers() const { return kernels::box_numbers(settings_.form); }
  int class_axis() const { return settings_.layout == kernels::ScoreLayout::kClassesFirst ? 1 : 2; }

  void check_inputs(op::Shapes& shapes) const {
    shapes.require_rank(0, 3);
    shapes.require_rank(1, 3);
    shapes.require_between(shapes.dim(0, 2), numbers(), numbers(), "the last axis of boxes");
    shapes.require_same(shapes.dim(0, 0), shapes.dim(1, 0), "the batches of boxes and scores");
    const op::Dim boxes = shapes.require_same(shapes.dim(0, 1), shapes.dim(1, 3 - class_axis()),
                                              "the boxes of boxes and scores");
    const auto box_count = boxes.known();
    const auto class_count = shapes.dim(1, class_axis()).known();
    if (box_count && class_count) check_pairs(*box_count, *class_count);
  }

  // Again where a body runs: TensorRT computes shapes without numbers.
  template <class T>
  Extents extents(const op::View<const T>& boxes, const op::View<const T>& scores) const {
    const Extents found{boxes.dim(0), boxes.dim(1), scores.dim(class_axis())};
    check_pairs(found.boxes, found.classes);
    return found;
  }

 private:
  template <class Member>
  static Member Self::* of_self(Member NmsAttributes::* member) {
    return member;
  }

  static void check_pairs(int64_t boxes, int64_t classes) {
    constexpr int64_t kMost = std::numeric_limits<int32_t>::max();
    if (boxes > kMost || classes > kMost || (classes > 0 && boxes > kMost / classes)) {
      throw op::Error(std::to_string(boxes) + " boxes of " + std::to_string(classes) +
                          " classes make more pairs than the 2147483647 that an image may have",
                      kZlShapeMismatch);
    }
  }

  kernels::NmsSettings settings_;
};

}  // namespace zerolane::ops
