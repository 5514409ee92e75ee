// SPDX-License-Identifier: Apache-2.0
#include "bindings/tensor.h"

#include <pybind11/stl.h>

#include <algorithm>
#include <optional>

#include "bindings/address.h"
#include "bindings/errors.h"
#include "bindings/gil.h"
#include "core/dlpack.h"
#include "core/error.h"
#include "cuda/tensor.h"

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

constexpr const char* kGiving = "handing out a tensor through DLPack";

DLDevice device_of(const PyTensor& self) {
  DeviceId id = self.tensor.storage()->device();
  return id.kind == DeviceKind::kHost ? DLDevice{kDLCPU, 0} : DLDevice{kDLCUDA, id.index};
}

py::capsule capsule_for(const Tensor& tensor, bool copied,
                        std::optional<std::pair<int, int>> max_version) {
  if (max_version && max_version->first >= 1) {
    DLManagedTensorVersioned* record = to_dlpack(tensor);
    if (copied) record->flags |= kDLFlagIsCopied;
    return capsule_of(record, "dltensor_versioned");
  }
  return capsule_of(to_dlpack_legacy(tensor), "dltensor");
}

// Host memory with the values of a tensor, wherever it is. Blocks.
Tensor copy_to_host(const PyTensor& self) {
  const Tensor& tensor = self.tensor;
  Tensor fresh = Tensor::make_host(tensor.dtype(), tensor.shape());
  DeviceId id = tensor.storage()->device();
  if (id.kind == DeviceKind::kHost) {
    host_device().copy(fresh.data(), tensor.data(), tensor.bytes());
    return fresh;
  }
  ReleaseGil release;
  auto stream = cuda::open_device(id.index).make_cuda_stream();
  self.order_before(*stream);
  stream->copy_async(fresh.data(), tensor.data(), tensor.bytes());
  stream->synchronize();
  return fresh;
}

// The tensor for a consumer whose stream has DLPack's number `stream`, which is put behind all work
// on the tensor; None is the legacy default stream, -1 asks for no order.
Tensor give_on_device(PyTensor& self, const py::object& stream, bool copy) {
  int64_t number = stream.is_none() ? 1 : stream.cast<int64_t>();
  if (number == 0 || number < -1) {
    throw make_error(Code::kInvalidArgument, kGiving,
                     "stream is " + std::to_string(number) + ", expected the number of a stream",
                     "give 1 for CUDA's legacy default stream, 2 for the per-thread one, else the "
                     "stream's address",
                     "stream");
  }
  cuda::CudaDevice& device = cuda::open_device(self.tensor.storage()->device().index);
  auto* consumer =
      number <= 1 ? nullptr : address<cuda::NativeStream>(static_cast<uintptr_t>(number));
  auto order = device.borrow_stream(consumer);
  Tensor given = self.tensor;
  if (copy) {
    given = cuda::make_tensor(device, self.tensor.dtype(), self.tensor.shape());
    auto work = device.make_cuda_stream();
    self.order_before(*work);
    work->copy_async(given.data(), self.tensor.data(), self.tensor.bytes());
    work->synchronize();
  } else if (number != -1) {
    self.order_before(*order);
    if (std::find(self.users.begin(), self.users.end(), consumer) == self.users.end()) {
      self.users.push_back(consumer);
    }
  }
  return number == -1 ? given : cuda::lend(device, given, consumer);
}

py::capsule give(PyTensor& self, const py::object& stream,
                 std::optional<std::pair<int, int>> max_version,
                 std::optional<std::pair<int, int>> dl_device, std::optional<bool> copy) {
  DLDevice own = device_of(self);
  std::pair<int, int> here{own.device_type, own.device_id};
  bool to_host = dl_device && *dl_device == std::pair<int, int>{kDLCPU, 0};
  if (dl_device && *dl_device != here && !(to_host && copy.value_or(true))) {
    throw make_error(Code::kDevice, kGiving,
                     "device (" + std::to_string(dl_device->first) + ", " +
                         std::to_string(dl_device->second) + ") was asked for" +
                         (to_host ? " without a copy" : "") + ", the tensor is on " +
                         self.tensor.storage()->device().text(),
                     "take it there and copy it yourself");
  }
  if (own.device_type != kDLCPU && !to_host) {
    return capsule_for(give_on_device(self, stream, copy.value_or(false)), copy.value_or(false),
                       max_version);
  }
  if (!stream.is_none() && stream.cast<int64_t>() != -1) {
    throw make_error(Code::kInvalidArgument, kGiving, "a stream was given for host memory",
                     "leave stream out");
  }
  bool copied = copy.value_or(false) || own.device_type != kDLCPU;
  return capsule_for(copied ? copy_to_host(self) : self.tensor, copied, max_version);
}

DeviceId parse_device(const std::string& device) {
  if (device == "cpu") return {};
  const std::string number = device.starts_with("cuda:") ? device.substr(5) : "";
  if (number.empty() || number.size() > 4 ||
      !std::all_of(number.begin(), number.end(), [](char c) { return c >= '0' && c <= '9'; })) {
    throw make_error(Code::kInvalidArgument, "making a tensor",
                     "device '" + device + "' is not known, expected 'cpu' or 'cuda:N'",
                     "name one of them", device);
  }
  return {DeviceKind::kCuda, std::stoi(number)};
}

PyTensor make_empty(const std::vector<int64_t>& shape, const std::string& dtype,
                    const std::string& device) {
  auto known = dtype_from_name(dtype);
  if (!known || dtype_bits(*known) == 0) {
    throw make_error(Code::kInvalidArgument, "making a tensor",
                     "dtype '" + dtype + "' has no plain memory", "use e.g. 'float32'", dtype);
  }
  DeviceId id = parse_device(device);
  if (id.kind == DeviceKind::kHost) return PyTensor(Tensor::make_host(*known, Shape(shape)));
  return PyTensor(cuda::make_tensor(cuda::open_device(id.index), *known, Shape(shape)));
}

py::tuple shape_of(const PyTensor& self) {
  const Shape& shape = self.tensor.shape();
  py::tuple out(shape.rank());
  for (size_t i = 0; i < shape.rank(); ++i) out[i] = shape[i];
  return out;
}

}  // namespace

void PyTensor::order_before(cuda::CudaStream& stream) const {
  for (cuda::NativeStream* user : users) {
    if (user != stream.native()) stream.wait_for_native(user);
  }
}

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
      .def_property_readonly(
          "device", [](const PyTensor& self) { return self.tensor.storage()->device().text(); },
          "\"cpu\" or \"cuda:N\".")
      .def("__dlpack__", give, py::kw_only(), "stream"_a = py::none(), "max_version"_a = py::none(),
           "dl_device"_a = py::none(), "copy"_a = py::none())
      .def("__dlpack_device__", [](const PyTensor& self) {
        DLDevice device = device_of(self);
        return std::make_pair(int{device.device_type}, int{device.device_id});
      });
  module.def("empty", make_empty, "shape"_a, "dtype"_a = "float32", "device"_a = "cpu",
             "Uninitialised memory from the pool of \"cpu\" (64-byte aligned) or \"cuda:N\".");
}

}  // namespace zerolane::bindings
