// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <pybind11/pybind11.h>

#include <string>

#include "bindings/arrays.h"
#include "core/stream.h"

namespace zerolane::bindings {

// Takes an object's memory over through __dlpack__, for a session that works on `stream` (null: on
// the host). Memory of the stream's device is ordered: the producer lets the stream wait for what
// fills it. Where it is not row-major it is copied in stream order if `copy` and not `writable`,
// else refused.
// False if it is on the host but not usable in place (not row-major, or read-only for `writable`).
// Throws kDevice for memory of another device, kInvalidArgument with the library's own words when
// the object refuses.
bool take_dlpack(pybind11::handle object, bool copy, bool writable, Stream* stream,
                 const Subject& subject, Lent* lent);

// The number of the GPU that holds the object's memory; -1 for memory of the host, and for objects
// that do not say. Throws kDevice for other devices.
int gpu_of(pybind11::handle object, const Subject& subject);

// Lets the object's library put `stream` behind the work it has under way now.
void order_dlpack(pybind11::handle object, const Stream& stream, const Subject& subject);

}  // namespace zerolane::bindings
