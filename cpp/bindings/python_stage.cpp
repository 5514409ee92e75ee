// SPDX-License-Identifier: Apache-2.0
#include "bindings/python_stage.h"

#include <pybind11/numpy.h>

#include <atomic>
#include <cstring>
#include <utility>

#include "bindings/arrays.h"
#include "bindings/gil.h"
#include "bindings/strings.h"
#include "bindings/text.h"
#include "core/error.h"

namespace py = pybind11;

namespace zerolane::bindings {
namespace {

using py::detail::npy_api;
using py::detail::PyArray_Proxy;

// A reference that any thread may let go of. What is left when the interpreter goes is not freed:
// there is no GIL to be had any more.
std::shared_ptr<void> shared(py::object object) {
  return {object.release().ptr(), [](void* kept) {
            if (Py_IsInitialized() == 0 || !CallbackGil::enter()) return;
            {
              AcquireGil hold;
              Py_DECREF(static_cast<PyObject*>(kept));
            }
            callbacks.fetch_sub(1);
          }};
}

// Whether the array's memory is its own and nobody but the caller holds it, through views neither.
bool ours_alone(PyObject* array) {
  while (is_ndarray(array) && Py_REFCNT(array) == 1) {
    auto* proxy = reinterpret_cast<PyArray_Proxy*>(array);
    if ((proxy->flags & npy_api::NPY_ARRAY_OWNDATA_) != 0) return true;
    if (proxy->base == nullptr) return false;
    array = proxy->base;
  }
  return false;
}

// What a failure of the function is to callers: an error of ours keeps its code, and an interrupt
// reaches Python once the run has ended.
Code code_of(py::error_already_set& error) {
  if (error.matches(PyExc_KeyboardInterrupt)) {
    PyErr_SetInterrupt();
    return Code::kCancelled;
  }
  if (error.matches(py::module_::import("zerolane.errors").attr("Error"))) {
    const std::string name = utf8(error.value().attr("code"));
    for (int code = 0; code <= static_cast<int>(Code::kInternal); ++code) {
      if (name == code_name(static_cast<Code>(code))) return static_cast<Code>(code);
    }
  }
  if (error.matches(PyExc_MemoryError)) return Code::kOutOfMemory;
  if (error.matches(PyExc_ValueError) || error.matches(PyExc_TypeError)) {
    return Code::kInvalidArgument;
  }
  return Code::kBackend;
}

// The exception's text with the line that raised it.
Error failure_of(py::error_already_set& error) {
  const Code code = code_of(error);
  if (error.trace()) PyException_SetTraceback(error.value().ptr(), error.trace().ptr());
  const std::string what =
      utf8(py::module_::import("zerolane.pipeline.failure").attr("describe")(error.value()));
  return make_error(code, "calling its function", "it raised " + what,
                    "mend the function, or give what it takes");
}

class PythonStage final : public Session {
 public:
  PythonStage(py::object function, std::string name, std::vector<TensorSpec> inputs,
              std::vector<TensorSpec> outputs)
      : function_(shared(std::move(function))),
        name_(std::move(name)),
        inputs_(std::move(inputs)),
        outputs_(std::move(outputs)) {}

  const std::string& name() const override { return name_; }
  const std::vector<TensorSpec>& inputs() const override { return inputs_; }
  size_t required_inputs() const override { return inputs_.size(); }
  const std::vector<TensorSpec>& outputs() const override { return outputs_; }
  const ModelInfo& info() const override { return info_; }
  std::unique_ptr<Context> make_context() override;
  bool calls_python() const override { return true; }
  std::string end_profiling() override { return {}; }
  py::handle function() const { return static_cast<PyObject*>(function_.get()); }

 private:
  std::shared_ptr<void> function_;
  std::string name_;
  std::vector<TensorSpec> inputs_;
  std::vector<TensorSpec> outputs_;
  ModelInfo info_;
};

class PythonStageContext final : public Context {
 public:
  explicit PythonStageContext(std::shared_ptr<PythonStage> stage)
      : stage_(std::move(stage)),
        inputs_(stage_->inputs().size()),
        outputs_(stage_->outputs().size()) {}

