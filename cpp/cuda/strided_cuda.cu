// SPDX-License-Identifier: Apache-2.0
#include "cuda/strided_cuda.cuh"

namespace zerolane::cuda {
namespace {

// One thread an element, elements in the order of the shape: the last dimension is neighbouring
// threads. Index: 32 bits where they hold every element, since 64-bit division is slow.
template <class Element, class Index>
__global__ void copy_elements(StridedCopy copy, Index count) {
  Index step = static_cast<Index>(blockDim.x) * gridDim.x;
  for (Index i = static_cast<Index>(blockIdx.x) * blockDim.x + threadIdx.x; i < count; i += step) {
    Index rest = i;
    long long to = 0;
    long long from = 0;
#pragma unroll
    for (int d = kMaxStridedRank - 1; d >= 0; --d) {
      if (d >= copy.rank) continue;
      Index extent = static_cast<Index>(copy.shape[d]);
      Index outer = rest / extent;
      auto at = static_cast<long long>(rest - outer * extent);
      to += at * copy.to_strides[d];
      from += at * copy.from_strides[d];
      rest = outer;
    }
    *reinterpret_cast<Element*>(static_cast<char*>(copy.to) + to) =
        *reinterpret_cast<const Element*>(static_cast<const char*>(copy.from) + from);
  }
}

constexpr unsigned kThreads = 256;
constexpr unsigned long long kMostBlocks = 1U << 20;

template <class Element>
cudaError_t launch(const StridedCopy& copy, unsigned long long count, cudaStream_t stream) {
  unsigned long long wanted = (count + kThreads - 1) / kThreads;
  auto blocks = static_cast<unsigned>(wanted < kMostBlocks ? wanted : kMostBlocks);
  // The last step of the loop must not wrap around.
  if (count < (1ULL << 32) - kMostBlocks * kThreads) {
    copy_elements<Element, unsigned><<<blocks, kThreads, 0, stream>>>(copy, count);
  } else {
    copy_elements<Element, unsigned long long><<<blocks, kThreads, 0, stream>>>(copy, count);
  }
  return cudaGetLastError();
}

}  // namespace

cudaError_t launch_strided_copy(const StridedCopy& copy, cudaStream_t stream) noexcept {
  unsigned long long count = 1;
  for (int d = 0; d < copy.rank; ++d) count *= static_cast<unsigned long long>(copy.shape[d]);
  if (count == 0) return cudaSuccess;
  switch (copy.element_bytes) {
    case 1:
      return launch<unsigned char>(copy, count, stream);
    case 2:
      return launch<unsigned short>(copy, count, stream);
    case 4:
      return launch<unsigned>(copy, count, stream);
    case 8:
      return launch<uint2>(copy, count, stream);
    case 16:
      return launch<uint4>(copy, count, stream);
    default:
      return cudaErrorInvalidValue;
  }
}

}  // namespace zerolane::cuda
