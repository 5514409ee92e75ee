// SPDX-License-Identifier: Apache-2.0
#include "bindings/future.h"

#include <pybind11/stl.h>
#include <structmember.h>

#include <algorithm>

#include "bindings/batcher.h"
#include "bindings/errors.h"
#include "bindings/lanes.h"
#include "bindings/logging.h"
#include "bindings/session.h"
#include "bindings/text.h"

namespace py = pybind11;

namespace zerolane::bindings {
namespace {

// A plain type of C: with pybind11's own, making one and asking it would cost more than a hand-off.
struct FutureObject {
  PyObject_HEAD PendingCall* call;
  PyObject* result;  // made once, by the first who asks
  bool taking;       // by a thread that may have let another have the GIL meanwhile
  PyObject* weak_references;
};

FutureObject* future_of(PyObject* self) { return reinterpret_cast<FutureObject*>(self); }

void dealloc(PyObject* self) {
  FutureObject* future = future_of(self);
  if (future->weak_references != nullptr) PyObject_ClearWeakRefs(self);
  Py_CLEAR(future->result);
  if (future->call != nullptr) future->call->drop();
  PyTypeObject* type = Py_TYPE(self);
  type->tp_free(self);
  Py_DECREF(type);
}

// The one argument `timeout`, by position or name; None if left out.
py::handle timeout_of(PyObject* const* args, Py_ssize_t count, PyObject* names) {
  const Py_ssize_t named = names == nullptr ? 0 : PyTuple_GET_SIZE(names);
  const bool fits =
      named == 0 || (count == 0 && named == 1 &&
                     PyUnicode_CompareWithASCIIString(PyTuple_GET_ITEM(names, 0), "timeout") == 0);
  if (count + named > 1 || !fits) throw py::type_error("expected one argument at most: timeout");
  return count + named == 0 ? Py_None : args[0];
}

int64_t end_of(py::handle timeout_s) {
  if (timeout_s.is_none()) return kForever;
  const double seconds = PyFloat_AsDouble(timeout_s.ptr());
  if (PyErr_Occurred() != nullptr || seconds != seconds) {
    PyErr_Clear();
    throw make_error(Code::kInvalidArgument, "waiting for a result",
                     "timeout is " + utf8(py::repr(timeout_s)),
                     "give seconds, or None to wait as long as it takes", "timeout");
  }
  if (seconds >= 1e9) return kForever;
  return now_ns() + static_cast<int64_t>(std::max(0.0, seconds) * 1e9);
}

// Blocks without the GIL, waking often enough for Ctrl-C. A lane that spins is waited for with the
// GIL for as long as it spins itself.
void wait(PendingCall& call, py::handle timeout_s) {
  const int64_t end = end_of(timeout_s);
  if (call.done()) return;
  if (call.spin_ns() > 0 && end > now_ns() &&
      spin(call.spin_ns(), [&call] { return call.done(); })) {
    return;
  }
  for (;;) {
    bool done = false;
    {
      ReleaseGil release;
      done = call.wait(0, std::min(end, now_ns() + 50000000));
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

PyObject* take(FutureObject* future) {
  while (future->taking) {
    ReleaseGil release;
    ::usleep(50);
  }
  if (future->result == nullptr) {
    struct Taking {
      FutureObject* future;
      explicit Taking(FutureObject* object) : future(object) { future->taking = true; }
      ~Taking() { future->taking = false; }
    } const taking(future);
    drain_finished();
    try {
      future->result = future->call->take_result().release().ptr();
    } catch (...) {
      drain_log();
      throw;
    }
  }
  return Py_NewRef(future->result);
}

PyObject* result(PyObject* self, PyObject* const* args, Py_ssize_t count, PyObject* names) {
  return slot([&] {
    const py::handle timeout_s = timeout_of(args, count, names);
    const py::object keep = py::reinterpret_borrow<py::object>(self);
    wait(*future_of(self)->call, timeout_s);
    return take(future_of(self));
  });
}

PyObject* exception(PyObject* self, PyObject* const* args, Py_ssize_t count, PyObject* names) {
  return slot([&]() -> PyObject* {
    const py::handle timeout_s = timeout_of(args, count, names);
    const py::object keep = py::reinterpret_borrow<py::object>(self);
    wait(*future_of(self)->call, timeout_s);
    try {
      Py_DECREF(take(future_of(self)));
    } catch (const Error& error) {
      set_python_error(error);
      const py::error_already_set set;
      return Py_NewRef(set.value().ptr());
    }
    Py_RETURN_NONE;
  });
}

PyObject* done(PyObject* self, PyObject*) { return PyBool_FromLong(future_of(self)->call->done()); }

PyObject* cancel(PyObject* self, PyObject*) {
  return PyBool_FromLong(future_of(self)->call->cancel());
}

PyObject* cancelled(PyObject* self, PyObject*) {
  return PyBool_FromLong(future_of(self)->call->cancelled());
}

PyObject* notify(PyObject* self, PyObject* args) {
  return slot([&]() -> PyObject* {
    PyObject* queue = nullptr;
    unsigned long long token = 0;
    if (PyArg_ParseTuple(args, "OK", &queue, &token) == 0) throw py::error_already_set();
    future_of(self)->call->notify(py::cast<std::shared_ptr<CompletionQueue>>(py::handle(queue)),
                                  token);
    Py_RETURN_NONE;
  });
}

template <typename Function>
PyCFunction method(Function* function) {
  return reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(function));
}

PyMethodDef g_methods[] = {
    {"result", method(result), METH_FASTCALL | METH_KEYWORDS,
     "result($self, timeout=None)\n--\n\n"
     "Blocks up to `timeout` seconds; returns the result or raises the call's error."},
    {"exception", method(exception), METH_FASTCALL | METH_KEYWORDS,
     "exception($self, timeout=None)\n--\n\n"
     "Blocks up to `timeout` seconds; returns the call's error, or None if it went well."},
    {"done", method(done), METH_NOARGS,
     "done($self)\n--\n\nWhether it has finished, failed or been cancelled."},
    {"cancel", method(cancel), METH_NOARGS,
     "cancel($self)\n--\n\n"
     "Ends the call, running or not; False if it is done already. result() then raises "
     "Cancelled."},
    {"cancelled", method(cancelled), METH_NOARGS, "cancelled($self)\n--\n\nWhether it was ended."},
    {"_notify", method(notify), METH_VARARGS, "_notify($self, queue, token)\n--\n\n"},
    {nullptr, nullptr, 0, nullptr}};

PyMemberDef g_members[] = {
    {"__weaklistoffset__", T_PYSSIZET, offsetof(FutureObject, weak_references), READONLY, nullptr},
    {nullptr, 0, 0, 0, nullptr}};

PyType_Slot g_slots[] = {
    {Py_tp_dealloc, reinterpret_cast<void*>(dealloc)},
    {Py_tp_methods, g_methods},
    {Py_tp_members, g_members},
    {Py_tp_doc, const_cast<char*>("The result of a submitted call. Any thread.")},
    {0, nullptr}};

PyType_Spec g_spec = {"zerolane._native.Future", sizeof(FutureObject), 0,
                      Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION, g_slots};

PyTypeObject* g_type = nullptr;

}  // namespace

py::object make_future(PendingCall* call) {
  PyObject* object = g_type->tp_alloc(g_type, 0);
  if (object == nullptr) {
    call->drop();
    throw py::error_already_set();
  }
  future_of(object)->call = call;
  return py::reinterpret_steal<py::object>(object);
}

PendingCall* prepare_call(const py::object& owner, std::unique_ptr<CallFrame> frame,
                          FrameHome& home, PyObject* args, PyObject* kwargs,
                          const CallOptions& options, int64_t spin_ns) {
  auto& session = owner.cast<PySession&>();
  const bool dict = session.is_dict_form(args, kwargs);
  try {
    if (dict) {
      session.sort_inputs(nullptr, 0, PyTuple_GET_ITEM(args, 0), &frame->inputs);
    } else {
      session.sort_inputs(&PyTuple_GET_ITEM(args, 0), static_cast<size_t>(PyTuple_GET_SIZE(args)),
                          kwargs, &frame->inputs);
    }
    frame->prepare(options);
    frame->hold_inputs();
  } catch (...) {
    frame->clear();
    home.give_back(std::move(frame));
    throw;
  }
  return PendingCall::make(owner, std::move(frame), home, dict, spin_ns);
}

py::object submit(const py::object& owner, const py::tuple& args, const py::object& kwargs,
                  const CallOptions& options) {
  auto& session = owner.cast<PySession&>();
  session.check_fork();
  drain_finished();
  Lanes& lanes = shared_lanes();
  PendingCall* call = prepare_call(owner, session.frames().take(), session.frames(), args.ptr(),
                                   kwargs.is_none() ? nullptr : kwargs.ptr(), options, 0);
  if (!lanes.push(*call)) {
    call->take_back();
    shared_lanes();  // throws: they are closed
  }
  return make_future(call);
}

void bind_future(py::module_& module) {
  using namespace py::literals;
  py::class_<CompletionQueue, std::shared_ptr<CompletionQueue>>(module, "CompletionQueue")
      .def(py::init<>())
      .def("fileno", &CompletionQueue::descriptor)
      .def("drain", [](CompletionQueue& self) {
        std::vector<uint64_t> tokens;
        self.drain(&tokens);
        return tokens;
      });
  g_type = reinterpret_cast<PyTypeObject*>(PyType_FromSpec(&g_spec));
  if (g_type == nullptr) throw py::error_already_set();
  module.attr("Future") = py::handle(reinterpret_cast<PyObject*>(g_type));
  // Work that is still queued or running is cancelled, or leaving the interpreter would wait for
  // it.
  py::module_::import("atexit").attr("register")(py::cpp_function([] {
    interpreter_exits.store(true);
    {
      ReleaseGil release;
      close_shared_lanes();
      close_all_lanes();
      close_all_batchers();
      leave_callbacks();
    }
    drain_finished();
  }));
}

}  // namespace zerolane::bindings
