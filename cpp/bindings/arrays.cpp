// SPDX-License-Identifier: Apache-2.0
#include "bindings/arrays.h"

#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include <array>
#include <unordered_map>

#include "bindings/device.h"
#include "bindings/dlpack.h"
#include "bindings/strings.h"
#include "bindings/tensor.h"
#include "bindings/text.h"
#include "core/error.h"

namespace py = pybind11;

namespace zerolane::bindings {
namespace {

using py::detail::npy_api;

// NumPy's type numbers of the fixed types. 9 and 10 are the second 64-bit integers (long long).
constexpr std::array<DType, 24> kFromNumpy = [] {
  std::array<DType, 24> map{};
  map[0] = DType::kBool;
  map[1] = DType::kInt8;
  map[2] = DType::kUInt8;
  map[3] = DType::kInt16;
  map[4] = DType::kUInt16;
  map[5] = DType::kInt32;
  map[6] = DType::kUInt32;
  map[7] = map[9] = DType::kInt64;
  map[8] = map[10] = DType::kUInt64;
  map[11] = DType::kFloat32;
  map[12] = DType::kFloat64;
  map[14] = DType::kComplex64;
  map[15] = DType::kComplex128;
  map[23] = DType::kFloat16;
  return map;
}();

// Types registered at run time (ml_dtypes: bfloat16, float8_*) have numbers of their own, learnt by
// name.
std::unordered_map<int, DType>& extension_types() {
  static auto* types = new std::unordered_map<int, DType>;
  return *types;
}

py::module_ helpers() { return py::module_::import("zerolane._arrays"); }

DType dtype_of(PyObject* descr) {
  auto* proxy = reinterpret_cast<py::detail::PyArrayDescr_Proxy*>(descr);
  int number = proxy->type_num;
  if (number >= 0 && number < static_cast<int>(kFromNumpy.size())) return kFromNumpy[number];
  auto found = extension_types().find(number);
  if (found != extension_types().end()) return found->second;
  auto name = utf8(py::handle(descr).attr("name"));
  DType dtype = dtype_from_name(name).value_or(DType::kNone);
  // ml_dtypes stores sub-byte types one a byte, which is not the packed layout of the core.
  if (dtype != DType::kNone && !is_plain(dtype)) dtype = DType::kNone;
  extension_types().emplace(number, dtype);
  return dtype;
}

PyTypeObject* ndarray_type() noexcept {
  static PyTypeObject* type = nullptr;
  if (type == nullptr) {
    PyObject* numpy = PyImport_GetModule(py::str("numpy").ptr());
    if (numpy == nullptr) {
      PyErr_Clear();
      return nullptr;
    }
    type = reinterpret_cast<PyTypeObject*>(PyObject_GetAttrString(numpy, "ndarray"));
    if (type == nullptr) PyErr_Clear();
    Py_DECREF(numpy);
  }
  return type;
}

py::object numpy_descr(DType dtype) {
  static std::array<PyObject*, kDTypeCount> cache{};
  PyObject*& entry = cache[static_cast<size_t>(dtype)];
  if (entry == nullptr) {
    entry = helpers().attr("numpy_dtype")(std::string(dtype_name(dtype))).release().ptr();
  }
  return py::reinterpret_borrow<py::object>(entry);
}

}  // namespace

bool is_ndarray(PyObject* object) noexcept { return Py_TYPE(object) == ndarray_type(); }

bool read_ndarray(PyObject* object, bool writable, View* view) noexcept {
  if (!is_ndarray(object)) return false;
  auto* array = reinterpret_cast<py::detail::PyArray_Proxy*>(object);
  int wanted = npy_api::NPY_ARRAY_C_CONTIGUOUS_ | npy_api::NPY_ARRAY_ALIGNED_;
  if (writable) wanted |= npy_api::NPY_ARRAY_WRITEABLE_;
  if ((array->flags & wanted) != wanted || array->nd > static_cast<int>(kMaxRank)) return false;
  auto* descr = reinterpret_cast<py::detail::PyArrayDescr_Proxy*>(array->descr);
  if (descr->byteorder == '>') return false;
  try {
    view->dtype = dtype_of(array->descr);
    if (view->dtype == DType::kNone) return false;
    static_assert(sizeof(ssize_t) == sizeof(int64_t));
    view->shape = Shape(std::span(reinterpret_cast<const int64_t*>(array->dimensions),
                                  static_cast<size_t>(array->nd)));
  } catch (...) {
    PyErr_Clear();
    return false;
  }
  view->data = array->data;
  view->device = {};
  return true;
}

Lent lend(py::handle object, const TensorSpec& spec, bool copy, bool writable, Stream* stream,
          const Subject& subject) {
  Lent lent;
  if (read_ndarray(object.ptr(), writable, &lent.view)) {
    lent.owner = py::reinterpret_borrow<py::object>(object);
    return lent;
  }
  bool numpy = ndarray_type() != nullptr && PyObject_TypeCheck(object.ptr(), ndarray_type()) != 0;
  if (!numpy && py::hasattr(object, "__dlpack__")) {
    if (take_dlpack(object, copy, writable, stream, subject, &lent)) return lent;
  } else if (!numpy && py::hasattr(object, "__cuda_array_interface__")) {
    take_cuda_interface(object, copy, writable, stream, subject, &lent);
    return lent;
  }
  // NumPy says what is wrong with it, or makes a usable array.
  lent.owner = helpers().attr("usable")(object, std::string(dtype_name(spec.dtype)), copy, writable,
                                        subject.text, subject.name);
  if (!read_ndarray(lent.owner.ptr(), writable, &lent.view)) {
    throw make_error(Code::kUnsupported, "reading " + subject.text,
                     "an array of type " + utf8(py::type::handle_of(lent.owner)) + " and dtype " +
                         utf8(lent.owner.attr("dtype")) + " has no ONNX form",
                     "give " + std::string(dtype_name(spec.dtype)), spec.name);
  }
  return lent;
}

bool is_value_spec(const TensorSpec& spec) {
  return spec.kind == ValueKind::kSequence || spec.kind == ValueKind::kMap ||
         spec.dtype == DType::kString;
}

Value read_value(py::handle object, const TensorSpec& spec, const Subject& subject,
                 std::vector<py::object>* owners) {
  if (spec.kind == ValueKind::kSequence) {
    Sequence sequence;
    TensorSpec item = spec;
    item.kind = spec.type.find("map(") != std::string::npos ? ValueKind::kMap : ValueKind::kTensor;
    if (!py::isinstance<py::list>(object) && !py::isinstance<py::tuple>(object)) {
      throw make_error(Code::kInvalidArgument, "reading " + subject.text,
                       "a " + std::string(Py_TYPE(object.ptr())->tp_name) +
                           " was given, the model has a " + spec.type,
                       "give a list", spec.name);
    }
    for (py::handle element : object) {
      sequence.items.push_back(read_value(element, item, subject, owners));
    }
    return sequence;
  }
  if (spec.kind == ValueKind::kMap) {
    py::object parts = helpers().attr("split_map")(object, std::string(dtype_name(spec.dtype)),
                                                   spec.type, subject.text, subject.name);
    py::object keys = parts[py::int_(0)];
    Map map;
    if (py::isinstance<py::str>(parts[py::int_(2)])) {
      map.keys = keys.cast<std::vector<std::string>>();
    } else {
      map.keys = keys.cast<std::vector<int64_t>>();
    }
    TensorSpec values = spec;
    values.kind = ValueKind::kTensor;
    map.values.push_back(read_value(parts[py::int_(1)], values, subject, owners));
    return map;
  }
  if (spec.dtype == DType::kString) {
    return read_strings(object, subject);
  }
  Lent lent = lend(object, spec, true, false, nullptr, subject);
  if (lent.view.dtype != spec.dtype)
    check_tensor(spec, lent.view.dtype, lent.view.shape, "input", subject.text);
  owners->push_back(lent.owner);
  auto storage = std::make_shared<Storage>(lent.view.data, lent.view.device, nullptr, true);
  return Tensor(std::move(storage), lent.view.dtype, lent.view.shape);
}

py::object new_ndarray(DType dtype, const Shape& shape, View* view) {
  py::object descr = numpy_descr(dtype);
  npy_api& api = npy_api::get();
  PyObject* array = api.PyArray_NewFromDescr_(
      api.PyArray_Type_, descr.release().ptr(), static_cast<int>(shape.rank()),
      reinterpret_cast<const Py_intptr_t*>(shape.data()), nullptr, nullptr, 0, nullptr);
  if (array == nullptr) {
    // NumPy has two errors for "too big".
    bool size =
        PyErr_ExceptionMatches(PyExc_MemoryError) || PyErr_ExceptionMatches(PyExc_ValueError);
    if (!size) throw py::error_already_set();
    PyErr_Clear();
    throw make_error(Code::kOutOfMemory, "making an array",
                     "shape " + shape.text() + " of " + std::string(dtype_name(dtype)) +
                         " does not fit in memory",
                     "use smaller shapes");
  }
  view->data = reinterpret_cast<py::detail::PyArray_Proxy*>(array)->data;
  view->dtype = dtype;
  view->device = {};
  view->shape = shape;
  return py::reinterpret_steal<py::object>(array);
}

py::object to_python(Value value, py::handle like) {
  if (auto* tensor = std::get_if<Tensor>(&value)) {
    bool on_host =
        tensor->storage() == nullptr || tensor->storage()->device().kind == DeviceKind::kHost;
    if (like || !on_host) {
      py::object native = py::cast(PyTensor(*tensor));
      return like ? like(native) : native;
    }
    if (tensor->shape().count() == 0) {  // no memory to share
      View ignored;
      return new_ndarray(tensor->dtype(), tensor->shape(), &ignored);
    }
    py::object descr = numpy_descr(tensor->dtype());
    py::capsule owner(new Tensor(*tensor),
                      [](void* shared) { delete static_cast<Tensor*>(shared); });
    const Shape& shape = tensor->shape();
    npy_api& api = npy_api::get();
    int flags = npy_api::NPY_ARRAY_C_CONTIGUOUS_ | npy_api::NPY_ARRAY_ALIGNED_ |
                npy_api::NPY_ARRAY_WRITEABLE_;
    PyObject* array = api.PyArray_NewFromDescr_(api.PyArray_Type_, descr.release().ptr(),
                                                static_cast<int>(shape.rank()),
                                                reinterpret_cast<const Py_intptr_t*>(shape.data()),
                                                nullptr, tensor->data(), flags, nullptr);
    if (array == nullptr) throw py::error_already_set();
    auto result = py::reinterpret_steal<py::object>(array);
    if (api.PyArray_SetBaseObject_(array, owner.release().ptr()) < 0) throw py::error_already_set();
    return result;
  }
  if (auto* strings = std::get_if<Strings>(&value)) return strings_to_python(*strings);
  if (auto* sequence = std::get_if<Sequence>(&value)) {
    py::list items;
    for (Value& item : sequence->items) items.append(to_python(std::move(item), like));
    return items;
  }
  if (auto* map = std::get_if<Map>(&value)) {
    py::object keys =
        std::visit([](auto& list) -> py::object { return py::cast(list); }, map->keys);
    return helpers().attr("join_map")(keys, to_python(std::move(map->values.at(0)), py::handle()));
  }
  return py::none();
}

py::object array_maker(py::handle object) {
  if (is_ndarray(object.ptr())) return py::object();
  // By type, which then lives as long as the process: there are few.
  static auto* makers = new std::unordered_map<PyTypeObject*, PyObject*>;
  PyTypeObject* type = Py_TYPE(object.ptr());
  auto found = makers->find(type);
  if (found == makers->end()) {
    py::object maker = helpers().attr("array_maker")(py::type::handle_of(object));
    Py_INCREF(type);
    found = makers->emplace(type, maker.is_none() ? nullptr : maker.release().ptr()).first;
  }
  return py::reinterpret_borrow<py::object>(found->second);
}

}  // namespace zerolane::bindings
