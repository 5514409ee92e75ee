// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "core/wire.h"
#include "registry/attributes.h"

namespace zerolane::trt {

// The attributes of a node (its NodeProto) that an op has; others are nobody's, as in ONNX Runtime.
// `where` names the node. Throws kInvalidArgument for one that is a tensor, a graph or a list of
// texts, kUnsupported for one that a function's caller gives.
Attributes read_attributes(const OpEntry& entry, const WireField& node, const std::string& where);

}  // namespace zerolane::trt
