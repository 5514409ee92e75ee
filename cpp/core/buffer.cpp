// SPDX-License-Identifier: Apache-2.0
#include "core/buffer.h"

#include <algorithm>
#include <bit>
#include <utility>

#include "core/error.h"

namespace zerolane {

Buffer::Buffer(std::shared_ptr<Pool> pool, void* data, size_t bytes, size_t capacity)
    : pool_(std::move(pool)), data_(data), bytes_(bytes), capacity_(capacity) {}

Buffer::Buffer(Buffer&& other) noexcept
    : pool_(std::move(other.pool_)),
      data_(std::exchange(other.data_, nullptr)),
      bytes_(std::exchange(other.bytes_, 0)),
      capacity_(std::exchange(other.capacity_, 0)) {}

Buffer& Buffer::operator=(Buffer&& other) noexcept {
  if (this != &other) {
    release();
    pool_ = std::move(other.pool_);
    data_ = std::exchange(other.data_, nullptr);
    bytes_ = std::exchange(other.bytes_, 0);
    capacity_ = std::exchange(other.capacity_, 0);
  }
  return *this;
}

Buffer::~Buffer() { release(); }

void Buffer::release() noexcept {
  if (data_ == nullptr) return;
  pool_->give_back(std::exchange(data_, nullptr), capacity_);
  pool_.reset();
}

DeviceId Buffer::device() const noexcept { return pool_ ? pool_->device().id() : DeviceId{}; }

std::shared_ptr<Pool> Pool::make(Device& device, size_t max_cached) {
  return std::shared_ptr<Pool>(new Pool(device, max_cached));
}

Pool::~Pool() { trim(); }

// Classes are 2^n * {4,5,6,7}/4, from 64 bytes on, so at most a quarter is lost to rounding.
size_t Pool::capacity_for(size_t bytes) {
  if (bytes <= kAlignment) return kAlignment;
  if (bytes > SIZE_MAX / 4) return bytes;
  auto power = static_cast<size_t>(std::bit_width(bytes - 1)) - 1;
  size_t quarter = size_t{1} << (power - 2);
  return (bytes + quarter - 1) / quarter * quarter;
}

size_t Pool::class_of(size_t capacity) {
  auto power = static_cast<size_t>(std::bit_width(capacity)) - 1;
  size_t quarter = (capacity >> (power - 2)) & 3;
  return std::min((power - 6) * 4 + quarter, kClasses - 1);
}

Buffer Pool::allocate(size_t bytes) {
  size_t capacity = capacity_for(bytes);
  void* data = nullptr;
  {
    std::lock_guard lock(mutex_);
    auto& free = free_[class_of(capacity)];
    if (!free.empty()) {
      data = free.back();
      free.pop_back();
      stats_.bytes_cached -= capacity;
      ++stats_.reuses;
    }
  }
  if (data == nullptr) {
    try {
      data = device_.allocate(capacity);
    } catch (const Error& error) {
      if (error.code() != Code::kOutOfMemory) throw;
      trim();
      data = device_.allocate(capacity);
    }
  }
  std::lock_guard lock(mutex_);
  ++stats_.allocations;
  ++stats_.buffers;
  stats_.bytes_in_use += capacity;
  stats_.peak_bytes = std::max(stats_.peak_bytes, stats_.bytes_in_use);
  return Buffer(shared_from_this(), data, bytes, capacity);
}

void Pool::give_back(void* data, size_t capacity) noexcept {
  {
    std::lock_guard lock(mutex_);
    --stats_.buffers;
    stats_.bytes_in_use -= capacity;
    if (stats_.bytes_cached + capacity <= max_cached_) {
      try {
        free_[class_of(capacity)].push_back(data);
        stats_.bytes_cached += capacity;
        return;
      } catch (...) {  // no memory for the list: free it for real
      }
    }
  }
  device_.release(data, capacity);
}

void Pool::trim() noexcept {
  std::lock_guard lock(mutex_);
  for (size_t i = 0; i < kClasses; ++i) {
    size_t capacity = (size_t{4} + i % 4) << (i / 4 + 4);
    for (void* data : free_[i]) device_.release(data, capacity);
    free_[i].clear();
  }
  stats_.bytes_cached = 0;
}

PoolStats Pool::stats() const {
  std::lock_guard lock(mutex_);
  return stats_;
}

const std::shared_ptr<Pool>& host_pool() {
  static auto* pool =
      new std::shared_ptr<Pool>(Pool::make(host_device()));  // outlives every static
  return *pool;
}

}  // namespace zerolane
