// SPDX-License-Identifier: Apache-2.0
// kernels/image.h on a GPU.
#pragma once

#include <cstdint>

#include "kernels/image.h"

namespace zerolane::kernels {

// As image_to_planes, with memory of the GPU; launched on `stream` (a cudaStream_t), not waited
// for. Returns the status of the launch, 0 for success.
int launch_image_to_planes(const ImageToPlanes& what, const uint8_t* images, int64_t batch,
                           float* planes, void* stream) noexcept;
int launch_image_to_planes(const ImageToPlanes& what, const uint8_t* images, int64_t batch,
                           Half* planes, void* stream) noexcept;

// `batch` rows of (scale, pad_x, pad_y), likewise.
int launch_transforms(float scale, float pad_x, float pad_y, int64_t batch, float* transforms,
                      void* stream) noexcept;

}  // namespace zerolane::kernels
