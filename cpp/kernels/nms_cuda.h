// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernels/nms.h"

namespace zerolane::kernels {

// NMS of a batch of images on a GPU; see nms.h for the arguments of one image. All pointers are GPU
// memory, `stream` is a cudaStream_t. The functions launch a fixed sequence of kernels whatever the
// data (so it can be captured in a CUDA graph), wait for nothing, and return the status of the
// launch, 0 for success. Results are those of the CPU, bit for bit; with rotated boxes up to the
// rounding of sine and cosine.

// Bytes of scratch memory, 256-byte alignment wanted. Saturates instead of overflowing.
size_t nms_rows_cuda_scratch_bytes(const NmsSettings& settings, int64_t images, int64_t boxes,
                                   int64_t classes) noexcept;
size_t nms_by_score_cuda_scratch_bytes(const NmsSettings& settings, int64_t images, int64_t boxes,
                                       int64_t classes, int64_t limit) noexcept;

// All that is selected, image by image, as nms_by_class() or, class-agnostic, nms_by_score() orders
// it. selected: rows of image, class, box; room for all. *count becomes the number of rows.
template <class T>
int nms_rows_cuda(const NmsSettings& settings, const T* boxes, const T* scores, int64_t images,
                  int64_t box_count, int64_t class_count, void* scratch, int64_t* selected,
                  int64_t* count, void* stream) noexcept;

// Outputs: [images, limit, 4 or 5], [images, limit], [images, limit], [images]. Behind the selected
// ones of an image stand zeros, and -1 for the class.
template <class T>
int nms_by_score_cuda(const NmsSettings& settings, const T* boxes, const T* scores, int64_t images,
                      int64_t box_count, int64_t class_count, int64_t limit, void* scratch,
                      T* out_boxes, T* out_scores, int32_t* out_classes, int32_t* out_counts,
                      void* stream) noexcept;

}  // namespace zerolane::kernels
