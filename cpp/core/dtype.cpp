// SPDX-License-Identifier: Apache-2.0
#include "core/dtype.h"

#include <array>

namespace zerolane {
namespace {

struct Info {
  std::string_view name;
  int bits;
  int dl_code;  // -1: DLPack has no such type
};

constexpr std::array<Info, kDTypeCount> kInfo{{
    {"none", 0, -1},
    {"float32", 32, kDLFloat},
    {"uint8", 8, kDLUInt},
    {"int8", 8, kDLInt},
    {"uint16", 16, kDLUInt},
    {"int16", 16, kDLInt},
    {"int32", 32, kDLInt},
    {"int64", 64, kDLInt},
    {"string", 0, -1},
    {"bool", 8, kDLBool},
    {"float16", 16, kDLFloat},
    {"float64", 64, kDLFloat},
    {"uint32", 32, kDLUInt},
    {"uint64", 64, kDLUInt},
    {"complex64", 64, kDLComplex},
    {"complex128", 128, kDLComplex},
    {"bfloat16", 16, kDLBfloat},
    {"float8_e4m3fn", 8, kDLFloat8_e4m3fn},
    {"float8_e4m3fnuz", 8, kDLFloat8_e4m3fnuz},
    {"float8_e5m2", 8, kDLFloat8_e5m2},
    {"float8_e5m2fnuz", 8, kDLFloat8_e5m2fnuz},
    {"uint4", 4, kDLUInt},
    {"int4", 4, kDLInt},
    {"float4_e2m1fn", 4, kDLFloat4_e2m1fn},
    {"uint2", 2, kDLUInt},
    {"int2", 2, kDLInt},
    {"float8_e8m0fnu", 8, kDLFloat8_e8m0fnu},
}};

const Info& info(DType dtype) {
  auto index = static_cast<size_t>(dtype);
  return kInfo[index < kInfo.size() ? index : 0];
}

}  // namespace

std::string_view dtype_name(DType dtype) { return info(dtype).name; }

std::optional<DType> dtype_from_name(std::string_view name) {
  for (size_t i = 1; i < kInfo.size(); ++i) {
    if (kInfo[i].name == name) return static_cast<DType>(i);
  }
  return std::nullopt;
}

int dtype_bits(DType dtype) { return info(dtype).bits; }

size_t dtype_bytes(DType dtype, size_t count) {
  auto bits = static_cast<size_t>(dtype_bits(dtype));
  return bits >= 8 ? count * (bits / 8) : (count * bits + 7) / 8;
}

std::optional<DLDataType> to_dlpack(DType dtype) {
  const Info& entry = info(dtype);
  if (entry.dl_code < 0) return std::nullopt;
  return DLDataType{static_cast<uint8_t>(entry.dl_code), static_cast<uint8_t>(entry.bits), 1};
}

std::optional<DType> from_dlpack(DLDataType dtype) {
  if (dtype.lanes != 1) return std::nullopt;
  for (size_t i = 1; i < kInfo.size(); ++i) {
    if (kInfo[i].dl_code == dtype.code && kInfo[i].bits == dtype.bits) return static_cast<DType>(i);
  }
  return std::nullopt;
}

}  // namespace zerolane
