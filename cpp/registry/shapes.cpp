// SPDX-License-Identifier: Apache-2.0
#include "registry/shapes.h"

namespace zerolane {

// The functions that shape functions call, and what stands behind a ZlDim here: a number of zero or
// more as itself; the others in the ranges of the header. Negative numbers may come up on the way
// (x - 1), as intermediate results; they are kept apart from the ranges by their own bit pattern.
//
// A number is stored with an offset, so that negative ones stay below kUnknown.
struct OpShapes::Calls {
  static constexpr int64_t kOffset = int64_t{1} << 62;

  static OpShapes& self(ZlShapes* host) { return *static_cast<OpShapes*>(host); }

  static ZlDim store(OpShapes& shapes, int64_t value) {
    if (value < -kOffset || value >= kOffset) {
      fail_with(shapes, Code::kShapeMismatch, "an extent of the result overflows");
      return from(0);
    }
    return from(value);
  }
  static ZlDim from(int64_t value) { return static_cast<ZlDim>(value + kOffset); }
  static int64_t number(ZlDim dim) { return static_cast<int64_t>(dim) - kOffset; }

  static void fail_with(OpShapes& shapes, Code code, const char* text) {
    if (shapes.failed_) return;  // the first is the cause
    shapes.failed_ = true;
    shapes.code_ = code;
    shapes.text_ = text;
  }

  static uint32_t input_count(ZlShapes* host) {
    return static_cast<uint32_t>(self(host).inputs_.size());
  }

  static int32_t rank(ZlShapes* host, uint32_t input) {
    const auto& inputs = self(host).inputs_;
    if (input >= inputs.size() || !inputs[input].present) return -1;
    return static_cast<int32_t>(inputs[input].rank);
  }

  static ZlDim dim(ZlShapes* host, uint32_t input, int32_t axis) {
    OpShapes& shapes = self(host);
    const int32_t found = rank(host, input);
    if (axis < 0 || axis >= found) {
      fail_with(shapes, Code::kInternal, "its shape function asks for an axis that is not there");
      return from(0);
    }
    const ZlDim dim = shapes.inputs_[input].dims[static_cast<size_t>(axis)];
    return is_number(dim) ? store(shapes, static_cast<int64_t>(dim)) : dim;
  }

  static ZlDim make_number(ZlShapes* host, int64_t value) { return store(self(host), value); }

  static ZlDim combine(ZlShapes* host, int32_t operation, ZlDim left, ZlDim right) {
    OpShapes& shapes = self(host);
    if (is_counted(left) || is_counted(right)) {
      fail_with(shapes, Code::kInternal,
                "its shape function computes with an extent that the data decides");
      return from(0);
    }
    if (!is_number(left) || !is_number(right)) {
      const bool divides = operation == kZlFloorDivide || operation == kZlCeilDivide;
      if (divides && is_number(right) && number(right) == 0) {
        fail_with(shapes, Code::kShapeMismatch, "an extent is divided by zero");
      }
      return kUnknown;
    }
    const int64_t a = number(left), b = number(right);
    int64_t result = 0;
    bool overflow = false;
    switch (operation) {
      case kZlAdd:
        overflow = __builtin_add_overflow(a, b, &result);
        break;
      case kZlSubtract:
        overflow = __builtin_sub_overflow(a, b, &result);
        break;
      case kZlMultiply:
        overflow = __builtin_mul_overflow(a, b, &result);
        break;
      case kZlMax:
        result = a > b ? a : b;
        break;
      case kZlMin:
        result = a < b ? a : b;
        break;
      case kZlFloorDivide:
      case kZlCeilDivide: {
        if (b == 0) {
          fail_with(shapes, Code::kShapeMismatch, "an extent is divided by zero");
          return from(0);
        }
        result = a / b;
        const bool inexact = a % b != 0, negative = (a < 0) != (b < 0);
        if (inexact && operation == kZlFloorDivide && negative) --result;
        if (inexact && operation == kZlCeilDivide && !negative) ++result;
        break;
      }
      default:
        fail_with(shapes, Code::kInternal, "its shape function uses an unknown operation");
    }
    if (overflow) {
      fail_with(shapes, Code::kShapeMismatch, "an extent of the result overflows");
      return from(0);
    }
    return store(shapes, result);
  }

