// SPDX-License-Identifier: Apache-2.0
// What the recording library and the program that calls it agree on: values made from a seed, and
// how values are written down.
#pragma once

#include <cstdint>
#include <cstdio>
#include <cstring>
#include <string>
#include <type_traits>

#include "tensorrt/interfaces.h"
#include "tensorrt/types.h"

namespace trace {

using namespace zerolane::trt;

// A value of a type, different for each seed as far as the type has room.
template <typename T>
T make(uint64_t seed) {
  using Plain = std::remove_cv_t<std::remove_reference_t<T>>;
  if constexpr (std::is_reference_v<T>) {
    static Plain kept[8];  // one a parameter
    kept[seed % 8] = make<Plain>(seed);
    return kept[seed % 8];
  } else if constexpr (std::is_pointer_v<Plain>) {
    return reinterpret_cast<Plain>(0x7000000000 + (seed % 0xffffff) * 16);
  } else if constexpr (std::is_same_v<Plain, bool>) {
    return seed % 2 == 0;
  } else if constexpr (std::is_enum_v<Plain>) {
    return static_cast<Plain>(seed % 90);
  } else if constexpr (std::is_floating_point_v<Plain>) {
    return static_cast<Plain>(seed % 1000) / 4;
  } else if constexpr (std::is_same_v<Plain, Dims>) {
    Dims dims;
    dims.nbDims = 8;
    for (int i = 0; i < 8; ++i) dims.d[i] = static_cast<int64_t>(seed * 10 + i);
    return dims;
  } else if constexpr (std::is_same_v<Plain, Weights>) {
    return Weights{static_cast<DataType>(seed % 9), make<const void*>(seed + 1),
                   static_cast<int64_t>(seed + 2)};
  } else if constexpr (std::is_same_v<Plain, TimingCacheKey>) {
    TimingCacheKey key{};
    std::memcpy(key.data, &seed, sizeof(seed));
    return key;
  } else if constexpr (std::is_same_v<Plain, TimingCacheValue>) {
    return TimingCacheValue{seed, static_cast<float>(seed % 1000) / 8};
  } else {
    static_assert(std::is_integral_v<Plain>);
    return static_cast<Plain>(seed);
  }
}

template <typename T>
std::string text(const T& value) {
  if constexpr (std::is_pointer_v<T>) {
    return std::to_string(reinterpret_cast<uintptr_t>(value));
  } else if constexpr (std::is_enum_v<T>) {
    return std::to_string(static_cast<int64_t>(value));
  } else if constexpr (std::is_same_v<T, Dims>) {
    std::string out = std::to_string(value.nbDims);
    for (int64_t extent : value.d) out += "x" + std::to_string(extent);
    return out;
  } else if constexpr (std::is_same_v<T, Weights>) {
    return text(value.type) + ":" + text(value.values) + ":" + text(value.count);
  } else if constexpr (std::is_same_v<T, TimingCacheKey>) {
    uint64_t seed = 0;
    std::memcpy(&seed, value.data, sizeof(seed));
    return std::to_string(seed);
  } else if constexpr (std::is_same_v<T, TimingCacheValue>) {
    return text(value.tacticHash) + ":" + text(value.timingMSec);
  } else {
    return std::to_string(value);
  }
}

inline uint64_t seed_of(const char* name) {
  uint64_t seed = 1469598103934665603u;
  for (; *name != '\0'; ++name) seed = (seed ^ static_cast<unsigned char>(*name)) * 1099511628211u;
  return seed % 1000003;
}

// A call as it is written down: "Class.method this argument argument".
template <typename... Arguments>
std::string call(const char* name, const void* self, const Arguments&... arguments) {
  std::string out = name;
  out += " " + text(self);
  ((out += " " + text(arguments)), ...);
  return out;
}

}  // namespace trace
