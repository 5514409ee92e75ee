// SPDX-License-Identifier: Apache-2.0
#include "bindings/strings.h"

#include <pybind11/numpy.h>
#include <pybind11/stl.h>

namespace py = pybind11;

namespace zerolane::bindings {
namespace {

constexpr int kObject = 17;  // NumPy's type numbers
constexpr int kUnicode = 19;

void append_utf8(std::string* out, uint32_t c) {
  auto put = [out](uint32_t byte) { *out += static_cast<char>(byte); };
  if (c < 0x80) {
    put(c);
  } else if (c < 0x800) {
    put(0xC0 | c >> 6);
    put(0x80 | (c & 0x3F));
  } else if (c < 0x10000) {
    put(0xE0 | c >> 12);
    put(0x80 | (c >> 6 & 0x3F));
    put(0x80 | (c & 0x3F));
  } else {
    put(0xF0 | c >> 18);
    put(0x80 | (c >> 12 & 0x3F));
    put(0x80 | (c >> 6 & 0x3F));
    put(0x80 | (c & 0x3F));
  }
}

// NumPy's str items: four bytes a character, padded with NULs. False for characters that have no
// UTF-8 form.
bool read_fixed_width(const char* data, size_t item_bytes, std::vector<std::string>* items) {
  size_t width = item_bytes / 4;
  for (std::string& item : *items) {
    auto* text = reinterpret_cast<const uint32_t*>(data);
    size_t length = width;
    while (length > 0 && text[length - 1] == 0) --length;
    for (size_t i = 0; i < length; ++i) {
      if (text[i] >= 0xD800 && text[i] < 0xE000) return false;
      append_utf8(&item, text[i]);
    }
    data += item_bytes;
  }
  return true;
}

bool read_objects(PyObject* const* objects, std::vector<std::string>* items) {
  for (std::string& item : *items) {
    PyObject* object = *objects++;
    if (object == nullptr || !PyUnicode_Check(object)) return false;
    Py_ssize_t length = 0;
    const char* text = PyUnicode_AsUTF8AndSize(object, &length);
    if (text == nullptr) {
      PyErr_Clear();
      return false;
    }
    item.assign(text, static_cast<size_t>(length));
  }
  return true;
}

// Arrays of the two usual kinds, in plain layout. Anything else is left to Python.
bool read_array(py::handle object, Strings* strings) {
  if (!is_ndarray(object.ptr())) return false;
  auto* array = reinterpret_cast<py::detail::PyArray_Proxy*>(object.ptr());
  auto* descr = reinterpret_cast<py::detail::PyArrayDescr_Proxy*>(array->descr);
  constexpr int kPlain =
      py::detail::npy_api::NPY_ARRAY_C_CONTIGUOUS_ | py::detail::npy_api::NPY_ARRAY_ALIGNED_;
  if ((array->flags & kPlain) != kPlain || descr->byteorder == '>') return false;
  if (descr->type_num != kObject && descr->type_num != kUnicode) return false;
  strings->shape = Shape(std::span(reinterpret_cast<const int64_t*>(array->dimensions),
                                   static_cast<size_t>(array->nd)));
  strings->items.resize(strings->shape.count());
  if (descr->type_num == kObject) {
    return read_objects(reinterpret_cast<PyObject* const*>(array->data), &strings->items);
  }
  auto item_bytes = py::reinterpret_borrow<py::dtype>(array->descr).itemsize();
  return read_fixed_width(array->data, static_cast<size_t>(item_bytes), &strings->items);
}

}  // namespace

Strings read_strings(py::handle object, const Subject& subject) {
  Strings strings;
  if (read_array(object, &strings)) return strings;
  py::object parts = py::module_::import("zerolane._arrays")
                         .attr("split_strings")(object, subject.text, subject.name);
  strings.shape = Shape(parts[py::int_(0)].cast<std::vector<int64_t>>());
  strings.items = parts[py::int_(1)].cast<std::vector<std::string>>();
  return strings;
}

py::object strings_to_python(const Strings& strings) {
  py::detail::npy_api& api = py::detail::npy_api::get();
  const Shape& shape = strings.shape;
  PyObject* array = api.PyArray_NewFromDescr_(
      api.PyArray_Type_, api.PyArray_DescrFromType_(kObject), static_cast<int>(shape.rank()),
      reinterpret_cast<const Py_intptr_t*>(shape.data()), nullptr, nullptr, 0, nullptr);
  if (array == nullptr) throw py::error_already_set();
  auto result = py::reinterpret_steal<py::object>(array);
  auto** slots =
      reinterpret_cast<PyObject**>(reinterpret_cast<py::detail::PyArray_Proxy*>(array)->data);
  for (const std::string& item : strings.items) {
    PyObject* text =
        PyUnicode_DecodeUTF8(item.data(), static_cast<Py_ssize_t>(item.size()), "surrogateescape");
    if (text == nullptr) throw py::error_already_set();
    Py_XDECREF(*slots);  // a new object array is filled with None or null
    *slots++ = text;
  }
  return result;
}

}  // namespace zerolane::bindings
