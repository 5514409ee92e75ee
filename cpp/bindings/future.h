// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <pybind11/pybind11.h>

#include "bindings/call.h"

namespace zerolane::bindings {

// Queues a call for the worker threads. `session` is the Python session; args and kwargs as in a
// direct call. Returns a _native.Future.
pybind11::object submit(const pybind11::object& session, const pybind11::tuple& args,
                        const pybind11::object& kwargs, const CallOptions& options);

void bind_future(pybind11::module_& module);

// Lets go of what finished jobs left behind. Needs the GIL.
void drain_finished();

}  // namespace zerolane::bindings
