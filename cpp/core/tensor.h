// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "core/buffer.h"
#include "core/dtype.h"
#include "core/shape.h"

namespace zerolane {

// Borrowed memory of one dense, row-major tensor. Owns nothing; the lender keeps it alive.
struct View {
  void* data = nullptr;
  DType dtype = DType::kNone;
  DeviceId device;
  Shape shape;

  size_t bytes() const { return dtype_bytes(dtype, shape.count()); }
};

// Memory shared by reference: a pool's buffer, or foreign memory that is given back by its deleter,
// exactly once.
class Storage {
 public:
  explicit Storage(Buffer buffer);
  Storage(void* data, DeviceId device, std::shared_ptr<void> owner, bool read_only = false);
  Storage(const Storage&) = delete;
  Storage& operator=(const Storage&) = delete;

  void* data() const noexcept { return data_; }
  DeviceId device() const noexcept { return device_; }
  bool read_only() const noexcept { return read_only_; }

 private:
  Buffer buffer_;
  std::shared_ptr<void> owner_;
  void* data_;
  DeviceId device_;
  bool read_only_ = false;
};

// A dense, row-major tensor over shared storage. Copying shares the memory. String tensors have no
// plain memory and are Strings in core/value.h.
class Tensor {
 public:
  Tensor() = default;
  Tensor(std::shared_ptr<Storage> storage, DType dtype, Shape shape)
      : storage_(std::move(storage)), dtype_(dtype), shape_(shape) {}

  // Uninitialised memory from the host pool.
  static Tensor make_host(DType dtype, const Shape& shape);

  DType dtype() const noexcept { return dtype_; }
  const Shape& shape() const noexcept { return shape_; }
  void* data() const noexcept { return storage_ ? storage_->data() : nullptr; }
  size_t bytes() const { return dtype_bytes(dtype_, shape_.count()); }
  const std::shared_ptr<Storage>& storage() const noexcept { return storage_; }
  View view() const { return {data(), dtype_, storage_ ? storage_->device() : DeviceId{}, shape_}; }

 private:
  std::shared_ptr<Storage> storage_;
  DType dtype_ = DType::kNone;
  Shape shape_;
};

}  // namespace zerolane
