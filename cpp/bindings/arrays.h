// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <pybind11/pybind11.h>

#include "core/session.h"
#include "core/stream.h"

namespace zerolane::bindings {

// Arrays between Python and the core. All of it needs the GIL.

// What is being read, for messages: its name, and the whole of it.
struct Subject {
  std::string name;  // "x"
  std::string text;  // "input 'x' of m.onnx"
};

// Memory lent by a Python object: the view is good while `owner` lives.
struct Lent {
  View view;
  pybind11::object owner;
};

// Whether it is exactly a NumPy array (no subclass). Does not import NumPy.
bool is_ndarray(PyObject* object) noexcept;

// The fast path: a NumPy array that is row-major, aligned, of native byte order and (if asked)
// writable. False otherwise, without an error set. Does not import NumPy.
bool read_ndarray(PyObject* object, bool writable, View* view) noexcept;

// Any array: NumPy, or through DLPack or __cuda_array_interface__. Scalars, lists and buffers
// become NumPy arrays. Where the memory cannot be used as it is (not row-major, misaligned,
// byte-swapped, read-only for `writable`), it is copied if `copy` and not `writable`, else refused.
// The dtype is not converted. `stream` is what the memory is for: arrays on its device are taken in
// its order; with null, arrays on a device are refused.
Lent lend(pybind11::handle object, const TensorSpec& spec, bool copy, bool writable, Stream* stream,
          const Subject& subject);

// Strings, sequences and maps from str arrays, lists and dicts. Tensors inside share the objects'
// memory; `owners` keeps them alive.
Value read_value(pybind11::handle object, const TensorSpec& spec, const Subject& subject,
                 std::vector<pybind11::object>* owners);

// Whether values of this spec go through read_value instead of lend.
bool is_value_spec(const TensorSpec& spec);

// A new NumPy array, contents undefined, and where its memory is. Throws kUnsupported for types
// NumPy lacks.
pybind11::object new_ndarray(DType dtype, const Shape& shape, View* view);

// A result as Python sees it: an array of the kind that `like` makes (null: NumPy, or Tensor for
// memory that is not the host's) over the same memory, a str array, a list, a dict, or None. `like`
// is a callable from _arrays.array_maker.
pybind11::object to_python(Value value, pybind11::handle like);

// The callable that turns a native Tensor into the kind of array `object` is; null for NumPy and
// plain Python objects.
pybind11::object array_maker(pybind11::handle object);

}  // namespace zerolane::bindings
