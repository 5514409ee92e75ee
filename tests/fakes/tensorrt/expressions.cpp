// SPDX-License-Identifier: Apache-2.0
#include "expressions.h"

#include <algorithm>
#include <stdexcept>

namespace fake {
namespace {

int64_t floor_div(int64_t a, int64_t b) {
  if (b == 0) throw std::runtime_error("an extent is divided by zero");
  return a / b - (a % b != 0 && (a < 0) != (b < 0) ? 1 : 0);
}

int64_t apply(DimensionOperation operation, int64_t a, int64_t b) {
  switch (operation) {
    case DimensionOperation::kSum:
      return a + b;
    case DimensionOperation::kProd:
      return a * b;
    case DimensionOperation::kMax:
      return std::max(a, b);
    case DimensionOperation::kMin:
      return std::min(a, b);
    case DimensionOperation::kSub:
      return a - b;
    case DimensionOperation::kFloorDiv:
      return floor_div(a, b);
    case DimensionOperation::kCeilDiv:
      return -floor_div(-a, b);
    default:
      break;
  }
  throw std::runtime_error("no such operation on extents");
}

// n5, x3:name@1 (the name's length before it), o0(a b), s2(a b)
void write(const Expression& expression, std::string* out) {
  switch (expression.kind) {
    case Expression::Kind::kNumber:
      *out += "n" + std::to_string(expression.number);
      return;
    case Expression::Kind::kExtent:
      *out += "x" + std::to_string(expression.tensor.size()) + ":" + expression.tensor + "@" +
              std::to_string(expression.number);
      return;
    case Expression::Kind::kOperation:
      *out += "o" + std::to_string(static_cast<int>(expression.operation));
      break;
    case Expression::Kind::kSize:
      *out += "s" + std::to_string(expression.number);
      break;
  }
  *out += "(";
  write(*expression.first, out);
  *out += " ";
  write(*expression.second, out);
  *out += ")";
}

class Reader {
 public:
  explicit Reader(const std::string& text) : text_(text) {}
  bool done() const { return at_ == text_.size(); }
  Expr next() {
    auto out = std::make_shared<Expression>();
    const char kind = text_.at(at_++);
    const int64_t number = read_number();
    switch (kind) {
      case 'n':
        out->number = number;
        return out;
      case 'x':
        skip(':');
        out->kind = Expression::Kind::kExtent;
        out->tensor = text_.substr(at_, static_cast<size_t>(number));
        at_ += static_cast<size_t>(number);
        skip('@');
        out->number = read_number();
        return out;
      case 'o':
        out->kind = Expression::Kind::kOperation;
        out->operation = static_cast<DimensionOperation>(number);
        break;
      case 's':
        out->kind = Expression::Kind::kSize;
        out->number = number;
        break;
      default:
        throw std::runtime_error("no such expression");
    }
    skip('(');
    out->first = next();
    skip(' ');
    out->second = next();
    skip(')');
    return out;
  }
  void skip(char wanted) {
    if (text_.at(at_++) != wanted) throw std::runtime_error("an expression is damaged");
  }

 private:
  int64_t read_number() {
    size_t used = 0;
    const int64_t value = std::stoll(text_.substr(at_), &used);
    at_ += used;
    return value;
  }
  const std::string& text_;
  size_t at_ = 0;
};

ExprBuilderFake& builder_of(void* self) { return self_of<ExprBuilderFake>(self); }
const Expr& value_of(const DimensionExpr* expression) {
  return behind<DimensionFake>(expression).value;
}

FAKE(ExprBuilder, constant, [](void* self, int64_t value) {
  ++number("expressions");
  return builder_of(self).add(make_number(value));
});
FAKE(ExprBuilder, operation,
     [](void* self, DimensionOperation operation, const DimensionExpr* first,
        const DimensionExpr* second) -> const DimensionExpr* {
       ++number("expressions");
       if (first == nullptr || second == nullptr) return nullptr;
       const Expr &a = value_of(first), &b = value_of(second);
       const bool constant = a->kind == Expression::Kind::kNumber && b->kind == a->kind;
       if (constant)
         return builder_of(self).add(make_number(apply(operation, a->number, b->number)));
       auto made = std::make_shared<Expression>();
       made->kind = Expression::Kind::kOperation;
       made->operation = operation;
       made->first = a;
       made->second = b;
       return builder_of(self).add(made);
     });
FAKE(ExprBuilder, declareSizeTensor,
     [](void* self, int32_t output, const DimensionExpr* usual, const DimensionExpr* most) {
       ++number("size_tensors");
       auto made = std::make_shared<Expression>();
       made->kind = Expression::Kind::kSize;
       made->number = output;
       made->first = value_of(usual);
       made->second = value_of(most);
       return builder_of(self).add(made);
     });
FAKE(DimensionExpr, isConstant, [](void* self) {
  return self_of<DimensionFake>(self).value->kind == Expression::Kind::kNumber;
});
FAKE(DimensionExpr, getConstantValue,
     [](void* self) { return self_of<DimensionFake>(self).value->number; });
FAKE(DimensionExpr, isSizeTensor, [](void* self) {
  return self_of<DimensionFake>(self).value->kind == Expression::Kind::kSize;
});

}  // namespace

Expr make_number(int64_t value) {
  auto made = std::make_shared<Expression>();
  made->number = value;
  return made;
}

Expr make_extent(const std::string& tensor, int64_t axis) {
  auto made = std::make_shared<Expression>();
  made->kind = Expression::Kind::kExtent;
  made->tensor = tensor;
  made->number = axis;
  return made;
}

int64_t evaluate(const Expression& expression, const Known& known) {
  switch (expression.kind) {
    case Expression::Kind::kNumber:
      return expression.number;
    case Expression::Kind::kExtent:
      return known.extent(expression.tensor, expression.number);
    case Expression::Kind::kSize:
      return known.size(expression);
    case Expression::Kind::kOperation:
      break;
  }
  const int64_t a = evaluate(*expression.first, known), b = evaluate(*expression.second, known);
  return a < 0 || b < 0 ? -1 : apply(expression.operation, a, b);
}

std::string to_text(const std::vector<Expr>& dims) {
  std::string out;
  for (const Expr& dim : dims) {
    if (!out.empty()) out += ",";
    write(*dim, &out);
  }
  return out;
}

std::vector<Expr> from_text(const std::string& text) {
  std::vector<Expr> dims;
  Reader reader(text);
  while (!reader.done()) {
    if (!dims.empty()) reader.skip(',');
    dims.push_back(reader.next());
  }
  return dims;
}

const DimensionExpr* ExprBuilderFake::add(Expr value) {
  made.push_back(std::make_unique<DimensionFake>(std::move(value)));
  return made.back()->address<DimensionExpr>();
}

DimsExprs to_exprs(ExprBuilderFake& builder, const std::vector<Expr>& dims) {
  DimsExprs out;
  out.nbDims = static_cast<int32_t>(dims.size());
  for (size_t i = 0; i < dims.size(); ++i) out.d[i] = builder.add(dims[i]);
  return out;
}

std::vector<Expr> from_exprs(const DimsExprs& dims) {
  if (dims.nbDims < 0 || dims.nbDims > kMaxDims) {
    throw std::runtime_error("a plugin's output has " + std::to_string(dims.nbDims) +
                             " dimensions");
  }
  std::vector<Expr> out;
  for (int32_t i = 0; i < dims.nbDims; ++i) {
    if (dims.d[i] == nullptr) throw std::runtime_error("a plugin's output has a null extent");
    out.push_back(value_of(dims.d[i]));
  }
  return out;
}

}  // namespace fake
