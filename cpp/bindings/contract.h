// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <pybind11/pybind11.h>

namespace zerolane::bindings {

// The native half of zl.Contract (python/zerolane/measure/contract.py).
void bind_contract(pybind11::module_& module);

}  // namespace zerolane::bindings
