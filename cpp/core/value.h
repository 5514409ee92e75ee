// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <variant>
#include <vector>

#include "core/tensor.h"

namespace zerolane {

// A tensor of UTF-8 strings, row-major.
struct Strings {
  Shape shape;
  std::vector<std::string> items;
};

struct Sequence;
struct Map;

// What a model takes or gives: a tensor, strings, a sequence, a map, or nothing (an empty
// optional).
using Value = std::variant<std::monostate, Tensor, Strings, Sequence, Map>;

struct Sequence {
  std::vector<Value> items;
};

// Keys and values of equal count: keys are int64 or strings; values are one tensor (or strings)
// with an element a key.
struct Map {
  std::variant<std::vector<int64_t>, std::vector<std::string>> keys;
  std::vector<Value> values;  // exactly one: a Tensor or Strings of shape [count]
};

}  // namespace zerolane
