// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <pybind11/pybind11.h>

#include <string>

namespace zerolane::bindings {

// Text of models and messages is UTF-8 by convention only: other bytes become surrogates and come
// back as they were.
inline pybind11::str text(const std::string& bytes) {
  PyObject* object =
      PyUnicode_DecodeUTF8(bytes.data(), static_cast<Py_ssize_t>(bytes.size()), "surrogateescape");
  if (object == nullptr) throw pybind11::error_already_set();
  return pybind11::reinterpret_steal<pybind11::str>(object);
}

// The bytes of str(object).
inline std::string utf8(pybind11::handle object) {
  auto encoded = pybind11::reinterpret_steal<pybind11::bytes>(
      PyUnicode_AsEncodedString(pybind11::str(object).ptr(), "utf-8", "surrogateescape"));
  if (!encoded) throw pybind11::error_already_set();
  return encoded;
}

}  // namespace zerolane::bindings
