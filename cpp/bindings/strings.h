// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <pybind11/pybind11.h>

#include "bindings/arrays.h"

namespace zerolane::bindings {

// Strings of a NumPy array (str, bytes or object) or of nested lists, as UTF-8.
Strings read_strings(pybind11::handle object, const Subject& subject);

// An object array of str, which is what onnxruntime returns too. Bytes that are no UTF-8 become
// surrogates.
pybind11::object strings_to_python(const Strings& strings);

}  // namespace zerolane::bindings
