// SPDX-License-Identifier: Apache-2.0
#include "bindings/batcher.h"

#include <pybind11/stl.h>

#include <algorithm>
#include <memory>
#include <mutex>
#include <set>
#include <vector>

#include "bindings/batch_call.h"
#include "bindings/batch_loop.h"
#include "bindings/errors.h"
#include "bindings/logging.h"
#include "bindings/native_part.h"
#include "bindings/session.h"
#include "core/error.h"

namespace py = pybind11;

namespace zerolane::bindings {
namespace {

class PyBatcher;
std::mutex g_mutex;  // guards open_batchers()
std::set<PyBatcher*>& open_batchers() {
  static auto* batchers = new std::set<PyBatcher*>;
  return *batchers;
}

class PyBatcher {
 public:
  PyBatcher(py::object session, BatchOptions options, size_t copied)
      : session_(std::move(session)),
        batcher_(std::make_unique<Batcher>(model().session(), std::move(options))),
        calls_(model(), *batcher_, copied) {
    std::lock_guard lock(g_mutex);
    open_batchers().insert(this);
  }

  ~PyBatcher() {
    if (forked_since(generation_)) {
      // The threads stayed behind in the parent, and may have held any lock.
      (void)batcher_.release();
      return;
    }
    for (const auto& loop : loops_) loop->detach();
    const ReleaseGil release;
    {
      std::lock_guard lock(g_mutex);
      open_batchers().erase(this);
    }
    batcher_.reset();
  }
  PyBatcher(const PyBatcher&) = delete;
  PyBatcher& operator=(const PyBatcher&) = delete;

  // A thread waits for the result.
  py::object call(PyObject* self, PyObject* const* args, Py_ssize_t count, PyObject* kwargs) {
    BatchCall* request = start(self, args, count, kwargs);
    struct Back {
      BatchCalls& calls;
      BatchCall* request;
      ~Back() {
        if (request != nullptr) calls.give_back(request);
      }
    } back{calls_, request};
    try {
      // Whoever has the GIL makes a short run: nobody else could send anything to share it.
      if (runs_are_short(*batcher_, model().gil_mode())) {
        batcher_->enqueue(*request);
        if (!batcher_->run_here()) batcher_->wake();
      } else {
        batcher_->submit(*request);
      }
    } catch (...) {
      drain_log();
      throw;
    }
    wait(*request);
    return calls_.result(*request);
  }

  py::object arun(PyObject* self, PyObject* const* args, Py_ssize_t count, PyObject* kwargs) {
    BatchLoop& loop = running_loop();
    return loop.start(start(self, args, count, kwargs));
  }

  void close(bool cancel) {
    const ReleaseGil release;
    batcher_->close(cancel);
  }
  void abort() { batcher_->close(true); }  // without the GIL

  py::dict stats() const {
    const BatchStats stats = batcher_->stats();
    py::dict out;
    out["requests"] = stats.requests;
    out["answered"] = stats.answered;
    out["failed"] = stats.failed;
    out["late"] = stats.late;
    out["cancelled"] = stats.cancelled;
    out["refused"] = stats.refused;
    out["waiting"] = batcher_->waiting();
    out["runs"] = stats.runs;
    out["rows_per_run"] =
        stats.runs == 0 ? 0.0 : static_cast<double>(stats.rows) / static_cast<double>(stats.runs);
    out["queue_us"] = percentiles(batcher_->waits());
    out["run_us"] = percentiles(batcher_->run_times());
    return out;
  }

 private:
  PySession& model() const { return session_.cast<PySession&>(); }

  static py::dict percentiles(const LatencyHistogram& histogram) {
    py::dict out;
    for (auto [name, fraction] :
         {std::pair{"p50", 0.5}, {"p90", 0.9}, {"p99", 0.99}, {"max", 1.0}}) {
      out[name] = static_cast<double>(histogram.percentile(fraction)) / 1e3;
    }
    return out;
  }

  BatchCall* start(PyObject* self, PyObject* const* args, Py_ssize_t count, PyObject* kwargs) {
    if (forked_since(generation_)) model().check_fork();
    BatchCall* request = calls_.take(args, count, kwargs);
    request->batcher = py::reinterpret_borrow<py::object>(self);
    try {
      batcher_->prepare(*request);
    } catch (...) {
      calls_.give_back(request);
      throw;
    }
    return request;
  }

  // Blocks without the GIL, waking often enough for Ctrl-C, which takes the request back.
  void wait(BatchCall& request) {
    bool interrupted = false;
    while (!request.done.is_set()) {
      {
        const ReleaseGil release;
        request.done.wait(batcher_->options().lanes.spin_ns, now_ns() + 50000000);
      }
      if (!interrupted && PyErr_CheckSignals() != 0) {
        interrupted = true;
        batcher_->cancel(request);  // or it is in a run, which ends soon
      }
    }
    if (interrupted) throw py::error_already_set();
  }

