// SPDX-License-Identifier: Apache-2.0
#include "runtime/batch_run.h"

#include <algorithm>
#include <string>
#include <utility>
#include <variant>

#include "core/error.h"
#include "runtime/batch_copy.h"

namespace zerolane {
namespace {

// Whether nobody else holds it; then what others did with it is over and seen here. (Counting up
// and down orders memory as looking at the count does not.)
template <typename T>
bool held_alone(const std::shared_ptr<T>& held) {
  if (held.use_count() != 1) return false;
  std::shared_ptr<T>(held).reset();
  return true;
}

}  // namespace

void BatchGroup::learn(const std::vector<Tensor>& results, const std::vector<int>& axes) {
  std::lock_guard lock(mutex);
  if (known.load(std::memory_order_relaxed)) return;
  outputs.clear();
  for (size_t i = 0; i < results.size(); ++i) {
    outputs.push_back(with_extent(results[i].shape(), static_cast<size_t>(axes[i]), 0));
  }
  known.store(true, std::memory_order_release);
}

Tensor BatchRun::Piece::take(DType dtype, const Shape& shape, size_t axis, int64_t most) {
  if (const size_t wanted = dtype_bytes(dtype, shape.count()); bytes < wanted || !storage) {
    const Tensor made =
        Tensor::make_host(dtype, with_extent(shape, axis, std::max(most, shape[axis])));
    storage = made.storage();
    bytes = made.bytes();
  }
  return {storage, dtype, shape};
}

std::shared_ptr<BatchRun::Outputs> BatchRun::spare_outputs() {
  for (size_t i = 0; i < made_.size(); ++i) {
    const std::shared_ptr<Outputs>& each = made_[next_made_];
    next_made_ = next_made_ + 1 < made_.size() ? next_made_ + 1 : 0;
    if (!held_alone(each)) continue;
    for (Tensor& tensor : each->tensors) tensor = Tensor();
    // Results that share the memory may outlive their requests.
    const auto free = [](const Piece& piece) {
      return piece.storage == nullptr || held_alone(piece.storage);
    };
    if (std::ranges::all_of(each->memory, free)) return each;
  }
  auto made = std::make_shared<Outputs>(requested_.size());
  if (made_.size() < kMostOutputs) {
    made_.push_back(made);
  } else {
    made_[next_made_] = made;  // whoever holds the old one keeps it
  }
  return made;
}

BatchRun::BatchRun(const BatchModel& model, size_t most)
    : model_(model),
      most_(static_cast<int64_t>(most)),
      context_(model.session->make_context()),
      joined_(model.session->inputs().size()),
      requested_(model.session->outputs().size()) {}

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
    const Tensor joined =
        joined_[i].take(only.dtype, with_extent(group.shapes[i], at, rows), at, most_);
    const View to = joined.view();
    bool padded = false;
    for (const BatchRequest* request : requests) {
      if (!group.padded[i]) break;
      padded |= !(with_extent(request->inputs[i].shape, at, 0) == group.shapes[i]);
    }
    if (padded) fill(to, model_.pads[i]);
    int64_t row = 0;
    for (const BatchRequest* request : requests) {
      copy_block(to, row, request->inputs[i], 0, at, request->inputs[i].shape);
      row += request->rows();
    }
    context_->bind_input(i, to);  // nobody else has it, so it may stay bound
  }
}

void BatchRun::give_outputs(const BatchGroup& group, int64_t rows, Outputs& outputs) {
  const bool known = group.known.load(std::memory_order_acquire);
  for (size_t i = 0; i < requested_.size(); ++i) {
    requested_[i] = !known || !model_.session->predictable(i);
    if (requested_[i]) {
      context_->request_output(i);
      continue;
    }
    const auto axis = static_cast<size_t>(model_.axes.outputs[i]);
    outputs.tensors[i] = outputs.memory[i].take(
        model_.session->outputs()[i].dtype, with_extent(group.outputs[i], axis, rows), axis, most_);
    context_->set_output(i, outputs.tensors[i].view());
  }
}

void BatchRun::take_outputs(std::span<BatchRequest* const> requests, int64_t rows,
                            Outputs& outputs) {
  BatchGroup& group = *requests.front()->group();
  const auto& specs = model_.session->outputs();
  for (size_t i = 0; i < requested_.size(); ++i) {
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
    outputs.tensors[i] = std::move(*tensor);
  }
  // What this run showed serves the next ones. Runs of one group may end at once on several lanes.
  if (!group.known.load(std::memory_order_acquire)) {
    group.learn(outputs.tensors, model_.axes.outputs);
  }
}

int64_t BatchRun::run(std::span<BatchRequest* const> requests) noexcept {
  int64_t taken = 0;
  try {
    int64_t rows = 0;
    for (const BatchRequest* request : requests) rows += request->rows();
    context_->rearm();
    join(requests, rows);
    const std::shared_ptr<Outputs> outputs = spare_outputs();
    give_outputs(*requests.front()->group(), rows, *outputs);
    const int64_t begin = now_ns();
    try {
      context_->run();
    } catch (const Error& error) {
      // The size of an output was learnt, and came out otherwise: once more, as the backend has it.
      if (error.code() != Code::kShapeMismatch || !requests.front()->group()->known.load()) throw;
      for (size_t i = 0; i < requested_.size(); ++i) model_.session->distrust(i);
      give_outputs(*requests.front()->group(), rows, *outputs);
      context_->run();
    }
    taken = now_ns() - begin;
    take_outputs(requests, rows, *outputs);
    int64_t first = 0;
    for (BatchRequest* request : requests) {
      request->outputs_ = {outputs, &outputs->tensors};
      request->first = first;
      first += request->rows();
    }
  } catch (...) {
    for (BatchRequest* request : requests) request->error = std::current_exception();
  }
  return taken;
}

}  // namespace zerolane
