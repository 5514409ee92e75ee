// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "core/device.h"

namespace zerolane {

class Pool;

// Memory of one device, owned alone; move-only. Goes back to its pool (or device) when destroyed.
class Buffer {
 public:
  Buffer() = default;
  Buffer(Buffer&& other) noexcept;
  Buffer& operator=(Buffer&& other) noexcept;
  ~Buffer();

  void* data() const noexcept { return data_; }
  size_t bytes() const noexcept { return bytes_; }
  DeviceId device() const noexcept;

 private:
  friend class Pool;
  Buffer(std::shared_ptr<Pool> pool, void* data, size_t bytes, size_t capacity);
  void release() noexcept;

  std::shared_ptr<Pool> pool_;
  void* data_ = nullptr;
  size_t bytes_ = 0;
  size_t capacity_ = 0;
};

struct PoolStats {
  size_t bytes_in_use = 0;  // handed out, by capacity
  size_t bytes_cached = 0;  // free, kept for reuse
  size_t peak_bytes = 0;    // highest bytes_in_use
  size_t buffers = 0;       // handed out
  uint64_t allocations = 0;
  uint64_t reuses = 0;  // allocations served from the cache
};

// Caches freed memory of one device in size classes (four to a power of two), up to `max_cached`
// bytes. Thread-safe. Buffers hold a reference to their pool, so a pool outlives them.
class Pool : public std::enable_shared_from_this<Pool> {
 public:
  static std::shared_ptr<Pool> make(Device& device, size_t max_cached = size_t{64} << 20);
  ~Pool();
  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;

  // Contents are undefined. Throws kOutOfMemory (after giving the cache back and trying again).
  Buffer allocate(size_t bytes);
  // Gives all cached memory back to the device.
  void trim() noexcept;
  PoolStats stats() const;
  Device& device() const noexcept { return device_; }

  // The size class that serves a request. Exposed for tests.
  static size_t capacity_for(size_t bytes);

 private:
  friend class Buffer;
  static constexpr size_t kClasses = 4 * 60;

  Pool(Device& device, size_t max_cached) : device_(device), max_cached_(max_cached) {}
  void give_back(void* data, size_t capacity) noexcept;
  static size_t class_of(size_t capacity);

  Device& device_;
  const size_t max_cached_;
  mutable std::mutex mutex_;  // guards free_ and stats_
  std::array<std::vector<void*>, kClasses> free_;
  PoolStats stats_;
};

// The process-wide pool of host memory.
const std::shared_ptr<Pool>& host_pool();

}  // namespace zerolane
