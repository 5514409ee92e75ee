// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <pybind11/pybind11.h>

namespace zerolane::bindings {

// Passes waiting records on to Python's logging ("zerolane.onnxruntime", ...). Needs the GIL; a
// failure of a handler is reported as unraisable.
void drain_log();

// Connects the core's log to drain_log() until the interpreter exits.
void bind_logging();

}  // namespace zerolane::bindings
