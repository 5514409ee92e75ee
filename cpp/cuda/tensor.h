// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>

#include "core/buffer.h"
#include "core/tensor.h"
#include "cuda/device.h"

namespace zerolane::cuda {

// A tensor of the device's tensor_pool(), contents undefined. Any stream may use it at once.
Tensor make_tensor(CudaDevice& device, DType dtype, const Shape& shape);

// The same tensor for a consumer that works on the stream `consumer` (a DLPack number: 1 and null
// are the legacy default stream, 2 the per-thread one), which must live as long as the result. When
// the result is let go, on any thread and without a wait, the memory lives on until the work that
// the stream holds then is done.
Tensor lend(CudaDevice& device, const Tensor& tensor, NativeStream* consumer);

// Lets go of lent memory whose work is done; never blocks. Called by the functions above.
void sweep_lent() noexcept;
// How many pieces of memory wait for work of a consumer.
size_t lent_in_flight();

}  // namespace zerolane::cuda
