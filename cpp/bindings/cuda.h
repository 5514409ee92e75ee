// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <pybind11/pybind11.h>

namespace zerolane::bindings {

// Facts about the CUDA module, driver and GPUs, and memory in use on one.
void bind_cuda(pybind11::module_& module);

}  // namespace zerolane::bindings
