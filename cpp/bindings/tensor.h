// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <pybind11/pybind11.h>

#include "core/tensor.h"

namespace zerolane::bindings {

// A native tensor as a Python object, for consumers that speak DLPack.
struct PyTensor {
  explicit PyTensor(Tensor shared) : tensor(std::move(shared)) {}
  Tensor tensor;
};

void bind_tensor(pybind11::module_& module);

}  // namespace zerolane::bindings
