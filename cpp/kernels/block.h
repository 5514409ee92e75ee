// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "zerolane/cuda.h"

namespace zerolane::kernels {

// What one block of GPU threads does together is written as phases: block.each(f) calls f(thread)
// for every thread, and no thread goes on before all have come back. What outlives a phase lies in
// memory that the threads share, never in a variable of one of them. So the same text runs on a GPU
// (DeviceBlock, block_cuda.cuh) and, one thread after the other, in tests.
constexpr int kBlockThreads = 256;

struct HostBlock {
  template <typename Phase>
  void each(const Phase& phase) const {
    for (int thread = 0; thread < kBlockThreads; ++thread) phase(thread);
  }
  // Adds to what all threads may add to; returns what was there.
  template <typename Number>
  Number add(Number* to, Number amount) const {
    const Number before = *to;
    *to = before + amount;
    return before;
  }
};

// values[0] = the values of all threads, brought together two by two: always in the same order.
template <typename Block, typename Value, typename Join>
ZL_HOST_DEVICE void join_all(const Block& block, Value* values, const Join& join) {
  for (int half = kBlockThreads / 2; half > 0; half /= 2) {
    block.each([&](int thread) {
      if (thread < half) values[thread] = join(values[thread], values[thread + half]);
    });
  }
}

}  // namespace zerolane::kernels
