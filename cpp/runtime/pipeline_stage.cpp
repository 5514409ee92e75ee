// SPDX-License-Identifier: Apache-2.0
// What happens to one stage in one run: what it is given, its run, and what becomes of its results.
#include <algorithm>
#include <utility>

#include "core/error.h"
#include "core/trace.h"
#include "runtime/pipeline_context.h"

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

}  // namespace zerolane
