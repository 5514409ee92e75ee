// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <mutex>
#include <string>

#include "trt/library.h"
#include "trt/objects.h"

namespace zerolane::trt {

// How execution contexts of one engine are made, and the file that keeps the kernels which
// TensorRT-RTX compiles on this machine, so that the next process starts warm. In families without
// such a cache only the configuration remains. Thread-safe.
class RuntimeCacheFile {
 public:
  // `file`: read now if it is there (a damaged or foreign one is ignored with a warning); "": no
  // file. The configuration asks for scratch memory that the caller manages.
  RuntimeCacheFile(Library& library, const CudaEngine* engine, std::string file);

  // Null where the release has no runtime configurations.
  RuntimeConfig* config() const noexcept { return config_.get(); }
  // Writes the file if the cache has changed: under a temporary name, then renamed. A folder that
  // cannot be written costs a warning, never a failure.
  void save() noexcept;

 private:
  Library& library_;
  std::string file_;
  Owned<RuntimeConfig> config_;
  Owned<RuntimeCache> cache_;
  std::mutex mutex_;  // guards saved_bytes_ and writing
  size_t saved_bytes_ = 0;
};

}  // namespace zerolane::trt