  static int32_t known(ZlShapes*, ZlDim dim, int64_t* value) {
    if (!is_number(dim)) return 0;
    *value = number(dim);
    return 1;
  }

  static ZlDim counted(ZlShapes* host, ZlDim usual, ZlDim most) {
    OpShapes& shapes = self(host);
    if (shapes.counted_ == kMostCounted || is_counted(most) || is_counted(usual)) {
      fail_with(shapes, Code::kInternal, "its shape function has too many counted extents");
      return from(0);
    }
    shapes.usual_[shapes.counted_] = plain(shapes, usual);
    shapes.most_[shapes.counted_] = plain(shapes, most);
    return kCounted + shapes.counted_++;
  }

  // As the header has it: numbers as themselves.
  static ZlDim plain(OpShapes& shapes, ZlDim dim) {
    if (!is_number(dim)) return dim;
    if (number(dim) < 0) {
      fail_with(shapes, Code::kShapeMismatch, "an extent of the result would be negative");
      return 0;
    }
    return static_cast<ZlDim>(number(dim));
  }

  static void output(ZlShapes* host, uint32_t index, int32_t rank, const ZlDim* dims) {
    OpShapes& shapes = self(host);
    if (index >= shapes.outputs_.size() || rank < 0 || static_cast<size_t>(rank) > kMaxRank) {
      fail_with(shapes, Code::kInternal, "its shape function sets an output that is not there");
      return;
    }
    Extents& out = shapes.outputs_[index];
    out.present = true;
    out.rank = static_cast<size_t>(rank);
    for (size_t axis = 0; axis < out.rank; ++axis) out.dims[axis] = plain(shapes, dims[axis]);
  }

  static void fail(ZlShapes* host, int32_t code, const char* message) {
    fail_with(self(host), op_failure_code(code), message);
  }

  static constexpr ZlShapeCalls kTable{sizeof(ZlShapeCalls),
                                       input_count,
                                       rank,
                                       dim,
                                       make_number,
                                       combine,
                                       known,
                                       counted,
                                       output,
                                       fail};
};

OpShapes::OpShapes() : ZlShapes{&Calls::kTable} {}

void OpShapes::run(const OpState& state, std::span<const Extents> inputs) {
  const ZlOp* table = state.entry().table;
  inputs_ = inputs;
  outputs_.resize(table->output_count);
  for (Extents& output : outputs_) output.present = false;
  counted_ = 0;
  failed_ = false;
  if (table->shape(table, state.get(), this) != 0 || failed_) {
    throw_failure(state, failed_ ? code_ : Code::kInternal,
                  failed_ ? text_ : "its shape function failed without a reason");
  }
  for (size_t i = 0; i < outputs_.size(); ++i) {
    if (!outputs_[i].present && table->outputs[i].kind == kZlRequired) {
      throw_failure(state, Code::kInternal,
                    "its shape function did not set output " + std::to_string(i));
    }
  }
}

void OpShapes::throw_failure(const OpState& state, Code code, const std::string& text) {
  throw make_error(code, "computing the shapes of " + state.where(), text,
                   code == Code::kInternal ? "mend the op" : "give inputs that fit",
                   state.entry().name);
}

OpShapes::Extents extents_of(const Shape& shape) {
  OpShapes::Extents extents;
  extents.present = true;
  extents.rank = shape.rank();
  for (size_t axis = 0; axis < shape.rank(); ++axis) {
    extents.dims[axis] = static_cast<ZlDim>(shape[axis]);
  }
  return extents;
}

}  // namespace zerolane
