// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "kernels/block.h"

namespace zerolane::kernels {

struct DeviceBlock {
  template <typename Phase>
  __device__ void each(const Phase& phase) const {
    phase(static_cast<int>(threadIdx.x));
    __syncthreads();
  }
  __device__ unsigned add(unsigned* to, unsigned amount) const { return atomicAdd(to, amount); }
};

// One block for each of `rows` rows, or as many as fit a launch, each then taking several.
template <typename Work>
__global__ void run_rows(int64_t rows, Work work) {
  __shared__ typename Work::Shared shared;
  for (int64_t row = blockIdx.x; row < rows; row += gridDim.x) {
    work(DeviceBlock{}, row, &shared);
  }
}

// work(block, row, shared) for 0 <= row < rows on the stream. Returns the launch's status.
template <typename Work>
int each_row_on(void* stream, int64_t rows, const Work& work) {
  if (rows <= 0) return 0;
  constexpr int64_t kMostBlocks = 1 << 16;
  run_rows<<<static_cast<unsigned>(rows < kMostBlocks ? rows : kMostBlocks), kBlockThreads, 0,
             static_cast<cudaStream_t>(stream)>>>(rows, work);
  return static_cast<int>(cudaGetLastError());
}

}  // namespace zerolane::kernels
