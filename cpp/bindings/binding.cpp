// SPDX-License-Identifier: Apache-2.0
#include "bindings/binding.h"

#include <pybind11/stl.h>

#include <algorithm>
#include <cstring>

#include "bindings/device.h"
#include "bindings/errors.h"
#include "bindings/logging.h"
#include "bindings/tensor.h"
#include "bindings/text.h"

namespace py = pybind11;

namespace zerolane::bindings {
namespace {

py::object read_only(const py::dict& dict) {
  return py::reinterpret_steal<py::object>(PyDictProxy_New(dict.ptr()));
}

bool is_shape(py::handle given) {
  if (py::isinstance<py::int_>(given)) return true;
  if (!py::isinstance<py::tuple>(given) && !py::isinstance<py::list>(given)) return false;
  return std::all_of(given.begin(), given.end(),
                     [](py::handle item) { return PyIndex_Check(item.ptr()) != 0; });
}

Shape read_shape(py::handle given, const Subject& subject) {
  std::vector<int64_t> dims;
  auto add = [&](py::handle item) {
    int overflow = 0;
    auto index = py::reinterpret_steal<py::object>(PyNumber_Index(item.ptr()));
    if (!index) throw py::error_already_set();
    int64_t dim = PyLong_AsLongLongAndOverflow(index.ptr(), &overflow);
    if (overflow != 0 || dim < 0) {
      throw make_error(Code::kInvalidArgument, "reading the shape of " + subject.text,
                       utf8(py::repr(given)) + " has a size that is negative or above 2^63",
                       "give the sizes of a tensor that fits in memory", subject.name);
    }
    dims.push_back(dim);
  };
  if (py::isinstance<py::int_>(given)) {
    add(given);
  } else {
    for (py::handle item : given) add(item);
  }
  return Shape(dims);
}

void check_names(const py::dict& given, const std::vector<TensorSpec>& specs, const char* role,
                 const std::string& model) {
  for (auto item : given) {
    auto name = utf8(item.first);
    auto same = [&](const TensorSpec& spec) { return spec.name == name; };
    if (std::any_of(specs.begin(), specs.end(), same)) continue;
    std::string names;
    for (const auto& spec : specs) names += (names.empty() ? "'" : ", '") + spec.name + "'";
    throw make_error(Code::kInvalidArgument, "binding " + model,
                     std::string("there is no ") + role + " '" + name + "', they are " + names,
                     "check the name", name);
  }
}

}  // namespace

PyBinding::PyBinding(py::object owner, const py::dict& inputs, const py::dict& out,
                     GilPolicy::Mode gil)
    : owner_(std::move(owner)),
      session_(owner_.cast<PySession&>().session()),
      context_(session_->make_context()),
      stream_(context_->stream()),
      gil_(gil) {
  check_names(inputs, session_->inputs(), "input", session_->name());
  check_names(out, session_->outputs(), "output", session_->name());
  bind_inputs(inputs);
  bind_outputs(out);
  inputs_view_ = read_only(inputs_);
  outputs_view_ = read_only(outputs_);
}

py::object PyBinding::bind_memory(const TensorSpec& spec, py::handle given, bool input,
                                  View* view) {
  const char* role = input ? "input" : "output";
  const Subject subject{spec.name,
                        std::string(role) + " '" + spec.name + "' of " + session_->name()};
  if (is_value_spec(spec)) {
    throw make_error(Code::kUnsupported, "binding " + subject.text,
                     "it is a " + spec.type + ", which has no fixed memory", "use session(...)",
                     spec.name);
  }
  if (input && is_shape(given)) {
    Shape shape = read_shape(given, subject);
    check_tensor(spec, spec.dtype, shape, role, session_->name());
    py::object array = new_host_array(spec.dtype, shape, view);
    std::memset(view->data, 0, view->bytes());  // a run before the first write must not read junk
    return array;
  }
  Lent lent = lend(given, spec, /*copy=*/false, /*writable=*/!input, stream_, subject);
  check_tensor(spec, lent.view.dtype, lent.view.shape, role, session_->name());
  *view = lent.view;
  arrays_.push_back(lent.owner);
  auto array = py::reinterpret_borrow<py::object>(given);
  if (lent.view.device.kind != DeviceKind::kHost) note_device_array(array);
  return array;
}

py::object PyBinding::new_host_array(DType dtype, const Shape& shape, View* view) {
  return stream_ != nullptr ? new_pinned_ndarray(dtype, shape, *stream_, view)
                            : new_ndarray(dtype, shape, view);
}

// A library's current stream is the same for all of its arrays; tensors of ours have users each.
void PyBinding::note_device_array(const py::object& array) {
  bool own = py::isinstance<PyTensor>(array);
  for (const py::object& known : device_arrays_) {
    if (known.is(array) || (!own && py::type::handle_of(known).is(py::type::handle_of(array)))) {
      return;
    }
  }
  device_arrays_.push_back(array);
}

void PyBinding::request_output(size_t index) {
  if (on_device_ && !is_value_spec(session_->outputs()[index])) {
    context_->request_output_on(index, stream_->device_id());
  } else {
    context_->request_output(index);
  }
}

void PyBinding::bind_inputs(const py::dict& given) {
  const auto& specs = session_->inputs();
  for (size_t i = 0; i < specs.size(); ++i) {
    const TensorSpec& spec = specs[i];
    py::str name = text(spec.name);
    View view;
    py::object array;
    if (given.contains(name)) {
      array = bind_memory(spec, given[name], true, &view);
    } else if (i >= session_->required_inputs() || spec.optional) {
      input_shapes_.emplace_back();
      input_views_.emplace_back();
      continue;
    } else if (spec.is_static()) {
      py::list dims;
      for (const Dim& dim : spec.shape) dims.append(dim.value);
      array = bind_memory(spec, dims, true, &view);
    } else {
      throw make_error(Code::kInvalidArgument, "binding " + session_->name(),
                       "input '" + spec.name + "' has dynamic shape " + spec.shape_text(),
                       "give its shape or an array: bind(" + spec.name + "=(...))", spec.name);
    }
    if (inputs_.empty() && view.device.kind != DeviceKind::kHost) {
      on_device_ = true;
      like_ = array_maker(array);
    }
    context_->bind_input(i, view);
    input_shapes_.push_back(view.shape);
    input_views_.push_back(view);
    inputs_[name] = array;
    arrays_.push_back(std::move(array));
  }
}

void PyBinding::bind_outputs(const py::dict& given) {
  const auto& specs = session_->outputs();
  output_views_.resize(specs.size());
  std::vector<const Shape*> shapes;
  for (const Shape& shape : input_shapes_) shapes.push_back(&shape);
  std::vector<PredictedShape> predicted = predict_outputs(*session_, shapes);
  for (size_t i = 0; i < specs.size(); ++i) {
    py::str name = text(specs[i].name);
    if (!given.contains(name)) continue;
    View view;
    py::object array = bind_memory(specs[i], given[name], false, &view);
    context_->bind_output(i, view);
    output_views_[i] = view;
    outputs_[name] = array;
    arrays_.push_back(std::move(array));
  }
  // Memory needs its size: one run with memory from the backend shows it, and warms the model up.
  // Where that run fails (zeros may not suit the model), the declared shape is taken and a real run
  // will tell.
  std::vector<Value> shown(specs.size());
  for (size_t i = 0; i < specs.size(); ++i) {
    if (!outputs_.contains(text(specs[i].name))) request_output(i);
  }
  try {
    run_context(*session_, *context_, gil_, Watchdog::Guard::kNever);
    for (size_t i = 0; i < specs.size(); ++i) shown[i] = context_->take_output(i);
  } catch (const Error&) {
  }
  for (size_t i = 0; i < specs.size(); ++i) {
    if (outputs_.contains(text(specs[i].name))) continue;
    const auto* tensor = std::get_if<Tensor>(&shown[i]);
    const Shape* shape = nullptr;
    if (tensor != nullptr && tensor->shape().count() > 0) shape = &tensor->shape();
    if (shape == nullptr && predicted[i].known) shape = &predicted[i].shape;
    if (shape != nullptr && session_->predictable(i) && !is_value_spec(specs[i]) &&
        is_plain(specs[i].dtype)) {
      bind_own_output(i, *shape);
    } else {
      dynamic_outputs_.push_back(i);
      outputs_[text(specs[i].name)] = py::none();
    }
  }
}

void PyBinding::bind_own_output(size_t index, const Shape& shape) {
  const TensorSpec& spec = session_->outputs()[index];
  View view;
  py::object array;
  if (on_device_) {
    Tensor tensor = make_device_tensor(spec.dtype, shape, *stream_);
    view = tensor.view();
    cuda_stream(*stream_).fill_async(view.data, 0, view.bytes());
    stream_->synchronize();  // whoever reads it has another stream
    array = to_python(std::move(tensor), like_);
    note_device_array(array);
  } else {
    array = new_host_array(spec.dtype, shape, &view);
    std::memset(view.data, 0, view.bytes());
  }
  context_->bind_output(index, view);
  output_views_[index] = view;
  outputs_[text(spec.name)] = array;
  arrays_.push_back(std::move(array));
  own_outputs_.push_back({index, shape});
}

void PyBinding::release_own_outputs() {
  for (const OwnOutput& own : own_outputs_) {
    session_->distrust(own.index);
    output_views_[own.index] = View();
    dynamic_outputs_.push_back(own.index);
  }
  own_outputs_.clear();
}

void PyBinding::begin() {
  if (forked_since(generation_)) [[unlikely]]
    throw_forked("model " + session_->name());
  if (busy_.exchange(true, std::memory_order_acquire)) [[unlikely]] {
    throw make_error(Code::kInvalidArgument, "calling a binding of " + session_->name(),
                     "another thread or a loop runs it", "make one binding for each",
                     session_->name());
  }
}

Context& PyBinding::lend_context() {
  begin();
  return *context_;
}

void PyBinding::run(int64_t deadline_ns) {
  begin();
  struct Idle {
    std::atomic<bool>& busy;
    ~Idle() { busy.store(false, std::memory_order_release); }
  } idle{busy_};
  counted(*session_, [&] {
    try {
      run_once(deadline_ns);
    } catch (const Error& error) {
      // The size of an output depends on data after all: from now on each run makes it anew.
      if (error.code() != Code::kShapeMismatch || own_outputs_.empty()) throw;
      release_own_outputs();
      run_once(deadline_ns);
    }
  });
}

void PyBinding::run_once(int64_t deadline_ns) {
  for (size_t index : dynamic_outputs_) request_output(index);
  for (const py::object& array : device_arrays_) {
    order_after(array, *stream_, {"", "the arrays bound to " + session_->name()});
  }
  run_context(*session_, *context_, gil_, deadline_ns);
  for (size_t index : dynamic_outputs_) {
    outputs_[text(session_->outputs()[index].name)] =
        to_python(context_->take_output(index), like_);
  }
}

std::unique_ptr<PyBinding> make_binding(py::object session, const py::dict& inputs,
                                        const py::object& out, const py::object& gil) {
  auto& native = session.cast<PySession&>();
  native.check_fork();
  const bool fixed = gil.is_none() || native.session()->calls_python();
  GilPolicy::Mode mode = fixed ? native.gil_mode() : parse_gil_mode(utf8(gil));
  return std::make_unique<PyBinding>(
      session, inputs, out.is_none() ? py::dict() : py::reinterpret_borrow<py::dict>(out), mode);
}

namespace {

PyObject* call_slot(PyObject* self, PyObject* args, PyObject* kwargs) {
  auto* instance = reinterpret_cast<py::detail::instance*>(self);
  auto* binding = static_cast<PyBinding*>(instance->simple_value_holder[0]);
  PyObject* result = slot([&]() -> PyObject* {
    if (PyTuple_GET_SIZE(args) != 0 || (kwargs != nullptr && PyDict_GET_SIZE(kwargs) != 0))
        [[unlikely]] {
      throw make_error(Code::kInvalidArgument, "calling a binding", "arguments were given",
                       "write into its inputs, then call it without arguments");
    }
    binding->run(Watchdog::Guard::kNever);
    return py::object(binding->outputs()).release().ptr();
  });
  if (result == nullptr) drain_log();
  return result;
}

}  // namespace

void bind_binding(py::module_& module) {
  using namespace py::literals;
  auto setup = py::custom_type_setup([](PyHeapTypeObject* type) {
    type->ht_type.tp_call = call_slot;
    type->ht_type.tp_new = refuse_new;
  });
  py::class_<PyBinding>(
      module, "Binding", setup,
      "A context with fixed input and output memory: write into inputs, call, read "
      "outputs. One thread at a time.")
      .def_property_readonly("inputs", &PyBinding::inputs,
                             "Read-only dict of name to array; write into the arrays.")
      .def_property_readonly(
          "outputs", &PyBinding::outputs,
          "Read-only dict of name to array, always the same memory; an output whose "
          "size depends on data is a new array after each run (None before).")
      .def_property_readonly("session", &PyBinding::owner, "What it is a binding of.")
      .def_property_readonly(
          "gil", [](const PyBinding& self) { return self.gil().name(); },
          "What the next run does with the GIL: \"hold\" or \"release\".")
      .def(
          "run",
          [](PyBinding& self, const py::object& deadline_ms) {
            self.run(deadline_from(deadline_ms));
            return self.outputs();
          },
          py::kw_only(), "deadline_ms"_a = py::none(),
          "Like calling it, with a deadline in milliseconds from now.")
      .def("cancel", &PyBinding::cancel, "Ends a run in progress; any thread.");
}

}  // namespace zerolane::bindings
