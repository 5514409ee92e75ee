// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "zerolane/op_abi.h"

namespace zerolane::ops {

// The table of each built-in op, from the file of the same name.
const ZlOp* letterbox();
const ZlOp* letterbox_float16();
const ZlOp* log_mel_spectrogram();
const ZlOp* log_mel_stream();
const ZlOp* resize_normalize();
const ZlOp* resize_normalize_float16();
const ZlOp* roi_align();
const ZlOp* scaled_gelu();

}  // namespace zerolane::ops
