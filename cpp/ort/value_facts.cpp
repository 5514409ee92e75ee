// SPDX-License-Identifier: Apache-2.0
#include "ort/value_facts.h"

#include <algorithm>
#include <array>

namespace zerolane::ort {
namespace {

using Kind = ValueSource::Kind;
constexpr int kDeepest = 48;

// TensorProto.DataType
constexpr std::int32_t kFloat = 1, kFloat16 = 10, kDouble = 11, kBFloat16 = 16, kInt64 = 7;

bool is_float_type(std::int32_t type) {
  return type == kFloat || type == kFloat16 || type == kDouble || type == kBFloat16;
}

// What an operator of the standard domain does to the facts above. One row an operator.
struct OpFacts {
  std::string_view op_type;
  bool makes_float = false;    // its first output is always of a floating type
  int typed_like = 0;          // bits: inputs whose type is that of the first output
  bool moves = false;          // the output holds elements of input 0 only, or none
  bool keeps_extents = false;  // no zero extent comes out where none goes in, over all inputs
  int ranked_like = 0;         // bits: an open rank of any of these inputs is the output's
};

constexpr int kFirst = 1, kSecond = 2, kBoth = 3;

// Sorted by name.
constexpr auto kOps = std::to_array<OpFacts>({
    {"Abs", false, kFirst, false, true, kFirst},
    {"Add", false, kBoth, false, true, kBoth},
    {"AveragePool", true, 0, false, false, kFirst},
    {"BatchNormalization", true, 0, false, false, kFirst},
    {"Cast", false, 0, false, true, kFirst},
    {"Ceil", true, 0, false, true, kFirst},
    {"Clip", false, kFirst, false, false, kFirst},
    {"Compress", false, kFirst, true},
    {"Concat", false, kBoth, true, false, kFirst},
    {"Conv", true, 0, false, false, kFirst},
    {"ConvTranspose", true, 0, false, false, kFirst},
    {"Cos", true, 0, false, true, kFirst},
    {"DepthToSpace", false, kFirst, true},
    {"DequantizeLinear", true, 0, false, true, kFirst},
    {"Div", false, kBoth, false, true, kBoth},
    {"Dropout", true, 0, false, true, kFirst},
    {"DynamicQuantizeLinear", false, 0, false, true, kFirst},
    {"Einsum", false, kFirst},
    {"Elu", true, 0, false, true, kFirst},
    {"Erf", false, kFirst, false, true, kFirst},
    {"Exp", true, 0, false, true, kFirst},
    {"Expand", false, kFirst, true},
    {"Flatten", false, kFirst, true, true},
    {"Floor", true, 0, false, true, kFirst},
    {"GRU", true},
    {"Gather", false, kFirst, true},
    {"GatherElements", false, kFirst, true},
    {"GatherND", false, kFirst, true},
    {"Gelu", true, 0, false, true, kFirst},
    {"Gemm", false, kBoth},
    {"GlobalAveragePool", true, 0, false, false, kFirst},
    {"GlobalMaxPool", true, 0, false, false, kFirst},
    {"GridSample", false, kFirst},
    {"GroupNormalization", true, 0, false, true, kFirst},
    {"HardSigmoid", true, 0, false, true, kFirst},
    {"HardSwish", true, 0, false, true, kFirst},
    {"Identity", false, kFirst, true, true, kFirst},
    {"InstanceNormalization", true, 0, false, false, kFirst},
    {"LSTM", true},
    {"LayerNormalization", true, 0, false, false, kFirst},
    {"LeakyRelu", true, 0, false, true, kFirst},
    {"Log", true, 0, false, true, kFirst},
    {"LogSoftmax", true, 0, false, true, kFirst},
    {"MatMul", false, kBoth},
    {"Max", false, kBoth, false, true, kBoth},
    {"MaxPool", false, kFirst, false, false, kFirst},
    {"Mean", true, 0, false, true, kBoth},
    {"Min", false, kBoth, false, true, kBoth},
    {"Mul", false, kBoth, false, true, kBoth},
    {"Neg", false, kFirst, false, true, kFirst},
    {"PRelu", false, kBoth},
    {"Pad", false, kFirst, false, false, kFirst},
    {"Pow", false, kFirst, false, true, kBoth},
    {"QLinearConv", false, 0, false, false, kFirst},
    {"QuantizeLinear", false, 0, false, true, kFirst},
    {"RNN", true},
    {"RandomNormal", true},
    {"RandomNormalLike", true},
    {"RandomUniform", true},
    {"RandomUniformLike", true},
    {"Reciprocal", true, 0, false, true, kFirst},
    {"ReduceL1", false, kFirst},
    {"ReduceL2", false, kFirst},
    {"ReduceMax", false, kFirst},
    {"ReduceMean", false, kFirst},
    {"ReduceMin", false, kFirst},
    {"ReduceProd", false, kFirst},
    {"ReduceSum", false, kFirst},
    {"ReduceSumSquare", false, kFirst},
    {"Relu", false, kFirst, false, true, kFirst},
    {"Reshape", false, kFirst, true},
    {"Resize", false, kFirst, false, false, kFirst},
    {"Round", true, 0, false, true, kFirst},
    {"ScatterElements", false, kFirst},
    {"ScatterND", false, kFirst},
    {"Sigmoid", true, 0, false, true, kFirst},
    {"Sign", false, kFirst, false, true, kFirst},
    {"Sin", true, 0, false, true, kFirst},
    {"Slice", false, kFirst, true, false, kFirst},
    {"Softmax", true, 0, false, true, kFirst},
    {"Softplus", true, 0, false, true, kFirst},
    {"Split", false, kFirst, true, false, kFirst},
    {"Sqrt", true, 0, false, true, kFirst},
    {"Squeeze", false, kFirst, true, true},
    {"Sub", false, kBoth, false, true, kBoth},
    {"Sum", true, 0, false, true, kBoth},
    {"Tanh", true, 0, false, true, kFirst},
    {"Tile", false, kFirst, true},
    {"TopK", false, kFirst, true},
    {"Transpose", false, kFirst, true, true, kFirst},
    {"Trilu", false, kFirst, false, true},
    {"Unsqueeze", false, kFirst, true, true},
    {"Upsample", false, kFirst},
    {"Where", false, kSecond},
});
static_assert(std::ranges::is_sorted(kOps, {}, &OpFacts::op_type));

const OpFacts* facts_of(const NodeView& node) {
  if (!node.domain.empty()) return nullptr;
  const auto found = std::ranges::lower_bound(kOps, node.op_type, {}, &OpFacts::op_type);
  return found != kOps.end() && found->op_type == node.op_type ? &*found : nullptr;
}

// Element type that a node gives by itself; 0 where it does not.
std::int32_t given_type(const NodeView& node) {
  if (!node.domain.empty()) return 0;
  if (node.op_type == "Cast")
    return static_cast<std::int32_t>(int_attribute(node, "to").value_or(0));
  if (node.op_type == "Constant") {
    return has_attribute(node, "value_float") || has_attribute(node, "value_floats") ? kFloat : 0;
  }
  if (node.op_type != "ConstantOfShape") return 0;
  const auto attribute = find_attribute(node, "value");
  if (!attribute) return kFloat;
  WireReader reader(*attribute);
  std::int32_t type = 0;
  for (WireField part; reader.next(part);) {
    if (part.is_bytes(5)) type = read_tensor(part).elem_type;
  }
  return type;
}

// Of a Constant node with a number instead of a tensor.
bool holds_number(const NodeView& node, std::int64_t value) {
  const auto number = int_attribute(node, "value_int");
  const auto numbers = ints_attribute(node, "value_ints");
  if (number) return *number == value;
  return !numbers || std::ranges::find(*numbers, value) != numbers->end();
}

}  // namespace

std::optional<std::vector<std::int64_t>> ValueFacts::shape(std::size_t graph,
                                                           std::string_view name) const {
  const ValueSource source = model_.find(graph, name);
  if (source.kind == Kind::kConstant) return read_tensor(source.field).dims;
  if (source.kind == Kind::kInput) return declared_shape(source.field);
  return std::nullopt;
}

std::optional<std::size_t> ValueFacts::rank(std::size_t graph, std::string_view name) const {
  for (int depth = 0; depth < kDeepest; ++depth) {
    if (const auto dims = shape(graph, name)) return dims->size();
    const ValueSource source = model_.find(graph, name);
    if (source.kind != Kind::kNode || source.output != 0) return std::nullopt;
    const NodeView& node = model_.nodes()[source.index];
    const OpFacts* facts = facts_of(node);
    // Operators of one operand that keep its rank.
    if (!facts || facts->ranked_like != kFirst || node.input_count == 0) return std::nullopt;
    graph = node.graph;
    name = model_.inputs(node)[0];
  }
  return std::nullopt;
}

bool ValueFacts::is_constant(std::size_t graph, std::string_view name) const {
  return model_.find(graph, name).kind == Kind::kConstant;
}

bool ValueFacts::is_float(std::size_t graph, std::string_view name) const {
  Budget budget;
  return ask({Question::kFloat}, graph, name, budget);
}

bool ValueFacts::never_holds(std::size_t graph, std::string_view name, std::int64_t value) const {
  Budget budget;
  return ask({Question::kNever, value}, graph, name, budget);
}

bool ValueFacts::never_empty(std::size_t graph, std::string_view name) const {
  Budget budget;
  return ask({Question::kNeverEmpty}, graph, name, budget);
}

bool ValueFacts::has_open_rank(std::size_t graph, std::string_view name) const {
  if (!model_.has_input_of_open_rank()) return false;
  Budget budget;
  return ask({Question::kOpenRank}, graph, name, budget);
}

bool ValueFacts::ask(Asked asked, std::size_t graph, std::string_view name, Budget& budget) const {
  if (name.empty() || --budget.values < 0 || budget.depth >= kDeepest) return false;
  ++budget.depth;
  const bool answer = ask_source(asked, model_.find(graph, name), budget);
  --budget.depth;
  return answer;
}

bool ValueFacts::ask_source(Asked asked, const ValueSource& source, Budget& budget) const {
  switch (source.kind) {
    case Kind::kUnknown:
      return asked.question == Question::kFloat && is_float_type(declared_type(source.field));
    case Kind::kConstant: {
      if (asked.question == Question::kNever) return !may_hold(source.field, asked.value);
      const TensorView tensor = read_tensor(source.field);
      if (asked.question == Question::kFloat) return is_float_type(tensor.elem_type);
      return asked.question == Question::kNeverEmpty &&
             std::ranges::all_of(tensor.dims, [](std::int64_t dim) { return dim > 0; });
    }
    case Kind::kInput: {
      if (asked.question == Question::kFloat) return is_float_type(declared_type(source.field));
      const auto dims = declared_shape(source.field);
      if (asked.question == Question::kOpenRank) return !dims;
      return asked.question == Question::kNeverEmpty && dims &&
             std::ranges::all_of(*dims, [](std::int64_t dim) { return dim > 0; });
    }
    case Kind::kFormal:
      return ask_callers(asked, source, budget);
    case Kind::kNode:
      return ask_node(asked, source, budget);
  }
  return false;
}

bool ValueFacts::ask_callers(Asked asked, const ValueSource& source, Budget& budget) const {
  const auto asks = [&](std::size_t index) {
    const NodeView& call = model_.nodes()[index];
    return model_.has_input(call, source.index) &&
           ask(asked, call.graph, model_.inputs(call)[source.index], budget);
  };
  const auto calls = model_.callers(source.graph);
  // One caller that leaves the rank open is enough; a promise needs all.
  if (asked.question == Question::kOpenRank) return std::ranges::any_of(calls, asks);
  return !calls.empty() && std::ranges::all_of(calls, asks);
}

bool ValueFacts::ask_node(Asked asked, const ValueSource& source, Budget& budget) const {
  const NodeView& node = model_.nodes()[source.index];
  const auto inputs = model_.inputs(node);
  const auto asks = [&](std::string_view input) { return ask(asked, node.graph, input, budget); };
  const auto any_of = [&](int bits) {
    return std::ranges::any_of(inputs.first(std::min<std::size_t>(inputs.size(), 2)),
                               [&](const std::string_view& input) {
                                 return (bits >> (&input - inputs.data()) & 1) && asks(input);
                               });
  };
  const bool standard = node.domain.empty();
  const OpFacts* facts = facts_of(node);
  const bool first = source.output == 0 || node.op_type == "Split";
  switch (asked.question) {
    case Question::kFloat: {
      const std::int32_t type = given_type(node);
      if (type != 0) return is_float_type(type);
      return first && facts && (facts->makes_float || any_of(facts->typed_like));
    }
    case Question::kNever: {
      if (!standard) return false;
      if (node.op_type == "Constant") return !holds_number(node, asked.value);
      if (node.op_type == "Shape" || node.op_type == "Size" || node.op_type == "NonZero" ||
          node.op_type == "ArgMax" || node.op_type == "ArgMin" ||
          (node.op_type == "TopK" && source.output == 1)) {
        return true;  // never negative
      }
      // A quotient is the smallest integer only where its dividend is.
      if (node.op_type == "Div" && asked.value < -1) return asks(inputs.empty() ? "" : inputs[0]);
      if (node.op_type == "Cast") {
        return int_attribute(node, "to") == kInt64 && asks(inputs.empty() ? "" : inputs[0]);
      }
      if (node.op_type == "Concat") return std::ranges::all_of(inputs, asks);
      return first && facts && facts->moves && !inputs.empty() && asks(inputs[0]);
    }
    case Question::kNeverEmpty:
      // Further inputs (axes, scales) are asked too: too much, but they are constants as well.
      return facts && facts->keeps_extents && source.output == 0 && !inputs.empty() &&
             std::ranges::all_of(
                 inputs, [&](std::string_view input) { return input.empty() || asks(input); });
    case Question::kOpenRank:
      return facts && source.output == 0 && any_of(facts->ranked_like);
  }
  return false;
}

}  // namespace zerolane::ort
