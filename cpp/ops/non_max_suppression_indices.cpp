// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "kernels/nms.h"
#include "kernels/scratch_parts.h"
#include "ops/list.h"
#include "ops/nms_attributes.h"

#if defined(ZL_OPS_CUDA)
#include "kernels/nms_cuda.h"
#endif

namespace zerolane::ops {
namespace {

using kernels::Detection;

// As many rows as there are, in the form of ONNX's operator.
struct NonMaxSuppressionIndices : NmsAttributes<NonMaxSuppressionIndices> {
  static void define(op::Definition<NonMaxSuppressionIndices>& op) {
    op.name("zerolane", "NonMaxSuppressionIndices")
        .doc("Indices of the boxes that ONNX's NonMaxSuppression selects, in its order");
    const auto T = op.type<float, Half>("T");
    define_shared(op, T);
    op.output("selected_indices", op.type<int64_t>("int64"), "[selected, 3]: image, class, box");
    op.cpu(T);
#if defined(ZL_OPS_CUDA)
    op.cuda(T);
#endif
  }

  void shape(op::Shapes& shapes) const {
    check_inputs(shapes);
    const op::Dim images = shapes.dim(0, 0);
    const op::Dim boxes = shapes.dim(0, 1);
    const op::Dim classes = shapes.dim(1, class_axis());
    const op::Dim of_each = min(boxes, settings().max_per_class);
    const op::Dim of_image = class_agnostic ? min(boxes, of_each * classes) : of_each * classes;
    constexpr int64_t kUsual = 100;
    const op::Dim rows = shapes.counted(images * min(of_image, kUsual), images * of_image);
    shapes.output(0, {rows, shapes.number(3)});
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
    const int64_t limit = most_of_image(found);
    if (limit == 0) {
      call.allocate<int64_t>(0, {0, 3});
      return;
    }
    kernels::ScratchParts parts{call.scratch<char>(), 64};
    auto* selected = parts.take<Detection>(static_cast<size_t>(limit * found.images));
    auto* ends = parts.take<int64_t>(static_cast<size_t>(found.images));
    void* rest = call.scratch<char>() + parts.bytes;
    int64_t count = 0;
    for (int64_t image = 0; image < found.images; ++image) {
      const Element* of_boxes = boxes.data() + image * found.boxes * numbers();
      const Element* of_scores = scores.data() + image * found.pairs();
      count += class_agnostic ? kernels::nms_by_score(settings(), of_boxes, of_scores, found.boxes,
                                                      found.classes, limit, rest, selected + count)
                              : kernels::nms_by_class(settings(), of_boxes, of_scores, found.boxes,
                                                      found.classes, rest, selected + count);
      ends[image] = count;
    }
    int64_t* row = call.allocate<int64_t>(0, {count, 3}).data();
    int64_t at = 0;
    for (int64_t image = 0; image < found.images; ++image) {
      for (; at < ends[image]; ++at) {
        *row++ = image;
        *row++ = selected[at].class_id;
        *row++ = selected[at].box;
      }
    }
  }

#if defined(ZL_OPS_CUDA)
  template <class Element>
  int cuda(const op::Call& call) const {
    const auto boxes = call.input<Element>(0);
    const auto scores = call.input<Element>(1);
    const auto found = extents(boxes, scores);
    return kernels::nms_rows_cuda(settings(), boxes.data(), scores.data(), found.images,
                                  found.boxes, found.classes, call.scratch(),
                                  call.output<int64_t>(0).data(), call.count(0), call.stream());
  }
#endif

 private:
  int64_t most_of_image(const Extents& found) const {
    const int64_t of_each = std::min<int64_t>(found.boxes, settings().max_per_class);
    return class_agnostic ? std::min(found.boxes, of_each * found.classes)
                          : of_each * found.classes;
  }

  template <class Element>
  size_t scratch_of(const op::Call& call) const {
    const auto found = extents(call.input<Element>(0), call.input<Element>(1));
#if defined(ZL_OPS_CUDA)
    if (call.on_gpu()) {
      return kernels::nms_rows_cuda_scratch_bytes(settings(), found.images, found.boxes,
                                                  found.classes);
    }
#endif
    const auto images = static_cast<size_t>(found.images);
    const auto limit = static_cast<size_t>(most_of_image(found));
    if (limit == 0) return 0;  // any number of images, then
    kernels::ScratchParts parts{nullptr, 64};
    parts.take<Detection>(kernels::saturating_times(limit, images));
    parts.take<int64_t>(images);
    return kernels::saturating_add(
        parts.bytes, kernels::nms_scratch_bytes(settings(), found.boxes, found.classes,
                                                static_cast<int64_t>(limit)));
  }
};

}  // namespace

const ZlOp* non_max_suppression_indices() {
  return op::Definition<NonMaxSuppressionIndices>::table();
}

}  // namespace zerolane::ops
