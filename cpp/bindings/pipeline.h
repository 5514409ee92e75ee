// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <pybind11/pybind11.h>

#include <memory>

#include "bindings/session.h"

namespace zerolane::bindings {

// A pipeline from the wiring of python/zerolane/pipeline/wiring.py (`plan`).
std::unique_ptr<PySession> load_pipeline(const pybind11::dict& plan, pybind11::object result_type);

void bind_pipeline(pybind11::module_& module);

}  // namespace zerolane::bindings
