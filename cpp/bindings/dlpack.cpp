// SPDX-License-Identifier: Apache-2.0
#include "bindings/dlpack.h"

#include <algorithm>
#include <string_view>

#include "bindings/address.h"
#include "bindings/device.h"
#include "bindings/tensor.h"
#include "bindings/text.h"
#include "core/dlpack.h"
#include "core/error.h"
#include "cuda/device.h"

namespace py = pybind11;

namespace zerolane::bindings {
namespace {

constexpr const char* kOwner = "zerolane_dlpack_owner";

template <typename Record>
py::object owner_of(Record* record) {
  // Runs the producer's deleter once, with the GIL, when the last reference goes.
  return py::capsule(record, kOwner, [](PyObject* capsule) {
    auto* owned = static_cast<Record*>(PyCapsule_GetPointer(capsule, kOwner));
    if (owned != nullptr && owned->deleter != nullptr) owned->deleter(owned);
  });
}

// The capsule. `stream` is for memory of its device alone: null asks without one.
py::object ask(py::handle object, const Stream* stream, const Subject& subject) {
  using namespace py::literals;
  py::object method = object.attr("__dlpack__");
  py::dict order;
  if (stream != nullptr) order["stream"] = stream_number(*stream);
  try {
    try {
      return method("max_version"_a = py::make_tuple(1, 1), **order);
    } catch (py::error_already_set& error) {
      if (!error.matches(PyExc_TypeError)) throw;
    }
    return method(**order);  // a producer from before version 1
  } catch (py::error_already_set& error) {
    if (!error.matches(PyExc_Exception)) throw;  // Ctrl-C, sys.exit
    throw make_error(Code::kInvalidArgument, "taking " + subject.text + " through DLPack",
                     utf8(error.value()), "give a plain dense array (for torch: .detach())",
                     subject.name);
  }
}

// Where the object says its memory is; the CPU if it does not say.
DLDevice device_of(py::handle object, const Subject& subject) {
  if (!py::hasattr(object, "__dlpack_device__")) return {kDLCPU, 0};
  try {
    py::tuple device = object.attr("__dlpack_device__")();
    return {py::int_(device[0]), py::int_(device[1])};
  } catch (py::error_already_set& error) {
    if (!error.matches(PyExc_Exception)) throw;
    throw make_error(Code::kDevice, "reading " + subject.text,
                     "its device cannot be told: " + utf8(error.value()),
                     "give an array in host memory", subject.name);
  }
}

bool on_host(DLDevice device) {
  return device.device_type == kDLCPU || device.device_type == kDLCUDAHost;
}

// Whether its library forbids writing although the record may not say so: JAX (0.10) and TensorFlow
// hand out records from before version 1, which have no read-only flag.
bool is_immutable(py::handle object) {
  auto module = utf8(py::type::handle_of(object).attr("__module__"));
  std::string_view package = std::string_view(module).substr(0, module.find('.'));
  return package == "jax" || package == "jaxlib" || package == "tensorflow";
}

// A tensor of ours needs no record: it knows who works on it.
void take_own(py::handle object, Stream* stream, const Subject& subject, Lent* lent) {
  auto& own = object.cast<PyTensor&>();
  check_device(kDLCUDA, own.tensor.storage()->device().index, stream, subject);
  own.order_before(cuda_stream(*stream));
  lent->view = own.tensor.view();
  lent->owner = py::reinterpret_borrow<py::object>(object);
}

}  // namespace

int gpu_of(py::handle object, const Subject& subject) {
  if (py::hasattr(object, "__dlpack_device__")) {
    const DLDevice device = device_of(object, subject);
    if (device.device_type == kDLCPU || device.device_type == kDLCUDAHost) return -1;
    if (device.device_type == kDLCUDA || device.device_type == kDLCUDAManaged) {
      return device.device_id;
    }
    check_device(device.device_type, device.device_id, nullptr, subject);
  }
  if (py::hasattr(object, "__dlpack__") || !py::hasattr(object, "__cuda_array_interface__")) {
    return -1;
  }
  py::dict interface = object.attr("__cuda_array_interface__");
  const auto where = py::tuple(interface["data"])[0].cast<uintptr_t>();
  if (where == 0) return 0;
  return cuda::open_device(0).pointer_info(address<void>(where)).device;
}

void order_dlpack(py::handle object, const Stream& stream, const Subject& subject) {
  ask(object, &stream, subject);  // a capsule that nobody takes gives its record back
}

bool take_dlpack(py::handle object, bool copy, bool writable, Stream* stream,
                 const Subject& subject, Lent* lent) {
  const DLDevice device = device_of(object, subject);
  if (!on_host(device)) {
    check_device(device.device_type, device.device_id, stream, subject);
    if (py::isinstance<PyTensor>(object)) {
      take_own(object, stream, subject, lent);
      return true;
    }
  }
  // torch hands such views out with the bits before negation, and says nothing.
  if (py::hasattr(object, "is_neg") && object.attr("is_neg")().cast<bool>()) {
    throw make_error(Code::kInvalidArgument, "taking " + subject.text + " through DLPack",
                     "it is a view that torch would negate only when reading it",
                     "give x.resolve_neg()", subject.name);
  }
  py::object capsule = ask(object, on_host(device) ? nullptr : stream, subject);
  PyObject* raw = capsule.ptr();
  DlpackInfo info;
  const DLTensor* tensor = nullptr;
  if (PyCapsule_IsValid(raw, "dltensor_versioned")) {
    auto* record =
        static_cast<DLManagedTensorVersioned*>(PyCapsule_GetPointer(raw, "dltensor_versioned"));
    if (record->version.major != DLPACK_MAJOR_VERSION) {
      throw make_error(Code::kUnsupported, "taking " + subject.text + " through DLPack",
                       "the record has version " + std::to_string(record->version.major) + "." +
                           std::to_string(record->version.minor) + ", 1.x is known",
                       "use an array library that speaks DLPack 1", subject.name);
    }
    tensor = &record->dl_tensor;
    info = inspect(*tensor, record->flags);
    PyCapsule_SetName(raw, "used_dltensor_versioned");
    lent->owner = owner_of(record);
  } else if (PyCapsule_IsValid(raw, "dltensor")) {
    auto* record = static_cast<DLManagedTensor*>(PyCapsule_GetPointer(raw, "dltensor"));
    tensor = &record->dl_tensor;
    info = inspect(*tensor, 0);
    PyCapsule_SetName(raw, "used_dltensor");
    lent->owner = owner_of(record);
  } else {
    throw make_error(Code::kInvalidArgument, "taking " + subject.text + " through DLPack",
                     "__dlpack__ returned no DLPack capsule", "report this to the array library",
                     subject.name);
  }
  if (writable && is_immutable(object)) info.read_only = true;
  lent->view = info.view;
  if (info.view.device.kind != DeviceKind::kHost) {
    Strides strides;
    if (!info.row_major) {
      if (tensor->strides != nullptr) {
        strides.assign(tensor->strides, tensor->strides + tensor->ndim);
      } else {
        strides.assign(info.view.shape.rank(), 0);  // sub-byte elements a byte each: refused
      }
    }
    fit_device_memory(strides, info.read_only, copy, writable, stream, subject, lent);
    return true;
  }
  auto address = reinterpret_cast<uintptr_t>(info.view.data);
  auto align = static_cast<uintptr_t>(std::max(1, std::min(8, dtype_bits(info.view.dtype) / 8)));
  return info.row_major && address % align == 0 && !(writable && info.read_only);
}

}  // namespace zerolane::bindings
