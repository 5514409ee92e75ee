// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <pybind11/pybind11.h>

namespace zerolane::bindings {

void bind_batcher(pybind11::module_& module);

// Cancels what waits in all batchers and joins their lanes, when the interpreter exits. Without the
// GIL.
void close_all_batchers();

}  // namespace zerolane::bindings
