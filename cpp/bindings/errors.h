// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <pybind11/pybind11.h>

#include "core/error.h"

namespace zerolane::bindings {

// Sets the Python error that stands for `error`: the class of python/zerolane/errors.py with .code
// and .subject.
void set_python_error(const Error& error);

// Runs the body of a C slot; exceptions become Python errors and the result is null.
template <typename Body>
PyObject* slot(Body body) noexcept {
  try {
    return body();
  } catch (pybind11::error_already_set& error) {
    error.restore();
  } catch (const Error& error) {
    set_python_error(error);
  } catch (const pybind11::builtin_exception& error) {
    error.set_error();
  } catch (const std::bad_alloc&) {
    PyErr_NoMemory();
  } catch (const std::exception& error) {
    PyErr_SetString(PyExc_RuntimeError, error.what());
  }
  return nullptr;
}

// For types that only native code makes: TypeName() raises TypeError. Without it an instance could
// exist that has no native part.
PyObject* refuse_new(PyTypeObject* type, PyObject* args, PyObject* kwargs) noexcept;

// Translates Error for all functions of the module.
void bind_errors();

}  // namespace zerolane::bindings
