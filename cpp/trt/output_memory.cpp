// SPDX-License-Identifier: Apache-2.0
#include "trt/output_memory.h"

#include <algorithm>

#include "core/error.h"

namespace zerolane::trt {

void OutputMemory::begin() noexcept {
  shape_.reset();
  failed_bytes_ = 0;
  outgrown_ = Buffer();
}

void* OutputMemory::reallocateOutput(const char* /*tensor*/, void* /*current*/, uint64_t size,
                                     uint64_t /*alignment*/) noexcept {
  // An empty result needs an address too.
  size_t wanted = std::max<size_t>(size, 1);
  if (memory_.data() != nullptr && memory_.bytes() >= wanted) return memory_.data();
  try {
    Buffer larger = pool_->allocate(wanted);
    outgrown_ = std::move(memory_);
    memory_ = std::move(larger);
    return memory_.data();
  } catch (const std::exception&) {
    failed_bytes_ = wanted;
    return nullptr;
  }
}

void OutputMemory::notifyShape(const char* /*tensor*/, const Dims& shape) noexcept {
  try {
    shape_.emplace(std::span(shape.d, static_cast<size_t>(std::max(shape.nbDims, 0))));
  } catch (const std::exception&) {
    shape_.reset();
  }
}

}  // namespace zerolane::trt
