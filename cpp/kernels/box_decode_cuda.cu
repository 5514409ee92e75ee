// SPDX-License-Identifier: Apache-2.0
#include "kernels/box_decode_cuda.h"

#include "kernels/box_decode_one.h"

namespace zerolane::kernels {

template <class T>
int decode_distances_cuda(const DistanceDecode& decode, const T* distances, int64_t images,
                          int64_t n, T* boxes, void* stream) noexcept {
  return for_each_on(stream, images * n, DecodeOneDistance<T>{decode, distances, n, boxes});
}

template <class T>
int decode_deltas_cuda(const DeltaDecode& decode, const T* deltas, const T* anchors,
                       bool anchors_of_images, int64_t images, int64_t n, T* boxes,
                       void* stream) noexcept {
  return for_each_on(stream, images * n,
                     DecodeOneDelta<T>{decode, deltas, anchors, n, anchors_of_images, boxes});
}

template <class T>
int decode_cells_cuda(const CellDecode& decode, const T* raw, int64_t images, int64_t n, T* boxes,
                      void* stream) noexcept {
  return for_each_on(stream, images * n, DecodeOneCell<T>{decode, raw, n, boxes});
}

template int decode_distances_cuda(const DistanceDecode&, const float*, int64_t, int64_t, float*,
                                   void*) noexcept;
template int decode_distances_cuda(const DistanceDecode&, const Half*, int64_t, int64_t, Half*,
                                   void*) noexcept;
template int decode_deltas_cuda(const DeltaDecode&, const float*, const float*, bool, int64_t,
                                int64_t, float*, void*) noexcept;
template int decode_deltas_cuda(const DeltaDecode&, const Half*, const Half*, bool, int64_t,
                                int64_t, Half*, void*) noexcept;
template int decode_cells_cuda(const CellDecode&, const float*, int64_t, int64_t, float*,
                               void*) noexcept;
template int decode_cells_cuda(const CellDecode&, const Half*, int64_t, int64_t, Half*,
                               void*) noexcept;

}  // namespace zerolane::kernels
