// SPDX-License-Identifier: Apache-2.0
#include "kernels/image.h"
#include "kernels/image_vector.h"

namespace zerolane::kernels {

size_t image_to_planes_scratch(const ImageToPlanes& what) noexcept {
  return ImageScratch(what).bytes;
}

void image_to_planes(const ImageToPlanes& what, const uint8_t* images, int64_t batch, float* planes,
                     void* scratch) noexcept {
  ZL_CHOOSE_ISA(image_to_planes_float)(what, images, batch, planes, scratch);
}

void image_to_planes(const ImageToPlanes& what, const uint8_t* images, int64_t batch, Half* planes,
                     void* scratch) noexcept {
  ZL_CHOOSE_ISA(image_to_planes_half)(what, images, batch, planes, scratch);
}

}  // namespace zerolane::kernels
