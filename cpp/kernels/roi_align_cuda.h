// SPDX-License-Identifier: Apache-2.0
// kernels/roi_align.h on a GPU.
#pragma once

#include <cstdint>

#include "kernels/roi_align.h"

namespace zerolane::kernels {

// As roi_align, with memory of the GPU; launched on `stream` (a cudaStream_t), not waited for.
// There are `batch` maps; a box whose map is none of them becomes zeros. Returns the status of the
// launch, 0 for success.
int launch_roi_align(const RoiAlign& what, const float* maps, int64_t batch, const float* boxes,
                     const int64_t* map, int64_t count, float* pooled, void* stream) noexcept;
int launch_roi_align(const RoiAlign& what, const Half* maps, int64_t batch, const Half* boxes,
                     const int64_t* map, int64_t count, Half* pooled, void* stream) noexcept;

}  // namespace zerolane::kernels
