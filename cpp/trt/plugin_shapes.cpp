// SPDX-License-Identifier: Apache-2.0
#include "trt/plugin_shapes.h"

#include <algorithm>
#include <cstdint>
#include <new>
#include <string>
#include <vector>

#include "core/error.h"
#include "registry/shapes.h"

namespace zerolane::trt {
namespace {

static_assert(static_cast<int>(DimensionOperation::kSum) == kZlAdd &&
              static_cast<int>(DimensionOperation::kProd) == kZlMultiply &&
              static_cast<int>(DimensionOperation::kMax) == kZlMax &&
              static_cast<int>(DimensionOperation::kMin) == kZlMin &&
              static_cast<int>(DimensionOperation::kSub) == kZlSubtract &&
              static_cast<int>(DimensionOperation::kFloorDiv) == kZlFloorDivide &&
              static_cast<int>(DimensionOperation::kCeilDiv) == kZlCeilDivide);

// What shape functions are run on: a ZlDim is the address of an expression. The function has passed
// OpShapes before, so numbers fit, nothing is divided by zero, and axes and outputs are there.
class Expressions : private ZlShapes {
 public:
  Expressions(const Calls& calls, ExprBuilder& builder, const PluginFacts& facts,
              std::span<const DimsExprs> inputs, std::span<DimsExprs> outputs)
      : ZlShapes{&kTable},
        calls_(calls),
        builder_(builder),
        facts_(facts),
        inputs_(inputs),
        outputs_(outputs) {}

  void run() {
    const ZlOp* table = facts_.state->entry().table;
    const int32_t status = table->shape(table, facts_.state->get(), this);
    if (!text_.empty() || status != 0) {
      OpShapes::throw_failure(*facts_.state, code_,
                              text_.empty() ? "its shape function failed without a reason" : text_);
    }
  }

 private:
  static Expressions& self(ZlShapes* host) { return *static_cast<Expressions*>(host); }
  static ZlDim handle(const DimensionExpr* expression) {
    return reinterpret_cast<uintptr_t>(expression);
  }
  static const DimensionExpr* expression(ZlDim dim) {
    // NOLINTNEXTLINE(performance-no-int-to-ptr): it was made of a pointer
    return reinterpret_cast<const DimensionExpr*>(static_cast<uintptr_t>(dim));
  }

  void fail_with(Code code, const char* text) noexcept {
    if (!text_.empty()) return;
    code_ = code;
    try {
      text_ = text;
    } catch (const std::bad_alloc&) {
      code_ = Code::kOutOfMemory;
    }
  }

  // The library takes no null expression.
  ZlDim checked(const DimensionExpr* made) noexcept {
    if (made != nullptr) return handle(made);
    fail_with(Code::kBackend, "TensorRT made no expression for an extent");
    return handle(inputs_dim());
  }
  const DimensionExpr* inputs_dim() const noexcept {
    for (const DimsExprs& dims : inputs_) {
      if (dims.nbDims > 0) return dims.d[0];
    }
    return nullptr;
  }

  // Null for one that was left out.
  const DimsExprs* input(uint32_t index) const {
    const auto found = std::ranges::find(facts_.inputs, static_cast<size_t>(index));
    if (found == facts_.inputs.end()) return nullptr;
    return &inputs_[static_cast<size_t>(found - facts_.inputs.begin())];
  }

