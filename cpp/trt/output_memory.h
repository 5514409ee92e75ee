// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "core/buffer.h"
#include "core/shape.h"
#include "tensorrt/interfaces.h"

namespace zerolane::trt {

// Device memory for one output whose size the data decides. Grows as the library asks and keeps
// what it has from run to run. The library calls it inside enqueueV3, on the thread that runs.
class OutputMemory final : public OutputAllocator {
 public:
  explicit OutputMemory(std::shared_ptr<Pool> pool) : pool_(std::move(pool)) {}

  // Before a run: forgets the last result's shape.
  void begin() noexcept;
  // After enqueueV3: the result's shape, or none where the library told none.
  const std::optional<Shape>& shape() const noexcept { return shape_; }
  void* data() const noexcept { return memory_.data(); }
  // Bytes that could not be had, 0 if all went well.
  size_t failed_bytes() const noexcept { return failed_bytes_; }
  // Hands the memory out; the next run gets new.
  Buffer take() noexcept { return std::move(memory_); }

  void* reallocateOutput(const char* tensor, void* current, uint64_t size,
                         uint64_t alignment) noexcept override;
  void notifyShape(const char* tensor, const Dims& shape) noexcept override;

 private:
  std::shared_ptr<Pool> pool_;
  Buffer memory_;
  Buffer outgrown_;  // may still be read by work in flight, until the next run begins
  std::optional<Shape> shape_;
  size_t failed_bytes_ = 0;
};

}  // namespace zerolane::trt
