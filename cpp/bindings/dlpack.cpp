// SPDX-License-Identifier: Apache-2.0
#include "bindings/dlpack.h"
#include "bindings/text.h"

#include <algorithm>

#include "core/dlpack.h"
#include "core/error.h"

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

py::object ask(py::handle object, const Subject& subject) {
  using namespace py::literals;
  py::object method = object.attr("__dlpack__");
  try {
    try {
      return method("max_version"_a = py::make_tuple(1, 1));
    } catch (py::error_already_set& error) {
      if (!error.matches(PyExc_TypeError)) throw;
    }
    return method();  // a producer from before version 1
  } catch (py::error_already_set& error) {
    if (error.matches(PyExc_KeyboardInterrupt)) throw;
    throw make_error(Code::kInvalidArgument, "taking " + subject.text + " through DLPack",
                     utf8(error.value()), "give a plain dense array (for torch: .detach())",
                     subject.name);
  }
}

}  // namespace

bool take_dlpack(py::handle object, bool writable, const Subject& subject, Lent* lent) {
  if (py::hasattr(object, "__dlpack_device__")) {
    int type = 0;
    try {
      py::tuple device = object.attr("__dlpack_device__")();
      type = py::int_(device[0]);
    } catch (py::error_already_set& error) {
      if (!error.matches(PyExc_Exception)) throw;
      throw make_error(Code::kDevice, "reading " + subject.text,
                       "its device cannot be told: " + utf8(error.value()),
                       "give an array in host memory", subject.name);
    }
    if (type != kDLCPU && type != kDLCUDAHost) {
      throw make_error(Code::kDevice, "reading " + subject.text,
                       "the array is on device type " + std::to_string(type) +
                           " (2 is CUDA), this session takes host memory",
                       "copy it to the CPU first (.cpu())", subject.name);
    }
  }
  // torch hands such views out with the bits before negation, and says nothing.
  if (py::hasattr(object, "is_neg") && object.attr("is_neg")().cast<bool>()) {
    throw make_error(Code::kInvalidArgument, "taking " + subject.text + " through DLPack",
                     "it is a view that torch would negate only when reading it",
                     "give x.resolve_neg()", subject.name);
  }
  py::object capsule = ask(object, subject);
  PyObject* raw = capsule.ptr();
  DlpackInfo info;
  if (PyCapsule_IsValid(raw, "dltensor_versioned")) {
    auto* record =
        static_cast<DLManagedTensorVersioned*>(PyCapsule_GetPointer(raw, "dltensor_versioned"));
    if (record->version.major != DLPACK_MAJOR_VERSION) {
      throw make_error(Code::kUnsupported, "taking " + subject.text + " through DLPack",
                       "the record has version " + std::to_string(record->version.major) + "." +
                           std::to_string(record->version.minor) + ", 1.x is known",
                       "use an array library that speaks DLPack 1", subject.name);
    }
    info = inspect(record->dl_tensor, record->flags);
    PyCapsule_SetName(raw, "used_dltensor_versioned");
    lent->owner = owner_of(record);
  } else if (PyCapsule_IsValid(raw, "dltensor")) {
    auto* record = static_cast<DLManagedTensor*>(PyCapsule_GetPointer(raw, "dltensor"));
    info = inspect(record->dl_tensor, 0);
    PyCapsule_SetName(raw, "used_dltensor");
    lent->owner = owner_of(record);
  } else {
    throw make_error(Code::kInvalidArgument, "taking " + subject.text + " through DLPack",
                     "__dlpack__ returned no DLPack capsule", "report this to the array library",
                     subject.name);
  }
  lent->view = info.view;
  auto address = reinterpret_cast<uintptr_t>(info.view.data);
  auto align = static_cast<uintptr_t>(std::max(1, std::min(8, dtype_bits(info.view.dtype) / 8)));
  return info.row_major && address % align == 0 && !(writable && info.read_only);
}

}  // namespace zerolane::bindings
