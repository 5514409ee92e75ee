// SPDX-License-Identifier: Apache-2.0
#include "bindings/pending.h"

#include <utility>
#include <vector>

#include "bindings/session.h"
#include "core/cpus.h"
#include "core/error.h"

namespace py = pybind11;

namespace zerolane::bindings {
namespace {

PendingCall* g_free = nullptr;  // the GIL guards it

// Calls whose last reference a lane held. Their Python objects need the GIL, so another thread lets
// them go.
struct Finished {
  std::mutex mutex;  // guards what follows
  std::vector<PendingCall*> calls;
  bool asked = false;  // a pending call of Python's is on its way
};
Finished& finished() {
  static auto* finished = new Finished;
  return *finished;
}

int drain_as_asked(void*) {
  {
    std::lock_guard lock(finished().mutex);
    finished().asked = false;
  }
  drain_finished();
  return 0;
}

}  // namespace

PendingCall* PendingCall::make(py::object session, std::unique_ptr<CallFrame> frame,
                               FrameHome& home, bool dict, int64_t spin_ns) {
  PendingCall* call = g_free;
  if (call == nullptr) {
    call = new PendingCall;
  } else {
    g_free = call->next_free_;
  }
  call->outcome_.prepare(session.cast<PySession&>().session()->outputs().size());
  call->session_ = std::move(session);
  call->frame_ = std::move(frame);
  call->home_ = &home;
  call->dict_ = dict;
  call->spin_ns_ = spin_ns;
  call->references_.store(2, std::memory_order_relaxed);
  call->finished_.reset();
  call->state_ = State::kWaiting;
  call->told_ = false;
  call->live_.emplace(LiveKind::kFuture);
  return call;
}

void PendingCall::take_back() noexcept {
  frame_->clear();
  home_->give_back(std::move(frame_));
  recycle();
}

void PendingCall::recycle() noexcept {
  outcome_.clear();
  session_ = py::object();
  error_ = nullptr;
  queue_.reset();
  live_.reset();
  next_free_ = std::exchange(g_free, this);
}

void PendingCall::run(size_t /*lane*/) noexcept {
  bool ended = false;
  {
    std::lock_guard lock(mutex_);
    ended = state_ == State::kDone;  // cancelled meanwhile
    if (!ended) state_ = State::kRunning;
  }
  std::exception_ptr error;
  if (!ended) {
    try {
      frame_->execute_on_worker();
    } catch (...) {
      error = std::current_exception();
    }
  }
  std::unique_lock lock(mutex_);
  const bool ran = state_ == State::kRunning && !error;
  state_ = State::kDone;  // from here on cancel() leaves the context alone
  lock.unlock();
  try {
    frame_->detach(ran, &outcome_);
  } catch (...) {
    if (!error) error = std::current_exception();
  }
  home_->give_back(std::move(frame_));
  if (ended) return;
  lock.lock();
  finish(std::move(lock), std::move(error));
}

void PendingCall::finish(std::unique_lock<std::mutex> lock, std::exception_ptr error) noexcept {
  state_ = State::kDone;
  error_ = std::move(error);
  told_ = true;
  std::shared_ptr<CompletionQueue> queue = std::move(queue_);
  const uint64_t token = token_;
  lock.unlock();
  finished_.set();
  if (queue) queue->push(token);
}

void PendingCall::release() noexcept {
  if (references_.fetch_sub(1, std::memory_order_acq_rel) > 1) return;
  std::lock_guard lock(finished().mutex);
  finished().calls.push_back(this);
  if (finished().asked) return;
  // Python's queue may be full: then the next call asks again.
  finished().asked = Py_AddPendingCall(drain_as_asked, nullptr) == 0;
}

void PendingCall::drop() noexcept {
  if (references_.fetch_sub(1, std::memory_order_acq_rel) == 1) recycle();
}

bool PendingCall::cancel() noexcept {
  std::unique_lock lock(mutex_);
  if (state_ == State::kDone) return false;
  if (state_ == State::kRunning) {
    frame_->context().cancel();
    return true;
  }
  finish(std::move(lock),
         std::make_exception_ptr(make_error(Code::kCancelled, "running a submitted call",
                                            "it was cancelled before it started",
                                            "submit it again if the result is still wanted")));
  return true;
}

bool PendingCall::cancelled() const noexcept {
  if (!done()) return false;
  std::exception_ptr error;
  {
    std::lock_guard lock(mutex_);
    error = error_;
  }
  if (!error) return false;
  try {
    std::rethrow_exception(error);
  } catch (const Error& known) {
    return known.code() == Code::kCancelled;
  } catch (...) {
    return false;
  }
}

void PendingCall::notify(std::shared_ptr<CompletionQueue> queue, uint64_t token) {
  {
    std::lock_guard lock(mutex_);
    if (!told_) {
      queue_ = std::move(queue);
      token_ = token;
      return;
    }
  }
  queue->push(token);
}

py::object PendingCall::take_result() {
  std::exception_ptr error;
  {
    std::lock_guard lock(mutex_);
    error = error_;
  }
  if (error) std::rethrow_exception(error);
  auto& session = session_.cast<PySession&>();
  std::vector<py::object>& results = outcome_.finish();
  py::object result = dict_ ? session.as_dict(results) : session.as_arrays(results);
  outcome_.clear();
  if (!result) {
    throw make_error(Code::kInternal, "taking the result of " + session.session()->name(),
                     "making it failed before", "see the first error");
  }
  return result;
}

void drain_finished() {
  std::vector<PendingCall*> calls;
  {
    std::lock_guard lock(finished().mutex);
    if (finished().calls.empty()) return;
    calls.swap(finished().calls);
  }
  for (PendingCall* call : calls) call->recycle();  // which may run any Python code
  calls.clear();
  std::lock_guard lock(finished().mutex);
  if (finished().calls.empty()) finished().calls.swap(calls);  // its memory serves again
}

namespace {

struct Shared {
  std::mutex mutex;  // guards all below
  Lanes* lanes = nullptr;
  unsigned generation = 0;
  bool closed = false;
};
Shared& shared() {
  static auto* shared = new Shared;
  return *shared;
}

}  // namespace

Lanes& shared_lanes() {
  Shared& s = shared();
  std::lock_guard lock(s.mutex);
  if (s.closed) {
    throw make_error(Code::kUnavailable, "submitting a call", "the interpreter is shutting down",
                     "submit earlier");
  }
  // The threads from before a fork do not exist here; the old object is abandoned with them.
  if (s.lanes == nullptr || forked_since(s.generation)) {
    LaneOptions options;
    options.count = static_cast<size_t>(usable_cpus());
    options.name = "Session.submit";
    s.lanes = new Lanes(std::move(options));
    s.generation = fork_generation.load();
  }
  return *s.lanes;
}

void close_shared_lanes() {
  Shared& s = shared();
  Lanes* lanes = nullptr;
  {
    std::lock_guard lock(s.mutex);
    s.closed = true;
    lanes = s.lanes;
  }
  if (lanes != nullptr) lanes->close(true);
}

}  // namespace zerolane::bindings
