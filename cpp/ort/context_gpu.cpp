// SPDX-License-Identifier: Apache-2.0
#include <cstring>
#include <mutex>
#include <utility>

#include "core/trace.h"
#include "ort/context.h"

namespace zerolane::ort {
namespace {

void reserve(Buffer& buffer, const std::shared_ptr<Pool>& pool, size_t bytes) {
  if (buffer.data() == nullptr || buffer.bytes() < bytes) buffer = pool->allocate(bytes);
}

}  // namespace

// What is bound serves many runs, so it is asked where its memory lies.
void ContextImpl::give_on_gpu(Slot& slot, size_t index, bool input, const View& view, bool bound) {
  using Place = SessionImpl::Place;
  Gpu& gpu = *session_->gpu();
  const Place place = input ? session_->input_place(index) : session_->output_place(index);
  const bool on_device = view.device.kind != DeviceKind::kHost;
  slot.given = view;
  slot.rebind = place == Place::kUnknown;
  slot.copied = place != Place::kUnknown && on_device != (place == Place::kDevice);
  if (!slot.copied) {
    give(slot, index, input, State::kDirect, view);
    return;
  }
  slot.unstaged = bound && !on_device && gpu.device.is_pinned(view.data);
  if (slot.unstaged) {
    slot.pinned = Buffer();  // staging of earlier runs
  } else {
    reserve(slot.pinned, gpu.pinned, view.bytes());
  }
  View used = view;
  if (on_device) {
    used.data = slot.pinned.data();
    used.device = {};
  } else {
    reserve(slot.staging, gpu.memory, view.bytes());
    used.data = slot.staging.data();
    used.device = gpu.device.id();
  }
  give(slot, index, input, State::kStaged, used);
}

void ContextImpl::copy_inputs() {
  bool wait = false;
  bool rebind = false;
  for (Slot& slot : inputs_) {
    if (slot.state != State::kDirect && slot.state != State::kStaged) continue;
    const size_t bytes = slot.given.bytes();
    const bool on_device = slot.given.device.kind != DeviceKind::kHost;
    if (slot.rebind) {
      rebind = true;
      wait |= on_device;
    } else if (slot.unstaged && slot.copied) {
      stream_->copy_async(slot.data, slot.given.data, bytes);
    } else if (slot.copied) {
      trace::Span span("copy", session_->name(), static_cast<int64_t>(bytes));
      if (on_device) {
        stream_->copy_async(slot.pinned.data(), slot.given.data, bytes);
        wait = true;
      } else {
        std::memcpy(slot.pinned.data(), slot.given.data, bytes);
        stream_->copy_async(slot.data, slot.pinned.data(), bytes);
      }
    }
  }
  // What the processor reads, in the library or while binding, must have arrived.
  if (wait) stream_->synchronize();
  if (!rebind) return;
  for (size_t i = 0; i < inputs_.size(); ++i) {
    if (inputs_[i].state != State::kNone && inputs_[i].rebind) bind_value(inputs_[i], i, true);
  }
  check(session_->runtime(), api_.SynchronizeBoundInputs(binding_.get()),
        "copying the inputs of " + session_->name(), session_->name());
}

void ContextImpl::copy_outputs() {
  for (Slot& slot : outputs_) {
    if (slot.state != State::kStaged || !slot.copied) continue;
    const size_t bytes = slot.given.bytes();
    if (slot.given.device.kind != DeviceKind::kHost) {
      stream_->copy_async(slot.given.data, slot.pinned.data(), bytes);
    } else {
      void* to = slot.unstaged ? slot.given.data : slot.pinned.data();
      stream_->copy_async(to, slot.data, bytes);
    }
  }
}

// The library puts its work on the session's stream, behind what this context's stream has now.
OrtStatus* ContextImpl::run_on_gpu() {
  Gpu& gpu = *session_->gpu();
  copy_inputs();
  OrtRunOptions* options = choose_run_options();
  OrtStatus* status = nullptr;
  {
    trace::Span span("run", session_->name());
    std::unique_lock lock(gpu.mutex);
    gpu.stream->wait_for_stream(*stream_);
    if (!session_->graphs()) lock.unlock();
    status = api_.RunWithBinding(session_->handle(), options, binding_.get());
    if (!lock.owns_lock()) lock.lock();
    stream_->wait_for_stream(*gpu.stream);
  }
  try {
    if (status == nullptr) copy_outputs();
  } catch (...) {
    stream_->synchronize();  // a copy under way writes to the caller's memory
    throw;
  }
  try {
    stream_->synchronize();
  } catch (...) {
    if (status == nullptr) throw;  // else the library's own words say more
  }
  if (status != nullptr) return status;
  for (Slot& slot : outputs_) {
    if (slot.state != State::kStaged || !slot.copied) continue;
    if (slot.unstaged || slot.given.device.kind != DeviceKind::kHost) continue;
    trace::Span span("copy", session_->name(), static_cast<int64_t>(slot.given.bytes()));
    std::memcpy(slot.given.data, slot.pinned.data(), slot.given.bytes());
  }
  return nullptr;
}

// With CUDA graphs: a number for what runs a second time in a row with the same memory and shapes,
// all of it on the device. The library replays a number's graph without looking at the addresses.
OrtRunOptions* ContextImpl::choose_run_options() {
  OrtRunOptions* plain = run_options_.get();
  if (!session_->graphs()) return plain;
  const DeviceId device = stream_->device_id();
  next_key_.clear();
  bool fixed = true;
  for (auto* slots : {&inputs_, &outputs_}) {
    for (const Slot& slot : *slots) {
      const bool bound = slot.state == State::kDirect || slot.state == State::kStaged;
      const bool staged_on_device = slot.copied && slot.given.device.kind == DeviceKind::kHost;
      fixed &= slot.state == State::kNone ||
               (bound && !slot.rebind &&
                (staged_on_device || (!slot.copied && slot.given.device == device)));
      next_key_.push_back(bound ? reinterpret_cast<int64_t>(slot.data) : 0);
      if (!bound) continue;
      next_key_.push_back(static_cast<int64_t>(slot.shape.rank()));
      next_key_.insert(next_key_.end(), slot.shape.data(), slot.shape.data() + slot.shape.rank());
    }
  }
  OrtRunOptions* chosen = plain;
  for (auto& run : graph_runs_) {
    if (fixed && run->key == next_key_) chosen = run->options.get();
  }
  if (fixed && chosen == plain && graph_key_ == next_key_ && graph_runs_.size() < kMostGraphs) {
    const std::string doing = "choosing a CUDA graph for " + session_->name();
    const std::string number = std::to_string(session_->gpu()->next_graph.fetch_add(1));
    auto run = std::make_unique<GraphRun>(
        GraphRun{next_key_, Handle<OrtRunOptions>(api_.ReleaseRunOptions)});
    const Runtime& rt = session_->runtime();
    check(rt, api_.CreateRunOptions(run->options.out()), doing, session_->name());
    check(rt, api_.AddRunConfigEntry(run->options.get(), "gpu_graph_id", number.c_str()), doing,
          session_->name());
    chosen = run->options.get();
    graph_runs_.push_back(std::move(run));
  }
  std::swap(graph_key_, next_key_);
  use_run_options(chosen);
  return chosen;
}

// cancel() marks the options that are active; a mark from an earlier run is taken off.
void ContextImpl::use_run_options(OrtRunOptions* options) {
  if (active_options_.exchange(options) == options) return;
  const Runtime& rt = session_->runtime();
  const std::string doing = "running " + session_->name();
  check(rt, api_.RunOptionsUnsetTerminate(options), doing, session_->name());
  if (cancelled_.load()) {
    check(rt, api_.RunOptionsSetTerminate(options), doing, session_->name());
  }
}

}  // namespace zerolane::ort
