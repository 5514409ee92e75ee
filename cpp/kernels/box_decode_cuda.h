// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernels/box_decode.h"

namespace zerolane::kernels {

// Decoding on a GPU, a batch of images in one launch; see box_decode.h for one image. All pointers,
// those in the settings too, are GPU memory, `stream` is a cudaStream_t. Nothing is waited for. The
// result is the status of the launch, 0 for success.

template <class T>
int decode_distances_cuda(const DistanceDecode& decode, const T* distances, int64_t images,
                          int64_t n, T* boxes, void* stream) noexcept;

// anchors: [images, n, 4], or [n, 4] for all images.
template <class T>
int decode_deltas_cuda(const DeltaDecode& decode, const T* deltas, const T* anchors,
                       bool anchors_of_images, int64_t images, int64_t n, T* boxes,
                       void* stream) noexcept;

template <class T>
int decode_cells_cuda(const CellDecode& decode, const T* raw, int64_t images, int64_t n, T* boxes,
                      void* stream) noexcept;

}  // namespace zerolane::kernels
