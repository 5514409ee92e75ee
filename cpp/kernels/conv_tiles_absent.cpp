// SPDX-License-Identifier: Apache-2.0
#include "kernels/conv_tiles_amx.h"

// For compilers that do not know AMX.
namespace zerolane::kernels::amx {

bool built() noexcept { return false; }

void tile_conv_run(const TileConvPlan&, const TileConvSizes&, const uint8_t*, int64_t, int64_t,
                   int64_t, int64_t, uint8_t*, const void*) {}

}  // namespace zerolane::kernels::amx
