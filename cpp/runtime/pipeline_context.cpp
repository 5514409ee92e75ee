// SPDX-License-Identifier: Apache-2.0
#include "runtime/pipeline_context.h"

#include <sched.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "core/error.h"
#include "core/trace.h"

namespace zerolane {
namespace {

bool is_value(const TensorSpec& spec) {
  return spec.kind != ValueKind::kTensor || spec.dtype == DType::kString;
}

// Ends the work on a stage's failure with a message that names it.
Error in_stage(const Error& error, const std::string& stage, const std::string& pipeline) {
  return Error(error.code(),
               "running stage '" + stage + "' of " + pipeline + ": " + error.message(),
               error.subject().empty() ? stage : error.subject());
}

}  // namespace

PipelineContext::PipelineContext(std::shared_ptr<PipelineImpl> pipeline)
    : pipeline_(std::move(pipeline)) {
  inputs_.resize(pipeline_->inputs().size());
  outputs_.resize(pipeline_->outputs().size());
  for (const StagePlan& plan : pipeline_->plan().stages) {
    results_.emplace_back(plan.session->outputs().size());
  }
  wire();
  choose_places();
}

void PipelineContext::wire() {
  const PipelinePlan& plan = pipeline_->plan();
  for (size_t s = 0; s < plan.stages.size(); ++s) {
    const StagePlan& from = plan.stages[s];
    Stage& stage = stages_.emplace_back();
    stage.plan = &from;
    stage.session = from.session.get();
    stage.context = stage.session->make_context();
    stage.stream = stage.context->stream();
    if (stage_on_other_device(stage.stream)) {
      throw make_error(Code::kDevice, "making a context of pipeline " + plan.name,
                       "stage '" + from.name + "' works on " + stage.stream->device_id().text() +
                           ", and one before it on " + stream_->device_id().text(),
                       "load all models of a pipeline on one GPU", from.name);
    }
    if (stream_ == nullptr) stream_ = stage.stream;
    stage.inputs.resize(stage.session->inputs().size());
    stage.outputs.resize(stage.session->outputs().size());
    for (size_t k = 0; k < stage.inputs.size(); ++k) {
      StageInput& input = stage.inputs[k];
      input.required = k < stage.session->required_inputs() && !stage.session->inputs()[k].optional;
      if (k >= from.inputs.size() || !from.inputs[k]) continue;
      const TensorSource& source = *from.inputs[k];
      if (source.stage == TensorSource::kPipelineInput) {
        input.slot = &inputs_[source.index];
        stage.outer = true;
      } else {
        const auto producer = static_cast<size_t>(source.stage);
        input.slot = &results_[producer][source.index];
        stages_[producer].outputs[source.index].read = true;
      }
    }
    for (size_t k = 0; k < stage.outputs.size(); ++k) stage.outputs[k].slot = &results_[s][k];
  }
  for (size_t i = 0; i < plan.outputs.size(); ++i) {
    const TensorSource& source = plan.outputs[i].source;
    Stage& stage = stages_[static_cast<size_t>(source.stage)];
    stage.outputs[source.index].result = static_cast<int>(i);
    stage.outer = true;
  }
}

bool PipelineContext::stage_on_other_device(const Stream* stream) const {
  return stream != nullptr && stream_ != nullptr && !(stream->device_id() == stream_->device_id());
}

// Memory of ours lies on the device where the stage that writes it and all that read it work there,
// else on the host, which sessions of a device copy from and to.
void PipelineContext::choose_places() {
  for (Stage& stage : stages_) {
    for (StageOutput& output : stage.outputs) {
      if (stage.stream == nullptr || pipeline_->plan().gpu.memory == nullptr) continue;
      const bool all = std::all_of(stages_.begin(), stages_.end(), [&](const Stage& reader) {
        return reader.stream != nullptr ||
               std::none_of(reader.inputs.begin(), reader.inputs.end(),
                            [&](const StageInput& in) { return in.slot == output.slot; });
      });
      if (all && output.read) output.place = stage.stream->device_id();
    }
  }
}

void PipelineContext::set_input(size_t index, const View& view) {
  Slot& slot = inputs_[index];
  slot.holds = Slot::Holds::kMemory;
  slot.view = view;
  slot.once = true;
  on_device_ |= view.device.kind != DeviceKind::kHost;
}

void PipelineContext::bind_input(size_t index, const View& view) {
  set_input(index, view);
  inputs_[index].once = false;
}

void PipelineContext::set_input(size_t index, const Value& value) {
  Slot& slot = inputs_[index];
  if (const auto* tensor = std::get_if<Tensor>(&value)) {
    set_input(index, tensor->view());
    slot.owner = tensor->storage();
    return;
  }
  slot.holds = Slot::Holds::kValue;
  slot.value = value;
}

void PipelineContext::clear_input(size_t index) { inputs_[index].holds = Slot::Holds::kNothing; }

void PipelineContext::set_output(size_t index, const View& view) {
  wants_changed_ |= outputs_[index].want == Want::kNothing;
  outputs_[index].want = Want::kSet;
  outputs_[index].view = view;
  on_device_ |= view.device.kind != DeviceKind::kHost;
}

void PipelineContext::bind_output(size_t index, const View& view) {
  set_output(index, view);
  outputs_[index].want = Want::kBound;
}

void PipelineContext::request_output(size_t index) { request_output_on(index, {}); }

void PipelineContext::request_output_on(size_t index, DeviceId device) {
  const bool on_host = device.kind == DeviceKind::kHost;
  const OpPlace& gpu = pipeline_->plan().gpu;
  if (!on_host && (stream_ == nullptr || !(device == stream_->device_id()) || !gpu.memory)) {
    Context::request_output_on(index, device);  // refuses
  }
  wants_changed_ |= outputs_[index].want == Want::kNothing;
  outputs_[index].want = Want::kRequested;
  outputs_[index].device = device;
  outputs_[index].result = {};
  on_device_ |= !on_host;
}

void PipelineContext::drop_output(size_t index) {
  wants_changed_ |= outputs_[index].want != Want::kNothing;
  outputs_[index].want = Want::kNothing;
}

void PipelineContext::find_needed() {
  wants_changed_ = false;
  for (size_t s = stages_.size(); s-- > 0;) {
    Stage& stage = stages_[s];
    stage.needed = false;
    for (const StageOutput& output : stage.outputs) {
      stage.needed |=
          output.result >= 0 && outputs_[static_cast<size_t>(output.result)].want != Want::kNothing;
      for (size_t later = s + 1; later < stages_.size(); ++later) {
        if (!stages_[later].needed) continue;
        for (const StageInput& input : stages_[later].inputs) {
          stage.needed |= input.slot == output.slot;
        }
      }
    }
  }
}

void PipelineContext::throw_cancelled() const {
  throw make_error(Code::kCancelled, "running " + pipeline_->name(), "the run was cancelled",
                   "run it again if the result is still wanted", pipeline_->name());
}

void PipelineContext::run() {
  trace::Span span("pipeline", pipeline_->name());
  if (wants_changed_) find_needed();
  // What this run leaves behind is let go of whatever happens, and a cancel() serves it alone.
  struct Ending {
    PipelineContext& context;
    ~Ending() {
      context.running_.store(nullptr);
      context.forget_results();
      if (context.cancelled_.load()) context.end_cancel();
    }
  } ending{*this};
  int64_t begin = now_ns();
  for (size_t s = 0; s < stages_.size(); ++s) {
    if (!stages_[s].needed) continue;
    // In this order, and the other way round in cancel(): one of the two sees the other.
    running_.store(stages_[s].context.get());
    if (cancelled_.load()) [[unlikely]]
      throw_cancelled();
    {
      PipelineImpl::Counter& counter = pipeline_->counter(s);
      trace::Span stage_span("stage", counter.label);
      run_stage(s);
      const int64_t end = now_ns();
      counter.latency.record(end - begin);
      counter.total_ns.fetch_add(end - begin, std::memory_order_relaxed);
      begin = end;
    }
  }
}

void PipelineContext::run_stage(size_t index) {
  Stage& stage = stages_[index];
  try {
    give_inputs(stage);
    give_outputs(stage);
    if (stage.stream != nullptr && stage.stream != stream_ && stage.outer && on_device_) {
      stage.stream->wait_for_stream(*stream_);
    }
    run_context(stage);
    take_results(stage);
    for (StageOutput& output : stage.outputs) {
      if (output.result >= 0) deliver(index, output);
    }
  } catch (const Error& error) {
    throw in_stage(error, stage.plan->name, pipeline_->name());
  }
}

void PipelineContext::give_inputs(Stage& stage) {
  bool changed = stage.predicted.empty();
  for (size_t k = 0; k < stage.inputs.size(); ++k) {
    StageInput& input = stage.inputs[k];
    if (input.slot == nullptr) continue;
    switch (input.slot->holds) {
      case Slot::Holds::kMemory:
        changed |= give_memory(stage, k);
        break;
      case Slot::Holds::kValue:
        give_value(stage, k);
        changed = true;
        break;
      case Slot::Holds::kNothing:
        if (input.required) {
          throw make_error(
              Code::kInvalidArgument, "giving input '" + stage.session->inputs()[k].name + "'",
              "there is nothing for it: what it is wired to is an empty optional",
              "wire it to something that is always there", stage.session->inputs()[k].name);
        }
        changed |= input.seen;
        if (input.seen) stage.context->clear_input(k);
        input.seen = false;
    }
  }
  if (changed) predict(stage);
}

// Host memory with what lies on the device, for stages that work on the host.
const View& PipelineContext::on_host(StageInput& input, const View& view) {
  const size_t bytes = view.bytes();
  if (!input.down || input.down->bytes() < bytes) {
    input.down = std::make_unique<Buffer>(host_pool()->allocate(bytes));
  }
  trace::Span span("copy", pipeline_->name(), static_cast<int64_t>(bytes));
  if (bytes > 0) {
    stream_->copy_async(input.down->data(), view.data, bytes);
    stream_->synchronize();
  }
  moved_ = view;
  moved_.data = input.down->data();
  moved_.device = {};
  return moved_;
}

// Returns whether shape or element type are others than in the run before.
bool PipelineContext::give_memory(Stage& stage, size_t index) {
  StageInput& input = stage.inputs[index];
  const Slot& slot = *input.slot;
  const TensorSpec& spec = stage.session->inputs()[index];
  const bool changed =
      !input.seen || input.dtype != slot.view.dtype || !(input.shape == slot.view.shape);
  if (changed && spec.dtype != DType::kNone) {
    check_tensor(spec, slot.view.dtype, slot.view.shape, "input", stage.session->name());
  }
  const bool moves = slot.view.device.kind != DeviceKind::kHost && stage.stream == nullptr;
  const View& view = moves ? on_host(input, slot.view) : slot.view;
  const bool same = !changed && input.bound && input.data == view.data;
  input.seen = true;
  input.bound = false;
  input.data = view.data;
  if (changed) {
    input.dtype = view.dtype;
    input.shape = view.shape;
  }
  if (stage.plan->kind == StageKind::kPython) {
    const bool own = slot.own && slot.own->data() == view.data;
    const std::shared_ptr<Storage>& owner = own ? slot.own : slot.owner;
    if (owner && !moves) {
      stage.context->set_input(index, Value(Tensor(owner, view.dtype, view.shape)));
    } else {
      stage.context->set_input(index, view);
    }
  } else if (slot.once && !slot.owner) {
    stage.context->set_input(index, view);
  } else {
    if (!same) stage.context->bind_input(index, view);
    input.bound = true;
  }
  return changed;
}

void PipelineContext::give_value(Stage& stage, size_t index) {
  StageInput& input = stage.inputs[index];
  const TensorSpec& spec = stage.session->inputs()[index];
  if (const auto* strings = std::get_if<Strings>(&input.slot->value)) {
    if (spec.dtype != DType::kNone) {
      check_tensor(spec, DType::kString, strings->shape, "input", stage.session->name());
    }
    input.shape = strings->shape;
  } else if (spec.kind == ValueKind::kTensor && spec.dtype != DType::kNone) {
    check_tensor(spec, DType::kNone, {}, "input", stage.session->name());  // refuses
  }
  stage.context->set_input(index, input.slot->value);
  input.seen = true;
  input.bound = false;
  input.dtype = DType::kNone;
}

void PipelineContext::predict(Stage& stage) {
  if (stage.plan->kind == StageKind::kPython) {
    stage.predicted.assign(stage.outputs.size(), {});
    return;
  }
  std::vector<const Shape*> shapes;
  for (const StageInput& input : stage.inputs)
    shapes.push_back(input.seen ? &input.shape : nullptr);
  stage.predicted = predict_outputs(*stage.session, shapes);
}

void PipelineContext::give_outputs(Stage& stage) {
  for (size_t k = 0; k < stage.outputs.size(); ++k) give_output(stage, k);
}

void PipelineContext::give_output(Stage& stage, size_t index) {
  StageOutput& output = stage.outputs[index];
  output.predicted = false;
  const bool wanted =
      output.result >= 0 && outputs_[static_cast<size_t>(output.result)].want != Want::kNothing;
  if (!wanted && !output.read) {
    if (output.gives != Gives::kNothing) stage.context->drop_output(index);
    output.gives = Gives::kNothing;
    return;
  }
  if (wanted && give_callers(stage, index)) return;
  const PredictedShape& predicted = stage.predicted[index];
  Slot& slot = *output.slot;
  // Memory of ours is written again by the next run, so results that are asked for are not in it.
  const bool kept = wanted && outputs_[static_cast<size_t>(output.result)].want == Want::kRequested;
  if (!kept && output.gives == Gives::kOwn && predicted.known && output.shape == predicted.shape &&
      slot.own.use_count() == 1 && stage.session->predictable(index)) [[likely]] {
    output.predicted = true;
    slot.holds = Slot::Holds::kMemory;
    return;  // bound as it is
  }
  if (kept || !predicted.known || !stage.session->predictable(index) ||
      stage.plan->kind == StageKind::kPython) {
    request(stage, index);
    return;
  }
  View view;
  view.dtype = stage.session->outputs()[index].dtype;
  view.shape = predicted.shape;
  view.device = output.place;
  view.data = own_memory(slot, view.bytes(), output.place);
  output.predicted = true;
  if (output.gives != Gives::kOwn || output.data != view.data || !(output.shape == view.shape)) {
    stage.context->bind_output(index, view);
  }
  output.gives = Gives::kOwn;
  output.data = view.data;
  output.shape = view.shape;
  slot.holds = Slot::Holds::kMemory;
  slot.view = view;
  slot.owner.reset();
  slot.once = false;
}

// The caller's memory, where the stage can write it itself.
bool PipelineContext::give_callers(Stage& stage, size_t index) {
  StageOutput& output = stage.outputs[index];
  const Output& wanted = outputs_[static_cast<size_t>(output.result)];
  if (wanted.want == Want::kRequested) return false;
  if (wanted.view.device.kind != DeviceKind::kHost && stage.stream == nullptr) return false;
  if (wanted.want == Want::kSet) {
    stage.context->set_output(index, wanted.view);
    output.gives = Gives::kSet;
  } else {
    if (output.gives != Gives::kBound || output.data != wanted.view.data ||
        !(output.shape == wanted.view.shape)) {
      stage.context->bind_output(index, wanted.view);
    }
    output.gives = Gives::kBound;
    output.data = wanted.view.data;
    output.shape = wanted.view.shape;
  }
  Slot& slot = *output.slot;
  slot.holds = Slot::Holds::kMemory;
  slot.view = wanted.view;
  slot.owner.reset();
  slot.once = wanted.want == Want::kSet;
  return true;
}

// Grows, and is exchanged where somebody else still holds it: a Python stage that kept its input.
void* PipelineContext::own_memory(Slot& slot, size_t bytes, DeviceId place) {
  if (!slot.own || slot.own_bytes < bytes || slot.own.use_count() > 1) {
    slot.own.reset();
    const bool on_host = place.kind == DeviceKind::kHost;
    const std::shared_ptr<Pool>& pool = on_host ? host_pool() : pipeline_->plan().gpu.memory;
    slot.own = std::make_shared<Storage>(pool->allocate(bytes));
    slot.own_bytes = bytes;
  }
  return slot.own->data();
}

void PipelineContext::request(Stage& stage, size_t index) {
  StageOutput& output = stage.outputs[index];
  DeviceId place = output.place;
  if (output.result >= 0) {
    const Output& wanted = outputs_[static_cast<size_t>(output.result)];
    if (wanted.want == Want::kRequested) place = wanted.device;
  }
  if (stage.stream == nullptr || is_value(stage.session->outputs()[index])) place = {};
  if (place.kind == DeviceKind::kHost) {
    stage.context->request_output(index);
  } else {
    stage.context->request_output_on(index, place);
  }
  output.gives = Gives::kRequested;
}

void PipelineContext::run_context(Stage& stage) {
  try {
    stage.context->run();
    return;
  } catch (const Error& error) {
    const bool predicted = std::any_of(stage.outputs.begin(), stage.outputs.end(),
                                       [](const StageOutput& out) { return out.predicted; });
    if (!predicted || error.code() != Code::kShapeMismatch) throw;
  }
  // An output was declared wrongly, or its size depends on data: once more with memory from the
  // stage.
  for (size_t k = 0; k < stage.outputs.size(); ++k) {
    if (stage.outputs[k].predicted) request(stage, k);
  }
  stage.context->run();
}

void PipelineContext::take_results(Stage& stage) {
  for (size_t k = 0; k < stage.outputs.size(); ++k) {
    StageOutput& output = stage.outputs[k];
    if (output.gives == Gives::kRequested) keep(stage, k, stage.context->take_output(k));
  }
}

void PipelineContext::keep(Stage& stage, size_t index, Value value) {
  StageOutput& output = stage.outputs[index];
  Slot& slot = *output.slot;
  auto* tensor = std::get_if<Tensor>(&value);
  if (tensor == nullptr) {
    const bool empty = std::holds_alternative<std::monostate>(value);
    slot.holds = empty ? Slot::Holds::kNothing : Slot::Holds::kValue;
    slot.owner.reset();
    slot.value = std::move(value);
    return;
  }
  PredictedShape& predicted = stage.predicted[index];
  if (output.predicted && !(predicted.shape == tensor->shape())) {
    stage.session->distrust(index);
    distrust_after(static_cast<size_t>(&stage - stages_.data()));
  }
  // Usually the input shapes decide the output's, so the next run with the same ones has its memory
  // ready. An empty result more often comes from data.
  predicted.known = is_plain(tensor->dtype()) && tensor->shape().count() > 0;
  predicted.shape = tensor->shape();
  slot.holds = Slot::Holds::kMemory;
  slot.view = tensor->view();
  slot.owner = tensor->storage();
  slot.once = false;
}

// Outputs of the pipeline behind this stage may come out in any size.
void PipelineContext::distrust_after(size_t stage) {
  const PipelinePlan& plan = pipeline_->plan();
  for (size_t i = 0; i < plan.outputs.size(); ++i) {
    if (static_cast<size_t>(plan.outputs[i].source.stage) >= stage) pipeline_->distrust(i);
  }
}

// A result goes to the caller, where the stage did not put it there itself.
void PipelineContext::deliver(size_t stage, StageOutput& output) {
  Output& wanted = outputs_[static_cast<size_t>(output.result)];
  const bool there = output.gives == Gives::kSet || output.gives == Gives::kBound;
  if (wanted.want == Want::kNothing || there) return;
  Slot& slot = *output.slot;
  if (slot.holds != Slot::Holds::kMemory) {
    if (wanted.want == Want::kRequested) wanted.result = slot.value;
    return;
  }
  const bool on_host = slot.view.device.kind == DeviceKind::kHost;
  if (wanted.want == Want::kRequested) {
    if (on_host == (wanted.device.kind == DeviceKind::kHost)) {
      wanted.result = Tensor(slot.owner, slot.view.dtype, slot.view.shape);
      return;
    }
    // Stages of the host make host memory; the result is wanted on the device.
    auto made =
        std::make_shared<Storage>(pipeline_->plan().gpu.memory->allocate(slot.view.bytes()));
    wanted.result = Tensor(made, slot.view.dtype, slot.view.shape);
    copy_out(made->data(), slot.view);
    return;
  }
  if (!(wanted.view.shape == slot.view.shape)) {
    const std::string& name = pipeline_->outputs()[static_cast<size_t>(output.result)].name;
    throw make_error(
        Code::kShapeMismatch,
        "writing output '" + name + "' of stage '" + pipeline_->plan().stages[stage].name + "'",
        "its memory has shape " + wanted.view.shape.text() + ", the result " +
            slot.view.shape.text(),
        "give memory of the result's shape", name);
  }
  copy_out(wanted.view.data, slot.view);
}

void PipelineContext::copy_out(void* to, const View& from) {
  const size_t bytes = from.bytes();
  trace::Span span("copy", pipeline_->name(), static_cast<int64_t>(bytes));
  if (bytes == 0) return;
  stream_->copy_async(to, from.data, bytes);
  stream_->synchronize();
}

Value PipelineContext::take_output(size_t index) {
  return std::exchange(outputs_[index].result, {});
}

void PipelineContext::forget_results() noexcept {
  const auto forget = [](Slot& slot) {
    if (slot.owner != nullptr) slot.owner.reset();
    if (slot.holds == Slot::Holds::kValue) slot.value = {};
  };
  for (auto& slots : results_) {
    for (Slot& slot : slots) forget(slot);
  }
  for (Slot& slot : inputs_) {
    if (slot.owner != nullptr) slot.owner.reset();
  }
}

void PipelineContext::cancel() noexcept {
  cancelling_.fetch_add(1);
  cancelled_.store(true);
  if (Context* context = running_.load()) context->cancel();
  cancelling_.fetch_sub(1);
}

// A cancel() that met this run may have reached a stage that was done already.
void PipelineContext::end_cancel() noexcept {
  while (cancelling_.load() > 0) ::sched_yield();
  try {
    rearm();
  } catch (const Error&) {  // a library would have to lose its own options object
  }
}

void PipelineContext::rearm() {
  if (!cancelled_.exchange(false)) return;
  for (Stage& stage : stages_) stage.context->rearm();
}

}  // namespace zerolane
