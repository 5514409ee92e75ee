// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <pybind11/pybind11.h>

#include <memory>
#include <vector>

#include "bindings/session.h"
#include "runtime/batcher.h"

namespace zerolane::bindings {

class BatchLoop;

// A request of a Python caller: a thread waits for it, or an event loop does. Objects are used
// again, so that a request allocates none.
class BatchCall final : public BatchRequest {
 public:
  // Completion tells a waiting thread, or `loop` where there is one.
  void complete() noexcept override;

  // What is being read, borrowed; of the request, as reading may let another thread have the GIL.
  std::vector<PyObject*> sorted;
  pybind11::object batcher;  // keeps it alive while the request is on its way
  std::vector<pybind11::object> owners;
  pybind11::object like;  // makes arrays of the kind of the first input; null: NumPy
  bool dict = false;
  Flag done;
  std::shared_ptr<BatchLoop> loop;
  pybind11::object future;  // of the loop
  BatchCall* next = nullptr;
};

// Reads the arguments of a call into requests, and results out of them. With the GIL.
class BatchCalls {
 public:
  // Results of more than `copied` bytes are views of the run's output where they lie in one piece.
  BatchCalls(PySession& session, const Batcher& batcher, size_t copied);
  static constexpr size_t kCheapCopy = 16384;  // costs less than an array that shares memory

  ~BatchCalls();
  BatchCalls(const BatchCalls&) = delete;
  BatchCalls& operator=(const BatchCalls&) = delete;

  // A request with its inputs, owned by the caller until give_back(). The arguments deadline_ms and
  // priority are taken out of `kwargs` (borrowed, may be null); what is left are inputs.
  BatchCall* take(PyObject* const* args, Py_ssize_t count, PyObject* kwargs);
  // The result of a completed request, or its error thrown.
  pybind11::object result(BatchCall& call);
  void give_back(BatchCall* call) noexcept;
  GilPolicy::Mode gil_mode() const noexcept { return session_.gil_mode(); }

 private:
  // An output's axis that is cut back from a bucket to what an input had.
  struct Cut {
    size_t axis;
    size_t input;
    size_t input_axis;
  };
  void read_inputs(BatchCall& call);
  pybind11::object output(const BatchCall& call, size_t index) const;

  PySession& session_;
  const Batcher& batcher_;
  const size_t copied_;
  std::vector<std::vector<Cut>> cuts_;  // of each output
  BatchCall* free_ = nullptr;
};

}  // namespace zerolane::bindings
