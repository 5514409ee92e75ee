// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <vector>

#include "runtime/pipeline.h"

namespace zerolane {

// What is known of a pipeline's tensors before it has run.
struct PipelineSpecs {
  std::vector<TensorSpec> inputs;
  std::vector<TensorSpec> outputs;
  // Outputs whose size the inputs' shapes do not decide.
  std::vector<bool> data_decides;
};

// Follows element types and shapes from the inputs through all stages, checks them on the way, and
// makes the sessions of ops (in plan->stages).
//
// A dimension's name is one stage's own: "N" of two models are two dimensions, unless one is handed
// to the other. In the specs made here equal names are the same dimension; where two stages use
// one name, the later one's reads "stage.N".
PipelineSpecs follow_specs(PipelinePlan* plan);

}  // namespace zerolane
