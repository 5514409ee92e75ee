// SPDX-License-Identifier: Apache-2.0
#include "bindings/session.h"

#include <pybind11/stl.h>

#include "bindings/binding.h"
#include "bindings/errors.h"
#include "bindings/future.h"
#include "bindings/load.h"
#include "bindings/logging.h"
#include "bindings/native_part.h"
#include "bindings/pipeline.h"
#include "bindings/text.h"
#include "bindings/trt.h"

namespace py = pybind11;

namespace zerolane::bindings {
namespace {

py::object interned(const std::string& name) {
  PyObject* object = text(name).release().ptr();
  PyUnicode_InternInPlace(&object);
  return py::reinterpret_steal<py::object>(object);
}

}  // namespace

PySession::PySession(std::shared_ptr<Session> session, GilPolicy::Mode gil, bool copy,
                     py::object make_result_type)
    : session_(std::move(session)),
      gil_mode_(session_->calls_python() ? GilPolicy::Mode::kRelease : gil),
      gil_(gil_mode_),
      copy_(copy),
      make_result_type_(std::move(make_result_type)),
      frames_(session_) {
  session_->publish_metrics();
  for (const auto& spec : session_->inputs()) input_names_.push_back(interned(spec.name));
  for (const auto& spec : session_->outputs()) output_names_.push_back(interned(spec.name));
}

void PySession::sort_inputs(PyObject* const* positional, size_t count, PyObject* named,
                            std::vector<PyObject*>* sorted) const {
  const auto& specs = session_->inputs();
  sorted->assign(specs.size(), nullptr);
  auto names = [&] {
    std::string list;
    for (const auto& spec : specs) list += (list.empty() ? "'" : ", '") + spec.name + "'";
    return list.empty() ? std::string("none") : list;
  };
  const std::string& model = session_->name();
  if (count > specs.size()) {
    throw make_error(Code::kInvalidArgument, "calling " + model,
                     std::to_string(count) + " inputs were given, the model has " +
                         std::to_string(specs.size()) + ": " + names(),
                     "give one array an input");
  }
  for (size_t i = 0; i < count; ++i) (*sorted)[i] = positional[i];
  if (named == nullptr) return;
  PyObject* key = nullptr;
  PyObject* value = nullptr;
  Py_ssize_t position = 0;
  while (PyDict_Next(named, &position, &key, &value) != 0) {
    size_t index = 0;
    while (index < specs.size() && input_names_[index].ptr() != key) ++index;
    if (index == specs.size()) {  // not the interned string: compare the text
      std::string given = utf8(py::handle(key));
      for (index = 0; index < specs.size() && specs[index].name != given;) ++index;
      if (index == specs.size()) {
        throw make_error(Code::kInvalidArgument, "calling " + model,
                         "there is no input '" + given + "', the inputs are " + names(),
                         "check the name", given);
      }
    }
    if ((*sorted)[index] != nullptr) {
      throw make_error(Code::kInvalidArgument, "calling " + model,
                       "input '" + specs[index].name + "' was given twice", "give it once",
                       specs[index].name);
    }
    // None leaves an input out.
    if (value != Py_None) (*sorted)[index] = value;
  }
}

py::object PySession::as_dict(std::vector<py::object>& results) const {
  py::dict dict;
  for (size_t i = 0; i < results.size(); ++i) {
    if (results[i]) dict[output_names_[i]] = std::move(results[i]);
  }
  return dict;
}

py::object PySession::as_arrays(std::vector<py::object>& results) {
  if (results.size() == 1) return std::move(results[0]);
  if (!result_type_) {  // made when first needed: it would be a good part of loading a small model
    py::list names;
    for (const auto& name : output_names_) names.append(name);
    result_type_ = make_result_type_(names);
  }
  // A named tuple is a tuple with a type of its own; its fields are filled directly.
  auto* type = reinterpret_cast<PyTypeObject*>(result_type_.ptr());
  PyObject* tuple = type->tp_alloc(type, static_cast<Py_ssize_t>(results.size()));
  if (tuple == nullptr) throw py::error_already_set();
  for (size_t i = 0; i < results.size(); ++i) {
    PyTuple_SET_ITEM(tuple, static_cast<Py_ssize_t>(i), results[i].release().ptr());
  }
  return py::reinterpret_steal<py::object>(tuple);
}

bool PySession::is_dict_form(PyObject* args, PyObject* kwargs) const {
  if (PyTuple_GET_SIZE(args) != 1) return false;
  if (kwargs != nullptr && PyDict_GET_SIZE(kwargs) != 0) return false;  // f(*args, **{}) gives one
  // The only input of a model may itself be a map.
  const auto& specs = session_->inputs();
  return PyDict_Check(PyTuple_GET_ITEM(args, 0)) &&
         !(specs.size() == 1 && specs[0].kind == ValueKind::kMap);
}

py::object PySession::call(PyObject* args, PyObject* kwargs) {
  check_fork();
  auto count = static_cast<size_t>(PyTuple_GET_SIZE(args));
  bool dict = is_dict_form(args, kwargs);
  CallOptions options;
  options.copy = copy_;
  BorrowedFrame frame(frames_);
  if (dict) {
    sort_inputs(nullptr, 0, PyTuple_GET_ITEM(args, 0), &frame->inputs);
  } else {
    sort_inputs(&PyTuple_GET_ITEM(args, 0), count, kwargs, &frame->inputs);
  }
  frame->prepare(options);
  frame->execute(gil_);
  std::vector<py::object>& results = frame->finish();
  return dict ? as_dict(results) : as_arrays(results);
}

py::object PySession::run(const py::dict& inputs, const CallOptions& options) {
  check_fork();
  BorrowedFrame frame(frames_);
  sort_inputs(nullptr, 0, inputs.ptr(), &frame->inputs);
  frame->prepare(options);
  frame->execute(gil_);
  return as_dict(frame->finish());
}

namespace {

// The slot behind session(...): pybind11's own call machinery would cost more than a small model.
PyObject* call_slot(PyObject* self, PyObject* args, PyObject* kwargs) {
  PyObject* result =
      slot([&] { return native_part<PySession>(self).call(args, kwargs).release().ptr(); });
  if (result == nullptr) drain_log();
  return result;
}

CallOptions make_options(const PySession& self, const py::object& deadline_ms,
                         const py::object& out, const py::object& outputs) {
  CallOptions options;
  options.copy = self.copy();
  options.deadline_ns = deadline_from(deadline_ms);
  if (!out.is_none()) {
    if (!py::isinstance<py::dict>(out)) {
      throw make_error(Code::kInvalidArgument,
                       "reading out=", "it is a " + std::string(Py_TYPE(out.ptr())->tp_name),
                       "give a dict of output name to array", "out");
    }
    options.out = out;
  }
  if (!outputs.is_none()) options.only = outputs;
  return options;
}

py::tuple describe(const std::vector<TensorSpec>& specs, size_t begin, size_t end) {
  py::tuple rows(end - begin);
  static const char* const kKinds[] = {"tensor", "sequence", "map", "sparse", "opaque"};
  for (size_t i = begin; i < end; ++i) {
    const TensorSpec& spec = specs[i];
    py::object shape = py::none();
    if (spec.has_shape) {
      py::tuple dims(spec.shape.size());
      for (size_t d = 0; d < spec.shape.size(); ++d) {
        const Dim& dim = spec.shape[d];
        dims[d] = dim.value >= 0       ? py::object(py::int_(dim.value))
                  : dim.symbol.empty() ? py::object(py::none())
                                       : py::object(text(dim.symbol));
      }
      shape = std::move(dims);
    }
    rows[i - begin] = py::make_tuple(text(spec.name), std::string(dtype_name(spec.dtype)), shape,
                                     spec.type, kKinds[static_cast<size_t>(spec.kind)]);
  }
  return rows;
}

py::dict metadata_of(const PySession& self) {
  const ModelInfo& info = self.session()->info();
  py::dict custom;
  for (const auto& [key, value] : info.metadata) custom[text(key)] = text(value);
  py::dict out;
  out["producer"] = text(info.producer);
  out["graph_name"] = text(info.graph_name);
  out["domain"] = text(info.domain);
  out["description"] = text(info.description);
  out["version"] = info.version;
  out["custom"] = custom;
  return out;
}

py::dict latency_of(const PySession& self) {
  const LatencyHistogram& latency = self.session()->latency;
  py::dict out;
  out["timed_runs"] = latency.count();
  out["gil"] = self.gil().name();
  for (auto [name, fraction] : {std::pair{"p50_us", 0.5},
                                {"p90_us", 0.9},
                                {"p99_us", 0.99},
                                {"p999_us", 0.999},
                                {"max_us", 1.0}}) {
    out[name] = static_cast<double>(latency.percentile(fraction)) / 1e3;
  }
  return out;
}

}  // namespace

void bind_session(py::module_& module) {
  using namespace py::literals;
  auto setup =
      py::custom_type_setup([](PyHeapTypeObject* type) { type->ht_type.tp_call = call_slot; });
  py::class_<PySession>(module, "Session", setup)
      .def(py::init(&load_session), "model"_a, "options"_a, "result_type"_a)
      .def(py::init(&load_engine), "library"_a, "plan"_a, "options"_a, "result_type"_a)
      .def(py::init(&load_pipeline), "plan"_a, "result_type"_a)
      .def_property_readonly("_inputs",
                             [](const PySession& self) {
                               const Session& session = *self.session();
                               return describe(session.inputs(), 0, session.required_inputs());
                             })
      .def_property_readonly("_optional_inputs",
                             [](const PySession& self) {
                               const Session& session = *self.session();
                               return describe(session.inputs(), session.required_inputs(),
                                               session.inputs().size());
                             })
      .def_property_readonly("_outputs",
                             [](const PySession& self) {
                               const auto& specs = self.session()->outputs();
                               return describe(specs, 0, specs.size());
                             })
      .def_property_readonly("name",
                             [](const PySession& self) { return text(self.session()->name()); })
      .def("_metadata", metadata_of)
      .def("_latency", latency_of)
      .def(
          "_run",
          [](PySession& self, const py::dict& inputs, const py::object& out,
             const py::object& outputs, const py::object& deadline_ms) {
            try {
              return self.run(inputs, make_options(self, deadline_ms, out, outputs));
            } catch (...) {
              drain_log();
              throw;
            }
          },
          "inputs"_a, "out"_a, "outputs"_a, "deadline_ms"_a)
      .def(
          "_submit",
          [](py::object self, const py::tuple& args, const py::object& kwargs,
             const py::object& deadline_ms) {
            auto& session = self.cast<PySession&>();
            return submit(self, args, kwargs,
                          make_options(session, deadline_ms, py::none(), py::none()));
          },
          "args"_a, "kwargs"_a, "deadline_ms"_a)
      .def("_bind", &make_binding, "inputs"_a, "out"_a, "gil"_a)
      .def("_end_profiling", [](PySession& self) { return self.session()->end_profiling(); });
}

}  // namespace zerolane::bindings
