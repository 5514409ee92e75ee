// SPDX-License-Identifier: Apache-2.0
#include "cuda/memory.h"

#include <utility>

#include "core/error.h"
#include "cuda/device.h"
#include "cuda/stream.h"

namespace zerolane::cuda {

DeviceBuffer::DeviceBuffer(DeviceBuffer&& other) noexcept
    : pool_(std::exchange(other.pool_, nullptr)),
      stream_(std::exchange(other.stream_, nullptr)),
      data_(std::exchange(other.data_, nullptr)),
      bytes_(std::exchange(other.bytes_, 0)) {}

DeviceBuffer& DeviceBuffer::operator=(DeviceBuffer&& other) noexcept {
  if (this != &other) {
    release();
    pool_ = std::exchange(other.pool_, nullptr);
    stream_ = std::exchange(other.stream_, nullptr);
    data_ = std::exchange(other.data_, nullptr);
    bytes_ = std::exchange(other.bytes_, 0);
  }
  return *this;
}

DeviceBuffer::~DeviceBuffer() { release(); }

void DeviceBuffer::release() noexcept {
  if (data_ != nullptr) pool_->give_back(std::exchange(data_, nullptr), bytes_, stream_);
}

void DeviceBuffer::release_on(CudaStream& stream) noexcept { stream_ = stream.native(); }

DevicePool::DevicePool(CudaDevice& device, uint64_t release_threshold) : device_(device) {
  if (device.info().memory_pools == 0) return;
  NativePool* made = nullptr;
  check(device.table().pool_create(device.index(), release_threshold, &made),
        {"cudaMemPoolCreate", device.index()});
  pool_ = PoolHandle(device.index(), made);
}

DeviceBuffer DevicePool::allocate(size_t bytes, CudaStream& stream) {
  if (bytes == 0) return {};
  return DeviceBuffer(this, stream.native(), take(bytes, stream.native()), bytes);
}

void* DevicePool::take(size_t bytes, NativeStream* stream) {
  refuse_after_fork();
  const Table& table = device_.table();
  int index = device_.index();
  uint64_t limit = limit_.load(std::memory_order_relaxed);
  uint64_t in_use = bytes_in_use_.fetch_add(bytes, std::memory_order_relaxed) + bytes;
  if (limit != 0 && in_use > limit) {
    bytes_in_use_.fetch_sub(bytes, std::memory_order_relaxed);
    throw make_error(Code::kOutOfMemory, "allocating memory of " + device_.id().text(),
                     "asked for " + std::to_string(bytes) + " bytes, of the cap of " +
                         std::to_string(limit) + " bytes " + std::to_string(in_use - bytes) +
                         " are in use",
                     "raise the cap, or use smaller shapes or fewer lanes", device_.id().text());
  }
  void* data = nullptr;
  auto try_once = [&] {
    return pool_ ? table.pool_allocate(index, pool_.get(), bytes, stream, &data)
                 : table.device_allocate(index, bytes, &data);
  };
  int32_t status = try_once();
  if (status != 0 && table.status_kind(status) == StatusKind::kOutOfMemory) {
    trim();
    status = try_once();
  }
  if (status != 0) {
    bytes_in_use_.fetch_sub(bytes, std::memory_order_relaxed);
    fail(status, {pool_ ? "cudaMallocFromPoolAsync" : "cudaMalloc", index, bytes});
  }
  allocations_.fetch_add(1, std::memory_order_relaxed);
  buffers_.fetch_add(1, std::memory_order_relaxed);
  uint64_t peak = peak_bytes_.load(std::memory_order_relaxed);
  while (peak < in_use &&
         !peak_bytes_.compare_exchange_weak(peak, in_use, std::memory_order_relaxed)) {
  }
  return data;
}

void DevicePool::give_back(void* data, size_t bytes, NativeStream* stream) noexcept {
  if (forked()) return;
  if (pool_) {
    device_.table().pool_free(device_.index(), data, stream);
  } else {
    device_.table().device_free(device_.index(), data);
  }
  buffers_.fetch_sub(1, std::memory_order_relaxed);
  bytes_in_use_.fetch_sub(bytes, std::memory_order_relaxed);
}

void DevicePool::trim(size_t keep_bytes) noexcept {
  if (pool_ && !forked()) device_.table().pool_trim(device_.index(), pool_.get(), keep_bytes);
}

PoolStats DevicePool::stats() const {
  refuse_after_fork();
  PoolStats stats;
  stats.bytes_in_use = bytes_in_use_.load(std::memory_order_relaxed);
  stats.peak_bytes = peak_bytes_.load(std::memory_order_relaxed);
  stats.buffers = buffers_.load(std::memory_order_relaxed);
  stats.allocations = allocations_.load(std::memory_order_relaxed);
  if (pool_) {
    PoolUsage usage{};
    check(device_.table().pool_usage(device_.index(), pool_.get(), &usage),
          {"cudaMemPoolGetAttribute", device_.index()});
    if (usage.reserved_bytes > stats.bytes_in_use) {
      stats.bytes_cached = usage.reserved_bytes - stats.bytes_in_use;
    }
  }
  return stats;
}

}  // namespace zerolane::cuda
