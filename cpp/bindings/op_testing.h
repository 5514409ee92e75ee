// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <pybind11/pybind11.h>

#include "bindings/op.h"

namespace zerolane::bindings {

// What zerolane.ops.testing needs of an op beyond a call: the shapes without a run, a run on memory
// at given addresses, and runs on a GPU that are captured.
void bind_op_testing(pybind11::class_<PyOp>& type);

}  // namespace zerolane::bindings