  void bind_input(size_t index, const View& view) override { set_input(index, view); }
  void bind_output(size_t index, const View& view) override { set_output(index, view); }
  void set_input(size_t index, const View& view) override {
    inputs_[index].lent = view;
    inputs_[index].value = {};
  }
  void set_input(size_t index, const Value& value) override {
    inputs_[index].lent = {};
    inputs_[index].value = value;
  }
  void clear_input(size_t index) override { set_input(index, Value()); }
  void set_output(size_t index, const View& view) override {
    outputs_[index].wanted = true;
    outputs_[index].given = view;
  }
  void request_output(size_t index) override { set_output(index, {}); }
  void drop_output(size_t index) override { outputs_[index].wanted = false; }
  void run() override;
  Value take_output(size_t index) override { return std::exchange(outputs_[index].made, {}); }
  void cancel() noexcept override { cancelled_.store(true); }
  void rearm() override { cancelled_.store(false); }

 private:
  struct Input {
    View lent;    // memory that is somebody's for this run
    Value value;  // or what may be kept
  };
  struct Output {
    bool wanted = false;
    View given;  // memory for the result, or none
    Value made;
  };

  py::tuple arguments();
  py::object argument(Input& input) const;
  std::vector<py::object> split(py::object result) const;
  Value read(py::object object, const TensorSpec& spec);
  void finish(size_t index, py::object object);

