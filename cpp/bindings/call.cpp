// SPDX-License-Identifier: Apache-2.0
#include "bindings/call.h"

#include <algorithm>
#include <cmath>

#include "bindings/device.h"
#include "bindings/interrupt.h"
#include "bindings/logging.h"
#include "bindings/text.h"
#include "core/error.h"
#include "core/fork.h"
#include "core/trace.h"

namespace py = pybind11;

namespace zerolane::bindings {

int64_t deadline_from(const py::object& deadline_ms) {
  if (deadline_ms.is_none()) return Watchdog::Guard::kNever;
  double ms = PyFloat_AsDouble(deadline_ms.ptr());
  if (PyErr_Occurred() != nullptr) {
    PyErr_Clear();
    ms = 0;  // no number, or one too large for a double
  }
  if (!(ms > 0)) {
    throw make_error(Code::kInvalidArgument, "reading deadline_ms",
                     "it is " + utf8(py::repr(deadline_ms)),
                     "give milliseconds above zero, or None for no deadline", "deadline_ms");
  }
  return ms > 1e12 ? Watchdog::Guard::kNever : now_ns() + static_cast<int64_t>(ms * 1e6);
}

namespace {

[[noreturn]] void throw_deadline(const Session& session) {
  throw make_error(Code::kDeadlineExceeded, "running " + session.name(),
                   "the deadline passed before the run was done",
                   "give more time or make the model faster; the session stays usable",
                   session.name());
}

// One run with a watchdog on it. Returns what ended it early, if anything did.
Watchdog::Fired run_watched(Session& session, Context& context, int64_t deadline_ns,
                            bool interruptible) {
  if (deadline_ns <= now_ns()) throw_deadline(session);  // it may have waited in a queue
  Watchdog::Guard guard(context, deadline_ns, interruptible);
  try {
    context.run();
  } catch (const Error& error) {
    Watchdog::Fired fired = guard.fired();
    if (error.code() != Code::kCancelled || fired == Watchdog::Fired::kNo) throw;
    if (fired == Watchdog::Fired::kDeadline) throw_deadline(session);
    return fired;
  }
  return Watchdog::Fired::kNo;
}

}  // namespace

void run_context(Session& session, Context& context, GilPolicy& gil, int64_t deadline_ns) {
  bool hold = gil.hold();
  if (hold && deadline_ns == Watchdog::Guard::kNever) [[likely]] {
    if (!gil.timed()) [[likely]] {
      context.run();
      return;
    }
    int64_t begin = now_ns();
    context.run();
    int64_t taken = now_ns() - begin;
    gil.note(taken);
    session.latency.record(taken);
    return;
  }
  // Whether it ends well or not, a watchdog's cancel must not reach the next run.
  struct Rearm {
    Context& context;
    ~Rearm() {
      try {
        context.rearm();
      } catch (const Error&) {  // the library would have to lose its own options object
      }
    }
  } rearm{context};
  for (;;) {
    Watchdog::Fired fired = Watchdog::Fired::kNo;
    int64_t taken = 0;  // by the run alone: not by waiting for the GIL afterwards
    auto run = [&](bool interruptible) {
      int64_t begin = now_ns();
      if (interruptible || deadline_ns != Watchdog::Guard::kNever) {
        fired = run_watched(session, context, deadline_ns, interruptible);
      } else {
        context.run();
      }
      taken = now_ns() - begin;
    };
    if (hold) {
      run(false);
    } else {
      InterruptScope interrupt;
      ReleaseGil release;
      run(interrupt.active());
    }
    if (fired == Watchdog::Fired::kNo) {
      gil.note(taken);
      session.latency.record(taken);
      return;
    }
    // Interrupted: Python's handler decides. If it raises nothing, the run is done again, as system
    // calls are.
    if (PyErr_CheckSignals() != 0) throw py::error_already_set();
    context.rearm();
  }
}

CallFrame::CallFrame(std::shared_ptr<Session> session)
    : session_(std::move(session)),
      context_(session_->make_context()),
      stream_(context_->stream()) {
  input_shapes_.resize(session_->inputs().size());
  input_seen_.resize(session_->inputs().size());
  results_.resize(session_->outputs().size());
  tensors_.resize(session_->outputs().size());
  plan_.resize(session_->outputs().size());
}

void CallFrame::prepare(const CallOptions& options) {
  deadline_ns_ = options.deadline_ns;
  context_->rearm();
  prepare_inputs(options.copy);
  prepare_outputs(options);
}

void CallFrame::hold_inputs() {
  for (PyObject* input : inputs) {
    if (input != nullptr) owners_.push_back(py::reinterpret_borrow<py::object>(input));
  }
}

Subject CallFrame::subject_of(const TensorSpec& spec, const char* role) const {
  return {spec.name, std::string(role) + " '" + spec.name + "' of " + session_->name()};
}

void CallFrame::prepare_inputs(bool copy) {
  const auto& specs = session_->inputs();
  bool changed = predicted_.empty();
  bool first = true;
  for (size_t i = 0; i < specs.size(); ++i) {
    const TensorSpec& spec = specs[i];
    PyObject* object = inputs[i];
    if (object == nullptr) {
      if (i < session_->required_inputs() && !spec.optional) {
        throw make_error(
            Code::kInvalidArgument, "calling " + session_->name(),
            "input '" + spec.name + "' (" + spec.type + " " + spec.shape_text() + ") was not given",
            "give every input", spec.name);
      }
      context_->clear_input(i);
      changed |= input_seen_[i];
      input_seen_[i] = false;
      continue;
    }
    if (is_value_spec(spec)) {
      Value value = read_value(object, spec, subject_of(spec, "input"), &owners_);
      if (auto* strings = std::get_if<Strings>(&value)) {
        check_tensor(spec, DType::kString, strings->shape, "input", session_->name());
        changed |= !input_seen_[i] || !(input_shapes_[i] == strings->shape);
        input_shapes_[i] = strings->shape;
        input_seen_[i] = true;
      }
      context_->set_input(i, value);
      continue;
    }
    Lent lent;
    if (!read_ndarray(object, false, &lent.view)) {
      lent = lend(object, spec, copy, false, stream_, subject_of(spec, "input"));
      owners_.push_back(lent.owner);
    }
    if (first) {
      like_ = array_maker(object);
      on_device_ = lent.view.device.kind != DeviceKind::kHost;
      first = false;
    }
    const View& view = lent.view;
    if (!input_seen_[i] || view.dtype != spec.dtype || !(view.shape == input_shapes_[i])) {
      check_tensor(spec, view.dtype, view.shape, "input", session_->name());
      input_shapes_[i] = view.shape;
      input_seen_[i] = true;
      changed = true;
    }
    context_->set_input(i, view);
  }
  if (!changed) return;
  std::vector<const Shape*> shapes;
  for (size_t i = 0; i < specs.size(); ++i) {
    shapes.push_back(input_seen_[i] ? &input_shapes_[i] : nullptr);
  }
  predicted_ = predict_outputs(*session_, shapes);
}

void CallFrame::prepare_output(size_t index) {
  const PredictedShape& predicted = predicted_[index];
  if (!predicted.known || !session_->predictable(index)) {
    plan_[index] = Plan::kRequested;
    request_output(index);
    return;
  }
  View view;
  DType dtype = session_->outputs()[index].dtype;
  if (on_device_) {
    tensors_[index] = make_device_tensor(dtype, predicted.shape, *stream_);
    view = tensors_[index].view();
  } else if (like_) {
    tensors_[index] = Tensor::make_host(dtype, predicted.shape);
    view = tensors_[index].view();
  } else {
    results_[index] = new_ndarray(dtype, predicted.shape, &view);
  }
  plan_[index] = Plan::kPredicted;
  context_->set_output(index, view);
}

void CallFrame::request_output(size_t index) {
  if (on_device_ && !is_value_spec(session_->outputs()[index])) {
    context_->request_output_on(index, stream_->device_id());
  } else {
    context_->request_output(index);
  }
}

size_t CallFrame::output_index(py::handle name) const {
  const auto& specs = session_->outputs();
  std::string given = utf8(name);
  std::string names;
  for (size_t i = 0; i < specs.size(); ++i) {
    if (specs[i].name == given) return i;
    names += (i > 0 ? ", '" : "'") + specs[i].name + "'";
  }
  throw make_error(Code::kInvalidArgument, "calling " + session_->name(),
                   "there is no output '" + given + "', the outputs are " + names, "check the name",
                   given);
}

void CallFrame::prepare_outputs(const CallOptions& options) {
  const auto& specs = session_->outputs();
  if (!options.out && !options.only) [[likely]] {
    for (size_t i = 0; i < specs.size(); ++i) prepare_output(i);
    return;
  }
  std::vector<bool> wanted(specs.size(), !options.only);
  if (options.only) {
    for (py::handle name : options.only) wanted[output_index(name)] = true;
    if (std::find(wanted.begin(), wanted.end(), true) == wanted.end()) {
      throw make_error(Code::kInvalidArgument, "calling " + session_->name(),
                       "outputs= names no output", "name at least one, or leave it out", "outputs");
    }
  }
  std::vector<py::handle> given(specs.size());
  if (options.out) {
    for (auto item : py::reinterpret_borrow<py::dict>(options.out)) {
      size_t index = output_index(item.first);
      wanted[index] = true;
      given[index] = item.second;
    }
  }
  for (size_t i = 0; i < specs.size(); ++i) {
    if (!wanted[i]) {
      plan_[i] = Plan::kSkip;
      context_->drop_output(i);
      continue;
    }
    if (!given[i]) {
      prepare_output(i);
      continue;
    }
    const Subject subject = subject_of(specs[i], "output");
    if (is_value_spec(specs[i])) {
      throw make_error(Code::kUnsupported, "binding " + subject.text,
                       "out= was given, but the output is a " + specs[i].type,
                       "leave it out of out=", specs[i].name);
    }
    Lent lent = lend(given[i], specs[i], false, true, stream_, subject);
    check_tensor(specs[i], lent.view.dtype, lent.view.shape, "output", session_->name());
    owners_.push_back(lent.owner);
    results_[i] = py::reinterpret_borrow<py::object>(given[i]);
    plan_[i] = Plan::kGiven;
    context_->set_output(i, lent.view);
  }
}

template <typename Run>
void CallFrame::run_or_retry(Run run) {
  try {
    run();
    return;
  } catch (const Error& error) {
    bool predicted = std::find(plan_.begin(), plan_.end(), Plan::kPredicted) != plan_.end();
    if (!predicted || error.code() != Code::kShapeMismatch) throw;
  }
  // An output was declared wrongly, or its size depends on data: once more with memory from the
  // backend. No Python object is touched here, as there may be no GIL; finish() looks at the
  // results.
  for (size_t i = 0; i < plan_.size(); ++i) {
    if (plan_[i] != Plan::kPredicted) continue;
    plan_[i] = Plan::kRepaired;
    request_output(i);
  }
  run();
}

void CallFrame::execute(GilPolicy& gil) {
  counted(*session_,
          [&] { run_or_retry([&] { run_context(*session_, *context_, gil, deadline_ns_); }); });
}

void CallFrame::execute_on_worker() {
  counted(*session_, [&] {
    run_or_retry([&] {
      int64_t begin = now_ns();
      if (deadline_ns_ == Watchdog::Guard::kNever) {
        context_->run();
      } else {
        run_watched(*session_, *context_, deadline_ns_, false);
      }
      session_->latency.record(now_ns() - begin);
    });
  });
}

void CallFrame::learn(size_t index, const Value& value) {
  const auto* tensor = std::get_if<Tensor>(&value);
  if (tensor == nullptr || is_value_spec(session_->outputs()[index])) return;
  PredictedShape& predicted = predicted_[index];
  if (plan_[index] == Plan::kRepaired && !(predicted.shape == tensor->shape())) {
    session_->distrust(index);
  }
  // Usually the input shapes decide the output's, so the next call with the same ones can have its
  // memory ready. An empty result more often comes from data.
  predicted.known = is_plain(tensor->dtype()) && tensor->shape().count() > 0;
  predicted.shape = tensor->shape();
}

std::vector<py::object>& CallFrame::finish() {
  for (size_t i = 0; i < results_.size(); ++i) {
    if (plan_[i] == Plan::kRequested || plan_[i] == Plan::kRepaired) {
      Value value = context_->take_output(i);
      learn(i, value);
      results_[i] = to_python(std::move(value), like_);
    } else if (plan_[i] == Plan::kPredicted && tensors_[i].storage()) {
      results_[i] = to_python(std::move(tensors_[i]), like_);
    }
  }
  return results_;
}

void CallFrame::detach(bool ran, Outcome* outcome) {
  for (size_t i = 0; ran && i < results_.size(); ++i) {
    if (plan_[i] == Plan::kRequested || plan_[i] == Plan::kRepaired) {
      outcome->values[i] = context_->take_output(i);
      learn(i, *outcome->values[i]);
    } else if (plan_[i] == Plan::kPredicted && tensors_[i].storage()) {
      outcome->values[i] = std::move(tensors_[i]);
    }
  }
  for (auto& tensor : tensors_) tensor = Tensor();
  results_.swap(outcome->arrays);
  owners_.swap(outcome->owners);
  std::swap(like_, outcome->like);
  on_device_ = false;
}

void Outcome::prepare(size_t outputs) {
  values.resize(outputs);
  arrays.resize(outputs);
}

std::vector<py::object>& Outcome::finish() {
  for (size_t i = 0; i < values.size(); ++i) {
    if (!values[i]) continue;
    arrays[i] = to_python(std::move(*values[i]), like);
    values[i].reset();
  }
  return arrays;
}

void Outcome::clear() noexcept {
  owners.clear();
  for (auto& value : values) value.reset();
  for (auto& array : arrays) array = py::object();
  like = py::object();
}

void CallFrame::clear() noexcept {
  owners_.clear();
  for (auto& result : results_) result = py::object();
  for (auto& tensor : tensors_) tensor = Tensor();
  like_ = py::object();
  on_device_ = false;
}

std::unique_ptr<CallFrame> FramePool::take() {
  {
    std::lock_guard lock(mutex_);
    if (!idle_.empty()) {
      auto frame = std::move(idle_.back());
      idle_.pop_back();
      return frame;
    }
  }
  return std::make_unique<CallFrame>(session_);
}

void FramePool::give_back(std::unique_ptr<CallFrame> frame) noexcept {
  std::lock_guard lock(mutex_);
  // More idle frames than workers would only hold memory after a burst.
  if (idle_.size() < 16) idle_.push_back(std::move(frame));
}

}  // namespace zerolane::bindings
