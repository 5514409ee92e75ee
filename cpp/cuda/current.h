// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <new>

#include "cuda/device.h"
#include "cuda/library.h"

namespace zerolane::cuda {

// The GPU that vendor libraries work on in this thread. Throws kUnavailable without CUDA.
inline int current_device() {
  const Table& table = open_library();
  int32_t previous = -1, ours = 0;
  check(table.make_current(0, &previous), {"cudaSetDevice", 0});
  if (previous > 0) table.make_current(previous, &ours);
  return previous > 0 ? previous : 0;
}

// Makes a GPU the calling thread's current one while it lives, for vendor libraries that work on
// that one. Lives on the stack.
class CurrentDevice {
 public:
  explicit CurrentDevice(const CudaDevice& device) : table_(device.table()) {
    check(table_.make_current(device.index(), &previous_), {"cudaSetDevice", device.index()});
  }
  // For destructors: a failure is passed over.
  CurrentDevice(const CudaDevice& device, std::nothrow_t) noexcept : table_(device.table()) {
    table_.make_current(device.index(), &previous_);
  }
  ~CurrentDevice() {
    int32_t ours = 0;
    if (previous_ >= 0) table_.make_current(previous_, &ours);
  }
  CurrentDevice(const CurrentDevice&) = delete;
  CurrentDevice& operator=(const CurrentDevice&) = delete;

 private:
  const Table& table_;
  int32_t previous_ = -1;
};

}  // namespace zerolane::cuda
