// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <pybind11/pybind11.h>

#include <memory>

#include "bindings/pending.h"

namespace zerolane::bindings {

// Sorts and reads the arguments of a call into `frame`, which goes back to `home` if that fails.
PendingCall* prepare_call(const pybind11::object& session, std::unique_ptr<CallFrame> frame,
                          FrameHome& home, PyObject* args, PyObject* kwargs,
                          const CallOptions& options, int64_t spin_ns);
// A _native.Future of a call that is on its way.
pybind11::object make_future(PendingCall* call);

// Queues a call for the shared lanes. `session` is the Python session; args and kwargs as in a
// direct call. Returns a _native.Future.
pybind11::object submit(const pybind11::object& session, const pybind11::tuple& args,
                        const pybind11::object& kwargs, const CallOptions& options);

void bind_future(pybind11::module_& module);

}  // namespace zerolane::bindings
