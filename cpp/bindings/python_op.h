// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <pybind11/pybind11.h>

namespace zerolane::bindings {

// Ops whose body is a Python function: for trying out what a C++ op will do. They run wherever an
// op runs on the CPU, with the GIL, on copies of the inputs.
void bind_python_op(pybind11::module_& module);

}  // namespace zerolane::bindings
