// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <pybind11/pybind11.h>

#include <memory>

#include "bindings/session.h"

namespace zerolane::bindings {

// Loads a TensorRT plan. `library` is the path of the vendor's library, `plan` an object with a
// buffer, not needed afterwards; `options` is what python/zerolane/model/engine.py makes of
// Options; `result_type` maps output names to a named tuple type. Releases the GIL while loading.
std::unique_ptr<PySession> load_engine(const pybind11::object& library,
                                       const pybind11::buffer& plan, const pybind11::dict& options,
                                       const pybind11::object& result_type);

// What only a session over an engine can tell and do.
void bind_trt(pybind11::module_& module);

}  // namespace zerolane::bindings
