// SPDX-License-Identifier: Apache-2.0
#include "trt/activation.h"

#include <map>
#include <string>

#include "core/error.h"

namespace zerolane::trt {

namespace {

struct Pools {
  std::mutex mutex;                                    // guards pools
  std::map<int, std::weak_ptr<ActivationPool>> pools;  // by device
};
Pools& all_pools() {
  static auto* pools = new Pools;
  return *pools;
}

}  // namespace

void ActivationPool::trim_all() {
  std::lock_guard lock(all_pools().mutex);
  for (auto& [index, entry] : all_pools().pools) {
    if (std::shared_ptr<ActivationPool> pool = entry.lock()) pool->trim();
  }
}

std::shared_ptr<ActivationPool> ActivationPool::of(cuda::CudaDevice& device) {
  std::lock_guard lock(all_pools().mutex);
  std::weak_ptr<ActivationPool>& entry = all_pools().pools[device.index()];
  std::shared_ptr<ActivationPool> pool = entry.lock();
  if (!pool) {
    pool = std::make_shared<ActivationPool>(device);
    entry = pool;
  }
  return pool;
}

ActivationPool::ActivationPool(cuda::CudaDevice& device) : memory_(device.tensor_pool()) {}

ActivationPool::Block* ActivationPool::borrow(size_t bytes, Block* last) {
  if (bytes == 0) return nullptr;
  if (last != nullptr && !last->busy_.exchange(true, std::memory_order_acquire)) [[likely]] {
    if (last->bytes() >= bytes) return last;
    last->busy_.store(false, std::memory_order_release);
  }
  if (Block* idle = take_idle(bytes)) return idle;
  return make(bytes);
}

ActivationPool::Block* ActivationPool::take_idle(size_t bytes) noexcept {
  for (;;) {
    Block* best = nullptr;
    size_t count = count_.load(std::memory_order_acquire);
    for (size_t i = 0; i < count; ++i) {
      Block* block = blocks_[i].get();
      if (block->busy_.load() || block->bytes() < bytes) continue;
      if (best == nullptr || block->bytes() < best->bytes()) best = block;
    }
    if (best == nullptr) return nullptr;
    if (!best->busy_.exchange(true, std::memory_order_acquire)) {
      if (best->bytes() >= bytes) return best;
      best->busy_.store(false, std::memory_order_release);  // given up in between
    }
  }
}

ActivationPool::Block* ActivationPool::make(size_t bytes) {
  std::lock_guard lock(mutex_);
  // An idle block that is too small is replaced rather than joined by another.
  Block* block = nullptr;
  size_t count = count_.load();
  for (size_t i = 0; i < count && block == nullptr; ++i) {
    if (!blocks_[i]->busy_.exchange(true, std::memory_order_acquire)) block = blocks_[i].get();
  }
  if (block == nullptr) {
    if (count == kMaxBlocks) {
      throw make_error(Code::kUnsupported, "borrowing activation memory",
                       std::to_string(kMaxBlocks) + " runs are in flight on this device",
                       "run fewer at the same time");
    }
    blocks_[count] = std::make_unique<Block>();
    block = blocks_[count].get();
    block->busy_.store(true);
    count_.store(count + 1, std::memory_order_release);
  }
  block->bytes_.store(0);
  block->memory_ = Buffer();
  try {
    try {
      block->memory_ = memory_->allocate(bytes);
    } catch (const Error& error) {
      if (error.code() != Code::kOutOfMemory) throw;
      trim();
      block->memory_ = memory_->allocate(bytes);
    }
  } catch (...) {
    block->busy_.store(false, std::memory_order_release);
    throw;
  }
  block->bytes_.store(bytes);
  return block;
}

void ActivationPool::trim() noexcept {
  size_t count = count_.load(std::memory_order_acquire);
  for (size_t i = 0; i < count; ++i) {
    Block* idle = blocks_[i].get();
    if (idle->busy_.exchange(true, std::memory_order_acquire)) continue;
    idle->bytes_.store(0);
    idle->memory_ = Buffer();
    idle->busy_.store(false, std::memory_order_release);
  }
}

void ActivationPool::give_back(Block* block) noexcept {
  if (block != nullptr) block->busy_.store(false, std::memory_order_release);
}

size_t ActivationPool::bytes() const noexcept {
  size_t sum = 0;
  size_t count = count_.load(std::memory_order_acquire);
  for (size_t i = 0; i < count; ++i) sum += blocks_[i]->bytes();
  return sum;
}

}  // namespace zerolane::trt
