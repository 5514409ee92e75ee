// SPDX-License-Identifier: Apache-2.0
#include "kernels/roi_align.h"

#include "ops/list.h"
#include "zerolane/op.h"

#if defined(ZL_OPS_CUDA)
#include "kernels/roi_align_cuda.h"
#endif

namespace zerolane::ops {
namespace {

struct RoiAlign {
  std::string mode = "avg";
  std::string coordinate_transformation_mode = "half_pixel";
  int32_t output_height = 1;
  int32_t output_width = 1;
  int32_t sampling_ratio = 0;
  float spatial_scale = 1;

  static void define(op::Definition<RoiAlign>& op) {
    op.name("zerolane", "RoiAlign")
        .doc("Boxes of feature maps pooled to one size, as ONNX's RoiAlign (opset 16).");
    const auto T = op.type<float, Half>("T");
    op.attribute("mode", &RoiAlign::mode)
        .choices({"avg", "max"})
        .doc("mean of the samples, or the greatest of their weighted neighbours");
    op.attribute("coordinate_transformation_mode", &RoiAlign::coordinate_transformation_mode)
        .choices({"half_pixel", "output_half_pixel"})
        .doc("pixel centers at halves; or at whole numbers, with boxes of one pixel at least");
    op.attribute("output_height", &RoiAlign::output_height).bounds(1, 4096);
    op.attribute("output_width", &RoiAlign::output_width).bounds(1, 4096);
    op.attribute("sampling_ratio", &RoiAlign::sampling_ratio)
        .bounds(0, 16)
        .doc("samples along each side of a bin; 0: its size in pixels, rounded up");
    op.attribute("spatial_scale", &RoiAlign::spatial_scale)
        .bounds(-1e6, 1e6)
        .doc("from coordinates of boxes to those of the maps");
    op.input("X", T, "feature maps [batch, channels, height, width]");
    op.input("rois", T, "boxes [count, 4]: x1, y1, x2, y2");
    op.input("batch_indices", op.type<int64_t>("int64"), "[count]: the map of each box");
    op.output("Y", T, "[count, channels, output_height, output_width]");
    op.cpu(T);
#if defined(ZL_OPS_CUDA)
    op.cuda(T);
#endif
  }

  void shape(op::Shapes& shapes) const {
    shapes.require_rank(0, 4);
    shapes.require_rank(1, 2);
    shapes.require_rank(2, 1);
    shapes.require_between(shapes.dim(0, 2), 1, kernels::kMostMapSide, "the height of the maps");
    shapes.require_between(shapes.dim(0, 3), 1, kernels::kMostMapSide, "the width of the maps");
    shapes.require_between(shapes.dim(1, 1), 4, 4, "the last axis of rois");
    const op::Dim count =
        shapes.require_same(shapes.dim(1, 0), shapes.dim(2, 0), "the boxes and their maps");
    shapes.output(
        0, {count, shapes.dim(0, 1), shapes.number(output_height), shapes.number(output_width)});
  }

  size_t scratch(const op::Call& call) const {
    if (call.on_gpu()) return 0;
    if (op::same_dtype(call.input_dtype(0), op::dtype_of<Half>())) {
      return kernels::roi_align_scratch(what(call.input<Half>(0)));
    }
    return kernels::roi_align_scratch(what(call.input<float>(0)));
  }

  template <typename Element>
  void cpu(const op::Call& call) const {
    const auto maps = call.input<Element>(0);
    const auto map = call.input<int64_t>(2);
    for (int64_t i = 0; i < map.size(); ++i) {
      if (map[i] < 0 || map[i] >= maps.dim(0)) {
        throw op::Error("batch_indices[" + std::to_string(i) + "] is " + std::to_string(map[i]) +
                        ", expected 0 to " + std::to_string(maps.dim(0) - 1) +
                        ", as X has a batch of " + std::to_string(maps.dim(0)));
      }
    }
    kernels::roi_align(what(maps), maps.data(), call.input<Element>(1).data(), map.data(),
                       map.size(), call.output<Element>(0).data(), call.scratch());
  }

#if defined(ZL_OPS_CUDA)
  // A GPU cannot report an index: boxes of maps that do not exist become zeros.
  template <typename Element>
  int cuda(const op::Call& call) const {
    const auto maps = call.input<Element>(0);
    const auto map = call.input<int64_t>(2);
    return kernels::launch_roi_align(what(maps), maps.data(), maps.dim(0),
                                     call.input<Element>(1).data(), map.data(), map.size(),
                                     call.output<Element>(0).data(), call.stream());
  }
#endif

 private:
  template <typename Element>
  kernels::RoiAlign what(const op::View<const Element>& maps) const {
    kernels::RoiAlign all{};
    all.pooling = mode == "max" ? kernels::RoiPooling::kMax : kernels::RoiPooling::kAverage;
    all.sampling_ratio = sampling_ratio;
    all.half_pixel = coordinate_transformation_mode == "half_pixel";
    all.spatial_scale = spatial_scale;
    all.channels = maps.dim(1);
    all.height = static_cast<int32_t>(maps.dim(2));
    all.width = static_cast<int32_t>(maps.dim(3));
    all.out_height = output_height;
    all.out_width = output_width;
    return all;
  }
};

}  // namespace

const ZlOp* roi_align() { return op::Definition<RoiAlign>::table(); }

}  // namespace zerolane::ops
