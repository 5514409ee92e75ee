// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>

#include "kernels/image.h"
#include "ops/image_input.h"
#include "ops/list.h"
#include "zerolane/op.h"

#if defined(ZL_OPS_CUDA)
#include "kernels/image_cuda.h"
#endif

namespace zerolane::ops {
namespace {

// A side after scaling. In doubles and with ties to even, as Python's round() has it, so that sizes
// are those of the training code of YOLO models.
int32_t scaled(int64_t side, double scale, int64_t most) {
  const double wanted = std::nearbyint(static_cast<double>(side) * scale);
  return static_cast<int32_t>(std::clamp(wanted, 1.0, static_cast<double>(most)));
}

// Element: of the planes. An output's element type is that of an input or fixed, hence two ops.
template <class Element>
class Letterbox : public ImageInput {
 public:
  bool scale_up = true;
  std::vector<double> border = {114};

  static void define(op::Definition<Letterbox>& op) {
    op.name("zerolane", std::is_same_v<Element, Half> ? "LetterboxFloat16" : "Letterbox")
        .doc(
            "Pictures resized without distortion, in the middle of planes of "
            "(scale * pixel - mean) / std.");
    define_input(op);
    op.attribute("scale_up", &Letterbox::scale_up)
        .doc("whether pictures smaller than the planes grow");
    op.attribute("border", &Letterbox::border)
        .counts(1, kernels::kMostChannels)
        .bounds(0, 255)
        .doc("pixel value around the picture; one number, or one for each plane");
    op.output("planes", op.template type<Element>("T"), "[batch, channels, height, width]");
    op.optional_output("transform", op.template type<float>("float32"),
                       "[batch, 3]: scale, pad_x, pad_y; a point of the picture lies at "
                       "scale * x + pad_x, scale * y + pad_y");
    op.cpu();
#if defined(ZL_OPS_CUDA)
    op.cuda();
#endif
  }

  void shape(op::Shapes& shapes) const {
    const op::Dim batch = planes_shape(shapes);
    if (const auto channels = shapes.dim(0, -1).known()) require_count("border", border, *channels);
    shapes.output(1, {batch, shapes.number(3)});
  }

  size_t scratch(const op::Call& call) const {
    return call.on_gpu() ? 0 : kernels::image_to_planes_scratch(what(call));
  }

  void cpu(const op::Call& call) const {
    const auto image = call.input<uint8_t>(0);
    const kernels::ImageToPlanes place = what(call);
    const int64_t batch = pictures(image).batch;
    kernels::image_to_planes(place, image.data(), batch, call.output<Element>(0).data(),
                             call.scratch());
    if (!call.wants_output(1)) return;
    const auto transform = call.output<float>(1);
    for (int64_t i = 0; i < batch; ++i) {
      transform[3 * i] = static_cast<float>(factor(pictures(image)));
      transform[3 * i + 1] = static_cast<float>(place.left);
      transform[3 * i + 2] = static_cast<float>(place.top);
    }
  }

#if defined(ZL_OPS_CUDA)
  int cuda(const op::Call& call) const {
    const auto image = call.input<uint8_t>(0);
    const kernels::ImageToPlanes place = what(call);
    const int64_t batch = pictures(image).batch;
    const int status = kernels::launch_image_to_planes(
        place, image.data(), batch, call.output<Element>(0).data(), call.stream());
    if (status != 0 || !call.wants_output(1)) return status;
    return kernels::launch_transforms(static_cast<float>(factor(pictures(image))),
                                      static_cast<float>(place.left), static_cast<float>(place.top),
                                      batch, call.output<float>(1).data(), call.stream());
  }
#endif

 private:
  double factor(const Pictures& from) const {
    const double fits =
        std::min(static_cast<double>(out_height()) / static_cast<double>(from.height),
                 static_cast<double>(out_width()) / static_cast<double>(from.width));
    return scale_up ? fits : std::min(fits, 1.0);
  }

  kernels::ImageToPlanes what(const op::Call& call) const {
    const Pictures from = pictures(call.input<uint8_t>(0));
    kernels::ImageToPlanes place = filling(from, border);
    place.height = scaled(from.height, factor(from), out_height());
    place.width = scaled(from.width, factor(from), out_width());
    place.top = (place.out_height - place.height) / 2;
    place.left = (place.out_width - place.width) / 2;
    return place;
  }
};

}  // namespace

const ZlOp* letterbox() { return op::Definition<Letterbox<float>>::table(); }
const ZlOp* letterbox_float16() { return op::Definition<Letterbox<Half>>::table(); }

}  // namespace zerolane::ops
