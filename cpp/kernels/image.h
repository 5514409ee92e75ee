// SPDX-License-Identifier: Apache-2.0
// Pictures to the inputs of networks: 8-bit pixels, channels last, to planes of numbers.
#pragma once

#include <cstddef>
#include <cstdint>

#include "zerolane/half.h"

namespace zerolane::kernels {

constexpr int32_t kMostChannels = 4;
// The longest side of a picture or an output: positions times two fit 32 bits.
constexpr int32_t kMostImageSide = 32767;

// Both with pixel centers at halves. Bilinear reads the four nearest pixels (as OpenCV's
// INTER_LINEAR), area the mean of all that an output pixel covers (as INTER_AREA); image_element.h
// has the formulas.
enum class Interpolation : int32_t { kBilinear, kArea };

// What becomes of one picture. Sides are 1 to kMostImageSide, channels 1 to kMostChannels, and the
// place lies inside the output.
struct ImageToPlanes {
  Interpolation interpolation;
  int32_t channels;
  int32_t in_height;
  int32_t in_width;
  int32_t out_height;
  int32_t out_width;
  // Where in the output the resized picture lies; around it is border.
  int32_t top;
  int32_t left;
  int32_t height;
  int32_t width;
  // By channel of the picture: the plane that it goes to, value = pixel * scale + offset, and the
  // value (not the pixel) of the border.
  int32_t plane[kMostChannels];
  float scale[kMostChannels];
  float offset[kMostChannels];
  float border[kMostChannels];
};

// Bytes of scratch memory, aligned to 64, for image_to_planes.
size_t image_to_planes_scratch(const ImageToPlanes& what) noexcept;

// Pictures [batch, in_height, in_width, channels] to planes [batch, channels, out_height,
// out_width]. Interpolated pixels are not rounded to whole numbers before they are scaled; Half is
// rounded once.
void image_to_planes(const ImageToPlanes& what, const uint8_t* images, int64_t batch, float* planes,
                     void* scratch) noexcept;
void image_to_planes(const ImageToPlanes& what, const uint8_t* images, int64_t batch, Half* planes,
                     void* scratch) noexcept;

}  // namespace zerolane::kernels
