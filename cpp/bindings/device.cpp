// SPDX-License-Identifier: Apache-2.0
#include "bindings/device.h"

#include <algorithm>

#include "bindings/address.h"
#include "bindings/dlpack.h"
#include "bindings/tensor.h"
#include "bindings/text.h"
#include "core/dlpack.h"
#include "core/error.h"
#include "cuda/memory.h"
#include "cuda/tensor.h"

namespace py = pybind11;

namespace zerolane::bindings {
namespace {

// Dense memory with the values of `lent`, filled in stream order, and what it is copied from.
struct Copied {
  py::object source;
  cuda::DeviceBuffer memory;
};

void copy_dense(const Strides& strides, cuda::CudaStream& stream, const Subject& subject,
                Lent* lent) {
  const Shape& shape = lent->view.shape;
  int bits = dtype_bits(lent->view.dtype);
  if (bits < 8 || shape.rank() > cuda::kMaxStridedRank) {
    throw make_error(Code::kUnsupported, "copying " + subject.text,
                     "it is not row-major contiguous, has rank " + std::to_string(shape.rank()) +
                         " and " + std::to_string(bits) +
                         " bits an element; up to rank 8 and whole bytes are copied on the device",
                     "give a dense row-major array (for torch: .contiguous())", subject.name);
  }
  cuda::StridedCopy copy{};
  copy.element_bytes = bits / 8;
  copy.rank = static_cast<int32_t>(shape.rank());
  int64_t dense = copy.element_bytes;
  for (size_t i = shape.rank(); i-- > 0;) {
    copy.shape[i] = shape[i];
    copy.from_strides[i] = strides[i] * copy.element_bytes;
    copy.to_strides[i] = dense;
    dense *= shape[i];
  }
  auto copied = std::make_unique<Copied>();
  copied->memory = stream.device().pool().allocate(lent->view.bytes(), stream);
  copy.from = lent->view.data;
  copy.to = copied->memory.data();
  stream.copy_strided_async(copy);
  lent->view.data = copy.to;
  copied->source = std::move(lent->owner);
  lent->owner =
      py::capsule(copied.release(), [](void* object) { delete static_cast<Copied*>(object); });
}

py::dict interface_of(py::handle object, const Subject& subject) {
  try {
    return object.attr("__cuda_array_interface__").cast<py::dict>();
  } catch (const py::error_already_set& error) {
    if (!error.matches(PyExc_Exception)) throw;
    throw make_error(Code::kInvalidArgument, "reading " + subject.text,
                     "its __cuda_array_interface__ failed: " + utf8(error.value()),
                     "give an array in device memory", subject.name);
  }
}

// The stream of version 3 of the interface; None asks for no order.
void wait_for_interface(const py::dict& interface, Stream& stream) {
  if (!interface.contains("stream") || interface["stream"].is_none()) return;
  auto number = interface["stream"].cast<uintptr_t>();
  auto* native = address<cuda::NativeStream>(number == 1 ? 0 : number);
  cuda_stream(stream).wait_for_native(native);
}

}  // namespace

cuda::CudaStream& cuda_stream(Stream& stream) { return static_cast<cuda::CudaStream&>(stream); }

py::int_ stream_number(const Stream& stream) {
  auto number = reinterpret_cast<uintptr_t>(stream.native_handle());
  return py::int_(number == 0 ? 1 : number);
}

void check_device(int type, int index, const Stream* stream, const Subject& subject) {
  bool cuda = type == kDLCUDA || type == kDLCUDAManaged;
  if (cuda && stream != nullptr && stream->device_id() == DeviceId{DeviceKind::kCuda, index}) {
    return;
  }
  std::string place = "device type " + std::to_string(type);
  if (cuda) place = "cuda:" + std::to_string(index) + " (" + place + ")";
  if (stream == nullptr) {
    throw make_error(Code::kDevice, "reading " + subject.text,
                     "the array is on " + place + ", this session takes host memory",
                     "copy it to the CPU first (.cpu())", subject.name);
  }
  const std::string here = stream->device_id().text();
  throw make_error(Code::kDevice, "reading " + subject.text,
                   "the array is on " + place + ", this session runs on " + here,
                   "copy it to " + here + " or to the CPU first", subject.name);
}

void fit_device_memory(const Strides& strides, bool read_only, bool copy, bool writable,
                       Stream* stream, const Subject& subject, Lent* lent) {
  const View& view = lent->view;
  check_device(kDLCUDA, view.device.index, stream, subject);
  auto align = static_cast<uintptr_t>(std::max(1, std::min(16, dtype_bits(view.dtype) / 8)));
  std::string fault;
  if (!strides.empty()) fault = "not row-major contiguous";
  if (reinterpret_cast<uintptr_t>(view.data) % align != 0) {
    fault = "misaligned";
    copy = false;
  }
  if (writable && read_only) fault = "read-only";
  if (fault.empty()) return;
  if (writable || !copy) {
    throw make_error(
        Code::kInvalidArgument, "binding " + subject.text,
        "the array on " + view.device.text() + " is " + fault + ", and it was to be used in place",
        "give a dense row-major array (for torch: .contiguous())", subject.name);
  }
  copy_dense(strides, cuda_stream(*stream), subject, lent);
}

void take_cuda_interface(py::handle object, bool copy, bool writable, Stream* stream,
                         const Subject& subject, Lent* lent) {
  if (stream == nullptr) check_device(kDLCUDA, 0, stream, subject);
  py::dict interface = interface_of(object, subject);
  py::tuple data = interface["data"];
  py::tuple dims = interface["shape"];
  auto where = data[0].cast<uintptr_t>();
  auto dtype = dtype_from_name(
      py::module_::import("zerolane._arrays")
          .attr("dtype_of_typestr")(interface["typestr"], subject.text, subject.name)
          .cast<std::string>());
  if (!dtype || (interface.contains("mask") && !interface["mask"].is_none())) {
    throw make_error(Code::kUnsupported, "reading " + subject.text,
                     "its __cuda_array_interface__ has typestr " + utf8(interface["typestr"]) +
                         " or a mask, which have no ONNX form",
                     "give a plain array of a standard element type", subject.name);
  }
  View& view = lent->view;
  view.data = address<void>(where);
  view.dtype = *dtype;
  std::vector<int64_t> extents;
  for (py::handle dim : dims) extents.push_back(dim.cast<int64_t>());
  view.shape = Shape(extents);
  view.device = stream->device_id();
  if (where != 0) {
    view.device.index = cuda_stream(*stream).device().pointer_info(view.data).device;
  }
  Strides strides;
  if (interface.contains("strides") && !interface["strides"].is_none() && view.shape.count() > 0) {
    int64_t dense = 1;
    bool row_major = true;
    int64_t element = std::max(1, dtype_bits(*dtype) / 8);
    for (py::handle bytes : py::tuple(interface["strides"])) {
      strides.push_back(bytes.cast<int64_t>() / element);
    }
    for (size_t i = extents.size(); i-- > 0; dense *= extents[i]) {
      if (extents[i] != 1 && strides[i] != dense) row_major = false;
    }
    if (row_major) strides.clear();
  }
  lent->owner = py::reinterpret_borrow<py::object>(object);
  check_device(kDLCUDA, view.device.index, stream, subject);
  wait_for_interface(interface, *stream);
  fit_device_memory(strides, data[1].cast<bool>(), copy, writable, stream, subject, lent);
}

void order_after(py::handle array, Stream& stream, const Subject& subject) {
  if (py::isinstance<PyTensor>(array)) {
    array.cast<PyTensor&>().order_before(cuda_stream(stream));
  } else if (py::hasattr(array, "__dlpack__")) {
    order_dlpack(array, stream, subject);
  } else {
    wait_for_interface(interface_of(array, subject), stream);
  }
}

Tensor make_device_tensor(DType dtype, const Shape& shape, Stream& stream) {
  return cuda::make_tensor(cuda_stream(stream).device(), dtype, shape);
}

py::object new_pinned_ndarray(DType dtype, const Shape& shape, Stream& stream, View* view) {
  const size_t count = shape.count();
  if (count == 0) return new_ndarray(dtype, shape, view);
  Buffer memory = cuda_stream(stream).device().pinned_pool()->allocate(dtype_bytes(dtype, count));
  Tensor tensor(std::make_shared<Storage>(std::move(memory)), dtype, shape);
  *view = tensor.view();
  return to_python(std::move(tensor), py::handle());
}

}  // namespace zerolane::bindings
