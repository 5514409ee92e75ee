// SPDX-License-Identifier: Apache-2.0
#include "kernels/box_decode.h"
#include "kernels/isa.h"

namespace zerolane::kernels {

ZL_DECLARE_ISA(void, decode_distances_float32,
               (const DistanceDecode& decode, const float* from, int64_t n, float* boxes))
ZL_DECLARE_ISA(void, decode_distances_float16,
               (const DistanceDecode& decode, const Half* from, int64_t n, Half* boxes))
ZL_DECLARE_ISA(void, decode_deltas_float32,
               (const DeltaDecode& decode, const float* from, const float* anchors, int64_t n,
                float* boxes))
ZL_DECLARE_ISA(void, decode_deltas_float16,
               (const DeltaDecode& decode, const Half* from, const Half* anchors, int64_t n,
                Half* boxes))
ZL_DECLARE_ISA(void, decode_cells_float32,
               (const CellDecode& decode, const float* raw, int64_t n, float* boxes))
ZL_DECLARE_ISA(void, decode_cells_float16,
               (const CellDecode& decode, const Half* raw, int64_t n, Half* boxes))

template <>
void decode_distances(const DistanceDecode& decode, const float* distances, int64_t n,
                      float* boxes) noexcept {
  ZL_CHOOSE_ISA(decode_distances_float32)(decode, distances, n, boxes);
}

template <>
void decode_distances(const DistanceDecode& decode, const Half* distances, int64_t n,
                      Half* boxes) noexcept {
  ZL_CHOOSE_ISA(decode_distances_float16)(decode, distances, n, boxes);
}

template <>
void decode_deltas(const DeltaDecode& decode, const float* deltas, const float* anchors, int64_t n,
                   float* boxes) noexcept {
  ZL_CHOOSE_ISA(decode_deltas_float32)(decode, deltas, anchors, n, boxes);
}

template <>
void decode_deltas(const DeltaDecode& decode, const Half* deltas, const Half* anchors, int64_t n,
                   Half* boxes) noexcept {
  ZL_CHOOSE_ISA(decode_deltas_float16)(decode, deltas, anchors, n, boxes);
}

template <>
void decode_cells(const CellDecode& decode, const float* raw, int64_t n, float* boxes) noexcept {
  ZL_CHOOSE_ISA(decode_cells_float32)(decode, raw, n, boxes);
}

template <>
void decode_cells(const CellDecode& decode, const Half* raw, int64_t n, Half* boxes) noexcept {
  ZL_CHOOSE_ISA(decode_cells_float16)(decode, raw, n, boxes);
}

}  // namespace zerolane::kernels
