// SPDX-License-Identifier: Apache-2.0
#include "kernels/quantize.h"

#include <cstdint>
#include <optional>
#include <string>

#include "ops/list.h"
#include "zerolane/op.h"

#ifdef ZL_OPS_CUDA
#include "kernels/quantize_cuda.h"
#endif

namespace zerolane::ops {
namespace {

constexpr const char* kAxisDoc =
    "of x, where there is a scale for each of its indices; negative counts from the last";

// Scales and zero points are scalars or [1], for all elements, or one for each index of an axis of
// x.
void check_scales(const op::Shapes& shapes, int64_t axis, bool zero_point) {
  const int rank = shapes.rank(1);
  shapes.require(rank <= 1, "the scale has rank " + std::to_string(rank) + ", expected 0 or 1");
  if (zero_point) {
    shapes.require_rank(2, rank);
    if (rank == 1) {
      shapes.require_same(shapes.dim(1, 0), shapes.dim(2, 0),
                          "the extents of the scale and the zero point");
    }
  }
  if (rank == 0) return;
  const std::optional<int64_t> count = shapes.dim(1, 0).known();
  if (!count || *count == 1) return;
  shapes.require_same(shapes.dim(0, static_cast<int>(axis)), shapes.dim(1, 0),
                      "the extents of x along the axis and of the scale");
}

template <typename Tensor>
kernels::QuantizeLayout layout_of(const Tensor& x, int64_t scales, int64_t axis) {
  const auto size = static_cast<size_t>(x.size());
  if (scales == 1 || size == 0) return {1, 1, size};
  const int at = static_cast<int>(axis < 0 ? axis + x.rank() : axis);
  kernels::QuantizeLayout layout{1, static_cast<size_t>(scales), 1};
  for (int i = 0; i < at; ++i) layout.outer *= static_cast<size_t>(x.dim(i));
  for (int i = at + 1; i < x.rank(); ++i) layout.inner *= static_cast<size_t>(x.dim(i));
  return layout;
}

struct Quantize {
  int64_t axis = 1;

  static void define(op::Definition<Quantize>& op) {
    op.name("zerolane", "Quantize").doc("y = saturate(round(x / scale) + zero_point)");
    const auto T = op.type<float, Half>("T");
    const auto Q = op.type<int8_t, uint8_t>("Q");
    op.attribute("axis", &Quantize::axis).bounds(-op::kMaxRank, op::kMaxRank - 1).doc(kAxisDoc);
    op.input("x", T, "any shape");
    op.input("scale", T, "scalar, [1] or [extent of the axis]");
    op.input("zero_point", Q, "as many; its type is that of y");
    op.output("y", Q, "the shape of x");
    op.cpu(T, Q);
#ifdef ZL_OPS_CUDA
    op.cuda(T, Q);
#endif
  }

  void shape(op::Shapes& shapes) const {
    check_scales(shapes, axis, /*zero_point=*/true);
    shapes.output(0, shapes.dims(0));
  }

  template <typename Element, typename Integer>
  void cpu(const op::Call& call) const {
    const auto x = call.input<Element>(0);
    const auto scale = call.input<Element>(1);
    if (x.size() == 0) return;  // an empty axis has no scale to read
    kernels::quantize(x.data(), call.output<Integer>(0).data(), layout_of(x, scale.size(), axis),
                      scale.data(), call.input<Integer>(2).data());
  }

#ifdef ZL_OPS_CUDA
  template <typename Element, typename Integer>
  int cuda(const op::Call& call) const {
    const auto x = call.input<Element>(0);
    const auto scale = call.input<Element>(1);
    if (x.size() == 0) return 0;
    return kernels::quantize_on(call.stream(), x.data(), call.output<Integer>(0).data(),
                                layout_of(x, scale.size(), axis), scale.data(),
                                call.input<Integer>(2).data());
  }
#endif
};

struct Dequantize {
  int64_t axis = 1;

