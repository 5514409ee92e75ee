// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "core/session.h"
#include "registry/attributes.h"

namespace zerolane {

// Where an op works: on the host, or on a GPU with memory of that GPU.
struct OpPlace {
  Device* device = nullptr;      // null: the host
  std::shared_ptr<Pool> memory;  // of the device

  bool on_host() const { return device == nullptr; }
};

// An op of the registry, with its attributes, as a session: its contexts run it natively, through
// registry/call.h. Immutable; any thread.
//
// `inputs` are the arguments that calls give, in the op's order: of each the element type, and of
// its shape what is known; its name is for messages. An optional argument that is left out has the
// element type kNone. The specs of the outputs follow from them: element types as the op decides,
// shapes from its shape function with the dimensions' names passed on. Where the rank of one input
// is not known, the shape function is asked for every rank up to six, and what all answers agree on
// is known. Throws kInvalidArgument (number or element types of inputs), kUnsupported (no body for
// the place), and what the shape function refuses.
//
// Contexts of ops on the host make no heap allocation once they ran with some shapes, for outputs
// that are given memory. An op cannot be interrupted: cancel() counts before it begins.
std::shared_ptr<Session> make_op_session(std::shared_ptr<const OpState> state,
                                         std::vector<TensorSpec> inputs, OpPlace place = {});

}  // namespace zerolane
