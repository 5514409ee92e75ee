// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "ort/api.h"
#include "registry/attributes.h"

namespace zerolane::ort {

// Shape inference for a node: runs the op's shape function on what is known of the inputs and tells
// the library of the outputs. Does nothing where the rank of an input is not known.
void infer_shapes(const Runtime& rt, const OpState& state, OrtShapeInferContext* context);

}  // namespace zerolane::ort
