// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <span>

#include "trt/calls.h"
#include "trt/plugin_fields.h"

namespace zerolane::trt {

// Runs an op's shape function on TensorRT's expressions and fills in the shapes of the plugin's
// outputs, those of counted extents included. Where there are fewer of those than the function
// makes (facts.counted_found then tells), the surplus gets the most in its place: such a network is
// not to be built. Throws what the function fails with, kUnsupported for more dimensions than
// TensorRT has.
void infer_shapes(const Calls& calls, ExprBuilder& builder, const PluginFacts& facts,
                  std::span<const DimsExprs> inputs, std::span<DimsExprs> outputs);

}  // namespace zerolane::trt
