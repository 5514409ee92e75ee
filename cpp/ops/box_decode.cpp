// SPDX-License-Identifier: Apache-2.0
#include "kernels/box_decode.h"

#include <cstring>

#include "ops/list.h"
#include "zerolane/op.h"

#if defined(ZL_OPS_CUDA)
#include "kernels/box_decode_cuda.h"
#endif

namespace zerolane::ops {
namespace {

constexpr int64_t kMostPoints = 1 << 22;

struct BoxDecode {
  std::string mode = "distances";
  std::string box_format = "corners";
  std::string layout = "boxes_first";
  int64_t bins = 1;
  std::vector<int64_t> image_size;
  std::vector<int64_t> strides = {8, 16, 32};
  float point_offset = 0.5F;
  std::vector<float> anchor_sizes;
  std::string anchor_format = "corners";
  std::vector<float> variances = {1, 1, 1, 1};
  float largest_log_size = 4.135166556742356F;

  static void define(op::Definition<BoxDecode>& op) {
    op.name("zerolane", "BoxDecode").doc("Boxes from what the heads of detectors predict");
    const auto T = op.type<float, Half>("T");
    op.attribute("mode", &BoxDecode::mode)
        .choices({"distances", "deltas", "yolov3", "yolov5"})
        .doc("distances from grid points; deltas from anchors; cells with anchor sizes");
    op.attribute("box_format", &BoxDecode::box_format)
        .choices({"corners", "center"})
        .doc("of the result: x1, y1, x2, y2, or cx, cy, w, h");
    op.attribute("layout", &BoxDecode::layout)
        .choices({"boxes_first", "channels_first"})
        .doc("of distances: [batch, boxes, 4 bins] or [batch, 4 bins, boxes]");
    op.attribute("bins", &BoxDecode::bins)
        .bounds(1, 4096)
        .doc("distances: logits of each; its value is the mean bin under their softmax");
    op.attribute("image_size", &BoxDecode::image_size)
        .bounds(1, 1 << 16)
        .counts(0, 2)
        .doc("height and width in pixels; not for deltas");
    op.attribute("strides", &BoxDecode::strides)
        .bounds(1, 1 << 16)
        .counts(1, 64)
        .doc("of the grids, in the order of the boxes; not for deltas");
    op.attribute("point_offset", &BoxDecode::point_offset)
        .bounds(-1, 1)
        .doc("distances: of a point in its cell");
    op.attribute("anchor_sizes", &BoxDecode::anchor_sizes)
        .bounds(0, 1e6)
        .counts(0, 1 << 12)
        .doc("cells: width and height in pixels of each anchor of each grid");
    op.attribute("anchor_format", &BoxDecode::anchor_format)
        .choices({"corners", "center"})
        .doc("deltas: of the anchors");
    op.attribute("variances", &BoxDecode::variances)
        .bounds(-1e6, 1e6)
        .counts(4, 4)
        .doc("deltas: factors of x, y, w, h");
    op.attribute("largest_log_size", &BoxDecode::largest_log_size)
        .bounds(-80, 80)
        .doc("deltas: of a box against its anchor; ln(1000 / 16) as in Detectron");
    op.input("predictions", T, "[batch, boxes, 4], but see layout and bins");
    op.optional_input("anchors", T, "deltas: [boxes, 4] or [batch, boxes, 4]");
    op.output("boxes", T, "[batch, boxes, 4]");
    op.cpu(T);
#if defined(ZL_OPS_CUDA)
    op.cuda(T);
#endif
  }

  void init() {
    if (mode == "deltas") return;
    if (image_size.size() != 2) {
      throw op::Error("image_size has " + std::to_string(image_size.size()) +
                      " numbers, expected height and width for mode '" + mode + "'");
    }
    if (mode == "distances") {
      make_points();
    } else {
      make_cells();
    }
  }

  void shape(op::Shapes& shapes) const {
    shapes.require_rank(0, 3);
    const bool rows = mode != "distances" || layout == "boxes_first";
    const int64_t channels = mode == "distances" ? 4 * bins : 4;
    shapes.require_between(shapes.dim(0, rows ? 2 : 1), channels, channels,
                           "the channels of predictions");
    op::Dim boxes = shapes.dim(0, rows ? 1 : 2);
    if (mode == "deltas") {
      boxes = check_anchors(shapes, boxes);
    } else {
      boxes = shapes.require_same(boxes, shapes.number(count_),
                                  "the boxes of predictions and of the grids");
      shapes.require(!shapes.has(1), "anchors are given, expected none for mode '" + mode +
                                         "'; anchor_sizes are an attribute");
    }
    shapes.output(0, {shapes.dim(0, 0), boxes, shapes.number(4)});
  }

  std::vector<ZlConstant> constants() const {
    if (table_.empty()) return {};
    return {{table_.data(), table_.size() * sizeof(float)}};
  }

