// SPDX-License-Identifier: Apache-2.0
#include "kernels/nms.h"

#include <algorithm>
#include <cstring>

#include "kernels/scratch_parts.h"
#include "ops/list.h"
#include "ops/nms_attributes.h"

#if defined(ZL_OPS_CUDA)
#include "kernels/nms_cuda.h"
#endif

namespace zerolane::ops {
namespace {

using kernels::Detection;

// A fixed number of rows an image: what pipelines and TensorRT engines want.
struct NonMaxSuppression : NmsAttributes<NonMaxSuppression> {
  int32_t max_total = 100;

  static void define(op::Definition<NonMaxSuppression>& op) {
    op.name("zerolane", "NonMaxSuppression")
        .doc("The best boxes of each image by falling score, padded to max_total");
    const auto T = op.type<float, Half>("T");
    const auto I = op.type<int32_t>("I");
    define_shared(op, T);
    op.attribute("max_total", &NonMaxSuppression::max_total)
        .bounds(1, 1 << 20)
        .doc("rows of the outputs");
    op.output("selected_boxes", T, "[batch, max_total, 4 or 5], 0 behind the last");
    op.output("selected_scores", T, "[batch, max_total], 0 behind the last");
    op.output("selected_classes", I, "[batch, max_total], -1 behind the last");
    op.output("counts", I, "[batch]: rows in use");
    op.cpu(T);
#if defined(ZL_OPS_CUDA)
    op.cuda(T);
#endif
  }

  void shape(op::Shapes& shapes) const {
    check_inputs(shapes);
    const op::Dim batch = shapes.dim(0, 0);
    const op::Dim rows = shapes.number(max_total);
    shapes.output(0, {batch, rows, shapes.number(numbers())});
    shapes.output(1, {batch, rows});
    shapes.output(2, {batch, rows});
    shapes.output(3, {batch});
  }

  size_t scratch(const op::Call& call) const {
    return op::same_dtype(call.input_dtype(0), op::dtype_of<float>()) ? scratch_of<float>(call)
                                                                      : scratch_of<Half>(call);
  }

  template <class Element>
  void cpu(const op::Call& call) const {
    const auto boxes = call.input<Element>(0);
    const auto scores = call.input<Element>(1);
    const auto found = extents(boxes, scores);
    const auto wide = static_cast<size_t>(numbers());
    const auto rows = static_cast<size_t>(max_total);
    const int64_t limit = std::min<int64_t>(max_total, found.pairs());
    kernels::ScratchParts parts{call.scratch<char>(), 64};
    auto* selected = parts.take<Detection>(static_cast<size_t>(limit));
    void* rest = call.scratch<char>() + parts.bytes;
    for (int64_t image = 0; image < found.images; ++image) {
      const Element* from = boxes.data() + image * found.boxes * numbers();
      const int64_t count =
          kernels::nms_by_score(settings(), from, scores.data() + image * found.pairs(),
                                found.boxes, found.classes, limit, rest, selected);
      Element* to = call.output<Element>(0).data() + image * max_total * numbers();
      Element* to_scores = call.output<Element>(1).data() + image * max_total;
      int32_t* to_classes = call.output<int32_t>(2).data() + image * max_total;
      const auto used = static_cast<size_t>(count);
      for (size_t i = 0; i < used; ++i) {
        std::copy_n(from + static_cast<size_t>(selected[i].box) * wide, wide, to + i * wide);
        to_scores[i] = static_cast<Element>(selected[i].score);
        to_classes[i] = selected[i].class_id;
      }
      std::fill(to + used * wide, to + rows * wide, static_cast<Element>(0.0F));
      std::fill(to_scores + used, to_scores + rows, static_cast<Element>(0.0F));
      std::fill(to_classes + used, to_classes + rows, -1);
      call.output<int32_t>(3)[image] = static_cast<int32_t>(count);
    }
  }

#if defined(ZL_OPS_CUDA)
  template <class Element>
  int cuda(const op::Call& call) const {
    const auto boxes = call.input<Element>(0);
    const auto scores = call.input<Element>(1);
    const auto found = extents(boxes, scores);
    return kernels::nms_by_score_cuda(
        settings(), boxes.data(), scores.data(), found.images, found.boxes, found.classes,
        max_total, call.scratch(), call.output<Element>(0).data(), call.output<Element>(1).data(),
        call.output<int32_t>(2).data(), call.output<int32_t>(3).data(), call.stream());
  }
#endif

 private:
  template <class Element>
  size_t scratch_of(const op::Call& call) const {
    const auto found = extents(call.input<Element>(0), call.input<Element>(1));
#if defined(ZL_OPS_CUDA)
    if (call.on_gpu()) {
      return kernels::nms_by_score_cuda_scratch_bytes(settings(), found.images, found.boxes,
                                                      found.classes, max_total);
    }
#endif
    const int64_t limit = std::min<int64_t>(max_total, found.pairs());
    kernels::ScratchParts parts{nullptr, 64};
    parts.take<Detection>(static_cast<size_t>(limit));
    return kernels::saturating_add(
        parts.bytes, kernels::nms_scratch_bytes(settings(), found.boxes, found.classes, limit));
  }
};

}  // namespace

const ZlOp* non_max_suppression() { return op::Definition<NonMaxSuppression>::table(); }

}  // namespace zerolane::ops
