// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string_view>

#include "ort/api.h"
#include "registry/attributes.h"

namespace zerolane::ort {

// The library has no word for an extent that is not known and has no name: -1 would be taken for a
// number. So each gets a name of its own that begins so; specs leave such names out again.
inline constexpr std::string_view kUnknownExtent = "zerolane.unknown/";

// Shape inference for a node: runs the op's shape function on what is known of the inputs and tells
// the library of the outputs. Does nothing where the rank of an input is not known.
void infer_shapes(const Runtime& rt, const OpState& state, OrtShapeInferContext* context);

}  // namespace zerolane::ort
