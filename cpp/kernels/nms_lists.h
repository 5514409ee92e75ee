// SPDX-License-Identifier: Apache-2.0
// What the CPU's suppression works on, shared by its vector source and its caller. All memory is
// the caller's scratch memory.
#pragma once

#include <cstdint>

#include "kernels/nms_element.h"

namespace zerolane::kernels {

// Selected boxes, sixteen side by side. Lanes not in use have bounds that nothing overlaps.
constexpr int kBlockLanes = 16;

struct alignas(64) KeptBlock {
  float x1[kBlockLanes];
  float y1[kBlockLanes];
  float x2[kBlockLanes];
  float y2[kBlockLanes];
  float area[kBlockLanes];
  int32_t previous;  // block of the same group, -1: none
};

// Classes whose boxes suppress each other: each its own, or all of them the first.
struct KeptGroup {
  int32_t newest_block;  // -1: none
  int32_t kept;
  int32_t looked_at;
};

struct Suppression {
  const NmsSettings* settings;
  const void* boxes;
  bool half_boxes;
  uint32_t box_count;
  KeptGroup* groups;
  int32_t* selected_of_class;
  uint64_t* seen;  // a bit a box, class-agnostic only; else null
  KeptBlock* blocks;
  RotatedBox* rotated;  // of lane i of block b at 16 b + i; null for other forms
  int32_t blocks_used;
  int64_t count;  // selected so far
  int64_t limit;
  Detection* selected;
};

}  // namespace zerolane::kernels
