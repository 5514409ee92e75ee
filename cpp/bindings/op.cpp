// SPDX-License-Identifier: Apache-2.0
#include "bindings/op.h"

#include <pybind11/stl.h>

#include <limits>

#include "bindings/device.h"
#include "bindings/dlpack.h"
#include "bindings/errors.h"
#include "bindings/native_part.h"
#include "bindings/op_testing.h"
#include "bindings/tensor.h"
#include "bindings/text.h"
#include "core/error.h"
#include "core/trace.h"
#include "cuda/memory.h"
#include "runtime/deadline.h"

namespace py = pybind11;

namespace zerolane::bindings {
namespace {

AttributeValue read_attribute(py::handle value, const std::string& name) {
  if (py::isinstance<py::str>(value)) return utf8(value);
  const auto integer = [](py::handle item) {
    return PyBool_Check(item.ptr()) != 0 || PyIndex_Check(item.ptr()) != 0;
  };
  const auto to_integer = [&](py::handle item) -> int64_t {
    auto index = py::reinterpret_steal<py::object>(PyNumber_Index(item.ptr()));
    if (!index) throw py::error_already_set();
    int overflow = 0;
    const int64_t number = PyLong_AsLongLongAndOverflow(index.ptr(), &overflow);
    if (overflow != 0) {
      throw make_error(Code::kInvalidArgument, "reading attribute '" + name + "'",
                       "it is " + utf8(item) + ", expected a number of 64 bits",
                       "give a smaller one", name);
    }
    return number;
  };
  const bool array = py::hasattr(value, "ndim") && py::hasattr(value, "tolist");
  py::object plain = py::reinterpret_borrow<py::object>(value);
  if (array) plain = value.attr("tolist")();
  if (integer(plain)) return to_integer(plain);
  if (PyFloat_Check(plain.ptr()) != 0) return plain.cast<double>();
  if (py::isinstance<py::list>(plain) || py::isinstance<py::tuple>(plain)) {
    bool integers = py::len(plain) > 0, numbers = true;
    for (py::handle item : plain) {
      integers &= integer(item);
      numbers &= integer(item) || PyFloat_Check(item.ptr()) != 0;
    }
    if (integers) {
      std::vector<int64_t> list;
      for (py::handle item : plain) list.push_back(to_integer(item));
      return list;
    }
    if (numbers) return plain.cast<std::vector<double>>();
  }
  throw make_error(Code::kInvalidArgument, "reading attribute '" + name + "'",
                   "it is a " + std::string(Py_TYPE(value.ptr())->tp_name) +
                       ", expected a number, text, or a list of numbers",
                   "convert it", name);
}

}  // namespace

struct PyOp::Frame {
  explicit Frame(std::shared_ptr<const OpState> state) : call(std::move(state)) {
    arrays.resize(call.output_count());
    tensors.resize(call.output_count());
  }
  OpCall call;
  std::vector<py::object> owners;
  std::vector<py::object> arrays;  // results that are NumPy arrays already
  std::vector<Tensor> tensors;     // results that become arrays
  py::object like;                 // makes arrays of the kind of the first input; null: NumPy
  int device = -1;                 // of the inputs; -1: the host
  // One a GPU: calls of several threads have frames, and so streams, of their own.
  std::map<int, std::unique_ptr<cuda::CudaStream>> streams;

  cuda::CudaStream& stream_on(int gpu) {
    auto& made = streams[gpu];
    if (!made) made = cuda::open_device(gpu).make_cuda_stream();
    return *made;
  }

