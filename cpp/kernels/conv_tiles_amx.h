// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernels/conv_tiles.h"

namespace zerolane::kernels::amx {

// Whether the compiler knew AMX.
bool built() noexcept;

// What conv_tiles.h says.
void tile_conv_run(const TileConvPlan& plan, const TileConvSizes& sizes, const uint8_t* image,
                   int64_t begin, int64_t end, int64_t first_block, int64_t end_block, uint8_t* out,
                   const void* scratch);

}  // namespace zerolane::kernels::amx
