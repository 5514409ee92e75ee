// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <pybind11/pybind11.h>

#include <string>
#include <utility>

namespace zerolane::bindings {

// The native part of an object of a bound class. Throws TypeError where its __init__ never ran:
// pybind11 would hand out memory that holds no object. Needs the GIL.
template <typename T>
T& native_part(pybind11::handle object) {
  auto* instance = reinterpret_cast<pybind11::detail::instance*>(object.ptr());
  void* value = instance->simple_layout ? instance->simple_value_holder[0] : nullptr;
  if (value == nullptr) {
    throw pybind11::type_error(std::string("this ") + Py_TYPE(object.ptr())->tp_name +
                               " has no native part, as its __init__ never ran; make it by calling "
                               "its type or the function that returns it");
  }
  return *static_cast<T*>(value);
}

// A method to bind that begins with it.
template <typename T, typename R, typename... A>
auto checked(R (T::*method)(A...)) {
  return [method](pybind11::handle self, A... arguments) -> R {
    return (native_part<T>(self).*method)(std::forward<A>(arguments)...);
  };
}
template <typename T, typename R, typename... A>
auto checked(R (T::*method)(A...) const) {
  return [method](pybind11::handle self, A... arguments) -> R {
    return (native_part<T>(self).*method)(std::forward<A>(arguments)...);
  };
}

}  // namespace zerolane::bindings
