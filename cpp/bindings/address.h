// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

namespace zerolane::bindings {

// Array protocols and options give streams and memory as numbers.
template <typename T>
T* address(uintptr_t number) {
  return reinterpret_cast<T*>(number);  // NOLINT(performance-no-int-to-ptr)
}

}  // namespace zerolane::bindings
