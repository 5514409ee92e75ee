// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "core/session.h"

namespace zerolane {

// Along which axis the requests of a model are joined: the batch dimension, a row a request or
// more. It is the first dimension of the first input that is not fixed there, and every dimension
// of that name in other inputs and outputs.
struct BatchAxes {
  static constexpr int kNone = -1;
  std::string name;          // of the dimension; "" where the model gives none
  std::vector<int> inputs;   // one an input of the session; kNone: must be equal in all requests
  std::vector<int> outputs;  // one an output

  // Throws kUnsupported, with the reason, for a model whose requests cannot be joined: a fixed
  // batch dimension, an output without one, inputs or outputs that are no plain tensors.
  static BatchAxes of(const Session& session);
};

}  // namespace zerolane
