// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <memory>
#include <mutex>

#include "core/buffer.h"
#include "cuda/device.h"

namespace zerolane::trt {

// Scratch memory of one device that all contexts of all engines on it share.
//
// The rule: a run borrows one block from before its first enqueue until its work is done; runs at
// the same time have different blocks, runs one after the other share. So the device holds as many
// blocks as runs were ever in flight at once, not one a context. A context gets the block of its
// last run again if that is idle (its address is baked into captured graphs), else the smallest
// idle one that is large enough, else a new one. Idle blocks are given up when memory runs out, and
// all when the last engine of the device is gone.
//
// Any thread. Borrowing takes no lock unless a block must be made.
class ActivationPool {
 public:
  class Block {
   public:
    void* data() const noexcept { return memory_.data(); }
    size_t bytes() const noexcept { return bytes_; }

   private:
    friend class ActivationPool;
    Buffer memory_;  // changed only by who holds busy_
    std::atomic<size_t> bytes_{0};
    std::atomic<bool> busy_{false};
  };

  // The pool of a device; lives while someone holds it.
  static std::shared_ptr<ActivationPool> of(cuda::CudaDevice& device);
  explicit ActivationPool(cuda::CudaDevice& device);

  // A block of at least `bytes`; `last` is the one this context had before, or null. Zero bytes
  // give null. Throws kOutOfMemory; kUnsupported beyond kMaxBlocks at the same time.
  Block* borrow(size_t bytes, Block* last);
  void give_back(Block* block) noexcept;
  // Gives the memory of idle blocks back to the device's tensor_pool().
  void trim() noexcept;
  // Of every device.
  static void trim_all();

  size_t blocks() const noexcept { return count_.load(); }
  size_t bytes() const noexcept;

  static constexpr size_t kMaxBlocks = 1024;

 private:
  Block* take_idle(size_t bytes) noexcept;
  Block* make(size_t bytes);

  std::shared_ptr<Pool> memory_;
  std::mutex mutex_;  // guards making blocks
  std::atomic<size_t> count_{0};
  std::array<std::unique_ptr<Block>, kMaxBlocks> blocks_;  // the first count_ are set, for good
};

// A block for the time of one run.
class BorrowedBlock {
 public:
  BorrowedBlock(ActivationPool& pool, size_t bytes, ActivationPool::Block* last)
      : pool_(pool), block_(pool.borrow(bytes, last)) {}
  ~BorrowedBlock() { pool_.give_back(block_); }
  BorrowedBlock(const BorrowedBlock&) = delete;
  BorrowedBlock& operator=(const BorrowedBlock&) = delete;
  ActivationPool::Block* get() const noexcept { return block_; }

 private:
  ActivationPool& pool_;
  ActivationPool::Block* block_;
};

}  // namespace zerolane::trt
