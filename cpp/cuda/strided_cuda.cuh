// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cuda_runtime_api.h>

#include "cuda/table.h"

namespace zerolane::cuda {

// The kernel behind Table::copy_strided_async, on the current device.
cudaError_t launch_strided_copy(const StridedCopy& copy, cudaStream_t stream) noexcept;

}  // namespace zerolane::cuda