  static void define(op::Definition<Dequantize>& op) {
    op.name("zerolane", "Dequantize").doc("y = (x - zero_point) * scale");
    const auto T = op.type<float, Half>("T");
    const auto Q = op.type<int8_t, uint8_t>("Q");
    op.attribute("axis", &Dequantize::axis).bounds(-op::kMaxRank, op::kMaxRank - 1).doc(kAxisDoc);
    op.input("x", Q, "any shape");
    op.input("scale", T, "scalar, [1] or [extent of the axis]; its type is that of y");
    op.optional_input("zero_point", Q, "as many; 0 where left out");
    op.output("y", T, "the shape of x");
    op.cpu(T, Q);
#ifdef ZL_OPS_CUDA
    op.cuda(T, Q);
#endif
  }

  void shape(op::Shapes& shapes) const {
    check_scales(shapes, axis, shapes.has(2));
    shapes.output(0, shapes.dims(0));
  }

  template <typename Element, typename Integer>
  void cpu(const op::Call& call) const {
    const auto x = call.input<Integer>(0);
    const auto scale = call.input<Element>(1);
    if (x.size() == 0) return;  // an empty axis has no scale to read
    kernels::dequantize(x.data(), call.output<Element>(0).data(), layout_of(x, scale.size(), axis),
                        scale.data(), zero_point<Integer>(call));
  }

#ifdef ZL_OPS_CUDA
  template <typename Element, typename Integer>
  int cuda(const op::Call& call) const {
    const auto x = call.input<Integer>(0);
    const auto scale = call.input<Element>(1);
    if (x.size() == 0) return 0;
    return kernels::dequantize_on(call.stream(), x.data(), call.output<Element>(0).data(),
                                  layout_of(x, scale.size(), axis), scale.data(),
                                  zero_point<Integer>(call));
  }
#endif

 private:
  template <typename Integer>
  static const Integer* zero_point(const op::Call& call) {
    return call.has_input(2) ? call.input<Integer>(2).data() : nullptr;
  }
};

// Symmetric, with the scale taken from the data.
struct DynamicQuantize {
  static void define(op::Definition<DynamicQuantize>& op) {
    op.name("zerolane", "DynamicQuantize")
        .doc("scale = largest |x| / 127; y = saturate(round(x / scale))");
    const auto T = op.type<float, Half>("T");
    const auto Q = op.type<int8_t>("Q");
    op.input("x", T, "any shape");
    op.output("y", Q, "the shape of x");
    op.output("scale", T, "scalar; 1 where x has nothing but zeros");
    op.cpu(T);
#ifdef ZL_OPS_CUDA
    op.cuda(T);
#endif
  }

  void shape(op::Shapes& shapes) const {
    shapes.output(0, shapes.dims(0));
    shapes.output(1, {});
  }

  // A word in which the largest size is found.
  size_t scratch(const op::Call& call) const { return call.on_gpu() ? sizeof(unsigned) : 0; }

  template <typename Element>
  void cpu(const op::Call& call) const {
    const auto x = call.input<Element>(0);
    const auto size = static_cast<size_t>(x.size());
    Element* scale = call.output<Element>(1).data();
    *scale = kernels::symmetric_scale(x.data(), size);
    kernels::quantize(x.data(), call.output<int8_t>(0).data(), {1, 1, size}, scale,
                      static_cast<const int8_t*>(nullptr));
  }

#ifdef ZL_OPS_CUDA
  template <typename Element>
  int cuda(const op::Call& call) const {
    const auto x = call.input<Element>(0);
    return kernels::dynamic_quantize_on(call.stream(), x.data(), call.output<int8_t>(0).data(),
                                        call.output<Element>(1).data(), x.size(),
                                        call.scratch<unsigned>());
  }
#endif
};

}  // namespace

const ZlOp* quantize() { return op::Definition<Quantize>::table(); }
const ZlOp* dequantize() { return op::Definition<Dequantize>::table(); }
const ZlOp* dynamic_quantize() { return op::Definition<DynamicQuantize>::table(); }

}  // namespace zerolane::ops