  BatchLoop& running_loop() {
    static PyObject* const get =
        py::object(py::module_::import("asyncio").attr("get_running_loop")).release().ptr();
    auto loop = py::reinterpret_steal<py::object>(PyObject_CallNoArgs(get));
    if (!loop) throw py::error_already_set();
    for (const auto& known : loops_) {
      if (known->loop().is(loop)) return *known;
    }
    std::erase_if(loops_, [](const auto& known) { return known->closed(); });
    loops_.push_back(BatchLoop::make(std::move(loop), *batcher_, calls_));
    return *loops_.back();
  }

  py::object session_;
  const unsigned generation_ = fork_generation.load();
  std::unique_ptr<Batcher> batcher_;
  BatchCalls calls_;
  std::vector<std::shared_ptr<BatchLoop>> loops_;
};

// The slot behind batcher(...), as a session's.
PyObject* call_slot(PyObject* self, PyObject* args, PyObject* kwargs) {
  return slot([&] {
    return native_part<PyBatcher>(self)
        .call(self, &PyTuple_GET_ITEM(args, 0), PyTuple_GET_SIZE(args), kwargs)
        .release()
        .ptr();
  });
}

PyObject* arun(PyObject* self, PyObject* const* args, Py_ssize_t count, PyObject* names) {
  return slot([&] {
    py::object named;
    for (Py_ssize_t i = 0; names != nullptr && i < PyTuple_GET_SIZE(names); ++i) {
      if (!named) named = py::dict();
      if (PyDict_SetItem(named.ptr(), PyTuple_GET_ITEM(names, i), args[count + i]) != 0) {
        throw py::error_already_set();
      }
    }
    return native_part<PyBatcher>(self).arun(self, args, count, named.ptr()).release().ptr();
  });
}

PyMethodDef g_arun = {
    "arun", reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(arun)),
    METH_FASTCALL | METH_KEYWORDS,
    "arun($self, /, *args, **inputs)\n--\n\n"
    "An awaitable of the result, for coroutines. Arguments as in a call; deadline_ms= and "
    "priority= as well."};

std::unique_ptr<PyBatcher> make_batcher(
    py::object session, size_t max_batch, double max_delay_ms, size_t max_queue, size_t lanes,
    std::vector<int> cpus, double spin_us,
    const std::vector<std::pair<std::string, std::vector<int64_t>>>& buckets,
    const std::vector<py::bytes>& pads, bool copy) {
  auto& model = session.cast<PySession&>();
  model.check_fork();
  BatchOptions options;
  options.max_batch = max_batch;
  options.max_delay_ns = static_cast<int64_t>(max_delay_ms * 1e6);
  options.max_queue = max_queue;
  options.lanes.count = lanes;
  options.lanes.cpus = std::move(cpus);
  options.lanes.spin_ns = static_cast<int64_t>(spin_us * 1e3);
  options.lanes.name = model.session()->name();
  for (const auto& [dim, extents] : buckets) options.buckets.push_back({dim, extents});
  for (const std::string bytes : pads) {
    const auto* data = reinterpret_cast<const std::byte*>(bytes.data());
    options.pads.emplace_back(data, data + bytes.size());
  }
  return std::make_unique<PyBatcher>(std::move(session), std::move(options),
                                     copy ? SIZE_MAX : BatchCalls::kCheapCopy);
}

}  // namespace

void close_all_batchers() {
  std::lock_guard lock(g_mutex);
  for (PyBatcher* batcher : open_batchers()) batcher->abort();
}

void bind_batcher(py::module_& module) {
  using namespace py::literals;
  auto setup =
      py::custom_type_setup([](PyHeapTypeObject* type) { type->ht_type.tp_call = call_slot; });
  auto type =
      py::class_<PyBatcher>(module, "Batcher", setup)
          .def(py::init(&make_batcher), "session"_a, "max_batch"_a, "max_delay_ms"_a, "max_queue"_a,
               "lanes"_a, "cpus"_a, "spin_us"_a, "buckets"_a, "pads"_a, "copy"_a)
          .def("_close", checked(&PyBatcher::close), "cancel"_a)
          .def("_stats", checked(&PyBatcher::stats));
  const auto method = py::reinterpret_steal<py::object>(
      PyDescr_NewMethod(reinterpret_cast<PyTypeObject*>(type.ptr()), &g_arun));
  type.attr("arun") = method;
}

}  // namespace zerolane::bindings
