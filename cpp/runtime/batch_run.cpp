// SPDX-License-Identifier: Apache-2.0
#include "runtime/batch_run.h"

#include <algorithm>
#include <atomic>
#include <string>
#include <utility>
#include <variant>

#include "core/error.h"
#include "runtime/batch_copy.h"

namespace zerolane {

void BatchGroup::learn(const std::vector<Tensor>& results, const std::vector<int>& axes) {
  std::lock_guard lock(mutex);
  if (known.load(std::memory_order_relaxed)) return;
  outputs.clear();
  for (size_t i = 0; i < results.size(); ++i) {
    outputs.push_back(with_extent(results[i].shape(), static_cast<size_t>(axes[i]), 0));
  }
  known.store(true, std::memory_order_release);
}

Tensor BatchRun::Ring::take(DType dtype, const Shape& shape, size_t axis, int64_t most) {
  const size_t bytes = dtype_bytes(dtype, shape.count());
  for (size_t i = 0; i < pieces_.size(); ++i) {
    Piece& piece = pieces_[next_];
    next_ = next_ + 1 < pieces_.size() ? next_ + 1 : 0;
    if (piece.bytes < bytes || piece.storage.use_count() != 1) continue;
    // Whoever held it has read its last byte before letting go.
    std::atomic_thread_fence(std::memory_order_acquire);
    return {piece.storage, dtype, shape};
  }
  const Tensor made =
      Tensor::make_host(dtype, with_extent(shape, axis, std::max(most, shape[axis])));
  if (pieces_.size() < kMost) {
    pieces_.push_back({made.storage(), made.bytes()});
  } else {
    pieces_[next_] = {made.storage(), made.bytes()};  // whoever holds the old one keeps it
  }
  return {made.storage(), dtype, shape};
}

BatchRun::BatchRun(const BatchModel& model, size_t most)
    : model_(model),
      most_(static_cast<int64_t>(most)),
      context_(model.session->make_context()),
      joined_(model.session->inputs().size()),
      results_(model.session->outputs().size()),
      held_(joined_.size()),
      outputs_(results_.size()),
      requested_(results_.size()) {}

void BatchRun::join(std::span<BatchRequest* const> requests, int64_t rows) {
  const BatchRequest& first = *requests.front();
  const BatchGroup& group = *first.group();
  for (size_t i = 0; i < joined_.size(); ++i) {
    if (!group.given[i]) {
      context_->clear_input(i);
      continue;
    }
    const int axis = model_.axes.inputs[i];
    const View& only = first.inputs[i];
    const auto at = static_cast<size_t>(axis);
    // One request that needs no padding, and what all share, is read where it lies.
    if (axis == BatchAxes::kNone ||
        (requests.size() == 1 && with_extent(only.shape, at, 0) == group.shapes[i])) {
      context_->set_input(i, only);
      continue;
    }
    held_[i] = joined_[i].take(only.dtype, with_extent(group.shapes[i], at, rows), at, most_);
    const View to = held_[i].view();
    bool padded = false;
    for (const BatchRequest* request : requests) {
      padded |= !(with_extent(request->inputs[i].shape, at, 0) == group.shapes[i]);
    }
    if (padded) fill(to, model_.pads[i]);
    int64_t row = 0;
    for (const BatchRequest* request : requests) {
      copy_block(to, row, request->inputs[i], 0, at, request->inputs[i].shape);
      row += request->rows();
    }
    context_->set_input(i, to);
  }
}

void BatchRun::give_outputs(const BatchGroup& group, int64_t rows) {
  const bool known = group.known.load(std::memory_order_acquire);
  for (size_t i = 0; i < results_.size(); ++i) {
    requested_[i] = !known || !model_.session->predictable(i);
    if (requested_[i]) {
      context_->request_output(i);
      continue;
    }
    const auto axis = static_cast<size_t>(model_.axes.outputs[i]);
    outputs_[i] = results_[i].take(model_.session->outputs()[i].dtype,
                                   with_extent(group.outputs[i], axis, rows), axis, most_);
    context_->set_output(i, outputs_[i].view());
  }
}

void BatchRun::take_outputs(std::span<BatchRequest* const> requests, int64_t rows) {
  BatchGroup& group = *requests.front()->group();
  const auto& specs = model_.session->outputs();
  for (size_t i = 0; i < results_.size(); ++i) {
    if (!requested_[i]) continue;
    Value value = context_->take_output(i);
    auto* tensor = std::get_if<Tensor>(&value);
    const auto axis = static_cast<size_t>(model_.axes.outputs[i]);
    if (tensor == nullptr || axis >= tensor->shape().rank() || tensor->shape()[axis] != rows) {
      throw make_error(Code::kShapeMismatch, "joining requests of " + model_.session->name(),
                       "output '" + specs[i].name + "' is " +
                           (tensor == nullptr ? "no tensor" : tensor->shape().text()) + " for " +
                           std::to_string(rows) + " rows, expected a row for each on axis " +
                           std::to_string(axis),
                       "a batcher cannot serve this model; call the session itself", specs[i].name);
    }
    outputs_[i] = std::move(*tensor);
  }
  // What this run showed serves the next ones. Runs of one group may end at once on several lanes.
  if (!group.known.load(std::memory_order_acquire)) group.learn(outputs_, model_.axes.outputs);
}

int64_t BatchRun::run(std::span<BatchRequest* const> requests) noexcept {
  int64_t taken = 0;
  try {
    int64_t rows = 0;
    for (const BatchRequest* request : requests) rows += request->rows();
    context_->rearm();
    join(requests, rows);
    give_outputs(*requests.front()->group(), rows);
    const int64_t begin = now_ns();
    try {
      context_->run();
    } catch (const Error& error) {
      // The size of an output was learnt, and came out otherwise: once more, as the backend has it.
      if (error.code() != Code::kShapeMismatch || !requests.front()->group()->known.load()) throw;
      for (size_t i = 0; i < results_.size(); ++i) model_.session->distrust(i);
      give_outputs(*requests.front()->group(), rows);
      context_->run();
    }
    taken = now_ns() - begin;
    take_outputs(requests, rows);
    int64_t first = 0;
    for (BatchRequest* request : requests) {
      request->outputs.resize(outputs_.size());
      for (size_t i = 0; i < outputs_.size(); ++i) request->outputs[i] = outputs_[i];
      request->first = first;
      first += request->rows();
    }
  } catch (...) {
    for (BatchRequest* request : requests) request->error = std::current_exception();
  }
  for (auto& tensor : outputs_) tensor = Tensor();
  for (auto& tensor : held_) tensor = Tensor();
  return taken;
}

}  // namespace zerolane