  static uint32_t input_count(ZlShapes* host) {
    return static_cast<uint32_t>(self(host).facts_.present.size());
  }
  static int32_t rank(ZlShapes* host, uint32_t index) {
    const DimsExprs* dims = self(host).input(index);
    return dims == nullptr ? -1 : dims->nbDims;
  }
  static ZlDim dim(ZlShapes* host, uint32_t index, int32_t axis) {
    const DimsExprs* dims = self(host).input(index);
    const bool there = dims != nullptr && axis >= 0 && axis < dims->nbDims;
    return self(host).checked(there ? dims->d[axis] : nullptr);
  }
  static ZlDim number(ZlShapes* host, int64_t value) {
    Expressions& shapes = self(host);
    return shapes.checked(shapes.calls_.ExprBuilder_constant(&shapes.builder_, value));
  }
  static ZlDim combine(ZlShapes* host, int32_t operation, ZlDim a, ZlDim b) {
    Expressions& shapes = self(host);
    if (a == 0 || b == 0) return shapes.checked(nullptr);
    return shapes.checked(shapes.calls_.ExprBuilder_operation(
        &shapes.builder_, static_cast<DimensionOperation>(operation), expression(a),
        expression(b)));
  }
  static int32_t known(ZlShapes* host, ZlDim dim, int64_t* value) {
    const Calls& calls = self(host).calls_;
    if (dim == 0 || !calls.DimensionExpr_isConstant(expression(dim))) return 0;
    *value = calls.DimensionExpr_getConstantValue(expression(dim));
    return 1;
  }
  static ZlDim counted(ZlShapes* host, ZlDim usual, ZlDim most) {
    Expressions& shapes = self(host);
    const size_t index = shapes.counted_++;
    if (index >= shapes.facts_.counted || usual == 0 || most == 0) return most;
    const size_t output = shapes.facts_.outputs.size() + index;
    return shapes.checked(shapes.calls_.ExprBuilder_declareSizeTensor(
        &shapes.builder_, static_cast<int32_t>(output), expression(usual), expression(most)));
  }
  static void output(ZlShapes* host, uint32_t index, int32_t rank, const ZlDim* dims) {
    Expressions& shapes = self(host);
    const auto& wanted = shapes.facts_.outputs;
    const auto found = std::ranges::find(wanted, static_cast<size_t>(index));
    if (found == wanted.end()) return;
    if (rank > kMaxDims) {
      shapes.fail_with(Code::kUnsupported, "an output has more than the 8 dimensions of TensorRT");
      return;
    }
    DimsExprs& out = shapes.outputs_[static_cast<size_t>(found - wanted.begin())];
    for (int32_t axis = 0; axis < rank; ++axis) {
      if (dims[axis] == 0) (void)shapes.checked(nullptr);
      out.d[axis] = expression(dims[axis]);
    }
    out.nbDims = rank;
  }
  static void fail(ZlShapes* host, int32_t code, const char* message) {
    self(host).fail_with(op_failure_code(code), message);
  }

  static constexpr ZlShapeCalls kTable{
      sizeof(ZlShapeCalls), input_count, rank, dim, number, combine, known, counted, output, fail};

  const Calls& calls_;
  ExprBuilder& builder_;
  const PluginFacts& facts_;
  std::span<const DimsExprs> inputs_;
  std::span<DimsExprs> outputs_;
  size_t counted_ = 0;
  Code code_ = Code::kInternal;
  std::string text_;
};

}  // namespace

void infer_shapes(const Calls& calls, ExprBuilder& builder, const PluginFacts& facts,
                  std::span<const DimsExprs> inputs, std::span<DimsExprs> outputs) {
  std::vector<OpShapes::Extents> extents(facts.present.size());
  for (size_t i = 0; i < facts.inputs.size(); ++i) {
    OpShapes::Extents& known = extents[facts.inputs[i]];
    known.present = true;
    known.rank = static_cast<size_t>(std::clamp(inputs[i].nbDims, 0, kMaxDims));
    for (size_t axis = 0; axis < known.rank; ++axis) {
      const DimensionExpr* dim = inputs[i].d[axis];
      const bool constant = calls.DimensionExpr_isConstant(dim);
      const int64_t value = constant ? calls.DimensionExpr_getConstantValue(dim) : -1;
      known.dims[axis] = value >= 0 ? static_cast<ZlDim>(value) : OpShapes::kUnknown;
    }
  }
  // All checks are made here; what the expressions are then run through cannot check much.
  OpShapes checks;
  checks.run(*facts.state, extents);
  size_t most = facts.counted_found.load();
  while (most < checks.counted() &&
         !facts.counted_found.compare_exchange_weak(most, checks.counted())) {
  }
  for (size_t i = 0; i < facts.outputs.size(); ++i) {
    if (!checks.output(facts.outputs[i]).present) {
      OpShapes::throw_failure(*facts.state, Code::kInternal,
                              "its shape function did not set output " +
                                  std::to_string(facts.outputs[i]) + ", which the node wants");
    }
  }
  for (size_t output : facts.outputs) {
    const OpShapes::Extents& extents = checks.output(output);
    for (size_t axis = 1; axis < extents.rank; ++axis) {
      if (!OpShapes::is_counted(extents.dims[axis])) continue;
      throw make_error(Code::kUnsupported, "computing the shapes of " + facts.state->where(),
                       "it counts along axis " + std::to_string(axis) + " of output " +
                           std::to_string(output) + ", expected the first one on a GPU",
                       "mend the op", facts.state->entry().name);
    }
  }
  for (DimsExprs& output : outputs) output = {};
  Expressions(calls, builder, facts, inputs, outputs).run();
}

}  // namespace zerolane::trt
