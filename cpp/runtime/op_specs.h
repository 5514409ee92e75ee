// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <vector>

#include "core/session.h"
#include "registry/attributes.h"

namespace zerolane {

// What an op's outputs are, for inputs as make_op_session has them. `counted` tells of each output
// whether its data decide some extent.
std::vector<TensorSpec> op_output_specs(const OpState& state, const std::vector<TensorSpec>& inputs,
                                        std::vector<bool>* counted);

}  // namespace zerolane
