// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "core/error.h"
#include "core/shape.h"
#include "registry/attributes.h"

namespace zerolane {

// The shape function of an op, run on numbers and on extents that are not known yet. Makes no heap
// allocation once it has run. One thread at a time.
class OpShapes : private ZlShapes {
 public:
  // What an extent may be.
  static constexpr ZlDim kUnknown = uint64_t{1} << 63;
  // An extent without a number that has a name: the same in the outputs where it is passed on.
  static constexpr ZlDim named(uint32_t name) { return kUnknown + 1 + name; }
  static constexpr bool is_named(ZlDim dim) { return dim > kUnknown && dim < kCounted; }
  static constexpr uint32_t name_of(ZlDim dim) { return static_cast<uint32_t>(dim - kUnknown - 1); }
  // An extent that the data decides, and its number in the order of the shape function.
  static constexpr bool is_counted(ZlDim dim) { return dim >= kCounted; }
  static constexpr size_t count_of(ZlDim dim) { return static_cast<size_t>(dim - kCounted); }
  static constexpr bool is_number(ZlDim dim) { return dim < kUnknown; }

  struct Extents {
    bool present = false;
    size_t rank = 0;
    std::array<ZlDim, kMaxRank> dims;  // only the first `rank` are set
  };

  OpShapes();

  // Inputs as the node has them. Outputs are those of the op; one that the function did not set
  // has rank 0 and is not present.
  // Throws what the function fails with, as kShapeMismatch and the like.
  void run(const OpState& state, std::span<const Extents> inputs);
  const Extents& output(size_t index) const { return outputs_[index]; }
  size_t counted() const { return counted_; }
  // The most and the usual of a counted extent; kUnknown where those are not numbers.
  ZlDim most(size_t counted) const { return most_[counted]; }
  ZlDim usual(size_t counted) const { return usual_[counted]; }

  // For those that fail to say whose shapes they were.
  [[noreturn]] static void throw_failure(const OpState& state, Code code, const std::string& text);

 private:
  static constexpr ZlDim kCounted = kUnknown + (uint64_t{1} << 62);
  static constexpr size_t kMostCounted = 16;
  struct Calls;

  std::span<const Extents> inputs_;
  std::vector<Extents> outputs_;
  size_t counted_ = 0;
  std::array<ZlDim, kMostCounted> most_;
  std::array<ZlDim, kMostCounted> usual_;
  bool failed_ = false;
  Code code_ = Code::kInternal;
  std::string text_;
};

// Extents that are numbers.
OpShapes::Extents extents_of(const Shape& shape);

}  // namespace zerolane
