// SPDX-License-Identifier: Apache-2.0
#include "bindings/batch_loop.h"

#include <utility>

#include "bindings/errors.h"
#include "bindings/logging.h"

namespace py = pybind11;

namespace zerolane::bindings {
namespace {

thread_local BatchLoop* t_flushing = nullptr;  // whose turn this thread is in

PyObject* interned(const char* name) {
  PyObject* object = PyUnicode_InternFromString(name);
  if (object == nullptr) throw py::error_already_set();
  return object;
}

// Calls future.name(argument); false with an error set.
bool call(py::handle future, PyObject* name, PyObject* argument) {
  PyObject* result = PyObject_CallMethodOneArg(future.ptr(), name, argument);
  Py_XDECREF(result);
  return result != nullptr;
}

bool ask(py::handle future, PyObject* name) {
  const auto answer =
      py::reinterpret_steal<py::object>(PyObject_CallMethodNoArgs(future.ptr(), name));
  if (!answer) throw py::error_already_set();
  return answer.ptr() == Py_True;
}

bool is_done(py::handle future) {
  static PyObject* const name = interned("done");
  return ask(future, name);
}

}  // namespace

bool runs_are_short(const Batcher& batcher, GilPolicy::Mode mode) noexcept {
  if (batcher.model().session->calls_python() || mode == GilPolicy::Mode::kRelease) return false;
  if (mode == GilPolicy::Mode::kHold) return true;
  const double mean = batcher.mean_run_ns();
  return batcher.run_times().count() >= 8 && mean > 0 &&
         mean <= static_cast<double>(GilPolicy::kShort);
}

BatchLoop::BatchLoop(py::object loop, Batcher& batcher, BatchCalls& calls)
    : loop_(std::move(loop)),
      create_future_(loop_.attr("create_future")),
      call_soon_(loop_.attr("call_soon")),
      batcher_(&batcher),
      calls_(&calls) {}

std::shared_ptr<BatchLoop> BatchLoop::make(py::object loop, Batcher& batcher, BatchCalls& calls) {
  std::shared_ptr<BatchLoop> made(new BatchLoop(std::move(loop), batcher, calls));
  // The loop's callbacks keep the object, and with it the descriptor, as long as they may come.
  made->flush_ = py::cpp_function([self = std::weak_ptr<BatchLoop>(made)] {
    if (const auto alive = self.lock()) alive->flush();
  });
  made->on_done_ = py::cpp_function([self = std::weak_ptr<BatchLoop>(made)](py::handle future) {
    if (const auto alive = self.lock()) alive->on_done(future);
  });
  made->loop_.attr("add_reader")(made->ready_.descriptor(),
                                 py::cpp_function([made] { made->on_ready(); }));
  return made;
}

bool BatchLoop::closed() const { return loop_.attr("is_closed")().cast<bool>(); }

py::object BatchLoop::start(BatchCall* call) {
  py::object future = py::reinterpret_steal<py::object>(PyObject_CallNoArgs(create_future_.ptr()));
  if (!future) {
    calls_->give_back(call);
    throw py::error_already_set();
  }
  call->future = future;
  call->loop = shared_from_this();
  started_.push_back(call);
  if (started_.size() == 1) {
    PyObject* handle = PyObject_CallOneArg(call_soon_.ptr(), flush_.ptr());
    if (handle == nullptr) {
      started_.clear();
      calls_->give_back(call);
      throw py::error_already_set();
    }
    Py_DECREF(handle);
  }
  return future;
}

void BatchLoop::completed(BatchCall& call) noexcept {
  if (t_flushing == this) {
    here_.push_back(&call);  // there is room: flush() has reserved it
  } else {
    ready_.push(reinterpret_cast<uintptr_t>(&call));
  }
}

void BatchLoop::flush() {
  flushing_.swap(started_);
  here_.reserve(flushing_.size() + batcher_->waiting());
  size_t sent = 0;
  for (BatchCall* call : flushing_) {
    if (is_done(call->future)) {  // its task was cancelled
      calls_->give_back(call);
      continue;
    }
    try {
      batcher_->enqueue(*call);
      flushing_[sent++] = call;
    } catch (...) {
      call->error = std::current_exception();
      deliver(call);
    }
  }
  flushing_.resize(sent);
  if (sent == 0) return;
  bool ran = false;
  if (runs_are_short(*batcher_, calls_->gil_mode())) {
    t_flushing = this;
    ran = batcher_->run_here();
    t_flushing = nullptr;
  }
  if (!ran) {
    batcher_->wake();
    // They may wait for long. None is given back before this thread's next turn.
    static PyObject* const name = interned("add_done_callback");
    for (const BatchCall* each : flushing_) {
      if (!call(each->future, name, on_done_.ptr())) PyErr_WriteUnraisable(each->future.ptr());
    }
  }
  flushing_.clear();
  for (size_t i = 0; i < here_.size(); ++i) deliver(here_[i]);
  here_.clear();
}

void BatchLoop::on_done(py::handle future) {
  static PyObject* const name = interned("cancelled");
  if (batcher_ == nullptr || !ask(future, name)) return;
  batcher_->cancel([future](const BatchRequest& request) {
    const auto* call = dynamic_cast<const BatchCall*>(&request);
    return call != nullptr && call->future.is(future);
  });
}

void BatchLoop::on_ready() {
  ready_.drain(&tokens_);
  for (const uint64_t token : tokens_) {
    deliver(reinterpret_cast<BatchCall*>(static_cast<uintptr_t>(token)));  // NOLINT
  }
}

void BatchLoop::fail(BatchCall* done) {
  static PyObject* const name = interned("set_exception");
  py::error_already_set error;
  if (!call(done->future, name, error.value().ptr())) PyErr_WriteUnraisable(done->future.ptr());
}

void BatchLoop::deliver(BatchCall* done) {
  static PyObject* const name = interned("set_result");
  const std::shared_ptr<BatchLoop> keep = shared_from_this();
  if (!is_done(done->future)) {
    py::object result;
    PyObject* made = slot([&] { return calls_->result(*done).release().ptr(); });
    if (made == nullptr) {
      drain_log();
      fail(done);
    } else {
      result = py::reinterpret_steal<py::object>(made);
      if (!call(done->future, name, result.ptr())) PyErr_WriteUnraisable(done->future.ptr());
    }
  }
  calls_->give_back(done);
}

void BatchLoop::detach() {
  batcher_ = nullptr;
  calls_ = nullptr;
  try {
    if (closed()) return;
    // Another thread may be the one that drops the batcher.
    loop_.attr("call_soon_threadsafe")(loop_.attr("remove_reader"), ready_.descriptor());
  } catch (py::error_already_set& error) {
    error.discard_as_unraisable("zerolane.Batcher");
  }
}

}  // namespace zerolane::bindings
