// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "zerolane/op_abi.h"

namespace zerolane::ops {

// The table of each built-in op, from the file of the same name.
const ZlOp* ctc_greedy_decode();
const ZlOp* ctc_greedy_decode_flat();
const ZlOp* dequantize();
const ZlOp* dynamic_quantize();
const ZlOp* letterbox();
const ZlOp* letterbox_float16();
const ZlOp* quantize();
const ZlOp* resize_normalize();
const ZlOp* resize_normalize_float16();
const ZlOp* roi_align();
const ZlOp* scaled_gelu();
const ZlOp* softmax_top_k();

}  // namespace zerolane::ops
