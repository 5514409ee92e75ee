// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <dlfcn.h>
#include <doctest/doctest.h>

#include <cstdlib>
#include <vector>

#include "../fakes/cuda/control.h"
#include "cuda/device.h"
#include "cuda/library.h"
#include "cuda/stream.h"

namespace zerolane::cuda::fake {

// Makes the stand-in the CUDA of this process, and gives its controls.
inline const Control& control() {
  static const Control* found = [] {
    ::setenv(kLibraryVariable, ZEROLANE_FAKE_CUDA_PATH, 1);
    open_library();
    void* library = ::dlopen(ZEROLANE_FAKE_CUDA_PATH, RTLD_NOW | RTLD_NOLOAD);
    REQUIRE(library != nullptr);
    return reinterpret_cast<ControlFunction>(::dlsym(library, kControlSymbol))();
  }();
  return *found;
}

inline Counts counts() {
  Counts now{};
  control().counts(&now);
  return now;
}

// A device with nothing planned, nothing counted and 1 GiB.
inline CudaDevice& fresh_device(int index = 0) {
  control().heal();
  control().set_memory(uint64_t{1} << 30);
  control().clear_counts();
  return open_device(index);
}

// Work on the stream waits while this lives.
class Held {
 public:
  explicit Held(const CudaStream& stream) : stream_(stream) {
    control().hold(stream.device().index(), stream.native());
  }
  ~Held() { control().release(stream_.device().index(), stream_.native()); }
  Held(const Held&) = delete;
  Held& operator=(const Held&) = delete;

 private:
  const CudaStream& stream_;
};

}  // namespace zerolane::cuda::fake
