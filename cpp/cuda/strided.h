// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>

#include "cuda/table.h"

namespace zerolane::cuda {

// The same copy with as few dimensions as possible: extents of 1 dropped, the destination's
// dimensions ordered by stride so that neighbouring elements are written together, dimensions that
// lie one after the other merged, and elements widened to 16 bytes where rows and addresses allow.
// Throws kInvalidArgument for a rank, element size, extent, stride or address that no kernel takes.
StridedCopy simplify(const StridedCopy& copy);

// Of a simplified copy: whether it is one plain block, and its bytes.
bool is_block(const StridedCopy& copy);
size_t copied_bytes(const StridedCopy& copy);

}  // namespace zerolane::cuda
