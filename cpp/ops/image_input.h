// SPDX-License-Identifier: Apache-2.0
// What Letterbox and ResizeNormalize share: attributes, the shape of the planes, pixel values.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "kernels/image.h"
#include "zerolane/op.h"

namespace zerolane::ops {

// A picture of 8-bit pixels, [height, width, channels] or with a batch in front.
struct Pictures {
  int64_t batch;
  int64_t height;
  int64_t width;
  int64_t channels;
};

Pictures pictures(const op::View<const uint8_t>& image);

class ImageInput {
 public:
  std::vector<int64_t> size = {640, 640};
  std::string interpolation = "bilinear";
  double scale = 1.0 / 255;
  std::vector<double> mean = {0};
  std::vector<double> deviation = {1};
  bool swap_red_blue = false;

  // The attributes above and the input "image"; Self derives from ImageInput.
  template <class Self>
  static void define_input(op::Definition<Self>& op);

  void init();
  // Sets output 0, [batch, channels, height, width]; returns the batch.
  op::Dim planes_shape(op::Shapes& shapes) const;
  // `border` is a pixel value, one for all channels or one for each.
  kernels::ImageToPlanes filling(const Pictures& from, const std::vector<double>& border) const;

  int64_t out_height() const { return size.front(); }
  int64_t out_width() const { return size.back(); }

 protected:
  // Throws unless there is one number, or one for each channel.
  static void require_count(const char* name, const std::vector<double>& list, int64_t channels);
};

template <class Self>
void ImageInput::define_input(op::Definition<Self>& op) {
  using Numbers = std::vector<double>;
  op.attribute("size", static_cast<std::vector<int64_t> Self::*>(&Self::size))
      .counts(1, 2)
      .bounds(1, kernels::kMostImageSide)
      .doc("height and width of the planes; one number: a square");
  op.attribute("interpolation", static_cast<std::string Self::*>(&Self::interpolation))
      .choices({"bilinear", "area"})
      .doc("between the four nearest pixels, or the mean of all that are covered");
  op.attribute("scale", static_cast<double Self::*>(&Self::scale))
      .bounds(-1e9, 1e9)
      .doc("factor of a pixel before the mean is taken off");
  op.attribute("mean", static_cast<Numbers Self::*>(&Self::mean))
      .counts(1, kernels::kMostChannels)
      .bounds(-1e9, 1e9)
      .doc("(scale * pixel - mean) / std; one number, or one for each plane");
  op.attribute("std", static_cast<Numbers Self::*>(&Self::deviation))
      .counts(1, kernels::kMostChannels)
      .bounds(1e-9, 1e9)
      .doc("see mean");
  op.attribute("swap_red_blue", static_cast<bool Self::*>(&Self::swap_red_blue))
      .doc("the first plane is the third channel and the other way round");
  op.input("image", op.template type<uint8_t>("uint8"),
           "[height, width, channels] or [batch, height, width, channels], 1 to 4 channels");
}

}  // namespace zerolane::ops
