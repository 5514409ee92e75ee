// SPDX-License-Identifier: Apache-2.0
#include "core/tensor.h"

#include <utility>

namespace zerolane {

Storage::Storage(Buffer buffer)
    : buffer_(std::move(buffer)), data_(buffer_.data()), device_(buffer_.device()) {}

Storage::Storage(void* data, DeviceId device, std::shared_ptr<void> owner, bool read_only)
    : owner_(std::move(owner)), data_(data), device_(device), read_only_(read_only) {}

Tensor Tensor::make_host(DType dtype, const Shape& shape) {
  Buffer buffer = host_pool()->allocate(dtype_bytes(dtype, shape.count()));
  return Tensor(std::make_shared<Storage>(std::move(buffer)), dtype, shape);
}

}  // namespace zerolane
