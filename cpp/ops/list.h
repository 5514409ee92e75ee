// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "zerolane/op_abi.h"

namespace zerolane::ops {

// The table of each built-in op, from the file of the same name.
const ZlOp* box_decode();
const ZlOp* non_max_suppression();
const ZlOp* non_max_suppression_indices();
const ZlOp* scaled_gelu();

}  // namespace zerolane::ops
