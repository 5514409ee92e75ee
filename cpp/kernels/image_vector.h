// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernels/image.h"
#include "kernels/image_element.h"
#include "kernels/isa.h"

namespace zerolane::kernels {

ZL_DECLARE_ISA(void, image_to_planes_float,
               (const ImageToPlanes& what, const uint8_t* images, int64_t batch, float* planes,
                void* scratch))
ZL_DECLARE_ISA(void, image_to_planes_half,
               (const ImageToPlanes& what, const uint8_t* images, int64_t batch, Half* planes,
                void* scratch))

// Elements behind a mixed row that are read, with weight 0.
constexpr int32_t kImageRowSlack = 32;

// Where things lie in the scratch memory, in bytes.
struct ImageScratch {
  [[gnu::always_inline]] explicit ImageScratch(const ImageToPlanes& what)
      : spans(0),
        first(up(static_cast<size_t>(what.width) * sizeof(Span))),
        tail(first + up(static_cast<size_t>(what.width) * sizeof(int32_t))),
        row(tail + up(static_cast<size_t>(what.width) * sizeof(float))),
        planes(row + up((static_cast<size_t>(what.in_width) + kImageRowSlack) *
                        static_cast<size_t>(what.channels) * sizeof(float))),
        bytes(planes + static_cast<size_t>(what.width) * static_cast<size_t>(what.channels) *
                           sizeof(float)) {}

  size_t spans;
  size_t first;  // of each span, and its tail, in whole vectors
  size_t tail;
  size_t row;     // mixed, its channels side by side or one after the other
  size_t planes;  // one row of each, before it is rounded to Half
  size_t bytes;

 private:
  [[gnu::always_inline]] static size_t up(size_t bytes) { return (bytes + 63) / 64 * 64; }
};

}  // namespace zerolane::kernels