  std::shared_ptr<PythonStage> stage_;
  std::vector<Input> inputs_;
  std::vector<Output> outputs_;
  std::atomic<bool> cancelled_{false};
  LiveCount live_{LiveKind::kContext};
};

py::object PythonStageContext::argument(Input& input) const {
  if (input.lent.dtype == DType::kNone) {
    py::object made = to_python(std::exchange(input.value, {}), py::handle());
    if (is_ndarray(made.ptr())) {
      reinterpret_cast<PyArray_Proxy*>(made.ptr())->flags &= ~npy_api::NPY_ARRAY_WRITEABLE_;
    }
    return made;
  }
  // The function may keep what it is given, and this memory is the caller's again after the run.
  View copy;
  py::object made = new_ndarray(input.lent.dtype, input.lent.shape, &copy);
  if (copy.bytes() > 0) std::memcpy(copy.data, input.lent.data, copy.bytes());
  reinterpret_cast<PyArray_Proxy*>(made.ptr())->flags &= ~npy_api::NPY_ARRAY_WRITEABLE_;
  return made;
}

py::tuple PythonStageContext::arguments() {
  py::tuple made(inputs_.size());
  for (size_t i = 0; i < inputs_.size(); ++i) made[i] = argument(inputs_[i]);
  return made;
}

// One object an output. The container is let go of, so that its items are nobody else's.
std::vector<py::object> PythonStageContext::split(py::object result) const {
  const auto& specs = stage_->outputs();
  const auto refuse = [&](const std::string& found) {
    std::string names;
    for (const auto& spec : specs) names += (names.empty() ? "'" : ", '") + spec.name + "'";
    throw make_error(
        Code::kInvalidArgument, "reading what its function returned", found,
        "return a tuple in the order of the outputs " + names + ", or a dict of those names",
        stage_->name());
  };
  std::vector<py::object> items;
  if (py::isinstance<py::dict>(result)) {
    const auto dict = py::reinterpret_borrow<py::dict>(result);
    for (const auto& spec : specs) {
      const py::str name = text(spec.name);
      if (!dict.contains(name)) refuse("the dict has no '" + spec.name + "'");
      items.push_back(dict[name]);
    }
    return items;
  }
  const bool several =
      py::isinstance<py::tuple>(result) || (specs.size() != 1 && py::isinstance<py::list>(result));
  if (!several) {
    if (specs.size() != 1) {
      refuse("it is one " + std::string(Py_TYPE(result.ptr())->tp_name) + ", expected " +
             std::to_string(specs.size()) + " results");
    }
    items.push_back(std::move(result));
    return items;
  }
  if (py::len(result) != specs.size()) {
    refuse("it is " + std::to_string(py::len(result)) + " results, expected " +
           std::to_string(specs.size()));
  }
  for (py::handle item : result) items.push_back(py::reinterpret_borrow<py::object>(item));
  return items;
}

Value PythonStageContext::read(py::object object, const TensorSpec& spec) {
  if (object.is_none()) return {};
  const Subject subject{spec.name, "output '" + spec.name + "'"};
  std::vector<py::object> owners;
  if (is_value_spec(spec)) return read_value(object, spec, subject, &owners);
  if (!is_ndarray(object.ptr()) && spec.dtype == DType::kNone &&
      !py::hasattr(object, "__dlpack__")) {
    object = py::module_::import("numpy").attr("asarray")(object);
  }
  if (spec.dtype == DType::kNone && is_ndarray(object.ptr())) {
    const std::string kind = utf8(object.attr("dtype").attr("kind"));
    if (kind == "U" || kind == "O" || kind == "S") return read_strings(object, subject);
  }
  View view;
  if (!read_ndarray(object.ptr(), false, &view)) {
    Lent lent = lend(object, spec, true, false, nullptr, subject);
    view = lent.view;
    object = std::move(lent.owner);
  }
  if (spec.dtype != DType::kNone) {
    check_tensor(spec, view.dtype, view.shape, "output", stage_->name());
  }
  if (view.shape.count() == 0) return Tensor::make_host(view.dtype, view.shape);
  if (ours_alone(object.ptr())) {
    return Tensor(std::make_shared<Storage>(view.data, DeviceId{}, shared(std::move(object))),
                  view.dtype, view.shape);
  }
  Tensor copy = Tensor::make_host(view.dtype, view.shape);
  std::memcpy(copy.data(), view.data, view.bytes());
  return copy;
}

void PythonStageContext::finish(size_t index, py::object object) {
  Output& output = outputs_[index];
  if (!output.wanted) return;
  const TensorSpec& spec = stage_->outputs()[index];
  Value made = read(std::move(object), spec);
  if (output.given.dtype == DType::kNone) {
    output.made = std::move(made);
    return;
  }
  const auto* tensor = std::get_if<Tensor>(&made);
  if (tensor == nullptr || tensor->dtype() != output.given.dtype ||
      !(tensor->shape() == output.given.shape)) {
    throw make_error(Code::kShapeMismatch, "writing output '" + spec.name + "'",
                     "its memory has shape " + output.given.shape.text() + ", the result " +
                         (tensor != nullptr ? tensor->shape().text() : "is no tensor"),
                     "give memory of the result's shape", spec.name);
  }
  if (tensor->bytes() > 0) std::memcpy(output.given.data, tensor->data(), tensor->bytes());
}

void PythonStageContext::run() {
  if (cancelled_.exchange(false)) {
    throw make_error(Code::kCancelled, "running stage '" + stage_->name() + "'",
                     "the run was cancelled", "run it again if the result is still wanted",
                     stage_->name());
  }
  CallbackGil hold;
  try {
    // Held until the results are read, so that a result which is a view of an argument is seen to
    // be one.
    const py::tuple given = arguments();
    auto result = py::reinterpret_steal<py::object>(
        PyObject_Call(stage_->function().ptr(), given.ptr(), nullptr));
    if (!result) throw py::error_already_set();
    std::vector<py::object> items = split(std::move(result));
    for (size_t i = 0; i < items.size(); ++i) finish(i, std::move(items[i]));
  } catch (py::error_already_set& error) {
    throw failure_of(error);
  }
}

std::unique_ptr<Context> PythonStage::make_context() {
  return std::make_unique<PythonStageContext>(
      std::static_pointer_cast<PythonStage>(shared_from_this()));
}

}  // namespace

std::shared_ptr<Session> make_python_stage(py::object function, std::string name,
                                           std::vector<TensorSpec> inputs,
                                           std::vector<TensorSpec> outputs) {
  return std::make_shared<PythonStage>(std::move(function), std::move(name), std::move(inputs),
                                       std::move(outputs));
}

}  // namespace zerolane::bindings
