// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <pybind11/pybind11.h>

#include <string>

#include "bindings/arrays.h"

namespace zerolane::bindings {

// Takes an object's memory over through __dlpack__. False if it is on the host but not usable in
// place (not row-major, or read-only for `writable`). Throws kDevice for memory of another device,
// kInvalidArgument with the library's own words when the object refuses.
bool take_dlpack(pybind11::handle object, bool writable, const Subject& subject, Lent* lent);

}  // namespace zerolane::bindings
