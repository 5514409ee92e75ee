// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/shape.h"

namespace zerolane::trt {

// What one optimization profile takes for one input.
struct InputRange {
  std::vector<int64_t> min, opt, max;                       // shapes
  std::vector<int64_t> min_values, opt_values, max_values;  // of a shape tensor; else empty
};

// The optimization profiles of an engine: profiles[p][i] is for input i. Immutable.
class Profiles {
 public:
  Profiles() = default;
  Profiles(std::vector<std::string> inputs, std::vector<std::vector<InputRange>> profiles)
      : inputs_(std::move(inputs)), profiles_(std::move(profiles)) {}

  // What a run gives: one entry an input.
  struct Given {
    Shape shape;
    std::vector<int64_t> values;  // of a shape tensor; else empty
  };
  // The profile that takes all inputs; where several do, the one whose best shapes are nearest (the
  // least sum of |log2| ratios), then the first. Throws kShapeMismatch with every profile's ranges
  // when none does.
  size_t choose(const std::vector<Given>& given, const std::string& model) const;

  size_t count() const noexcept { return profiles_.size(); }
  const InputRange& range(size_t profile, size_t input) const { return profiles_[profile][input]; }
  std::string text(size_t profile) const;  // "x [1, 3]..[8, 3], best [4, 3]"

 private:
  std::vector<std::string> inputs_;
  std::vector<std::vector<InputRange>> profiles_;
};

}  // namespace zerolane::trt
