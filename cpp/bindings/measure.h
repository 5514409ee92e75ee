// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <pybind11/pybind11.h>

namespace zerolane::bindings {

// Traces and metrics.
void bind_measure(pybind11::module_& module);

}  // namespace zerolane::bindings
