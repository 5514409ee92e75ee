// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <pybind11/pybind11.h>

namespace zerolane::bindings {

// Building TensorRT engines, for python/zerolane/builder.
void bind_build(pybind11::module_& module);

}  // namespace zerolane::bindings
