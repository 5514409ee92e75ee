// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <pybind11/pybind11.h>

#include <vector>

#include "core/tensor.h"
#include "cuda/stream.h"

namespace zerolane::bindings {

// A native tensor as a Python object, for consumers that speak DLPack. What is in it when it is
// made is complete.
struct PyTensor {
  explicit PyTensor(Tensor shared) : tensor(std::move(shared)) {}
  Tensor tensor;
  // On a GPU: the streams of those who took it through DLPack, who may have work on it under way.
  std::vector<cuda::NativeStream*> users;

  // Work that comes to `stream` from now on runs after what the users have under way now.
  void order_before(cuda::CudaStream& stream) const;
};

void bind_tensor(pybind11::module_& module);

}  // namespace zerolane::bindings
