// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>

namespace zerolane {

inline constexpr size_t kMaxRank = 32;

// Extents of a tensor, at most kMaxRank of them, without heap memory. Extents are never negative.
class Shape {
 public:
  Shape() = default;
  // Throws kUnsupported above kMaxRank, kInvalidArgument for a negative extent.
  explicit Shape(std::span<const int64_t> dims);
  Shape(std::initializer_list<int64_t> dims) : Shape(std::span(dims.begin(), dims.size())) {}

  size_t rank() const { return rank_; }
  int64_t operator[](size_t axis) const { return dims_[axis]; }
  const int64_t* data() const { return dims_.data(); }
  std::span<const int64_t> dims() const { return {dims_.data(), rank_}; }

  // Number of elements. Throws kOutOfMemory when it does not fit in 63 bits.
  size_t count() const;
  std::string text() const;  // "[1, 3, 224, 224]"

  bool operator==(const Shape& other) const {
    return rank_ == other.rank_ && std::equal(data(), data() + rank_, other.data());
  }

 private:
  size_t rank_ = 0;
  std::array<int64_t, kMaxRank> dims_;  // only the first rank_ are set
};

// One dimension of a declared shape: fixed (value >= 0), named, or unknown (value -1, symbol
// empty).
struct Dim {
  int64_t value = -1;
  std::string symbol;
};

}  // namespace zerolane
