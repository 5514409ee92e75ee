// SPDX-License-Identifier: Apache-2.0
#include "bindings/future.h"

#include <pybind11/stl.h>

#include <mutex>
#include <optional>

#include "bindings/errors.h"
#include "bindings/logging.h"
#include "bindings/session.h"
#include "bindings/text.h"
#include "runtime/executor.h"

namespace py = pybind11;

namespace zerolane::bindings {
namespace {

// A submitted call: the job, its frame, and the Python objects that must live until it is done.
struct CallJob final : Job {
  CallJob(py::object owner, std::unique_ptr<CallFrame> call, bool as_dict)
      : Job([this] { frame->execute_on_worker(); }, call->context()),
        session(std::move(owner)),
        frame(std::move(call)),
        dict(as_dict) {}
  ~CallJob() override {
    frame->clear();
    session.cast<PySession&>().frames().give_back(std::move(frame));
  }

  py::object session;
  std::unique_ptr<CallFrame> frame;
  bool dict;
  py::object result;  // made once, by the first who asks
  bool made = false;
};

// Jobs whose last reference a worker held. Their Python objects need the GIL, so another thread
// lets them go.
struct Finished {
  std::mutex mutex;  // guards what follows
  std::vector<std::shared_ptr<Job>> jobs;
  bool asked = false;  // a pending call is on its way
};
Finished& finished() {
  static auto* finished = new Finished;
  return *finished;
}

void release_on_worker(std::shared_ptr<Job> job) noexcept {
  std::lock_guard lock(finished().mutex);
  finished().jobs.push_back(std::move(job));
  if (finished().asked) return;
  // Python's queue may be full: then the next job asks again.
  finished().asked = Py_AddPendingCall(
                         [](void*) {
                           {
                             std::lock_guard lock(finished().mutex);
                             finished().asked = false;
                           }
                           drain_finished();
                           return 0;
                         },
                         nullptr) == 0;
}

}  // namespace

void drain_finished() {
  std::vector<std::shared_ptr<Job>> jobs;
  {
    std::lock_guard lock(finished().mutex);
    jobs.swap(finished().jobs);
  }
}

class PyFuture {
 public:
  explicit PyFuture(std::shared_ptr<CallJob> job) : job_(std::move(job)) {}

  bool done() const { return job_->done(); }
  bool cancel() { return job_->cancel(); }

  // Blocks without the GIL, waking often enough for Ctrl-C.
  void wait(const py::object& timeout_s) const {
    int64_t end = INT64_MAX;
    if (!timeout_s.is_none()) {
      double seconds = PyFloat_AsDouble(timeout_s.ptr());
      if (PyErr_Occurred() != nullptr) {
        PyErr_Clear();
        throw make_error(Code::kInvalidArgument, "waiting for a result",
                         "timeout is " + utf8(py::repr(timeout_s)),
                         "give seconds, or None to wait as long as it takes", "timeout");
      }
      if (seconds < 1e9) end = now_ns() + static_cast<int64_t>(std::max(0.0, seconds) * 1e9);
    }
    for (;;) {
      bool done = false;
      {
        ReleaseGil release;
        int64_t slice = std::min<int64_t>(end == INT64_MAX ? 50000000 : end - now_ns(), 50000000);
        done = job_->wait(std::max<int64_t>(slice, 0));
      }
      if (done) return;
      if (PyErr_CheckSignals() != 0) throw py::error_already_set();
      if (now_ns() >= end) {
        throw make_error(Code::kDeadlineExceeded, "waiting for a result",
                         "it was not done within " + utf8(timeout_s) + " s",
                         "wait longer, or cancel() it");
      }
    }
  }

  py::object result(const py::object& timeout_s) {
    wait(timeout_s);
    drain_finished();
    try {
      job_->rethrow();
    } catch (...) {
      job_->frame->clear();
      drain_log();
      throw;
    }
    if (!job_->made) {
      auto& session = job_->session.cast<PySession&>();
      std::vector<py::object>& results = job_->frame->finish();
      job_->result = job_->dict ? session.as_dict(results) : session.as_arrays(results);
      job_->made = true;
      // The worker may hold the job for a moment yet: the call's arrays are let go here.
      job_->frame->clear();
    }
    return job_->result;
  }

  py::object exception(const py::object& timeout_s) {
    wait(timeout_s);
    try {
      result(py::none());
    } catch (const Error& error) {
      set_python_error(error);
      py::error_already_set set;
      return set.value();
    }
    return py::none();
  }

  bool cancelled() const {
    if (!job_->done()) return false;
    try {
      job_->rethrow();
    } catch (const Error& error) {
      return error.code() == Code::kCancelled;
    } catch (...) {
    }
    return false;
  }

  void notify(std::shared_ptr<CompletionQueue> queue, uint64_t token) {
    job_->notify(std::move(queue), token);
  }

 private:
  std::shared_ptr<CallJob> job_;
  LiveCount live_{LiveKind::kFuture};
};

py::object submit(const py::object& owner, const py::tuple& args, const py::object& kwargs,
                  const CallOptions& options) {
  auto& session = owner.cast<PySession&>();
  session.check_fork();
  drain_finished();
  PyObject* named = kwargs.is_none() ? nullptr : kwargs.ptr();
  bool dict = session.is_dict_form(args.ptr(), named);
  std::unique_ptr<CallFrame> frame = session.frames().take();
  try {
    if (dict) {
      session.sort_inputs(nullptr, 0, py::object(args[0]).ptr(), &frame->inputs);
    } else {
      session.sort_inputs(&PyTuple_GET_ITEM(args.ptr(), 0), args.size(), named, &frame->inputs);
    }
    frame->prepare(options);
    frame->hold_inputs();
  } catch (...) {
    frame->clear();
    session.frames().give_back(std::move(frame));
    throw;
  }
  auto job = std::make_shared<CallJob>(owner, std::move(frame), dict);
  Executor::submit(job, release_on_worker);
  return py::cast(std::make_unique<PyFuture>(std::move(job)));
}

void bind_future(py::module_& module) {
  using namespace py::literals;
  py::class_<CompletionQueue, std::shared_ptr<CompletionQueue>>(module, "CompletionQueue")
      .def(py::init<>())
      .def("fileno", &CompletionQueue::descriptor)
      .def("drain", &CompletionQueue::drain);
  auto setup =
      py::custom_type_setup([](PyHeapTypeObject* type) { type->ht_type.tp_new = refuse_new; });
  py::class_<PyFuture>(module, "Future", setup, "The result of a submitted call. Any thread.")
      .def("result", &PyFuture::result, "timeout"_a = py::none(),
           "Blocks up to `timeout` seconds; returns the result or raises the call's error.")
      .def("exception", &PyFuture::exception, "timeout"_a = py::none(),
           "Blocks up to `timeout` seconds; returns the call's error, or None if it went well.")
      .def("done", &PyFuture::done, "Whether it has finished, failed or been cancelled.")
      .def("cancel", &PyFuture::cancel,
           "Ends the call, running or not; False if it is done already. result() then raises "
           "Cancelled.")
      .def("cancelled", &PyFuture::cancelled)
      .def("_notify", &PyFuture::notify, "queue"_a, "token"_a);
  // Work that is still queued or running is cancelled, or leaving the interpreter would wait for
  // it.
  py::module_::import("atexit").attr("register")(py::cpp_function([] {
    interpreter_exits.store(true);
    {
      ReleaseGil release;
      Executor::shut_down();
    }
    drain_finished();
  }));
}

}  // namespace zerolane::bindings
