// SPDX-License-Identifier: Apache-2.0
// Extents as expressions, as plugins make them: built up, written into a plan, and evaluated.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "objects.h"

namespace fake {

struct Expression;
using Expr = std::shared_ptr<const Expression>;

struct Expression {
  enum class Kind { kNumber, kExtent, kOperation, kSize };
  Kind kind = Kind::kNumber;
  int64_t number = 0;  // of kNumber; of kExtent the axis; of kSize the output of the plugin
  std::string tensor;  // of kExtent
  DimensionOperation operation{};
  Expr first, second;  // of kOperation; of kSize the usual and the most
};

Expr make_number(int64_t value);
Expr make_extent(const std::string& tensor, int64_t axis);

// The number of a kExtent or kSize, -1 for one that nobody knows yet.
struct Known {
  std::function<int64_t(const std::string& tensor, int64_t axis)> extent;
  std::function<int64_t(const Expression& size)> size;
};
int64_t evaluate(const Expression& expression, const Known& known);

// For a line of a plan, and back. Throws std::runtime_error.
std::string to_text(const std::vector<Expr>& dims);
std::vector<Expr> from_text(const std::string& text);

// What a plugin sees; belongs to the builder that made it.
struct DimensionFake : Base {
  explicit DimensionFake(Expr of) : Base("DimensionExpr"), value(std::move(of)) {}
  Expr value;
};

struct ExprBuilderFake : Base {
  ExprBuilderFake() : Base("ExprBuilder") {}
  const DimensionExpr* add(Expr value);
  std::vector<std::unique_ptr<DimensionFake>> made;
};

DimsExprs to_exprs(ExprBuilderFake& builder, const std::vector<Expr>& dims);
// Throws std::runtime_error for what the real library would crash on or refuse.
std::vector<Expr> from_exprs(const DimsExprs& dims);

}  // namespace fake
