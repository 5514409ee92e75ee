// SPDX-License-Identifier: Apache-2.0
#include "core/dlpack.h"

#include <array>
#include <memory>

#include "core/error.h"

namespace zerolane {
namespace {

// The record and all that it points to, freed together by the deleter.
template <typename Record>
struct Exported {
  Record record;
  Tensor tensor;
  std::array<int64_t, kMaxRank> shape;
  std::array<int64_t, kMaxRank> strides;
};

DLDevice dl_device(DeviceId device) {
  return device.kind == DeviceKind::kHost ? DLDevice{kDLCPU, 0} : DLDevice{kDLCUDA, device.index};
}

template <typename Record>
Record* export_tensor(const Tensor& tensor) {
  auto dtype = to_dlpack(tensor.dtype());
  if (!dtype) {
    throw make_error(Code::kUnsupported, "handing out a tensor through DLPack",
                     "DLPack has no type for " + std::string(dtype_name(tensor.dtype())),
                     "cast it inside the model");
  }
  auto exported = std::make_unique<Exported<Record>>();
  exported->tensor = tensor;
  const Shape& shape = tensor.shape();
  int64_t stride = 1;
  for (size_t i = shape.rank(); i-- > 0;) {
    exported->shape[i] = shape[i];
    exported->strides[i] = stride;
    stride *= shape[i] == 0 ? 1 : shape[i];
  }
  Record& record = exported->record;
  record = {};
  record.dl_tensor.data = tensor.data();
  record.dl_tensor.device = dl_device(tensor.storage()->device());
  record.dl_tensor.ndim = static_cast<int32_t>(shape.rank());
  record.dl_tensor.dtype = *dtype;
  record.dl_tensor.shape = exported->shape.data();
  record.dl_tensor.strides = exported->strides.data();
  record.manager_ctx = exported.get();
  record.deleter = [](Record* self) { delete static_cast<Exported<Record>*>(self->manager_ctx); };
  return &exported.release()->record;
}

}  // namespace

DLManagedTensorVersioned* to_dlpack(const Tensor& tensor) {
  auto* record = export_tensor<DLManagedTensorVersioned>(tensor);
  record->version = {DLPACK_MAJOR_VERSION, DLPACK_MINOR_VERSION};
  record->flags = tensor.storage()->read_only() ? kDLFlagReadOnly : 0;
  return record;
}

DLManagedTensor* to_dlpack_legacy(const Tensor& tensor) {
  if (tensor.storage()->read_only()) {
    throw make_error(Code::kUnsupported, "handing out a read-only tensor through DLPack",
                     "the consumer asked for the unversioned form, which cannot say read-only",
                     "pass max_version=(1, 0) or copy the tensor");
  }
  return export_tensor<DLManagedTensor>(tensor);
}

DlpackInfo inspect(const DLTensor& tensor, uint64_t flags) {
  const char* doing = "taking an array through DLPack";
  auto dtype = from_dlpack(tensor.dtype);
  if (!dtype) {
    throw make_error(Code::kUnsupported, doing,
                     "element type code " + std::to_string(tensor.dtype.code) + " with " +
                         std::to_string(tensor.dtype.bits) + " bits and " +
                         std::to_string(tensor.dtype.lanes) + " lanes is not known",
                     "cast the array to a standard element type");
  }
  DeviceId device;
  switch (tensor.device.device_type) {
    case kDLCPU:
    case kDLCUDAHost:
      break;
    case kDLCUDA:
    case kDLCUDAManaged:
      device = {DeviceKind::kCuda, tensor.device.device_id};
      break;
    default:
      throw make_error(
          Code::kUnsupported, doing,
          "device type " + std::to_string(tensor.device.device_type) + " is neither CPU nor CUDA",
          "copy the array to the CPU first");
  }
  if (tensor.ndim < 0 || (tensor.ndim > 0 && tensor.shape == nullptr)) {
    throw make_error(Code::kInvalidArgument, doing, "the record has no valid shape",
                     "report this to the array library");
  }
  Shape shape(std::span(tensor.shape, static_cast<size_t>(tensor.ndim)));
  bool row_major = true;
  if (tensor.strides != nullptr && shape.count() > 0) {
    int64_t stride = 1;
    for (size_t i = shape.rank(); i-- > 0;) {
      if (shape[i] != 1 && tensor.strides[i] != stride) row_major = false;
      stride *= shape[i];
    }
  }
  // One element a byte is not the packed layout that dtype_bytes counts.
  if (dtype_bits(*dtype) < 8 && (flags & kDLFlagSubbytePadded) != 0) row_major = false;
  void* data = static_cast<char*>(tensor.data) + tensor.byte_offset;
  return {{data, *dtype, device, shape}, row_major, (flags & kDLFlagReadOnly) != 0};
}

}  // namespace zerolane
