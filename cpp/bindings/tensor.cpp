// SPDX-License-Identifier: Apache-2.0
#include "bindings/tensor.h"

#include <pybind11/stl.h>

#include <optional>

#include "bindings/errors.h"
#include "bindings/gil.h"
#include "core/dlpack.h"
#include "core/error.h"

namespace py = pybind11;

namespace zerolane::bindings {
namespace {

template <typename Record>
py::capsule capsule_of(Record* record, const char* name) {
  // A consumer renames the capsule; one that nobody consumed gives the record back itself.
  return py::capsule(record, name, [](PyObject* capsule) {
    for (const char* unused : {"dltensor", "dltensor_versioned"}) {
      if (!PyCapsule_IsValid(capsule, unused)) continue;
      auto* owned = static_cast<Record*>(PyCapsule_GetPointer(capsule, unused));
      owned->deleter(owned);
    }
  });
}

py::capsule give(const PyTensor& self, const py::object& stream,
                 std::optional<std::pair<int, int>> max_version,
                 std::optional<std::pair<int, int>> dl_device, std::optional<bool> copy) {
  const char* doing = "handing out a tensor through DLPack";
  if (!stream.is_none() && stream.cast<int64_t>() != -1) {
    throw make_error(Code::kInvalidArgument, doing, "a stream was given for host memory",
                     "leave stream out");
  }
  if (dl_device && *dl_device != std::pair<int, int>{kDLCPU, 0}) {
    throw make_error(Code::kDevice, doing, "another device was asked for, the tensor is on the CPU",
                     "take it on the CPU and copy it yourself");
  }
  Tensor tensor = self.tensor;
  if (copy.value_or(false)) {
    Tensor fresh = Tensor::make_host(tensor.dtype(), tensor.shape());
    host_device().copy(fresh.data(), tensor.data(), tensor.bytes());
    tensor = fresh;
  }
  if (max_version && max_version->first >= 1) {
    DLManagedTensorVersioned* record = to_dlpack(tensor);
    if (copy.value_or(false)) record->flags |= kDLFlagIsCopied;
    return capsule_of(record, "dltensor_versioned");
  }
  return capsule_of(to_dlpack_legacy(tensor), "dltensor");
}

py::tuple shape_of(const PyTensor& self) {
  const Shape& shape = self.tensor.shape();
  py::tuple out(shape.rank());
  for (size_t i = 0; i < shape.rank(); ++i) out[i] = shape[i];
  return out;
}

}  // namespace

void bind_tensor(py::module_& module) {
  using namespace py::literals;
  auto setup =
      py::custom_type_setup([](PyHeapTypeObject* type) { type->ht_type.tp_new = refuse_new; });
  py::class_<PyTensor>(module, "Tensor", setup,
                       "A dense row-major tensor in native memory, handed out through DLPack.")
      .def_property_readonly("shape", shape_of)
      .def_property_readonly(
          "dtype",
          [](const PyTensor& self) { return std::string(dtype_name(self.tensor.dtype())); })
      .def_property_readonly("nbytes", [](const PyTensor& self) { return self.tensor.bytes(); })
      .def_property_readonly(
          "address",
          [](const PyTensor& self) { return reinterpret_cast<uintptr_t>(self.tensor.data()); })
      .def("__dlpack__", give, py::kw_only(), "stream"_a = py::none(), "max_version"_a = py::none(),
           "dl_device"_a = py::none(), "copy"_a = py::none())
      .def("__dlpack_device__", [](const PyTensor&) { return std::make_pair(int{kDLCPU}, 0); });
  module.def(
      "empty",
      [](const std::vector<int64_t>& shape, const std::string& dtype) {
        auto known = dtype_from_name(dtype);
        if (!known || dtype_bits(*known) == 0) {
          throw make_error(Code::kInvalidArgument, "making a tensor",
                           "dtype '" + dtype + "' has no plain memory", "use e.g. 'float32'",
                           dtype);
        }
        return PyTensor(Tensor::make_host(*known, Shape(shape)));
      },
      "shape"_a, "dtype"_a = "float32",
      "Uninitialised host memory from the pool, 64-byte aligned.");
}

}  // namespace zerolane::bindings
