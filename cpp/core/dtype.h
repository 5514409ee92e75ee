// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

#include "dlpack/dlpack.h"

namespace zerolane {

// Element types, numbered as in ONNX Runtime. kNone marks "no element type" (sequences, maps).
enum class DType : uint8_t {
  kNone = 0,
  kFloat32 = 1,
  kUInt8 = 2,
  kInt8 = 3,
  kUInt16 = 4,
  kInt16 = 5,
  kInt32 = 6,
  kInt64 = 7,
  kString = 8,
  kBool = 9,
  kFloat16 = 10,
  kFloat64 = 11,
  kUInt32 = 12,
  kUInt64 = 13,
  kComplex64 = 14,
  kComplex128 = 15,
  kBFloat16 = 16,
  kFloat8E4M3FN = 17,
  kFloat8E4M3FNUZ = 18,
  kFloat8E5M2 = 19,
  kFloat8E5M2FNUZ = 20,
  kUInt4 = 21,
  kInt4 = 22,
  kFloat4E2M1 = 23,
  kUInt2 = 24,
  kInt2 = 25,
  kFloat8E8M0 = 26,
};
inline constexpr int kDTypeCount = 27;

// "float32", "bfloat16", "float8_e4m3fn", ... (the names of NumPy and ml_dtypes).
std::string_view dtype_name(DType dtype);
std::optional<DType> dtype_from_name(std::string_view name);

// Bits of one element in memory; 0 for kNone and kString.
int dtype_bits(DType dtype);

// True for types whose elements fill whole bytes and can be moved as plain memory.
inline bool is_plain(DType dtype) { return dtype_bits(dtype) >= 8; }

// Bytes of `count` elements; sub-byte types are packed, the last byte padded.
size_t dtype_bytes(DType dtype, size_t count);

std::optional<DLDataType> to_dlpack(DType dtype);
std::optional<DType> from_dlpack(DLDataType dtype);

}  // namespace zerolane
