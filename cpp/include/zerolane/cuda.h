// SPDX-License-Identifier: Apache-2.0
// For op bodies that run on a GPU. Plain C++ where nvcc does not compile it, so that the arithmetic
// of a kernel can be written once, as an inline function marked ZL_HOST_DEVICE, and be tested on a
// machine without a GPU. C++17.
#pragma once

#include <cstdint>

#if defined(__CUDACC__)
#define ZL_HOST_DEVICE __host__ __device__
#else
#define ZL_HOST_DEVICE
#endif

#if defined(__CUDACC__)
#include <cuda_runtime_api.h>

namespace zerolane {

namespace cuda_kernels {

template <typename Body>
__global__ void for_each(int64_t count, Body body) {
  const int64_t step = static_cast<int64_t>(gridDim.x) * blockDim.x;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < count;
       i += step) {
    body(i);
  }
}

}  // namespace cuda_kernels

// Calls body(i) for 0 <= i < count on the GPU, in the stream's order; does not wait. `body` is a
// copyable object with a ZL_HOST_DEVICE operator(). Returns the launch's status (0: success).
template <typename Body>
int for_each_on(void* stream, int64_t count, const Body& body) {
  if (count <= 0) return 0;
  constexpr int kThreads = 256;
  constexpr int64_t kMostBlocks = 1 << 16;
  const int64_t blocks = (count + kThreads - 1) / kThreads;
  cuda_kernels::for_each<<<static_cast<unsigned>(blocks < kMostBlocks ? blocks : kMostBlocks),
                           kThreads, 0, static_cast<cudaStream_t>(stream)>>>(count, body);
  return static_cast<int>(cudaGetLastError());
}

}  // namespace zerolane
#endif