  template <class Element>
  void cpu(const op::Call& call) const {
    const auto from = call.input<Element>(0);
    const auto to = call.output<Element>(0);
    const int64_t n = to.dim(1);
    if (n == 0) return;  // of any number of images
    const int64_t image_numbers = from.dim(1) * from.dim(2);
    for (int64_t image = 0; image < from.dim(0); ++image) {
      const Element* raw = from.data() + image * image_numbers;
      Element* boxes = to.data() + image * 4 * n;
      if (mode == "distances") {
        kernels::decode_distances(distances(call), raw, n, boxes);
      } else if (mode == "deltas") {
        const auto anchors = call.input<Element>(1);
        const Element* first = anchors.data() + (anchors.rank() == 3 ? image * 4 * n : 0);
        kernels::decode_deltas(deltas(), raw, first, n, boxes);
      } else {
        kernels::decode_cells(cells(call), raw, n, boxes);
      }
    }
  }

#if defined(ZL_OPS_CUDA)
  template <class Element>
  int cuda(const op::Call& call) const {
    const Element* from = call.input<Element>(0).data();
    const auto to = call.output<Element>(0);
    const int64_t images = to.dim(0);
    const int64_t n = to.dim(1);
    if (mode == "distances") {
      return kernels::decode_distances_cuda(distances(call), from, images, n, to.data(),
                                            call.stream());
    }
    if (mode == "deltas") {
      const auto anchors = call.input<Element>(1);
      return kernels::decode_deltas_cuda(deltas(), from, anchors.data(), anchors.rank() == 3,
                                         images, n, to.data(), call.stream());
    }
    return kernels::decode_cells_cuda(cells(call), from, images, n, to.data(), call.stream());
  }
#endif

 private:
  struct Grid {
    int64_t width, height;
    float stride;
  };

  // Of `per_cell` boxes each; fails where they are too many.
  std::vector<Grid> grids(int64_t per_cell) {
    std::vector<Grid> all;
    count_ = 0;
    for (const int64_t stride : strides) {
      const Grid grid{(image_size[1] + stride - 1) / stride, (image_size[0] + stride - 1) / stride,
                      static_cast<float>(stride)};
      all.push_back(grid);
      // At most 2^32 cells of 2^11 anchors: no overflow.
      count_ += grid.width * grid.height * per_cell;
      if (count_ > kMostPoints) {
        throw op::Error("the grids of image_size and strides have more boxes than the " +
                        std::to_string(kMostPoints) + " that are supported");
      }
    }
    return all;
  }

  void make_points() {
    const auto all = grids(1);
    const auto n = static_cast<size_t>(count_);
    table_.resize(3 * n);
    size_t i = 0;
    for (const Grid& grid : all) {
      for (int64_t y = 0; y < grid.height; ++y) {
        for (int64_t x = 0; x < grid.width; ++x, ++i) {
          table_[i] = (static_cast<float>(x) + point_offset) * grid.stride;
          table_[n + i] = (static_cast<float>(y) + point_offset) * grid.stride;
          table_[2 * n + i] = grid.stride;
        }
      }
    }
  }

  void make_cells() {
    const size_t of_grid = anchor_sizes.size() / strides.size();
    if (of_grid == 0 || of_grid % 2 != 0 || of_grid * strides.size() != anchor_sizes.size()) {
      throw op::Error("anchor_sizes has " + std::to_string(anchor_sizes.size()) +
                      " numbers, expected pairs, as many for each of the " +
                      std::to_string(strides.size()) + " strides");
    }
    const auto all = grids(static_cast<int64_t>(of_grid / 2));
    const auto n = static_cast<size_t>(count_);
    table_.resize(5 * n);
    size_t i = 0;
    const float* size = anchor_sizes.data();
    for (const Grid& grid : all) {
      for (size_t anchor = 0; anchor < of_grid / 2; ++anchor, size += 2) {
        for (int64_t y = 0; y < grid.height; ++y) {
          for (int64_t x = 0; x < grid.width; ++x, ++i) {
            table_[i] = static_cast<float>(x) * grid.stride;
            table_[n + i] = static_cast<float>(y) * grid.stride;
            table_[2 * n + i] = grid.stride;
            table_[3 * n + i] = size[0];
            table_[4 * n + i] = size[1];
          }
        }
      }
    }
  }

  static op::Dim check_anchors(op::Shapes& shapes, op::Dim boxes) {
    shapes.require(shapes.has(1), "anchors are left out, expected some for mode 'deltas'");
    const int rank = shapes.rank(1);
    if (rank == 3) {
      shapes.require_same(shapes.dim(0, 0), shapes.dim(1, 0),
                          "the batches of predictions and anchors");
    } else {
      shapes.require(rank == 2, "anchors have rank " + std::to_string(rank) + ", expected 2 or 3");
    }
    shapes.require_between(shapes.dim(1, -1), 4, 4, "the last axis of anchors");
    return shapes.require_same(boxes, shapes.dim(1, -2), "the boxes of predictions and anchors");
  }

  kernels::DistanceDecode distances(const op::Call& call) const {
    return {call.constant<float>(0), bins, layout == "channels_first", corners()};
  }
  kernels::DeltaDecode deltas() const {
    return {anchor_format == "corners",
            {variances[0], variances[1], variances[2], variances[3]},
            largest_log_size,
            corners()};
  }
  kernels::CellDecode cells(const op::Call& call) const {
    return {call.constant<float>(0), mode == "yolov5", corners()};
  }
  bool corners() const { return box_format == "corners"; }

  std::vector<float> table_;  // of points or cells, see kernels/box_decode.h
  int64_t count_ = 0;
};

}  // namespace

const ZlOp* box_decode() { return op::Definition<BoxDecode>::table(); }

}  // namespace zerolane::ops