  void clear() noexcept {
    owners.clear();
    for (auto& array : arrays) array = py::object();
    for (auto& tensor : tensors) tensor = Tensor();
    like = py::object();
    device = -1;
  }
};

PyOp::PyOp(std::shared_ptr<const OpState> state, GilPolicy::Mode gil, py::object make_result_type)
    : state_(std::move(state)), gil_(gil), make_result_type_(std::move(make_result_type)) {}

std::unique_ptr<PyOp::Frame> PyOp::take() {
  {
    std::lock_guard lock(mutex_);
    if (!idle_.empty()) {
      auto frame = std::move(idle_.back());
      idle_.pop_back();
      return frame;
    }
  }
  return std::make_unique<Frame>(state_);
}

void PyOp::give_back(std::unique_ptr<Frame> frame) noexcept {
  frame->clear();
  std::lock_guard lock(mutex_);
  if (idle_.size() < 16) idle_.push_back(std::move(frame));
}

const DeviceConstants& PyOp::constants_on(int device) {
  std::lock_guard lock(mutex_);
  auto& made = constants_[device];
  if (!made) made = std::make_unique<DeviceConstants>(state_, cuda::open_device(device));
  return *made;
}

void PyOp::read_inputs(Frame& frame, PyObject* args) {
  const OpEntry& entry = state_->entry();
  const auto count = static_cast<size_t>(PyTuple_GET_SIZE(args));
  auto& inputs = frame.call.inputs(count);
  bool first = true;
  for (size_t i = 0; i < count; ++i) {
    PyObject* object = PyTuple_GET_ITEM(args, static_cast<Py_ssize_t>(i));
    OpInput& input = inputs[i];
    input.present = object != Py_None;
    if (!input.present) continue;
    View view;
    if (!read_ndarray(object, false, &view)) {
      TensorSpec spec;
      spec.name = entry.inputs.empty() ? std::to_string(i) : entry.input(i).name;
      spec.dtype = DType::kFloat32;
      Stream* stream = nullptr;
      if (!entry.inputs.empty()) {
        // Lists and numbers have no element type: they take that of the inputs before.
        const size_t type = entry.input(i).type, by = entry.decided_by[type];
        spec.dtype = by < i && inputs[by].present ? inputs[by].dtype : entry.types[type].front();
      }
      const Subject subject{spec.name, "input '" + spec.name + "' of " + state_->where()};
      const int gpu = gpu_of(object, subject);
      if (gpu >= 0) stream = &frame.stream_on(gpu);
      Lent lent = lend(object, spec, true, false, stream, subject);
      view = lent.view;
      frame.owners.push_back(std::move(lent.owner));
    }
    const int device = view.device.kind == DeviceKind::kCuda ? view.device.index : -1;
    if (first) {
      frame.like = array_maker(object);
      frame.device = device;
    } else if (device != frame.device) {
      throw make_error(Code::kDevice, "calling " + state_->where(),
                       "input " + std::to_string(i) + " lies on " + view.device.text() +
                           ", and the first one elsewhere",
                       "move all inputs to one device", entry.name);
    }
    first = false;
    input.data = view.data;
    input.dtype = view.dtype;
    input.shape = view.shape;
  }
}

namespace {

// Memory for results whose extents the data decides; called without the GIL.
void* allocate_host(void* owner, size_t index, const Shape& shape) {
  auto& tensors = *static_cast<std::vector<std::pair<DType, Tensor>>*>(owner);
  tensors[index].second = Tensor::make_host(tensors[index].first, shape);
  return tensors[index].second.data();
}

}  // namespace

void PyOp::run_host(Frame& frame) {
  OpCall& call = frame.call;
  std::vector<std::pair<DType, Tensor>> counted;
  for (size_t i = 0; i < call.output_count(); ++i) {
    if (call.is_counted(i)) {
      counted.resize(call.output_count());
      counted[i].first = call.output_dtype(i);
      continue;
    }
    if (frame.like) {
      frame.tensors[i] = Tensor::make_host(call.output_dtype(i), call.output_shape(i));
      call.set_output(i, frame.tensors[i].data());
    } else {
      View view;
      frame.arrays[i] = new_ndarray(call.output_dtype(i), call.output_shape(i), &view);
      call.set_output(i, view.data);
    }
  }
  if (!counted.empty()) call.set_allocator(allocate_host, &counted);
  if (gil_.hold()) {
    if (!gil_.timed()) [[likely]] {
      call.run_host();
    } else {
      const int64_t begin = now_ns();
      call.run_host();
      gil_.note(now_ns() - begin);
    }
  } else {
    ReleaseGil release;
    const int64_t begin = now_ns();
    call.run_host();
    gil_.note(now_ns() - begin);
  }
  for (size_t i = 0; i < counted.size(); ++i) {
    if (!call.is_counted(i)) continue;
    frame.tensors[i] = std::move(counted[i].second);
  }
}

void PyOp::run_cuda(Frame& frame) {
  OpCall& call = frame.call;
  const DeviceConstants& constants = constants_on(frame.device);
  cuda::CudaStream& stream = frame.stream_on(frame.device);
  cuda::CudaDevice& device = stream.device();
  for (size_t i = 0; i < call.output_count(); ++i) {
    frame.tensors[i] = make_device_tensor(call.output_dtype(i), call.output_shape(i), stream);
    call.set_output(i, frame.tensors[i].data());
  }
  const size_t scratch_bytes = call.cuda_scratch();
  const size_t counted = call.counted_extents();
  std::vector<int64_t> found(counted);
  {
    ReleaseGil release;
    const cuda::DeviceBuffer scratch = device.pool().allocate(scratch_bytes, stream);
    const cuda::DeviceBuffer counts = device.pool().allocate(counted * sizeof(int64_t), stream);
    std::vector<int64_t*> places;
    for (size_t i = 0; i < counted; ++i) {
      places.push_back(static_cast<int64_t*>(counts.data()) + i);
    }
    call.run_cuda(stream.native(), scratch.data(), places, constants, device.id().index);
    if (counted > 0) stream.copy_async(found.data(), counts.data(), counted * sizeof(int64_t));
    stream.synchronize();
  }
  for (size_t i = 0; i < call.output_count(); ++i) {
    if (!call.is_counted(i)) continue;
    const Tensor& whole = frame.tensors[i];
    frame.tensors[i] = Tensor(whole.storage(), whole.dtype(), call.counted_shape(i, found));
  }
}

py::object PyOp::results(Frame& frame) {
  const auto take_one = [&](size_t i) -> py::object {
    if (frame.arrays[i]) return std::move(frame.arrays[i]);
    return to_python(std::move(frame.tensors[i]), frame.like);
  };
  const size_t count = frame.call.output_count();
  if (count == 1) return take_one(0);
  if (!result_type_) {
    py::list names;
    for (const auto& output : state_->entry().outputs) names.append(text(output.name));
    result_type_ = make_result_type_(names);
  }
  auto* type = reinterpret_cast<PyTypeObject*>(result_type_.ptr());
  auto tuple =
      py::reinterpret_steal<py::object>(type->tp_alloc(type, static_cast<Py_ssize_t>(count)));
  if (!tuple) throw py::error_already_set();
  for (size_t i = 0; i < count; ++i) {
    PyTuple_SET_ITEM(tuple.ptr(), static_cast<Py_ssize_t>(i), take_one(i).release().ptr());
  }
  return tuple;
}

py::object PyOp::call(PyObject* args, PyObject* kwargs) {
  if (kwargs != nullptr && PyDict_GET_SIZE(kwargs) > 0) {
    throw make_error(Code::kInvalidArgument, "calling " + state_->where(),
                     "inputs were given by name",
                     "give them in order; attributes are fixed when "
                     "the op is made",
                     state_->entry().name);
  }
  struct Borrowed {
    PyOp& op;
    std::unique_ptr<Frame> frame;
    ~Borrowed() { op.give_back(std::move(frame)); }
  } borrowed{*this, take()};
  Frame& frame = *borrowed.frame;
  trace::Span span("op", state_->entry().name, 0);
  read_inputs(frame, args);
  frame.call.plan();
  if (frame.device >= 0) {
    run_cuda(frame);
  } else {
    run_host(frame);
  }
  return results(frame);
}

namespace {

PyObject* call_slot(PyObject* self, PyObject* args, PyObject* kwargs) {
  return slot([&] { return native_part<PyOp>(self).call(args, kwargs).release().ptr(); });
}

std::unique_ptr<PyOp> make_op(const std::string& name, const py::object& version,
                              const py::dict& attributes, const std::string& gil,
                              py::object make_result_type) {
  const OpEntry* entry = find_op(name, version.is_none() ? INT32_MAX : version.cast<int>());
  if (entry == nullptr) {
    throw make_error(Code::kNotFound, "making op " + name, "no library has defined it",
                     "load its library with zl.ops.load(path)", name);
  }
  Attributes given;
  for (auto item : attributes) {
    const std::string key = utf8(item.first);
    given.emplace_back(key, read_attribute(item.second, key));
  }
  auto state = std::make_shared<const OpState>(*entry, given, "op " + entry->name);
  return std::make_unique<PyOp>(std::move(state), parse_gil_mode(gil), std::move(make_result_type));
}

py::object to_python_value(const AttributeValue& value) {
  return std::visit([](const auto& item) -> py::object { return py::cast(item); }, value);
}

py::object fallback_of(const ZlAttribute& row) {
  if (row.required != 0) return py::none();
  const ZlValue& value = row.fallback;
  switch (row.type) {
    case kZlInt:
      return py::int_(value.integer);
    case kZlFloat:
      return py::float_(value.real);
    case kZlString:
      return text(value.text);
    case kZlInts:
      return py::cast(std::vector<int64_t>(value.integers, value.integers + value.count));
    default:
      return py::cast(std::vector<double>(value.reals, value.reals + value.count));
  }
}

py::list describe_arguments(const OpEntry& entry, const std::vector<OpEntry::Argument>& arguments,
                            const ZlArgument* rows) {
  static const char* const kKinds[] = {"required", "optional", "variadic"};
  py::list list;
  for (size_t i = 0; i < arguments.size(); ++i) {
    py::list dtypes;
    for (DType dtype : entry.types[arguments[i].type]) {
      dtypes.append(std::string(dtype_name(dtype)));
    }
    py::dict row;
    row["name"] = text(arguments[i].name);
    row["kind"] = kKinds[arguments[i].kind];
    row["type"] = arguments[i].type;
    row["dtypes"] = dtypes;
    row["doc"] = text(rows[i].doc != nullptr ? rows[i].doc : "");
    list.append(row);
  }
  return list;
}

py::dict describe(const OpEntry& entry) {
  static const char* const kTypes[] = {"int", "float", "string", "ints", "floats"};
  py::list attributes;
  for (uint64_t i = 0; i < entry.table->attribute_count; ++i) {
    const ZlAttribute& attribute = entry.table->attributes[i];
    py::list choices;
    for (uint64_t k = 0; k < attribute.choice_count; ++k)
      choices.append(text(attribute.choices[k]));
    py::dict row;
    row["name"] = text(attribute.name);
    row["doc"] = text(attribute.doc != nullptr ? attribute.doc : "");
    row["type"] = kTypes[attribute.type - 1];
    row["required"] = attribute.required != 0;
    row["fallback"] = fallback_of(attribute);
    row["least"] = attribute.least;
    row["greatest"] = attribute.greatest;
    row["counts"] = py::make_tuple(attribute.least_count, attribute.greatest_count);
    row["choices"] = choices;
    attributes.append(row);
  }
  py::dict out;
  out["name"] = text(entry.name);
  out["version"] = entry.version;
  out["doc"] = text(entry.table->doc != nullptr ? entry.table->doc : "");
  out["attributes"] = attributes;
  out["inputs"] = describe_arguments(entry, entry.inputs, entry.table->inputs);
  out["outputs"] = describe_arguments(entry, entry.outputs, entry.table->outputs);
  out["cpu"] = entry.on_cpu();
  out["cuda"] = entry.on_cuda();
  out["library"] = text(entry.library->path);
  return out;
}

py::dict describe(const OpLibrary& library) {
  py::list names;
  for (const OpEntry* entry : library.ops) names.append(text(entry->name));
  py::dict out;
  out["path"] = text(library.path);
  out["name"] = text(library.name);
  out["version"] = text(library.version);
  out["ops"] = names;
  return out;
}

void resolve(const std::string& domain) {
  AcquireGil hold;
  py::module_::import("zerolane.ops.library").attr("resolve")(text(domain));
}

}  // namespace

void bind_op(py::module_& module) {
  using namespace py::literals;
  set_op_resolver(resolve);
  auto setup =
      py::custom_type_setup([](PyHeapTypeObject* type) { type->ht_type.tp_call = call_slot; });
  py::class_<PyOp> type(module, "Op", setup);
  type.def(py::init(&make_op), "name"_a, "version"_a, "attributes"_a, "gil"_a, "result_type"_a)
      .def_property_readonly("name", [](const PyOp& op) { return text(op.state().entry().name); })
      .def_property_readonly("version", [](const PyOp& op) { return op.state().entry().version; })
      .def_property_readonly("attributes", [](const PyOp& op) {
        py::dict out;
        const OpEntry& entry = op.state().entry();
        for (uint64_t i = 0; i < entry.table->attribute_count; ++i) {
          out[text(entry.table->attributes[i].name)] = to_python_value(op.state().values()[i]);
        }
        return out;
      });
  bind_op_testing(type);
  module.def(
      "load_op_library",
      [](const std::string& path) {
        const OpLibrary* library = nullptr;
        {
          ReleaseGil release;
          library = &load_op_library(path);
        }
        return describe(*library);
      },
      "path"_a);
  module.def(
      "ops",
      [](const std::string& domain) {
        py::list rows;
        for (const OpEntry* entry : ops_of(domain)) rows.append(describe(*entry));
        return rows;
      },
      "domain"_a);
  module.def(
      "find_op",
      [](const std::string& name, int version) -> py::object {
        const OpEntry* entry = find_op(name, version);
        return entry == nullptr ? py::object(py::none()) : describe(*entry);
      },
      "name"_a, "version"_a);
  module.def("op_generation", [] { return op_generation(); });
  module.def("op_libraries", [] {
    py::list rows;
    for (const OpLibrary* library : op_libraries()) rows.append(describe(*library));
    return rows;
  });
}

}  // namespace zerolane::bindings
