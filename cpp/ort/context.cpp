// SPDX-License-Identifier: Apache-2.0
#include "ort/context.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "core/trace.h"

namespace zerolane::ort {

ContextImpl::ContextImpl(std::shared_ptr<SessionImpl> session)
    : session_(std::move(session)),
      api_(session_->runtime().api),
      binding_(api_.ReleaseIoBinding),
      run_options_(api_.ReleaseRunOptions),
      generation_(fork_generation.load()) {
  const Runtime& rt = session_->runtime();
  const std::string doing = "making an execution context for " + session_->name();
  check(rt, api_.CreateIoBinding(session_->handle(), binding_.out()), doing, session_->name());
  check(rt, api_.CreateRunOptions(run_options_.out()), doing, session_->name());
  auto fill = [&](std::vector<Slot>* slots, size_t count) {
    slots->reserve(count);
    for (size_t i = 0; i < count; ++i) slots->emplace_back(ValueHandle(api_.ReleaseValue));
  };
  fill(&inputs_, session_->inputs().size());
  fill(&outputs_, session_->outputs().size());
  for (size_t i = 0; i < outputs_.size(); ++i) {
    any_passed_ |= session_->passed_input(i) != SessionImpl::kNotPassed;
  }
  if (session_->graphs()) {
    // Without a number of its own a run would be captured, and replayed for other memory.
    check(rt, api_.AddRunConfigEntry(run_options_.get(), "gpu_graph_id", "-1"), doing,
          session_->name());
  }
  active_options_.store(run_options_.get());
  if (session_->gpu() != nullptr) stream_ = session_->gpu()->device.make_stream();
}

ContextImpl::~ContextImpl() {
  if (!forked_since(generation_)) return;
  binding_.take();
  run_options_.take();
  for (auto& run : graph_runs_) run->options.take();
  for (auto* slots : {&inputs_, &outputs_}) {
    for (Slot& slot : *slots) slot.value.take();
  }
}

bool ContextImpl::same(const Slot& slot, State state, const void* data, const Shape& shape) const {
  return slot.state == state && slot.data == data && slot.shape == shape;
}

void ContextImpl::bind_value(Slot& slot, size_t index, bool input) {
  const Runtime& rt = session_->runtime();
  const TensorSpec& spec = input ? session_->inputs()[index] : session_->outputs()[index];
  OrtStatus* status = input ? api_.BindInput(binding_.get(), spec.name.c_str(), slot.value.get())
                            : api_.BindOutput(binding_.get(), spec.name.c_str(), slot.value.get());
  if (status != nullptr) [[unlikely]] {
    slot.state = State::kNone;
    check(rt, status, "binding '" + spec.name + "' of " + session_->name(), spec.name);
  }
  if (!input &&
      std::find(output_order_.begin(), output_order_.end(), index) == output_order_.end()) {
    output_order_.push_back(index);
  }
}

void ContextImpl::give(Slot& slot, size_t index, bool input, State state, const View& view) {
  slot.copy_to = nullptr;
  if (same(slot, state, view.data, view.shape)) return;
  const bool on_host = view.device.kind == DeviceKind::kHost;
  slot.value = wrap_view(session_->runtime(), view, on_host ? nullptr : session_->gpu_memory());
  if (input) shapes_changed_ |= slot.state == State::kNone || !(slot.shape == view.shape);
  slot.data = view.data;
  slot.shape = view.shape;
  slot.state = state;
  bind_value(slot, index, input);
}

void ContextImpl::stage(Slot& slot, size_t index, bool input, const View& view) {
  size_t bytes = view.bytes();
  if (slot.staging.bytes() < bytes || slot.staging.data() == nullptr) {
    slot.staging = host_pool()->allocate(bytes);
  }
  View staged = view;
  staged.data = slot.staging.data();
  give(slot, index, input, State::kStaged, staged);
}

void ContextImpl::check_not_empty(size_t index, const View& view) const {
  if (!session_->refuse_empty() || view.shape.count() > 0) return;
  const TensorSpec& spec = session_->inputs()[index];
  throw make_error(Code::kUnsupported, "binding input '" + spec.name + "' of " + session_->name(),
                   "shape is " + view.shape.text() +
                       ", and this ORT-format model has operators that end the process on empty "
                       "tensors",
                   "skip the call for empty input, or load the .onnx form, where it is guarded",
                   spec.name);
}

void ContextImpl::bind_input(size_t index, const View& view) {
  check_not_empty(index, view);
  if (stream_) return give_on_gpu(inputs_[index], index, true, view, /*bound=*/true);
  give(inputs_[index], index, true, State::kDirect, view);
}

// Whether this output is an input, which is given by now, so that there is nothing to bind.
bool ContextImpl::passes(size_t index, const View& view, DeviceId device) {
  if (!any_passed_ || session_->passed_input(index) == SessionImpl::kNotPassed) return false;
  // A default that was not overridden comes from the library as any other output.
  if (inputs_[session_->passed_input(index)].state == State::kNone) return false;
  Slot& slot = outputs_[index];
  outputs_changed_ |= slot.state != State::kNone && slot.state != State::kPassed;
  slot.state = State::kPassed;
  slot.copy_to = nullptr;
  slot.given = view;
  slot.given.device = device;
  return true;
}

void ContextImpl::bind_output(size_t index, const View& view) {
  if (passes(index, view, view.device)) return;
  if (stream_) return give_on_gpu(outputs_[index], index, false, view, /*bound=*/true);
  give(outputs_[index], index, false, State::kDirect, view);
}

void ContextImpl::set_input(size_t index, const View& view) {
  check_not_empty(index, view);
  Slot& slot = inputs_[index];
  if (stream_) return give_on_gpu(slot, index, true, view, /*bound=*/false);
  size_t bytes = view.bytes();
  if (bytes > kStagedBytes) {
    give(slot, index, true, State::kDirect, view);
    return;
  }
  stage(slot, index, true, view);
  trace::Span span("copy", session_->inputs()[index].name, static_cast<int64_t>(bytes));
  std::memcpy(slot.data, view.data, bytes);
}

void ContextImpl::set_input(size_t index, const Value& value) {
  Slot& slot = inputs_[index];
  slot.value = to_ort(session_->runtime(), value);
  slot.state = State::kOpaque;
  if (any_passed_) slot.taken = value;
  slot.copied = slot.rebind = false;
  const auto* strings = std::get_if<Strings>(&value);
  slot.shape = strings != nullptr ? strings->shape : Shape();
  shapes_changed_ = true;
  bind_value(slot, index, true);
}

void ContextImpl::clear_input(size_t index) {
  if (inputs_[index].state == State::kNone) return;
  inputs_[index].state = State::kNone;
  inputs_[index].value.reset();
  shapes_changed_ = true;
  // The interface has no way to take one input back: all are bound anew.
  api_.ClearBoundInputs(binding_.get());
  for (size_t i = 0; i < inputs_.size(); ++i) {
    if (inputs_[i].state != State::kNone) bind_value(inputs_[i], i, true);
  }
}

void ContextImpl::set_output(size_t index, const View& view) {
  if (passes(index, view, view.device)) return;
  Slot& slot = outputs_[index];
  if (stream_) return give_on_gpu(slot, index, false, view, /*bound=*/false);
  size_t bytes = view.bytes();
  if (bytes > kStagedBytes) {
    give(slot, index, false, State::kDirect, view);
    return;
  }
  stage(slot, index, false, view);
  slot.copy_to = view.data;
  slot.copy_bytes = bytes;
}

void ContextImpl::request_output(size_t index) { request_output_on(index, {}); }

void ContextImpl::request_output_on(size_t index, DeviceId device) {
  if (passes(index, {}, device)) return;
  Slot& slot = outputs_[index];
  // Bound anew for each run: the library would write the next result over the last one.
  slot.value.reset();
  slot.copy_to = nullptr;
  slot.taken = {};
  slot.state = State::kRequested;
  const std::string& name = session_->outputs()[index].name;
  slot.copied = false;
  slot.on_device = device.kind != DeviceKind::kHost;
  if (slot.on_device && (!stream_ || !(device == stream_->device_id()))) {
    throw make_error(Code::kDevice, "asking for output '" + name + "' of " + session_->name(),
                     "it was asked for on " + device.text() + ", the session works on " +
                         (stream_ ? stream_->device_id() : DeviceId{}).text(),
                     "ask for it there, or on the host", name);
  }
  const Runtime& rt = session_->runtime();
  const OrtMemoryInfo* place = slot.on_device ? session_->gpu_memory() : rt.cpu;
  check(rt, api_.BindOutputToDevice(binding_.get(), name.c_str(), place), "binding output", name);
  if (std::find(output_order_.begin(), output_order_.end(), index) == output_order_.end()) {
    output_order_.push_back(index);
  }
  any_requested_ = true;
}

void ContextImpl::drop_output(size_t index) {
  State state = std::exchange(outputs_[index].state, State::kNone);
  if (state == State::kNone || state == State::kPassed) return;
  outputs_[index].value.reset();
  outputs_changed_ = true;
}

void ContextImpl::rebuild_outputs() {
  api_.ClearBoundOutputs(binding_.get());
  output_order_.clear();
  outputs_changed_ = false;
  for (size_t i = 0; i < outputs_.size(); ++i) {
    if (outputs_[i].state == State::kRequested) {
      request_output_on(i, outputs_[i].on_device ? stream_->device_id() : DeviceId{});
    } else if (outputs_[i].state != State::kNone && outputs_[i].state != State::kPassed) {
      bind_value(outputs_[i], i, false);
    }
  }
}

std::vector<const Shape*> ContextImpl::input_shapes() const {
  std::vector<const Shape*> shapes;
  for (const Slot& slot : inputs_) {
    shapes.push_back(slot.state == State::kNone ? nullptr : &slot.shape);
  }
  return shapes;
}

void ContextImpl::review_shapes() {
  shapes_changed_ = false;
  TwinKeeper* twins = session_->twins();
  if (twins == nullptr) return;
  route_ = twins->route(session_->inputs(), input_shapes());
  if (route_ != TwinKeeper::Route::kProve) return;
  run_on_twin(/*keep_results=*/false);
  twins->proven(input_shapes());
  twin_.reset();
  route_ = TwinKeeper::Route::kMain;
}

// The memory of a slot as the caller sees it.
View ContextImpl::view_of(const Slot& slot, DType dtype) const {
  return stream_ ? slot.given : View{slot.data, dtype, {}, slot.shape};
}

void ContextImpl::run_on_twin(bool keep_results) {
  if (!twin_) twin_ = std::make_shared<ContextImpl>(session_->twins()->twin());
  if (stream_) twin_->stream_->wait_for_stream(*stream_);
  for (size_t i = 0; i < inputs_.size(); ++i) {
    const Slot& slot = inputs_[i];
    if (slot.state == State::kNone) {
      twin_->clear_input(i);
    } else if (slot.state == State::kOpaque) {
      const std::string& name = session_->inputs()[i].name;
      check(session_->runtime(),
            api_.BindInput(twin_->binding_.get(), name.c_str(), slot.value.get()),
            "binding '" + name + "'", name);
    } else {
      twin_->bind_input(i, view_of(slot, session_->inputs()[i].dtype));
    }
  }
  for (size_t i = 0; i < outputs_.size(); ++i) {
    const Slot& slot = outputs_[i];
    if (slot.state == State::kNone || slot.state == State::kPassed) {
      twin_->drop_output(i);
    } else if (slot.state == State::kRequested || !keep_results) {
      twin_->request_output_on(i, slot.on_device ? stream_->device_id() : DeviceId{});
    } else {
      twin_->bind_output(i, view_of(slot, session_->outputs()[i].dtype));
    }
  }
  struct Running {
    std::atomic<ContextImpl*>& pointer;
    ~Running() { pointer.store(nullptr); }
  } running{running_twin_};
  running_twin_.store(twin_.get());
  if (cancelled_.load()) twin_->cancel();
  try {
    twin_->run();
  } catch (...) {
    rearm();
    throw;
  }
  if (!keep_results) return;
  for (size_t i = 0; i < outputs_.size(); ++i) {
    if (outputs_[i].state == State::kRequested) outputs_[i].taken = twin_->take_output(i);
  }
  any_requested_ = false;
}

void ContextImpl::run() {
  if (forked_since(generation_)) throw_forked("model " + session_->name());
  if (shapes_changed_) {
    try {
      review_shapes();
    } catch (...) {
      shapes_changed_ = true;
      throw;
    }
  }
  if (route_ == TwinKeeper::Route::kTwin) [[unlikely]] {
    run_on_twin(/*keep_results=*/true);
  } else {
    run_here();
  }
  for (Slot& slot : outputs_) {
    if (slot.copy_to != nullptr) {
      trace::Span span("copy", session_->name(), static_cast<int64_t>(slot.copy_bytes));
      std::memcpy(slot.copy_to, slot.data, slot.copy_bytes);
    }
  }
  if (any_requested_) collect_outputs();
  if (any_passed_) [[unlikely]]
    pass_inputs();
}

void ContextImpl::pass_inputs() {
  for (size_t i = 0; i < outputs_.size(); ++i) {
    if (outputs_[i].state != State::kPassed) continue;
    const Slot& from = inputs_[session_->passed_input(i)];
    if (from.state == State::kOpaque) {
      outputs_[i].taken = from.taken;
    } else {
      pass_into(from, i, outputs_[i]);
    }
  }
  if (stream_) stream_->synchronize();
}

void ContextImpl::pass_into(const Slot& from, size_t index, Slot& slot) {
  const TensorSpec& spec = session_->outputs()[index];
  const View source = view_of(from, spec.dtype);
  View target = slot.given;
  if (target.data == nullptr) {
    const bool on_host = target.device.kind == DeviceKind::kHost;
    Tensor made =
        on_host
            ? Tensor::make_host(spec.dtype, source.shape)
            : Tensor(std::make_shared<Storage>(session_->gpu()->memory->allocate(source.bytes())),
                     spec.dtype, source.shape);
    target = made.view();
    slot.taken = std::move(made);
  } else if (!(target.shape == source.shape)) {
    throw make_error(
        Code::kShapeMismatch, "writing output '" + spec.name + "'",
        "its memory has shape " + target.shape.text() + ", the result " + source.shape.text(),
        "give memory of the result's shape", spec.name);
  }
  trace::Span span("copy", spec.name, static_cast<int64_t>(source.bytes()));
  if (stream_) {
    stream_->copy_async(target.data, source.data, source.bytes());
  } else {
    std::memmove(target.data, source.data, source.bytes());
  }
}

void ContextImpl::run_here() {
  if (outputs_changed_) rebuild_outputs();
  // Nothing to compute where all that is wanted is passed on.
  if (output_order_.empty()) return;
  if (!stream_ && !session_->host_only()) {
    // Other devices copy at bind time, so new contents under the same address must be handed over
    // again.
    for (size_t i = 0; i < inputs_.size(); ++i) {
      if (inputs_[i].state != State::kNone) bind_value(inputs_[i], i, true);
    }
    check(session_->runtime(), api_.SynchronizeBoundInputs(binding_.get()),
          "copying the inputs of " + session_->name(), session_->name());
  }
  OrtStatus* status;
  if (stream_) {
    status = run_on_gpu();
  } else {
    trace::Span span("run", session_->name());
    status = api_.RunWithBinding(session_->handle(), run_options_.get(), binding_.get());
  }
  if (cancelled_.load(std::memory_order_relaxed)) [[unlikely]] {
    rearm();
    if (status != nullptr) {
      api_.ReleaseStatus(status);
      throw make_error(Code::kCancelled, "running " + session_->name(), "the run was cancelled",
                       "run it again if the result is still wanted", session_->name());
    }
  }
  if (status != nullptr) [[unlikely]] {
    check(session_->runtime(), status, "running " + session_->name(), session_->name());
  }
}

void ContextImpl::collect_outputs() {
  const Runtime& rt = session_->runtime();
  const std::string doing = "reading the outputs of " + session_->name();
  OrtValue** values = nullptr;
  size_t count = 0;
  check(rt, api_.GetBoundOutputValues(binding_.get(), rt.allocator, &values, &count), doing,
        session_->name());
  std::vector<ValueHandle> handles;
  for (size_t i = 0; i < count; ++i) handles.emplace_back(values[i], api_.ReleaseValue);
  if (values != nullptr)
    check(rt, api_.AllocatorFree(rt.allocator, values), doing, session_->name());
  for (size_t i = 0; i < count && i < output_order_.size(); ++i) {
    Slot& slot = outputs_[output_order_[i]];
    if (slot.state != State::kRequested) continue;
    slot.taken =
        from_ort(rt, std::move(handles[i]), slot.on_device ? stream_->device_id() : DeviceId{});
    auto* tensor = std::get_if<Tensor>(&slot.taken);
    if (!slot.on_device || tensor == nullptr) continue;
    // The memory belongs to the provider of this session.
    auto both = std::make_shared<std::pair<std::shared_ptr<SessionImpl>, std::shared_ptr<Storage>>>(
        session_, tensor->storage());
    *tensor = Tensor(std::make_shared<Storage>(tensor->data(), stream_->device_id(), both),
                     tensor->dtype(), tensor->shape());
  }
  any_requested_ = false;
}

Value ContextImpl::take_output(size_t index) { return std::exchange(outputs_[index].taken, {}); }

void ContextImpl::cancel() noexcept {
  const std::lock_guard lock(cancel_mutex_);
  cancelled_.store(true);
  if (ContextImpl* twin = running_twin_.load()) twin->cancel();
  OrtStatus* status = api_.RunOptionsSetTerminate(active_options_.load());
  if (status != nullptr) api_.ReleaseStatus(status);
}

void ContextImpl::rearm() {
  if (!cancelled_.load()) return;
  // A cancel() under way on another thread would end the next run if it came between these two.
  const std::lock_guard lock(cancel_mutex_);
  cancelled_.store(false);
  check(session_->runtime(), api_.RunOptionsUnsetTerminate(active_options_.load()),
        "resetting a context", session_->name());
}

}  // namespace zerolane::ort
