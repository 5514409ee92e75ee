// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>

namespace zerolane::kernels {

// Sizes that saturate: memory of SIZE_MAX bytes is refused by whoever allocates it.
inline size_t saturating_add(size_t a, size_t b) { return a > SIZE_MAX - b ? SIZE_MAX : a + b; }
inline size_t saturating_times(size_t a, size_t b) {
  return b != 0 && a > SIZE_MAX / b ? SIZE_MAX : a * b;
}

// Hands out parts of scratch memory; without memory it only counts the bytes.
struct ScratchParts {
  char* memory;
  size_t alignment;  // of each part, a power of two
  size_t bytes = 0;

  template <class T>
  T* take(size_t count) {
    T* part = memory == nullptr ? nullptr : reinterpret_cast<T*>(memory + bytes);
    const size_t size = saturating_add(saturating_times(count, sizeof(T)), alignment - 1);
    bytes = saturating_add(bytes, size / alignment * alignment);
    return part;
  }
};

}  // namespace zerolane::kernels
