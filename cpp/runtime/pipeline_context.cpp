// SPDX-License-Identifier: Apache-2.0
#include "runtime/pipeline_context.h"

#include <sched.h>

#include <algorithm>
#include <utility>

#include "core/error.h"
#include "core/trace.h"

namespace zerolane {
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
