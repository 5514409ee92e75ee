// SPDX-License-Identifier: Apache-2.0
#include "bindings/contract.h"

#include <memory>
#include <string>
#include <utility>

#include "bindings/binding.h"
#include "bindings/gil.h"
#include "bindings/native_part.h"
#include "bindings/text.h"
#include "core/error.h"
#include "core/fork.h"
#include "runtime/contract.h"
#include "runtime/idle_guard.h"

namespace py = pybind11;

namespace zerolane::bindings {
namespace {

// Runs a binding of its own without the GIL.
class BindingPulse final : public Pulse {
 public:
  explicit BindingPulse(Context& context) : context_(context) {}
  void run() override { context_.run(); }
  void rearm() override { context_.rearm(); }
  void cancel() noexcept override { context_.cancel(); }

 private:
  Context& context_;
};

// Calls something of Python. Once begun, it is not cancelled.
class CallPulse final : public Pulse {
 public:
  explicit CallPulse(PyObject* callable) : callable_(callable) {}
  void run() override {
    if (interpreter_exits.load()) return;
    const CallbackGil gil;
    try {
      py::reinterpret_borrow<py::object>(callable_)();
    } catch (py::error_already_set& error) {  // holds Python objects: not to be let out of here
      throw make_error(Code::kBackend, "keeping a callable warm", error.what(),
                       "see to it that pulse= runs from any thread");
    }
  }
  void rearm() override {}
  void cancel() noexcept override {}

 private:
  PyObject* callable_;  // of the PyContract
};

class PyContract {
 public:
  PyContract(py::object target, const std::string& name, int64_t p99_ns, int64_t deadline_ns,
             size_t window, int64_t idle_ns)
      : core_(name, {p99_ns, deadline_ns, window, idle_ns}), target_(std::move(target)) {}
  ~PyContract() { close(); }

  Contract& core() { return core_; }
  const py::object& target() const { return target_; }

  PyObject* call(PyObject* args, PyObject* kwargs) {
    Contract::Call call = core_.begin();
    PyObject* result = PyObject_Call(target_.ptr(), args, kwargs);
    core_.end(call, result == nullptr);
    return result;
  }

  void guard(py::object pulse, double duty) {
    close();
    pulse_ = std::move(pulse);
    std::unique_ptr<Pulse> made;
    if (py::isinstance<PyBinding>(pulse_)) {
      Context* context = pulse_.cast<PyBinding&>().context_without_python();
      if (context != nullptr) made = std::make_unique<BindingPulse>(*context);
    }
    if (made == nullptr) made = std::make_unique<CallPulse>(pulse_.ptr());
    generation_ = fork_generation.load();
    guard_ = std::make_unique<IdleGuard>(core_, std::move(made), duty);
  }

  // Ends the guard. Needs the GIL, and gives it up meanwhile.
  void close() noexcept {
    if (guard_ == nullptr) return;
    std::unique_ptr<IdleGuard> ending = std::move(guard_);
    if (forked_since(generation_)) {
      (void)ending.release();  // its thread stayed behind, and cannot be joined
      return;
    }
    ReleaseGil release;
    ending.reset();
  }

  py::dict figures() const {
    py::dict out;
    out["calls"] = core_.calls.value();
    out["early_calls"] = core_.early_calls.value();
    out["failures"] = core_.failures.value();
    out["deadline_misses"] = core_.deadline_misses.value();
    out["p99_breaches"] = core_.p99_breaches.value();
    out["p99_broken"] = core_.broken();
    out["window_p99_ns"] = core_.window().p99();
    out["window_calls"] = core_.window().read().size();
    out["latency"] = percentiles(core_.latency);
    out["first_latency"] = percentiles(core_.first_latency);
    out["pulses"] = core_.pulses.value();
    IdleGuard::Figures figures;
    if (guard_ != nullptr) figures = guard_->figures();
    out["pulses_cancelled"] = figures.cancelled;
    out["pulses_failed"] = figures.failed;
    out["pulse_failure"] = text(figures.last_failure);
    out["pulse_ns"] = figures.busy_ns;
    out["guarded_ns"] = figures.watched_ns;
    return out;
  }

