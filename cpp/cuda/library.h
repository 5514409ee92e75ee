// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>

#include "cuda/table.h"

namespace zerolane::cuda {

inline constexpr const char* kLibraryVariable = "ZEROLANE_CUDA_LIBRARY";

// The file that open_library() would open: the variable's, or libzerolane_cuda.so beside this
// module.
std::string library_path();

// Opens the CUDA module once a process; touches no GPU. Throws kUnavailable where it was not built
// or does not fit. Any thread.
const Table& open_library();

// The library and its path, or null while nobody has opened it.
const Table* opened_library() noexcept;

// Where a failed call was, for the message: the CUDA function's name, the device (-1: none) and,
// for allocations, the bytes asked for.
struct Call {
  const char* name;
  int device = -1;
  uint64_t bytes = 0;
};

// The one place where a status becomes an Error. kOutOfMemory tells bytes asked, free and total.
[[noreturn]] void fail(int32_t status, const Call& call);

inline void check(int32_t status, const Call& call) {
  if (status != 0) [[unlikely]] {
    fail(status, call);
  }
}

// Throws kUnavailable in a process forked after the library was opened: CUDA does not survive it.
void refuse_after_fork();
// The same question, for destructors: what was made before the fork is then left alone.
bool forked() noexcept;

}  // namespace zerolane::cuda
