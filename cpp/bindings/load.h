// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <pybind11/pybind11.h>

#include <memory>

#include "bindings/session.h"

namespace zerolane::bindings {

// Loads a model through ONNX Runtime. `model` is a path (str) or bytes; `options` is what
// python/zerolane/model/load.py makes of Options; `result_type` maps output names to a named tuple
// type (or None). Releases the GIL while loading.
std::unique_ptr<PySession> load_session(const pybind11::object& model,
                                        const pybind11::dict& options,
                                        const pybind11::object& result_type);

// Opening the library, reading models without it, statistics, traces.
void bind_load(pybind11::module_& module);

}  // namespace zerolane::bindings
