// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "core/buffer.h"
#include "cuda/handles.h"

namespace zerolane::cuda {

class CudaDevice;
class CudaStream;
class DevicePool;

// Device memory in stream order, owned alone; move-only. Usable by work enqueued on its stream
// after it was allocated; given back in the order of that stream, so no wait is needed before it is
// destroyed. Other streams wait for the stream's event first. The stream must outlive it.
class DeviceBuffer {
 public:
  DeviceBuffer() = default;
  DeviceBuffer(DeviceBuffer&& other) noexcept;
  DeviceBuffer& operator=(DeviceBuffer&& other) noexcept;
  ~DeviceBuffer();

  void* data() const noexcept { return data_; }
  size_t bytes() const noexcept { return bytes_; }
  // From now on the memory is given back in the order of this stream.
  void release_on(CudaStream& stream) noexcept;

 private:
  friend class DevicePool;
  DeviceBuffer(DevicePool* pool, NativeStream* stream, void* data, size_t bytes) noexcept
      : pool_(pool), stream_(stream), data_(data), bytes_(bytes) {}
  void release() noexcept;

  DevicePool* pool_ = nullptr;
  NativeStream* stream_ = nullptr;
  void* data_ = nullptr;
  size_t bytes_ = 0;
};

// The stream-ordered pool of one device. Up to `release_threshold` bytes of freed memory stay
// reserved, so that a steady load asks the driver for nothing. Thread-safe; lives as long as its
// device.
class DevicePool {
 public:
  explicit DevicePool(CudaDevice& device, uint64_t release_threshold = UINT64_MAX);
  // At most so many bytes in use from now on; 0: no cap. Above it, allocate() throws kOutOfMemory.
  void set_limit(uint64_t bytes) noexcept { limit_ = bytes; }

  // Zero bytes give an empty buffer. Throws kOutOfMemory, after giving back what is cached and
  // trying again.
  DeviceBuffer allocate(size_t bytes, CudaStream& stream);
  // Gives cached memory above `keep_bytes` back to the device.
  void trim(size_t keep_bytes = 0) noexcept;

  // bytes_in_use, peak_bytes, buffers and allocations count what was asked for; bytes_cached is
  // what the driver holds beyond it.
  PoolStats stats() const;

 private:
  friend class CudaDevice;
  friend class DeviceBuffer;
  void* take(size_t bytes, NativeStream* stream);
  void give_back(void* data, size_t bytes, NativeStream* stream) noexcept;

  CudaDevice& device_;
  PoolHandle pool_;  // empty: the device has no pools, and memory is had by blocking calls
  std::atomic<uint64_t> limit_{0};
  std::atomic<uint64_t> allocations_{0};
  std::atomic<uint64_t> buffers_{0};
  std::atomic<uint64_t> bytes_in_use_{0};
  std::atomic<uint64_t> peak_bytes_{0};
};

}  // namespace zerolane::cuda
