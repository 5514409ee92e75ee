// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/isa.h"
#include "kernels/roi_align.h"

namespace zerolane::kernels {

// Columns of the output that are pooled at once, and rows that are mixed before.
constexpr int32_t kRoiLanes = 8;
constexpr int32_t kRoiRows = 8;

// One box, as weighted taps along each axis: an output element is the sum over its row's taps and
// its column's taps of weight times weight times pixel, or, in fours, their maximum.
struct RoiTables {
  int32_t first_column;  // of the map, and how many from there the box needs
  int32_t columns;
  // Row r of the output has the taps row_begin[r] to row_begin[r + 1].
  int32_t* row_begin;
  int32_t* row_index;  // row of the map
  float* row_weight;
  // Block b of kRoiLanes output columns has the taps block_begin[b] to block_begin[b + 1], each
  // with kRoiLanes columns (counted from first_column) and weights. Column `columns` holds 0.
  int32_t* block_begin;
  int32_t* column_index;
  float* column_weight;
  // For the maximum: whether some sample of the row lies outside the map; where the lane begins, 0
  // if some sample of the column does, else minus infinity.
  int32_t* row_outside;
  float* column_least;
  // kRoiRows rows of `columns` and one more pixel; one output row, in whole blocks.
  float* mixed;
  float* pooled;
};

// Both pool one box in all channels: `maps` and `pooled` are those of the box.
ZL_DECLARE_ISA(void, roi_align_float,
               (const RoiAlign& what, const RoiTables& tables, const float* maps, float* pooled))
ZL_DECLARE_ISA(void, roi_align_half,
               (const RoiAlign& what, const RoiTables& tables, const Half* maps, Half* pooled))

// roi_align with one of these; tests take each.
template <class Element>
using RoiBody = void (*)(const RoiAlign& what, const RoiTables& tables, const Element* maps,
                         Element* pooled);
void roi_align_by(RoiBody<float> body, const RoiAlign& what, const float* maps, const float* boxes,
                  const int64_t* map, int64_t count, float* pooled, void* scratch) noexcept;
void roi_align_by(RoiBody<Half> body, const RoiAlign& what, const Half* maps, const Half* boxes,
                  const int64_t* map, int64_t count, Half* pooled, void* scratch) noexcept;

}  // namespace zerolane::kernels
