// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <cstddef>

#include "core/dlpack.h"
#include "core/error.h"

using namespace zerolane;

static_assert(sizeof(DLTensor) == 48);
static_assert(offsetof(DLTensor, device) == 8 && offsetof(DLTensor, ndim) == 16);
static_assert(offsetof(DLTensor, dtype) == 20 && offsetof(DLTensor, shape) == 24);
static_assert(offsetof(DLTensor, strides) == 32 && offsetof(DLTensor, byte_offset) == 40);
static_assert(sizeof(DLManagedTensor) == 64);
static_assert(sizeof(DLManagedTensorVersioned) == 80);
static_assert(offsetof(DLManagedTensorVersioned, flags) == 24);
static_assert(offsetof(DLManagedTensorVersioned, dl_tensor) == 32);

TEST_CASE("an exported tensor keeps its memory until the deleter runs") {
  size_t before = host_pool()->stats().buffers;
  DLManagedTensorVersioned* record = nullptr;
  {
    Tensor tensor = Tensor::make_host(DType::kFloat32, Shape{2, 3});
    record = to_dlpack(tensor);
    CHECK(record->dl_tensor.data == tensor.data());
  }
  CHECK(host_pool()->stats().buffers == before + 1);
  CHECK(record->dl_tensor.ndim == 2);
  CHECK(record->dl_tensor.strides[0] == 3);
  CHECK(record->dl_tensor.strides[1] == 1);
  CHECK((record->flags & kDLFlagReadOnly) == 0);
  DlpackInfo info = inspect(record->dl_tensor, record->flags);
  CHECK(info.row_major);
  CHECK(info.view.dtype == DType::kFloat32);
  CHECK(info.view.shape == Shape{2, 3});
  record->deleter(record);
  CHECK(host_pool()->stats().buffers == before);
}

TEST_CASE("read-only storage says so, and the legacy form refuses it") {
  float memory[2] = {1, 2};
  auto storage = std::make_shared<Storage>(memory, DeviceId{}, nullptr, true);
  Tensor tensor(storage, DType::kFloat32, Shape{2});
  DLManagedTensorVersioned* record = to_dlpack(tensor);
  CHECK((record->flags & kDLFlagReadOnly) != 0);
  record->deleter(record);
  CHECK_THROWS_AS(to_dlpack_legacy(tensor), Error);
}

TEST_CASE("every plain element type goes out and comes back") {
  for (int i = 1; i < kDTypeCount; ++i) {
    auto dtype = static_cast<DType>(i);
    auto dl = to_dlpack(dtype);
    CHECK(dl.has_value() == (dtype != DType::kString));
    if (dl) CHECK(from_dlpack(*dl) == dtype);
    CHECK(dtype_from_name(dtype_name(dtype)) == dtype);
  }
  CHECK_FALSE(from_dlpack({kDLFloat, 32, 4}).has_value());
  CHECK_FALSE(from_dlpack({kDLFloat, 80, 1}).has_value());
}

TEST_CASE("foreign records are inspected before they are trusted") {
  float memory[6] = {};
  int64_t shape[2] = {2, 3};
  int64_t strides[2] = {1, 2};
  DLTensor tensor{memory, {kDLCPU, 0}, 2, {kDLFloat, 32, 1}, shape, nullptr, 4};
  CHECK(inspect(tensor, 0).row_major);
  CHECK(inspect(tensor, 0).view.data == memory + 1);
  CHECK(inspect(tensor, kDLFlagReadOnly).read_only);
  tensor.strides = strides;
  CHECK_FALSE(inspect(tensor, 0).row_major);
  shape[0] = 0;  // nothing to read: strides do not matter
  CHECK(inspect(tensor, 0).row_major);
  shape[0] = -1;
  CHECK_THROWS_AS(inspect(tensor, 0), Error);
  shape[0] = 2;
  tensor.device.device_type = 7;
  CHECK_THROWS_AS(inspect(tensor, 0), Error);
  tensor.device = {kDLCUDA, 3};
  CHECK(inspect(tensor, 0).view.device == DeviceId{DeviceKind::kCuda, 3});
  tensor.ndim = 33;
  CHECK_THROWS_AS(inspect(tensor, 0), Error);
}
