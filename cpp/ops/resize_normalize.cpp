// SPDX-License-Identifier: Apache-2.0
#include "kernels/image.h"
#include "ops/image_input.h"
#include "ops/list.h"
#include "zerolane/op.h"

#if defined(ZL_OPS_CUDA)
#include "kernels/image_cuda.h"
#endif

namespace zerolane::ops {
namespace {

// Element: of the planes. An output's element type is that of an input or fixed, hence two ops.
template <class Element>
class ResizeNormalize : public ImageInput {
 public:
  static void define(op::Definition<ResizeNormalize>& op) {
    op.name("zerolane",
            std::is_same_v<Element, Half> ? "ResizeNormalizeFloat16" : "ResizeNormalize")
        .doc("Pictures resized to planes of (scale * pixel - mean) / std.");
    define_input(op);
    op.output("planes", op.template type<Element>("T"), "[batch, channels, height, width]");
    op.cpu();
#if defined(ZL_OPS_CUDA)
    op.cuda();
#endif
  }

  void shape(op::Shapes& shapes) const { planes_shape(shapes); }

  size_t scratch(const op::Call& call) const {
    return call.on_gpu() ? 0 : kernels::image_to_planes_scratch(what(call));
  }

  void cpu(const op::Call& call) const {
    kernels::image_to_planes(what(call), call.input<uint8_t>(0).data(),
                             pictures(call.input<uint8_t>(0)).batch, call.output<Element>(0).data(),
                             call.scratch());
  }

#if defined(ZL_OPS_CUDA)
  int cuda(const op::Call& call) const {
    return kernels::launch_image_to_planes(what(call), call.input<uint8_t>(0).data(),
                                           pictures(call.input<uint8_t>(0)).batch,
                                           call.output<Element>(0).data(), call.stream());
  }
#endif

 private:
  kernels::ImageToPlanes what(const op::Call& call) const {
    return filling(pictures(call.input<uint8_t>(0)), {0});
  }
};

}  // namespace

const ZlOp* resize_normalize() { return op::Definition<ResizeNormalize<float>>::table(); }
const ZlOp* resize_normalize_float16() { return op::Definition<ResizeNormalize<Half>>::table(); }

}  // namespace zerolane::ops
