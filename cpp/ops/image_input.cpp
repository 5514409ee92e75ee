// SPDX-License-Identifier: Apache-2.0
#include "ops/image_input.h"

namespace zerolane::ops {

namespace {

double of_plane(const std::vector<double>& list, int32_t plane) {
  return list.size() == 1 ? list[0] : list[static_cast<size_t>(plane)];
}

}  // namespace

Pictures pictures(const op::View<const uint8_t>& image) {
  return {image.rank() == 4 ? image.dim(0) : 1, image.dim(-3), image.dim(-2), image.dim(-1)};
}

void ImageInput::init() {
  for (const auto* list : {&mean, &deviation}) {
    const char* name = list == &mean ? "mean" : "std";
    if (swap_red_blue && list->size() == 2) {
      throw op::Error(std::string(name) + " has 2 numbers, expected 1, 3 or 4 with swap_red_blue");
    }
  }
}

void ImageInput::require_count(const char* name, const std::vector<double>& list,
                               int64_t channels) {
  if (list.size() == 1 || list.size() == static_cast<size_t>(channels)) return;
  throw op::Error(std::string(name) + " has " + std::to_string(list.size()) +
                      " numbers, expected 1 or one for each of the image's " +
                      std::to_string(channels) + " channels",
                  kZlShapeMismatch);
}

op::Dim ImageInput::planes_shape(op::Shapes& shapes) const {
  const int rank = shapes.rank(0);
  shapes.require(rank == 3 || rank == 4,
                 "the image has rank " + std::to_string(rank) +
                     ", expected 3 (height, width, channels) or 4 (with a batch in front)");
  shapes.require_between(shapes.dim(0, -3), 1, kernels::kMostImageSide, "the image's height");
  shapes.require_between(shapes.dim(0, -2), 1, kernels::kMostImageSide, "the image's width");
  const op::Dim channels = shapes.dim(0, -1);
  shapes.require_between(channels, swap_red_blue ? 3 : 1, kernels::kMostChannels,
                         "the image's last axis, its channels,");
  if (const auto known = channels.known()) {
    require_count("mean", mean, *known);
    require_count("std", deviation, *known);
  }
  const op::Dim batch = rank == 4 ? shapes.dim(0, 0) : shapes.number(1);
  shapes.output(0, {batch, channels, shapes.number(out_height()), shapes.number(out_width())});
  return batch;
}

kernels::ImageToPlanes ImageInput::filling(const Pictures& from,
                                           const std::vector<double>& border) const {
  kernels::ImageToPlanes what{};
  what.interpolation =
      interpolation == "area" ? kernels::Interpolation::kArea : kernels::Interpolation::kBilinear;
  what.channels = static_cast<int32_t>(from.channels);
  what.in_height = static_cast<int32_t>(from.height);
  what.in_width = static_cast<int32_t>(from.width);
  what.out_height = what.height = static_cast<int32_t>(out_height());
  what.out_width = what.width = static_cast<int32_t>(out_width());
  for (int32_t channel = 0; channel < what.channels; ++channel) {
    const int32_t plane = swap_red_blue && channel < 3 ? 2 - channel : channel;
    const double factor = scale / of_plane(deviation, plane);
    const double offset = -of_plane(mean, plane) / of_plane(deviation, plane);
    what.plane[channel] = plane;
    what.scale[channel] = static_cast<float>(factor);
    what.offset[channel] = static_cast<float>(offset);
    what.border[channel] = static_cast<float>(of_plane(border, plane) * factor + offset);
  }
  return what;
}

}  // namespace zerolane::ops
