// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <pybind11/pybind11.h>

#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "bindings/session.h"

namespace zerolane::bindings {

// A context with fixed input and output memory. Calling it is a C slot that allocates nothing. One
// thread at a time.
class PyBinding {
 public:
  // `inputs`: name -> array to use in place, or shape. `out`: name -> writable array for an output.
  PyBinding(pybind11::object owner, const pybind11::dict& inputs, const pybind11::dict& out,
            GilPolicy::Mode gil);

  // Runs on what the input memory holds now. Arrays on a GPU are taken as their libraries' current
  // streams leave them.
  void run(int64_t deadline_ns);

  const pybind11::object& inputs() const { return inputs_view_; }
  const pybind11::object& outputs() const { return outputs_view_; }
  const GilPolicy& gil() const { return gil_; }
  const std::shared_ptr<Session>& session() const { return session_; }
  // Memory of an input or output by its index in the session; null where it has none that is fixed.
  const View& input_view(size_t index) const { return input_views_[index]; }
  const View& output_view(size_t index) const { return output_views_[index]; }

  // Hands the context to a thread of its own: runs are refused until it is given back. Throws as
  // run() does.
  Context& lend_context();
  void take_context_back() noexcept { busy_.store(false, std::memory_order_release); }

  const pybind11::object& owner() const { return owner_; }  // the Python session
  // What can run it without the GIL, for an owner that shares the binding with nobody; null where a
  // run makes or looks at Python objects.
  Context* context_without_python() const {
    return dynamic_outputs_.empty() && device_arrays_.empty() ? context_.get() : nullptr;
  }
  // Ends the run in progress, if there is one.
  void cancel() noexcept {
    if (busy_.load()) context_->cancel();
  }

 private:
  void bind_inputs(const pybind11::dict& given);
  void bind_outputs(const pybind11::dict& given);
  void bind_own_output(size_t index, const Shape& shape);
  void release_own_outputs();
  void request_output(size_t index);
  // A NumPy array for the host's side of a run: of pinned memory where the context has a stream, so
  // that it copies from and to it directly.
  pybind11::object new_host_array(DType dtype, const Shape& shape, View* view);
  void note_device_array(const pybind11::object& array);
  void run_once(int64_t deadline_ns);
  void begin();
  pybind11::object bind_memory(const TensorSpec& spec, pybind11::handle given, bool input,
                               View* view);

  pybind11::object owner_;  // the Python session
  std::shared_ptr<Session> session_;
  std::unique_ptr<Context> context_;
  Stream* stream_;  // of the context; null: it works on the host
  GilPolicy gil_;
  unsigned generation_ = fork_generation.load();
  std::atomic<bool> busy_{false};
  std::vector<Shape> input_shapes_;
  std::vector<View> input_views_;
  std::vector<View> output_views_;
  std::vector<pybind11::object> arrays_;  // memory that is bound
  pybind11::object like_;   // makes own outputs of the kind of the first input; null: NumPy
  bool on_device_ = false;  // own outputs are on the stream's device, as the first input is
  // Arrays on the device, one of each type of a library, and every tensor of ours.
  std::vector<pybind11::object> device_arrays_;
  struct OwnOutput {
    size_t index;
    Shape shape;
  };
  std::vector<OwnOutput> own_outputs_;   // memory of ours, sized by the first run
  std::vector<size_t> dynamic_outputs_;  // sized by each run: outputs[name] is a new array then
  pybind11::dict inputs_;
  pybind11::dict outputs_;
  pybind11::object inputs_view_;  // read-only views of the two dicts
  pybind11::object outputs_view_;
  LiveCount live_{LiveKind::kBinding};
};

std::unique_ptr<PyBinding> make_binding(pybind11::object session, const pybind11::dict& inputs,
                                        const pybind11::object& out, const pybind11::object& gil);

void bind_binding(pybind11::module_& module);

}  // namespace zerolane::bindings
