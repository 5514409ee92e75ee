// SPDX-License-Identifier: Apache-2.0
#include "trt/context.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "core/error.h"
#include "core/fork.h"
#include "core/trace.h"
#include "cuda/current.h"

namespace zerolane::trt {

ContextImpl::ContextImpl(std::shared_ptr<SessionImpl> session)
    : session_(std::move(session)),
      engine_(session_->engine()),
      device_memory_(engine_.device().tensor_pool()),
      pinned_(engine_.device().pinned_pool()),
      stream_(engine_.device().make_cuda_stream()),
      inputs_(engine_.inputs().size()),
      outputs_(engine_.outputs().size()),
      given_(engine_.inputs().size()),
      host_inputs_(engine_.inputs().size()),
      work_([this] { return enqueue_work(); }),
      generation_(fork_generation.load()) {
  key_.reserve(2 * (inputs_.size() + outputs_.size()) + 1);
  for (const IoTensor& input : engine_.inputs()) has_shape_values_ |= input.on_host;
}

ContextImpl::~ContextImpl() {
  if (forked_since(generation_)) {
    // The driver's threads stayed in the parent: what it knows of is left alone.
    for (auto& execution : executions_) (void)execution.release();
    return;
  }
  cuda::CurrentDevice current(engine_.device(), std::nothrow);
  executions_.clear();
}

void ContextImpl::throw_cancelled(const char* found) const {
  throw make_error(Code::kCancelled, "running " + session_->name(), found,
                   "run it again if the result is still wanted", session_->name());
}

ContextImpl::Where ContextImpl::where_of(const View& view, bool bound, const IoTensor& tensor,
                                         const char* role) const {
  if (view.device.kind == DeviceKind::kCuda) {
    if (view.device == engine_.device().id()) return Where::kDevice;
    throw make_error(
        Code::kInvalidArgument,
        "binding " + std::string(role) + " '" + tensor.name + "' of " + session_->name(),
        "its memory is on " + view.device.text() + ", the model on " + engine_.device().id().text(),
        "move it there, or to the host", tensor.name);
  }
  if (bound && view.data != nullptr &&
      engine_.device().pointer_info(view.data).kind == cuda::MemoryKind::kPinned) {
    return Where::kPinned;
  }
  return Where::kHost;
}

void ContextImpl::give_input(size_t index, const View& view, bool bound) {
  Input& input = inputs_[index];
  Where where = where_of(view, bound, engine_.inputs()[index], "input");
  if (input.where == Where::kNowhere || !(given_[index].shape == view.shape)) {
    given_[index].shape = view.shape;
    shapes_changed_ = true;
  }
  input.where = where;
  input.view = view;
  input.bytes = view.bytes();
}

void ContextImpl::give_output(size_t index, const View& view, bool bound) {
  Output& output = outputs_[index];
  output.where = where_of(view, bound, engine_.outputs()[index], "output");
  output.view = view;
  output.want = Want::kGiven;
  if (output.where == Where::kPinned) output.pinned = Buffer();  // staging of earlier runs
}

void ContextImpl::bind_input(size_t index, const View& view) { give_input(index, view, true); }
void ContextImpl::set_input(size_t index, const View& view) { give_input(index, view, false); }
void ContextImpl::bind_output(size_t index, const View& view) { give_output(index, view, true); }
void ContextImpl::set_output(size_t index, const View& view) { give_output(index, view, false); }

void ContextImpl::set_input(size_t index, const Value& /*value*/) {
  const std::string& name = engine_.inputs()[index].name;
  throw make_error(Code::kUnsupported, "binding input '" + name + "' of " + session_->name(),
                   "TensorRT takes tensors of numbers alone", "give an array", name);
}

void ContextImpl::clear_input(size_t index) { inputs_[index].where = Where::kNowhere; }

void ContextImpl::request_output(size_t index) {
  outputs_[index].want = Want::kTensor;
  outputs_[index].taken = {};
}

void ContextImpl::request_output_on(size_t index, DeviceId device) {
  if (device.kind == DeviceKind::kHost) {
    request_output(index);
    return;
  }
  if (!(device == engine_.device().id())) {
    const std::string& name = engine_.outputs()[index].name;
    throw make_error(Code::kInvalidArgument,
                     "asking for output '" + name + "' of " + session_->name(),
                     "it was asked for on " + device.text() + ", the model is on " +
                         engine_.device().id().text(),
                     "ask for it there, or on the host", name);
  }
  outputs_[index].want = Want::kDeviceTensor;
  outputs_[index].taken = {};
}

void ContextImpl::drop_output(size_t index) { outputs_[index].want = Want::kNothing; }

Value ContextImpl::take_output(size_t index) { return std::exchange(outputs_[index].taken, {}); }

void ContextImpl::read_shape_values() {
  for (size_t i = 0; i < inputs_.size(); ++i) {
    const IoTensor& tensor = engine_.inputs()[i];
    if (!tensor.on_host) continue;
    Input& input = inputs_[i];
    reserve(input.pinned, pinned_, input.bytes);
    if (input.where == Where::kDevice) {
      engine_.device().copy(input.pinned.data(), input.view.data, input.bytes);
    } else if (input.bytes > 0) {
      std::memcpy(input.pinned.data(), input.view.data, input.bytes);
    }
    input.address = host_inputs_[i] = input.pinned.data();
    input.source = nullptr;
    std::vector<int64_t>& values = given_[i].values;
    size_t count = given_[i].shape.count();
    values.resize(count);
    for (size_t v = 0; v < count; ++v) {
      int64_t value =
          tensor.dtype == DType::kInt64   ? static_cast<const int64_t*>(input.pinned.data())[v]
          : tensor.dtype == DType::kInt32 ? static_cast<const int32_t*>(input.pinned.data())[v]
                                          : static_cast<const uint8_t*>(input.pinned.data())[v];
      shapes_changed_ |= values[v] != value;
      values[v] = value;
    }
  }
}

Execution& ContextImpl::select_execution() {
  for (size_t i = 0; i < inputs_.size(); ++i) {
    if (inputs_[i].where != Where::kNowhere) continue;
    const std::string& name = engine_.inputs()[i].name;
    throw make_error(Code::kInvalidArgument, "running " + session_->name(),
                     "input '" + name + "' was not given", "give every input", name);
  }
  if (has_shape_values_) read_shape_values();
  if (!shapes_changed_ && execution_ != nullptr) [[likely]] {
    return *execution_;
  }
  execution_ = nullptr;
  for (auto& execution : executions_) {
    if (execution->is_set_to(given_)) execution_ = execution.get();
  }
  if (execution_ == nullptr) {
    Execution* chosen = nullptr;
    if (executions_.size() < std::max<size_t>(session_->settings().graphs, 1)) {
      engine_.profiles().choose(given_, session_->name());  // before anything is made
      executions_.push_back(std::make_unique<Execution>(engine_, session_->profile()));
      chosen = executions_.back().get();
    } else {
      // The one not used for longest is set anew; its graph is gone.
      chosen =
          std::min_element(executions_.begin(), executions_.end(),
                           [](const auto& a, const auto& b) { return a->last_used < b->last_used; })
              ->get();
    }
    chosen->set(given_, host_inputs_, *stream_);
    execution_ = chosen;
  }
  execution_->last_used = ++uses_;
  shapes_changed_ = false;
  return *execution_;
}

// Everything of a run that the stream does; captured into graphs, so nothing here may touch the
// host's memory. Returns the number of copies.
size_t ContextImpl::enqueue_work() {
  size_t copies = 0;
  for (const Input& input : inputs_) {
    if (input.source == nullptr || input.bytes == 0) continue;
    stream_->copy_async(const_cast<void*>(input.address), input.source, input.bytes,
                        input.where == Where::kDevice ? cuda::CopyKind::kDeviceToDevice
                                                      : cuda::CopyKind::kHostToDevice);
    ++copies;
  }
  execution_->enqueue(*stream_);
  for (size_t i = 0; i < outputs_.size(); ++i) {
    Output& output = outputs_[i];
    if (!execution_->outputs()[i].known) size_data_dependent(output, engine_.outputs()[i]);
    if (output.target == nullptr || output.bytes == 0) continue;
    bool to_device = output.want == Want::kGiven && output.where == Where::kDevice;
    stream_->copy_async(
        output.target, output.address, output.bytes,
        to_device ? cuda::CopyKind::kDeviceToDevice : cuda::CopyKind::kDeviceToHost);
    ++copies;
  }
  return copies;
}

void ContextImpl::run_on_stream(Execution& execution) {
  key_.clear();
  for (const Input& input : inputs_) {
    key_.push_back(input.address);
    key_.push_back(input.source);
  }
  for (const Output& output : outputs_) {
    key_.push_back(output.address);
    key_.push_back(output.target);
  }
  key_.push_back(last_block_ != nullptr ? last_block_->data() : nullptr);
  try {
    execution.run(*stream_, key_, session_->settings().graphs > 0 && session_->profile() == nullptr,
                  work_);
  } catch (const Error& error) {
    try {
      stream_->synchronize();  // what was enqueued before still uses the memory
    } catch (const Error&) {   // the first error says more
    }
    for (size_t i = 0; i < outputs_.size(); ++i) {
      const Output& output = outputs_[i];
      if (!output.memory || output.memory->failed_bytes() == 0) continue;
      throw make_error(Code::kOutOfMemory, "running " + session_->name(),
                       "output '" + engine_.outputs()[i].name + "' needs " +
                           std::to_string(output.memory->failed_bytes()) +
                           " bytes of device memory, which are not free",
                       "free memory, or give smaller inputs", engine_.outputs()[i].name);
    }
    throw;
  }
  stream_->synchronize();
}

void ContextImpl::run() {
  if (forked_since(generation_)) [[unlikely]]
    throw_forked("model " + session_->name());
  if (cancelled_.exchange(false)) [[unlikely]]
    throw_cancelled("the run was cancelled before it started");
  Engine::Running running(engine_);
  cuda::CurrentDevice current(engine_.device());
  Execution& execution = select_execution();
  bool first = !execution.ran();
  prepare_inputs();
  prepare_outputs(execution);
  BorrowedBlock block(engine_.activations(), execution.activation_bytes(), last_block_);
  last_block_ = block.get();
  execution.set_activations(last_block_ != nullptr ? last_block_->data() : nullptr,
                            last_block_ != nullptr ? last_block_->bytes() : 0);
  for (size_t i = 0; i < inputs_.size(); ++i) execution.set_input(i, inputs_[i].address);
  stage_inputs();
  {
    trace::Span span("run", session_->name());
    run_on_stream(execution);
  }
  if (first) engine_.note_compiled();
  if (session_->profile() != nullptr) execution.report_layers();
  if (cancelled_.exchange(false)) [[unlikely]]
    throw_cancelled(
        "the run was cancelled while the device worked, which cannot be interrupted; "
        "its result was discarded");
  deliver_outputs();
}

}  // namespace zerolane::trt
