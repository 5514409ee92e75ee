// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <pybind11/pybind11.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "bindings/binding.h"
#include "runtime/loop.h"

namespace zerolane::bindings {

// A loop over a binding. Its threads never take the GIL. Closed when it is let go, and before the
// interpreter exits.
class PyLoop {
 public:
  // `options` holds the rest of zl.Loop's arguments by name, checked here.
  PyLoop(pybind11::object binding, const pybind11::dict& options);
  ~PyLoop();
  PyLoop(const PyLoop&) = delete;
  PyLoop& operator=(const PyLoop&) = delete;

  // What the system refused: a list of (option, reason).
  std::vector<std::pair<std::string, std::string>> start();
  // False: a run did not end within the time, and its thread is left behind with all it uses.
  bool close(double timeout_s);
  // Raises the failure that is kept, if there is one.
  void raise_error() const;
  bool running() const { return !forked_since(generation_) && loop_->running(); }
  pybind11::dict counts() const;
  const LatencyHistogram& histogram(const std::string& which) const;

  const pybind11::dict& inputs() const { return inputs_; }    // name -> PyMailbox
  const pybind11::dict& outputs() const { return outputs_; }  // name -> PyMailbox

 private:
  std::vector<LoopFeedback> read_feedback(const pybind11::dict& options);
  std::vector<LoopInput> read_inputs(const pybind11::dict& options, LoopOptions* loop);
  std::vector<LoopOutput> read_outputs(const pybind11::dict& options);
  void check_fork() const;

  pybind11::object binding_;
  pybind11::dict inputs_;
  pybind11::dict outputs_;
  std::shared_ptr<Loop> loop_;
  bool started_ = false;
  bool closed_ = false;
  unsigned generation_ = fork_generation.load();
};

void bind_loop(pybind11::module_& module);

}  // namespace zerolane::bindings
