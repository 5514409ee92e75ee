// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <pybind11/pybind11.h>

#include <memory>
#include <string>
#include <vector>

#include "core/session.h"

namespace zerolane::bindings {

// A Python callable as a stage of a pipeline (StageKind::kPython): runs take the GIL. It gets
// read-only NumPy arrays (str arrays, lists, dicts for other values) by position and returns an
// array, a tuple of them, or a dict by the names of the outputs. What it keeps stays valid and
// unchanged. Its results are used in place where nobody else holds them, and copied otherwise.
//
// Specs of element type kNone stand for any. Failures keep the code of an error of ours, else
// become kInvalidArgument (ValueError, TypeError), kOutOfMemory (MemoryError), kCancelled
// (KeyboardInterrupt, which Python raises again after the run) or kBackend, with the exception's
// text and place.
std::shared_ptr<Session> make_python_stage(pybind11::object function, std::string name,
                                           std::vector<TensorSpec> inputs,
                                           std::vector<TensorSpec> outputs);

}  // namespace zerolane::bindings
