// SPDX-License-Identifier: Apache-2.0
// The memory of a run: where inputs and outputs lie, staging, handing results out.
#include <algorithm>
#include <cstring>

#include "core/error.h"
#include "core/trace.h"
#include "trt/context.h"

namespace zerolane::trt {
namespace {

bool aligned(const void* address) {
  return reinterpret_cast<uintptr_t>(address) % ContextImpl::kIoAlignment == 0;
}

}  // namespace

void ContextImpl::reserve(Buffer& buffer, const std::shared_ptr<Pool>& pool, size_t bytes) {
  // An empty tensor needs an address too.
  size_t wanted = std::max<size_t>(bytes, 1);
  if (buffer.data() != nullptr && buffer.bytes() >= wanted) [[likely]] {
    return;
  }
  buffer = Buffer();
  buffer = pool->allocate(wanted);
}

void ContextImpl::prepare_inputs() {
  for (size_t i = 0; i < inputs_.size(); ++i) {
    Input& input = inputs_[i];
    if (engine_.inputs()[i].on_host) continue;
    if (input.where == Where::kDevice && aligned(input.view.data) && input.view.data != nullptr) {
      input.address = input.view.data;
      input.source = nullptr;
      continue;
    }
    reserve(input.device, device_memory_, input.bytes);
    input.address = input.device.data();
    input.source = input.view.data;
    if (input.where == Where::kHost) {
      reserve(input.pinned, pinned_, input.bytes);
      input.source = input.pinned.data();
    }
  }
}

void ContextImpl::check_given_shape(const Output& output, const IoTensor& tensor) const {
  if (output.want != Want::kGiven || output.view.shape == output.shape) return;
  throw make_error(Code::kShapeMismatch,
                   "binding output '" + tensor.name + "' of " + session_->name(),
                   "the memory given has shape " + output.view.shape.text() + ", the result " +
                       output.shape.text(),
                   "give memory of that shape, or none", tensor.name);
}

void ContextImpl::prepare_output(Execution& execution, size_t index) {
  Output& output = outputs_[index];
  const IoTensor& tensor = engine_.outputs()[index];
  const Execution::OutputFacts& facts = execution.outputs()[index];
  output.target = nullptr;
  if (!facts.known) {
    if (!output.memory) output.memory = std::make_unique<OutputMemory>(device_memory_);
    output.memory->begin();
    execution.set_output(index, output.memory.get());
    output.address = nullptr;
    return;
  }
  output.shape = facts.shape;
  output.bytes = dtype_bytes(tensor.dtype, facts.shape.count());
  check_given_shape(output, tensor);
  if (tensor.on_host) {
    reserve(output.pinned, pinned_, output.bytes);
    output.address = output.pinned.data();
  } else if (output.want == Want::kGiven && output.where == Where::kDevice &&
             output.view.data != nullptr && aligned(output.view.data)) {
    output.address = output.view.data;
  } else {
    reserve(output.device, device_memory_, output.bytes);
    output.address = output.device.data();
    if (output.want == Want::kTensor ||
        (output.want == Want::kGiven && output.where == Where::kHost)) {
      reserve(output.pinned, pinned_, output.bytes);
      output.target = output.pinned.data();
    } else if (output.want == Want::kGiven) {
      output.target = output.view.data;
    }
  }
  execution.set_output(index, output.address);
}

void ContextImpl::prepare_outputs(Execution& execution) {
  for (size_t i = 0; i < outputs_.size(); ++i) prepare_output(execution, i);
}

void ContextImpl::stage_inputs() {
  for (size_t i = 0; i < inputs_.size(); ++i) {
    Input& input = inputs_[i];
    if (input.where != Where::kHost || input.source == nullptr || input.bytes == 0) continue;
    trace::Span span("copy", engine_.inputs()[i].name, static_cast<int64_t>(input.bytes));
    std::memcpy(input.pinned.data(), input.view.data, input.bytes);
  }
}

void ContextImpl::size_data_dependent(Output& output, const IoTensor& tensor) {
  const std::optional<Shape>& shape = output.memory->shape();
  if (!shape) {
    throw make_error(Code::kBackend, "running " + session_->name(),
                     "the library told no shape of output '" + tensor.name + "'",
                     "report this with the model", tensor.name);
  }
  output.shape = *shape;
  output.bytes = dtype_bytes(tensor.dtype, shape->count());
  output.address = output.memory->data();
  check_given_shape(output, tensor);
  if (output.want == Want::kTensor ||
      (output.want == Want::kGiven && output.where == Where::kHost)) {
    reserve(output.pinned, pinned_, output.bytes);
    output.target = output.pinned.data();
  } else if (output.want == Want::kGiven) {
    output.target = output.view.data;
  }
}

void ContextImpl::deliver_outputs() {
  for (size_t i = 0; i < outputs_.size(); ++i) {
    Output& output = outputs_[i];
    const IoTensor& tensor = engine_.outputs()[i];
    if (output.want == Want::kNothing) continue;
    if (output.want == Want::kDeviceTensor) {
      Buffer memory =
          !execution_->outputs()[i].known ? output.memory->take() : std::move(output.device);
      if (tensor.on_host) {
        reserve(memory, device_memory_, output.bytes);
        engine_.device().copy(memory.data(), output.pinned.data(), output.bytes);
      }
      output.taken = zerolane::Tensor(std::make_shared<Storage>(std::move(memory)), tensor.dtype,
                                      output.shape);
      continue;
    }
    if (output.want == Want::kGiven && output.where != Where::kHost) {
      if (tensor.on_host && output.bytes > 0) {
        engine_.device().copy(output.view.data, output.pinned.data(), output.bytes);
      }
      continue;
    }
    void* to = output.view.data;
    if (output.want == Want::kTensor) {
      zerolane::Tensor result = zerolane::Tensor::make_host(tensor.dtype, output.shape);
      to = result.data();
      output.taken = std::move(result);
    }
    if (output.bytes == 0) continue;
    trace::Span span("copy", tensor.name, static_cast<int64_t>(output.bytes));
    std::memcpy(to, output.pinned.data(), output.bytes);
  }
}

}  // namespace zerolane::trt
