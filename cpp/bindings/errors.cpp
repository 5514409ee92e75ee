// SPDX-License-Identifier: Apache-2.0
#include "bindings/errors.h"

#include "bindings/gil.h"
#include "bindings/text.h"

namespace py = pybind11;

namespace zerolane::bindings {

void set_python_error(const Error& error) {
  try {
    py::object make = py::module_::import("zerolane.errors").attr("from_native");
    py::object exception =
        make(code_name(error.code()), text(error.message()), text(error.subject()));
    PyErr_SetObject(py::type::handle_of(exception).ptr(), exception.ptr());
  } catch (py::error_already_set& failure) {
    failure.restore();
  }
}

PyObject* refuse_new(PyTypeObject* type, PyObject*, PyObject*) noexcept {
  PyErr_Format(PyExc_TypeError,
               "%s objects are made by zerolane's functions, not by calling the type",
               type->tp_name);
  return nullptr;
}

void leave_callbacks() noexcept {
  callbacks_over.store(true);
  for (int ms = 0; callbacks.load() + returning.load() > 0 && ms < 1000; ++ms) ::usleep(1000);
}

GilPolicy::Mode parse_gil_mode(const std::string& text) {
  if (text == "auto") return GilPolicy::Mode::kAuto;
  if (text == "hold") return GilPolicy::Mode::kHold;
  if (text == "release") return GilPolicy::Mode::kRelease;
  throw make_error(Code::kInvalidArgument, "reading option 'gil'", "it is '" + text + "'",
                   "use 'auto', 'hold' or 'release'", "gil");
}

void bind_errors() {
  py::register_local_exception_translator([](std::exception_ptr pointer) {
    try {
      if (pointer) std::rethrow_exception(pointer);
    } catch (const Error& error) {
      set_python_error(error);
    }
  });
}

}  // namespace zerolane::bindings