  int traverse(visitproc visit, void* arg) const {
    Py_VISIT(target_.ptr());
    Py_VISIT(pulse_.ptr());
    return 0;
  }
  void clear() noexcept {
    close();
    py::object target = std::move(target_);
    py::object pulse = std::move(pulse_);
    target_ = py::none();  // a call from another finalizer finds something that raises
  }

 private:
  static py::dict percentiles(const LatencyHistogram& histogram) {
    HistogramCounts counts = histogram.read();
    py::dict out;
    out["count"] = counts.count();
    for (auto [name, fraction] : {std::pair{"p50_us", 0.5},
                                  {"p90_us", 0.9},
                                  {"p99_us", 0.99},
                                  {"p999_us", 0.999},
                                  {"max_us", 1.0}}) {
      out[name] = static_cast<double>(counts.percentile(fraction)) / 1e3;
    }
    return out;
  }

  Contract core_;
  py::object target_;
  py::object pulse_;
  unsigned generation_ = fork_generation.load();
  std::unique_ptr<IdleGuard> guard_;  // last: it uses all of the above
};

// Null while __init__ has not been called.
PyContract* contract_of(PyObject* object) {
  auto* instance = reinterpret_cast<py::detail::instance*>(object);
  return instance->simple_layout ? static_cast<PyContract*>(instance->simple_value_holder[0])
                                 : nullptr;
}

PyObject* call_slot(PyObject* self, PyObject* args, PyObject* kwargs) {
  PyContract* contract = contract_of(self);
  if (contract == nullptr) {
    PyErr_SetString(PyExc_TypeError, "this contract was never made; use zl.Contract(target)");
    return nullptr;
  }
  return contract->call(args, kwargs);
}

// What is called often refers to whoever keeps the contract: `self.fast = Contract(self.slow)`.
void collect_cycles(PyHeapTypeObject* heap_type) {
  PyTypeObject* type = &heap_type->ht_type;
  type->tp_call = call_slot;
  type->tp_flags |= Py_TPFLAGS_HAVE_GC;
  type->tp_traverse = [](PyObject* self, visitproc visit, void* arg) {
    Py_VISIT(Py_TYPE(self));
    PyContract* contract = contract_of(self);
    return contract != nullptr ? contract->traverse(visit, arg) : 0;
  };
  type->tp_clear = [](PyObject* self) {
    PyContract* contract = contract_of(self);
    if (contract != nullptr) contract->clear();
    return 0;
  };
}

}  // namespace

void bind_contract(py::module_& module) {
  using namespace py::literals;
  py::class_<PyContract>(module, "Contract", py::custom_type_setup(collect_cycles))
      .def(py::init<py::object, const std::string&, int64_t, int64_t, size_t, int64_t>(),
           "target"_a, "name"_a, "p99_ns"_a, "deadline_ns"_a, "window"_a, "idle_ns"_a)
      .def_property_readonly(
          "name", [](py::handle self) { return text(native_part<PyContract>(self).core().name()); })
      .def_property_readonly("target", checked(&PyContract::target))
      .def_property_readonly(
          "ready", [](py::handle self) { return native_part<PyContract>(self).core().ready(); },
          "Whether the warm-up has proven the promise.")
      .def("_set_ready", [](py::handle self) { native_part<PyContract>(self).core().set_ready(); })
      .def("_begin",
           [](py::handle self) {
             Contract::Call call = native_part<PyContract>(self).core().begin();
             return std::make_pair(call.begin_ns, call.first);
           })
      .def(
          "_end",
          [](py::handle self, const std::pair<int64_t, bool>& call, bool failed) {
            native_part<PyContract>(self).core().end({call.first, call.second}, failed);
          },
          "call"_a, "failed"_a)
      .def("_guard", checked(&PyContract::guard), "pulse"_a, "duty"_a)
      .def("_close", checked(&PyContract::close))
      .def("_figures", checked(&PyContract::figures));
}

}  // namespace zerolane::bindings
