// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <pybind11/pybind11.h>

#include <vector>

#include "bindings/arrays.h"
#include "core/stream.h"
#include "cuda/stream.h"

namespace zerolane::bindings {

// Arrays in the memory of a GPU. All of it needs the GIL.

// Strides as DLPack has them: in elements; empty where the memory is dense and row-major.
using Strides = std::vector<int64_t>;

// The CUDA stream behind a context's stream that is not of the host.
cuda::CudaStream& cuda_stream(Stream& stream);
// What __dlpack__ takes as `stream`: the handle, or 1 for the legacy default stream.
pybind11::int_ stream_number(const Stream& stream);

// Memory of a GPU as a record describes it, made fit for a session on `stream` (null: on the host):
// throws kDevice where it lies elsewhere; what is not row-major is copied in stream order if `copy`
// and not `writable`, else refused, as is what is read-only for `writable`.
void fit_device_memory(const Strides& strides, bool read_only, bool copy, bool writable,
                       Stream* stream, const Subject& subject, Lent* lent);

// Throws kDevice unless a session on `stream` can use memory of this device. `type` is DLPack's.
void check_device(int type, int index, const Stream* stream, const Subject& subject);

// Takes an object's memory through __cuda_array_interface__, in order with the stream it names.
void take_cuda_interface(pybind11::handle object, bool copy, bool writable, Stream* stream,
                         const Subject& subject, Lent* lent);

// Lets `stream` wait for the work that is under way on an array which was taken before: on the
// stream that its library names now.
void order_after(pybind11::handle array, Stream& stream, const Subject& subject);

// A new tensor on the device of `stream`, contents undefined, usable at once.
Tensor make_device_tensor(DType dtype, const Shape& shape, Stream& stream);

// A new NumPy array of the pinned pool of the stream's device, which gets the memory back when the
// array and all views of it are gone; contents undefined. It can be made at most as large as the
// system lets memory be pinned: throws kOutOfMemory.
pybind11::object new_pinned_ndarray(DType dtype, const Shape& shape, Stream& stream, View* view);

}  // namespace zerolane::bindings
