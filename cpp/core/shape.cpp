// SPDX-License-Identifier: Apache-2.0
#include "core/shape.h"

#include "core/error.h"

namespace zerolane {

Shape::Shape(std::span<const int64_t> dims) : rank_(dims.size()) {
  if (dims.size() > kMaxRank) {
    throw make_error(Code::kUnsupported, "making a shape",
                     "it has rank " + std::to_string(dims.size()) + ", at most " +
                         std::to_string(kMaxRank) + " is supported",
                     "merge dimensions");
  }
  for (size_t i = 0; i < rank_; ++i) {
    if (dims[i] < 0) {
      throw make_error(Code::kInvalidArgument, "making a shape",
                       "dimension " + std::to_string(i) + " is " + std::to_string(dims[i]),
                       "give sizes of zero or more");
    }
    dims_[i] = dims[i];
  }
}

size_t Shape::count() const {
  size_t count = 1;
  for (int64_t dim : dims()) {
    if (__builtin_mul_overflow(count, static_cast<size_t>(dim), &count) || count > INT64_MAX / 16) {
      if (std::find(dims().begin(), dims().end(), 0) != dims().end()) return 0;
      throw make_error(Code::kOutOfMemory, "sizing a tensor",
                       "shape " + text() + " has more elements than memory can hold",
                       "check the dimensions");
    }
  }
  return count;
}

std::string Shape::text() const {
  std::string text = "[";
  for (size_t i = 0; i < rank_; ++i) {
    if (i > 0) text += ", ";
    text += std::to_string(dims_[i]);
  }
  return text + "]";
}

}  // namespace zerolane
