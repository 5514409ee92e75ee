// SPDX-License-Identifier: Apache-2.0
#include "runtime/batcher.h"

#include <algorithm>
#include <utility>

#include "core/error.h"
#include "core/fork.h"
#include "runtime/batch_copy.h"

namespace zerolane {
namespace {

// Groups that are remembered; with more shapes than that, sizes are learnt anew.
constexpr size_t kGroups = 64;

// Added to the count of arrivals at the end, so that whoever waits for some sees them come.
constexpr uint32_t kEnd = uint32_t{1} << 30;

// Whether a count that wraps round has come to `wanted`.
bool reached(uint32_t count, uint32_t wanted) noexcept {
  return static_cast<int32_t>(count - wanted) >= 0;
}

std::exception_ptr refusal(const Session& session, Code code, const char* found,
                           const char* remedy) {
  return std::make_exception_ptr(
      make_error(code, "running a request of " + session.name() + " in a batch", found, remedy,
                 session.name()));
}

}  // namespace

Batcher::Batcher(std::shared_ptr<Session> session, BatchOptions options)
    : options_(std::move(options)),
      generation_(fork_generation.load()),
      track_("batcher of " + session->name()) {
  model_.axes = BatchAxes::of(*session);
  model_.pads = options_.pads;
  model_.pads.resize(session->inputs().size());
  for (const TensorSpec& spec : session->inputs()) {
    auto& axes = padded_.emplace_back(spec.shape.size(), nullptr);
    for (size_t d = 0; d < spec.shape.size(); ++d) {
      for (const BatchBuckets& buckets : options_.buckets) {
        if (spec.shape[d].value < 0 && spec.shape[d].symbol == buckets.dim) axes[d] = &buckets;
      }
    }
  }
  model_.session = std::move(session);
  for (size_t i = 0; i < options_.lanes.count; ++i) {
    workers_.push_back(std::make_unique<Worker>(*this, model_, options_.max_batch));
    idle_.push_back(workers_.back().get());
  }
  publish(model_.session->name());
  lanes_ = std::make_unique<Lanes>(options_.lanes);
}

void Batcher::publish(const std::string& model) {
  const auto requests = [&](const char* outcome, const Counter& counter) {
    published_.push_back(metrics::publish("zerolane_batcher_requests_total",
                                          {{"model", model}, {"outcome", outcome}}, counter));
  };
  requests("answered", answered_);
  requests("late", late_);
  requests("cancelled", cancelled_);
  requests("refused", refused_);
  const metrics::Labels labels{{"model", model}};
  published_.push_back(metrics::publish("zerolane_batcher_runs_total", labels, runs_));
  published_.push_back(metrics::publish("zerolane_batcher_rows_total", labels, rows_));
  published_.push_back(metrics::publish("zerolane_batcher_queue_seconds", labels, waits_));
  published_.push_back(metrics::publish("zerolane_batcher_run_seconds", labels, run_times_));
  published_.push_back(metrics::publish("zerolane_batcher_queued", labels, depth_));
}

void Batcher::note_depth() noexcept {
  depth_.set(static_cast<int64_t>(queue_.count()));
  trace::counter(track_, "queued", depth_.value());
}

Batcher::~Batcher() {
  close(false);
  if (forked_since(generation_)) (void)lanes_.release();
}

int64_t Batcher::extent_of(size_t input, size_t axis, int64_t extent) const {
  const BatchBuckets* buckets = axis < padded_[input].size() ? padded_[input][axis] : nullptr;
  if (buckets == nullptr) return extent;
  const auto found = std::ranges::lower_bound(buckets->extents, extent);
  if (found != buckets->extents.end()) return *found;
  const std::string& name = model_.session->inputs()[input].name;
  throw make_error(Code::kShapeMismatch, "calling a batcher of " + model_.session->name(),
                   "input '" + name + "' has " + std::to_string(extent) + " on axis " +
                       std::to_string(axis) + " ('" + buckets->dim + "'), the greatest bucket is " +
                       std::to_string(buckets->extents.back()),
                   "give a greater bucket, or shorter inputs", name);
}

bool Batcher::fits(const BatchGroup& group, const BatchRequest& request) const noexcept {
  for (size_t i = 0; i < request.inputs.size(); ++i) {
    const View& view = request.inputs[i];
    const bool given = view.dtype != DType::kNone;
    if (given != group.given[i]) return false;
    if (!given) continue;
    const Shape& shape = group.shapes[i];
    if (view.dtype != model_.session->inputs()[i].dtype) return false;
    if (shape.rank() != view.shape.rank()) return false;
    for (size_t d = 0; d < shape.rank(); ++d) {
      if (static_cast<int>(d) == model_.axes.inputs[i]) continue;
      if (shape[d] == view.shape[d]) continue;
      const BatchBuckets* buckets = d < padded_[i].size() ? padded_[i][d] : nullptr;
      if (buckets == nullptr || view.shape[d] > shape[d]) return false;
      // The next smaller bucket must not do.
      const auto found = std::ranges::lower_bound(buckets->extents, view.shape[d]);
      if (found == buckets->extents.end() || *found != shape[d]) return false;
    }
  }
  return true;
}

void Batcher::prepare(BatchRequest& request) {
  const Session& session = *model_.session;
  const auto& specs = session.inputs();
  // Usually a request is like the one before it.
  const bool same = request.group_ != nullptr && fits(*request.group_, request);
  int64_t rows = -1;
  size_t counted = 0;
  for (size_t i = 0; i < specs.size(); ++i) {
    const View& view = request.inputs[i];
    if (view.dtype == DType::kNone) {
      if (i < session.required_inputs()) {
        throw make_error(Code::kInvalidArgument, "calling a batcher of " + session.name(),
                         "input '" + specs[i].name + "' (" + specs[i].type + " " +
                             specs[i].shape_text() + ") was not given",
                         "give every input", specs[i].name);
      }
      continue;
    }
    if (!same) check_tensor(specs[i], view.dtype, view.shape, "input", session.name());
    const int axis = model_.axes.inputs[i];
    if (axis == BatchAxes::kNone) continue;
    if (static_cast<size_t>(axis) >= view.shape.rank()) {
      throw make_error(Code::kShapeMismatch, "calling a batcher of " + session.name(),
                       "input '" + specs[i].name + "' is " + view.shape.text() +
                           ", expected a batch dimension on axis " + std::to_string(axis),
                       "give it with its batch dimension, 1 for one sample", specs[i].name);
    }
    const int64_t extent = view.shape[static_cast<size_t>(axis)];
    if (rows < 0) {
      rows = extent;
      counted = i;
    } else if (rows != extent) {
      throw make_error(Code::kShapeMismatch, "calling a batcher of " + session.name(),
                       "input '" + specs[i].name + "' has " + std::to_string(extent) + " rows, '" +
                           specs[counted].name + "' has " + std::to_string(rows),
                       "give all inputs of a request as many", specs[i].name);
    }
  }
  request.rows_ = std::max<int64_t>(rows, 0);
  request.error = nullptr;
  request.drop_outputs();  // of its last run
  if (!same || request.inputs.empty()) request.group_ = find_group(request);
}

std::shared_ptr<BatchGroup> Batcher::find_group(const BatchRequest& request) {
  {
    std::lock_guard lock(mutex_);
    for (const auto& group : groups_) {
      if (fits(*group, request)) return group;
    }
  }
  auto group = std::make_shared<BatchGroup>();
  std::vector<const Shape*> ones;
  std::vector<Shape> single(request.inputs.size());
  for (size_t i = 0; i < request.inputs.size(); ++i) {
    const View& view = request.inputs[i];
    const bool given = view.dtype != DType::kNone;
    const int axis = model_.axes.inputs[i];
    group->given.push_back(given);
    group->shared.push_back(given && axis == BatchAxes::kNone);
    group->padded.push_back(std::ranges::any_of(padded_[i], [](const auto* b) { return b; }));
    Shape shape = view.shape;
    for (size_t d = 0; given && d < shape.rank(); ++d) {
      const int64_t extent = static_cast<int>(d) == axis ? 0 : extent_of(i, d, view.shape[d]);
      shape = with_extent(shape, d, extent);
    }
    group->shapes.push_back(shape);
    single[i] = given && axis != BatchAxes::kNone ? with_extent(shape, static_cast<size_t>(axis), 1)
                                                  : shape;
    ones.push_back(given ? &single[i] : nullptr);
  }
  // Outputs whose shapes the declared ones tell need no run to show them.
  const auto predicted = predict_outputs(*model_.session, ones);
  if (std::ranges::all_of(predicted, &PredictedShape::known)) {
    for (size_t i = 0; i < predicted.size(); ++i) {
      group->outputs.push_back(
          with_extent(predicted[i].shape, static_cast<size_t>(model_.axes.outputs[i]), 0));
    }
    group->known.store(true);
  }
  std::lock_guard lock(mutex_);
  if (groups_.size() >= kGroups) groups_.erase(groups_.begin());
  groups_.push_back(group);
  return group;
}

void Batcher::put(BatchRequest& request, bool wakes) {
  request.queued_ns_ = now_ns();
  request.traced_ = trace::next_request();
  bool closed = false;
  bool taken = false;
  Needed needed;
  {
    std::lock_guard lock(mutex_);
    closed = closed_;
    taken = !closed && queue_.count() < options_.max_queue;
    if (taken) {
      queue_.push(request);
      note_depth();
      arrivals_.store(
          arrivals_.load(std::memory_order_relaxed) + static_cast<uint32_t>(request.rows_),
          std::memory_order_relaxed);
      if (wakes) needed = whom_to_wake();
    }
  }
  if (taken) {
    requests_.add();
    return wake(needed);
  }
  refused_.add();
  throw make_error(
      Code::kUnavailable, "calling a batcher of " + model_.session->name(),
      closed ? "it is closed"
             : std::to_string(options_.max_queue) + " requests wait already, which is max_queue",
      closed ? "make a new one" : "try again later, or add lanes or machines",
      model_.session->name());
}

Batcher::Needed Batcher::whom_to_wake() noexcept {
  if (idle_.empty()) {
    const uint32_t arrived = arrivals_.load(std::memory_order_relaxed);
    return {nullptr, expecting_ > 0 && reached(arrived, awaited_)};
  }
  Worker* worker = idle_.back();
  idle_.pop_back();
  return {worker, false};
}

void Batcher::wake(const Needed& needed) noexcept {
  // The lanes close after this batcher has: then close() serves what waits.
  if (needed.worker != nullptr && !lanes_->push(*needed.worker)) serve(*needed.worker, false);
  if (needed.sleepers) futex::wake_all(arrivals_);
}

void Batcher::enqueue(BatchRequest& request) { put(request, false); }

void Batcher::submit(BatchRequest& request) { put(request, true); }

void Batcher::wake() noexcept {
  Needed needed;
  {
    std::lock_guard lock(mutex_);
    if (queue_.count() > 0) needed = whom_to_wake();
  }
  wake(needed);
}

bool Batcher::run_here() {
  Worker* worker = nullptr;
  {
    std::lock_guard lock(mutex_);
    if (queue_.count() == 0) return true;
    if (idle_.empty()) return false;
    worker = idle_.back();
    idle_.pop_back();
  }
  serve(*worker, false);
  return true;
}

bool Batcher::cancel(BatchRequest& request) {
  return cancel([&request](const BatchRequest& other) { return &other == &request; });
}

bool Batcher::cancel(const std::function<bool(const BatchRequest&)>& is_it) {
  BatchRequest* request = nullptr;
  {
    std::lock_guard lock(mutex_);
    request = queue_.remove(is_it);
    if (request == nullptr) return false;
    note_depth();
  }
  cancelled_.add();
  request->error = refusal(*model_.session, Code::kCancelled, "it was cancelled before it ran",
                           "send it again if the result is still wanted");
  request->complete();
  return true;
}

void Batcher::Worker::run(size_t /*lane*/) noexcept { batcher.serve(*this, true); }

size_t Batcher::more_to_come(const Worker& worker, const BatchRequest& oldest,
                             int64_t now) const noexcept {
  if (worker.last_rows <= 1 || closed_) return 0;
  if (now - oldest.queued_ns_ >= options_.max_delay_ns) return 0;
  const size_t wanted = oldest.group_->sizes.prefer(std::min(worker.last_rows, options_.max_batch),
                                                    options_.max_batch);
  return wanted > queue_.rows() ? wanted - queue_.rows() : 0;
}

void Batcher::wait_for(uint32_t wanted, int64_t now, int64_t until) noexcept {
  // A look takes the line from whoever sends, so there are fewer the more is wanted.
  const uint32_t pauses = std::min<uint32_t>(wanted - arrivals_.load(std::memory_order_relaxed), 8);
  const auto arrived = [&] {
    for (uint32_t i = 1; i < pauses; ++i) relax();
    return reached(arrivals_.load(std::memory_order_relaxed), wanted);
  };
  if (spin(std::min(options_.lanes.spin_ns, until - now), arrived)) return;
  for (;;) {
    const uint32_t seen = arrivals_.load(std::memory_order_relaxed);
    if (reached(seen, wanted) || now_ns() >= until) return;
    futex::wait(arrivals_, seen, until);
  }
}

bool Batcher::next(Worker& worker, bool may_wait) noexcept {
  std::unique_lock lock(mutex_);
  for (;;) {
    const BatchRequest* oldest = queue_.front();
    if (oldest == nullptr) {
      worker.last_rows = 0;
      idle_.push_back(&worker);
      return false;
    }
    const int64_t now = now_ns();
    const size_t missing = may_wait ? more_to_come(worker, *oldest, now) : 0;
    if (missing > 0) {
      const int64_t until = oldest->queued_ns_ + options_.max_delay_ns;
      const uint32_t wanted =
          arrivals_.load(std::memory_order_relaxed) + static_cast<uint32_t>(missing);
      if (expecting_ == 0 || reached(awaited_, wanted)) awaited_ = wanted;
      ++expecting_;
      lock.unlock();
      wait_for(wanted, now, until);
      lock.lock();
      --expecting_;
      continue;
    }
    const size_t rows = oldest->group_->sizes.choose(queue_.rows(), options_.max_batch);
    queue_.take(rows, now, &worker.batch, &worker.late);
    note_depth();
    lock.unlock();
    for (const BatchRequest* request : worker.batch) {
      waits_.record(now - request->queued_ns_);
      trace::span(track_, "queue", request->queued_ns_, now, request->traced_);
    }
    return true;
  }
}

void Batcher::serve(Worker& worker, bool may_wait) noexcept {
  while (next(worker, may_wait)) {
    // Another lane may help with what this one leaves.
    if (waiting() > 0 && workers_.size() > 1) wake();
    for (BatchRequest* request : worker.late) {
      late_.add();
      trace::instant(track_, "deadline", request->traced_);
      request->error = refusal(*model_.session, Code::kDeadlineExceeded,
                               "its deadline passed while it waited, so it was not run",
                               "allow more time, or send fewer requests at once");
      request->complete();
    }
    if (!worker.batch.empty()) run_batch(worker);
  }
}

void Batcher::run_batch(Worker& worker) noexcept {
  const std::span<BatchRequest* const> all(worker.batch);
  size_t rows = 0;
  for (const BatchRequest* request : all) rows += static_cast<size_t>(request->rows());
  worker.last_rows = rows;
  const auto count = [&](size_t of, int64_t taken) {
    runs_.add();
    rows_.add(of);
    run_times_.record(taken);
    const double mean = mean_run_ns_.load(std::memory_order_relaxed);
    mean_run_ns_.store(
        mean == 0 ? static_cast<double>(taken) : mean + (static_cast<double>(taken) - mean) / 16,
        std::memory_order_relaxed);
  };
  const trace::Span span("batch", model_.session->name());
  if (trace::on()) [[unlikely]] {
    for (const BatchRequest* request : all) trace::step(request->traced_);
  }
  const int64_t begin = now_ns();
  const std::shared_ptr<BatchGroup> group = all.front()->group();
  const int64_t taken = worker.run_.run(all);
  count(rows, taken);
  const bool ran = !all.front()->error;
  if (!ran && all.size() > 1) {
    for (BatchRequest* const& request : all) {
      request->error = nullptr;
      const int64_t alone = worker.run_.run({&request, 1});
      count(static_cast<size_t>(request->rows()), alone);
    }
  }
  answered_.add(all.size());
  for (BatchRequest* request : all) {
    if (request->error) failed_.add();
    request->complete();
  }
  // What joining and answering take counts as well.
  if (ran) group->sizes.record(rows, now_ns() - begin);
  worker.batch.clear();
}

void Batcher::close(bool abort) {
  if (forked_since(generation_)) return;
  std::vector<BatchRequest*> dropped;
  {
    std::lock_guard lock(mutex_);
    if (!closed_) arrivals_.store(arrivals_.load(std::memory_order_relaxed) + kEnd);
    closed_ = true;
    while (abort && queue_.count() > 0) {
      dropped.push_back(queue_.remove([](const BatchRequest&) { return true; }));
    }
    note_depth();
  }
  for (BatchRequest* request : dropped) {
    cancelled_.add();
    request->error = refusal(*model_.session, Code::kCancelled,
                             "the batcher was closed before it ran", "send it to another one");
    request->complete();
  }
  futex::wake_all(arrivals_);
  wake();
  lanes_->close(false);
  run_here();  // what came in between
}

BatchStats Batcher::stats() const noexcept {
  BatchStats stats;
  stats.requests = requests_.value();
  stats.answered = answered_.value();
  stats.failed = failed_.value();
  stats.late = late_.value();
  stats.cancelled = cancelled_.value();
  stats.refused = refused_.value();
  stats.runs = runs_.value();
  stats.rows = rows_.value();
  return stats;
}

}  // namespace zerolane
