// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <pybind11/pybind11.h>

namespace zerolane::bindings {

void bind_lanes(pybind11::module_& module);

// Ends what all lanes do and joins them, when the interpreter exits. Without the GIL.
void close_all_lanes();

}  // namespace zerolane::bindings
