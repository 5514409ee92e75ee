// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <pybind11/pybind11.h>

#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "bindings/arrays.h"
#include "bindings/gil.h"
#include "cuda/stream.h"
#include "registry/call.h"

namespace zerolane::bindings {

// An op with its attributes as Python sees it: op(x, y), arrays in, arrays of the same kind out.
// None leaves an optional input out. Calling it is a C slot. Any thread.
class PyOp {
 public:
  PyOp(std::shared_ptr<const OpState> state, GilPolicy::Mode gil,
       pybind11::object make_result_type);

  const OpState& state() const { return *state_; }
  const std::shared_ptr<const OpState>& shared_state() const { return state_; }
  pybind11::object call(PyObject* args, PyObject* kwargs);

 private:
  struct Frame;
  std::unique_ptr<Frame> take();
  void give_back(std::unique_ptr<Frame> frame) noexcept;
  void read_inputs(Frame& frame, PyObject* args);
  void run_host(Frame& frame);
  void run_cuda(Frame& frame);
  pybind11::object results(Frame& frame);
  // The op's constants in the memory of a GPU; made when first asked for.
  const DeviceConstants& constants_on(int device);

  std::shared_ptr<const OpState> state_;
  GilPolicy gil_;
  pybind11::object make_result_type_;
  pybind11::object result_type_;
  std::mutex mutex_;  // guards the two below
  std::vector<std::unique_ptr<Frame>> idle_;
  std::map<int, std::unique_ptr<DeviceConstants>> constants_;
};

void bind_op(pybind11::module_& module);

}  // namespace zerolane::bindings
