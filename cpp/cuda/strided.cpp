// SPDX-License-Identifier: Apache-2.0
#include "cuda/strided.h"

#include <algorithm>
#include <cstdlib>
#include <string>
#include <utility>

#include "core/error.h"

namespace zerolane::cuda {
namespace {

[[noreturn]] void refuse(const std::string& found, const char* expected) {
  throw make_error(Code::kInvalidArgument, "copying strided device memory",
                   found + ", expected " + expected, "copy the array to a dense one first");
}

bool is_multiple(const void* address, int64_t of) {
  return reinterpret_cast<uintptr_t>(address) % static_cast<uintptr_t>(of) == 0;
}

void validate(const StridedCopy& copy) {
  int64_t size = copy.element_bytes;
  if (size != 1 && size != 2 && size != 4 && size != 8 && size != 16) {
    refuse("elements of " + std::to_string(size) + " bytes", "1, 2, 4, 8 or 16");
  }
  if (copy.rank < 0 || copy.rank > kMaxStridedRank) {
    refuse(std::to_string(copy.rank) + " dimensions", "at most 8");
  }
  bool empty = false;
  for (int d = 0; d < copy.rank; ++d) {
    if (copy.shape[d] < 0) {
      refuse("an extent of " + std::to_string(copy.shape[d]), "0 or more");
    }
    empty = empty || copy.shape[d] == 0;
  }
  if (empty) return;
  if (!is_multiple(copy.to, size) || !is_multiple(copy.from, size)) {
    refuse("an address that is no multiple of the element's " + std::to_string(size) + " bytes",
           "aligned elements");
  }
  for (int d = 0; d < copy.rank; ++d) {
    if (copy.shape[d] == 1) continue;
    if (copy.to_strides[d] == 0) {
      refuse("several elements at one place of the destination", "a place for each");
    }
    if (copy.to_strides[d] % size != 0 || copy.from_strides[d] % size != 0) {
      refuse("a stride that is no multiple of the element's " + std::to_string(size) + " bytes",
             "aligned elements");
    }
  }
}

void drop(StridedCopy& copy, int d) {
  for (int i = d; i + 1 < copy.rank; ++i) {
    copy.shape[i] = copy.shape[i + 1];
    copy.to_strides[i] = copy.to_strides[i + 1];
    copy.from_strides[i] = copy.from_strides[i + 1];
  }
  --copy.rank;
}

void sort_by_destination(StridedCopy& copy) {
  for (int i = 1; i < copy.rank; ++i) {
    for (int j = i; j > 0 && std::abs(copy.to_strides[j - 1]) < std::abs(copy.to_strides[j]); --j) {
      std::swap(copy.shape[j - 1], copy.shape[j]);
      std::swap(copy.to_strides[j - 1], copy.to_strides[j]);
      std::swap(copy.from_strides[j - 1], copy.from_strides[j]);
    }
  }
}

void merge(StridedCopy& copy) {
  for (int d = copy.rank - 1; d > 0; --d) {
    if (copy.to_strides[d - 1] == copy.shape[d] * copy.to_strides[d] &&
        copy.from_strides[d - 1] == copy.shape[d] * copy.from_strides[d]) {
      copy.shape[d] *= copy.shape[d - 1];
      drop(copy, d - 1);
    }
  }
}

// Rows that are dense on both sides are copied in larger pieces.
void widen(StridedCopy& copy) {
  while (copy.rank > 0 && copy.element_bytes < 16) {
    int last = copy.rank - 1;
    int64_t size = copy.element_bytes;
    int64_t wide = 2 * size;
    bool fits = copy.to_strides[last] == size && copy.from_strides[last] == size &&
                copy.shape[last] % 2 == 0 && is_multiple(copy.to, wide) &&
                is_multiple(copy.from, wide);
    for (int d = 0; d < last; ++d) {
      fits = fits && copy.to_strides[d] % wide == 0 && copy.from_strides[d] % wide == 0;
    }
    if (!fits) return;
    copy.element_bytes = static_cast<int32_t>(wide);
    copy.shape[last] /= 2;
    copy.to_strides[last] = copy.from_strides[last] = wide;
    if (copy.shape[last] == 1) drop(copy, last);
  }
}

}  // namespace

StridedCopy simplify(const StridedCopy& given) {
  validate(given);
  StridedCopy copy = given;
  for (int d = 0; d < copy.rank; ++d) {
    if (copy.shape[d] == 0) {
      copy.rank = 1;
      copy.shape[0] = 0;
      copy.to_strides[0] = copy.from_strides[0] = copy.element_bytes;
      return copy;
    }
  }
  for (int d = copy.rank - 1; d >= 0; --d) {
    if (copy.shape[d] == 1) drop(copy, d);
  }
  sort_by_destination(copy);
  merge(copy);
  if (is_block(copy)) return copy;
  widen(copy);
  return copy;
}

bool is_block(const StridedCopy& copy) {
  return copy.rank == 0 || (copy.rank == 1 && copy.to_strides[0] == copy.element_bytes &&
                            copy.from_strides[0] == copy.element_bytes);
}

size_t copied_bytes(const StridedCopy& copy) {
  auto bytes = static_cast<size_t>(copy.element_bytes);
  for (int d = 0; d < copy.rank; ++d) bytes *= static_cast<size_t>(copy.shape[d]);
  return bytes;
}

}  // namespace zerolane::cuda
