// SPDX-License-Identifier: Apache-2.0
#include "ort/fed_facts.h"

#include <algorithm>
#include <array>
#include <limits>
#include <numeric>

namespace zerolane::ort {
namespace {

using Kind = ValueSource::Kind;
using Numbers = std::vector<std::int64_t>;
constexpr int kDeepest = 48;
constexpr std::int64_t kSome = -1;  // an extent that is not known, but above zero
constexpr std::int64_t kLargest = std::numeric_limits<std::int32_t>::max();  // of what is added up

// An operator of the standard domain whose first output has no extent of zero where these inputs
// have none. Where an extent comes from a value (Slice, Expand, Pad, TopK, ...) that is no fact of
// the operator.
struct Filler {
  std::string_view op_type;
  unsigned inputs;             // bits; kEvery: all of them
  bool keeps_extents = false;  // the output has exactly those of the first input
  bool every_output = false;   // it holds for all outputs
};

constexpr unsigned kFirst = 1, kTwo = 3, kThree = 7, kEvery = ~0U;

// Sorted by name.
constexpr auto kFillers = std::to_array<Filler>({
    {"Abs", kFirst, true},
    {"Add", kEvery},
    {"And", kEvery},
    {"ArgMax", kFirst},
    {"ArgMin", kFirst},
    {"BatchNormalization", kFirst, true},
    {"Cast", kFirst, true},
    {"Ceil", kFirst, true},
    {"Clip", kFirst, true},
    {"Concat", kEvery},
    {"Cos", kFirst, true},
    {"CumSum", kFirst, true},
    {"DequantizeLinear", kFirst, true},
    {"Div", kEvery},
    {"Dropout", kFirst, true},
    {"Elu", kFirst, true},
    {"Equal", kEvery},
    {"Erf", kFirst, true},
    {"Exp", kFirst, true},
    {"Flatten", kFirst},
    {"Floor", kFirst, true},
    {"GRU", kThree, false, true},
    {"Gather", kTwo},
    {"GatherElements", kTwo},
    {"Gelu", kFirst, true},
    {"Gemm", kTwo},
    {"GlobalAveragePool", kFirst},
    {"GlobalMaxPool", kFirst},
    {"Greater", kEvery},
    {"GreaterOrEqual", kEvery},
    {"HardSigmoid", kFirst, true},
    {"HardSwish", kFirst, true},
    {"Identity", kFirst, true},
    {"InstanceNormalization", kFirst, true},
    {"LSTM", kThree, false, true},
    {"LayerNormalization", kFirst, true},
    {"LeakyRelu", kFirst, true},
    {"Less", kEvery},
    {"LessOrEqual", kEvery},
    {"Log", kFirst, true},
    {"LogSoftmax", kFirst, true},
    {"MatMul", kTwo},
    {"Max", kEvery},
    {"Mean", kEvery},
    {"Min", kEvery},
    {"Mod", kEvery},
    {"Mul", kEvery},
    {"Neg", kFirst, true},
    {"Not", kFirst, true},
    {"Or", kEvery},
    {"PRelu", kTwo},
    {"Pow", kEvery},
    {"QuantizeLinear", kFirst, true},
    {"RNN", kThree, false, true},
    {"Reciprocal", kFirst, true},
    {"ReduceL1", kFirst},
    {"ReduceL2", kFirst},
    {"ReduceLogSum", kFirst},
    {"ReduceLogSumExp", kFirst},
    {"ReduceMax", kFirst},
    {"ReduceMean", kFirst},
    {"ReduceMin", kFirst},
    {"ReduceProd", kFirst},
    {"ReduceSum", kFirst},
    {"ReduceSumSquare", kFirst},
    {"Relu", kFirst, true},
    {"Reshape", kFirst},
    {"Round", kFirst, true},
    {"Selu", kFirst, true},
    {"Sigmoid", kFirst, true},
    {"Sign", kFirst, true},
    {"Sin", kFirst, true},
    {"Softmax", kFirst, true},
    {"Softplus", kFirst, true},
    {"Softsign", kFirst, true},
    {"Sqrt", kFirst, true},
    {"Squeeze", kFirst},
    {"Sub", kEvery},
    {"Sum", kEvery},
    {"Tanh", kFirst, true},
    {"Transpose", kFirst},
    {"Unsqueeze", kFirst},
    {"Where", kEvery},
    {"Xor", kEvery},
});
static_assert(std::ranges::is_sorted(kFillers, {}, &Filler::op_type));

const Filler* filler_of(const NodeView& node) {
  if (!node.domain.empty()) return nullptr;
  const auto found = std::ranges::lower_bound(kFillers, node.op_type, {}, &Filler::op_type);
  return found != kFillers.end() && found->op_type == node.op_type ? &*found : nullptr;
}

bool all_between(const Numbers& list, std::int64_t least, std::int64_t most) {
  return std::ranges::all_of(list,
                             [=](std::int64_t each) { return each >= least && each <= most; });
}

// How many elements of an axis of known length a slice takes.
std::int64_t sliced(std::int64_t length, std::int64_t start, std::int64_t end, std::int64_t step) {
  // Far ends (the greatest number means "to the end") must not overflow below.
  const auto inside = [&](std::int64_t at, std::int64_t least, std::int64_t most) {
    at = std::clamp(at, -length - 1, length);
    return std::clamp(at < 0 ? at + length : at, least, most);
  };
  step = std::clamp(step, -kLargest, kLargest);
  if (step > 0) {
    const std::int64_t span = inside(end, 0, length) - inside(start, 0, length);
    return span <= 0 ? 0 : (span + step - 1) / step;
  }
  const std::int64_t span = inside(start, 0, length - 1) - inside(end, -1, length - 1);
  return span <= 0 ? 0 : (span - step - 1) / -step;
}

}  // namespace

bool FedFacts::never_empty(std::size_t graph, std::string_view name) const {
  if (model_.redefines_operators()) return false;
  Budget budget;
  return fills(graph, name, budget);
}

bool FedFacts::fills(std::size_t graph, std::string_view name, Budget& budget) const {
  if (name.empty() || --budget.values < 0 || budget.depth >= kDeepest) return false;
  ++budget.depth;
  const bool answer = fills_from(model_.find(graph, name), budget);
  --budget.depth;
  return answer;
}

bool FedFacts::fills_from(const ValueSource& source, Budget& budget) const {
  if (source.kind == Kind::kInput) {
    return declared_type(source.field) != 0 && !source.has_default;
  }
  if (source.kind == Kind::kConstant) {
    return all_between(read_tensor(source.field).dims, 1, INT64_MAX);
  }
  if (source.kind != Kind::kNode) return false;
  const NodeView& node = model_.nodes()[source.index];
  const Filler* filler = filler_of(node);
  if (filler == nullptr) return extents_from(source, budget).has_value();
  if (source.output != 0 && !filler->every_output) return false;
  const auto inputs = model_.inputs(node);
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    const bool counts = filler->inputs == kEvery || (i < 8 && (filler->inputs >> i & 1) != 0);
    if (counts && !fills(node.graph, inputs[i], budget)) return false;
  }
  return !inputs.empty();
}

FedFacts::Extents FedFacts::extents(std::size_t graph, std::string_view name,
                                    Budget& budget) const {
  if (name.empty() || --budget.values < 0 || budget.depth >= kDeepest) return std::nullopt;
  ++budget.depth;
  Extents found = extents_from(model_.find(graph, name), budget);
  --budget.depth;
  return found;
}

FedFacts::Extents FedFacts::extents_from(const ValueSource& source, Budget& budget) const {
  if (source.kind == Kind::kConstant) {
    Numbers dims = read_tensor(source.field).dims;
    return all_between(dims, 1, kLargest) ? Extents(std::move(dims)) : std::nullopt;
  }
  if (source.kind == Kind::kInput) {
    if (declared_type(source.field) == 0 || source.has_default) return std::nullopt;
    Extents dims = declared_shape(source.field);  // -1, kSome, where open
    return dims && all_between(*dims, kSome, kLargest) ? dims : std::nullopt;
  }
  if (source.kind != Kind::kNode || source.output != 0) return std::nullopt;
  const NodeView& node = model_.nodes()[source.index];
  if (!node.domain.empty()) return std::nullopt;
  if (node.op_type == "ConstantOfShape") return of_constant(node);
  if (node.op_type == "Conv") return of_conv(node, budget);
  if (node.op_type == "Slice") return of_slice(node, budget);
  if (node.op_type == "Unsqueeze") return of_unsqueeze(node, budget);
  if (node.op_type == "Transpose") return of_transpose(node, budget);
  const Filler* filler = filler_of(node);
  if (filler == nullptr || !filler->keeps_extents || node.input_count == 0) return std::nullopt;
  return extents(node.graph, model_.inputs(node)[0], budget);
}

std::optional<Numbers> FedFacts::numbers(const NodeView& node, std::string_view attribute,
                                         std::size_t input, Numbers otherwise) const {
  if (has_attribute(node, attribute)) return ints_attribute(node, attribute);
  if (input == kNone || !model_.has_input(node, input)) return otherwise;
  const ValueSource source = model_.find(node.graph, model_.inputs(node)[input]);
  return source.kind == Kind::kConstant ? read_ints(source.field) : std::nullopt;
}

FedFacts::Extents FedFacts::of_constant(const NodeView& node) const {
  const auto dims = numbers(node, "", 0, {});
  return dims && dims->size() <= 8 && all_between(*dims, 1, kLargest) ? dims : std::nullopt;
}

FedFacts::Extents FedFacts::of_conv(const NodeView& node, Budget& budget) const {
  if (node.input_count < 2) return std::nullopt;
  const auto inputs = model_.inputs(node);
  Extents image = extents(node.graph, inputs[0], budget);
  const Extents weight = image ? extents(node.graph, inputs[1], budget) : std::nullopt;
  if (!weight || image->size() < 3 || weight->size() != image->size()) return std::nullopt;
  const std::size_t axes = image->size() - 2;
  const auto strides = numbers(node, "strides", kNone, Numbers(axes, 1));
  const auto dilations = numbers(node, "dilations", kNone, Numbers(axes, 1));
  const auto pads = numbers(node, "pads", kNone, Numbers(2 * axes, 0));
  const bool fit = strides && strides->size() == axes && dilations && dilations->size() == axes &&
                   pads && pads->size() == 2 * axes && all_between(*strides, 1, kLargest) &&
                   all_between(*dilations, 1, kLargest) && all_between(*pads, 0, kLargest) &&
                   all_between(*weight, 1, kLargest);
  if (!fit) return std::nullopt;
  const auto auto_pad =
      has_attribute(node, "auto_pad") ? text_attribute(node, "auto_pad") : "NOTSET";
  if (!auto_pad) return std::nullopt;
  (*image)[1] = (*weight)[0];
  for (std::size_t axis = 0; axis < axes; ++axis) {
    std::int64_t& length = (*image)[axis + 2];
    const bool known = length != kSome;
    const std::int64_t stride = (*strides)[axis];
    if (auto_pad->starts_with("SAME")) {
      if (known) length = (length + stride - 1) / stride;
      continue;
    }
    const std::int64_t padding = *auto_pad == "VALID" ? 0 : (*pads)[axis] + (*pads)[axis + axes];
    const std::int64_t window = (*dilations)[axis] * ((*weight)[axis + 2] - 1) + 1;
    const std::int64_t rest = (known ? length : 1) + padding - window;
    if (rest < 0) return std::nullopt;
    if (known) length = rest / stride + 1;
  }
  return image;
}

FedFacts::Extents FedFacts::of_slice(const NodeView& node, Budget& budget) const {
  if (node.input_count == 0) return std::nullopt;
  Extents data = extents(node.graph, model_.inputs(node)[0], budget);
  const auto starts = numbers(node, "starts", 1, {});
  const auto ends = numbers(node, "ends", 2, {});
  if (!data || !starts || !ends || starts->size() != ends->size()) return std::nullopt;
  Numbers in_order(starts->size());
  std::iota(in_order.begin(), in_order.end(), 0);
  const auto axes = numbers(node, "axes", 3, std::move(in_order));
  const auto steps = numbers(node, "steps", 4, Numbers(starts->size(), 1));
  if (!axes || !steps || axes->size() != starts->size() || steps->size() != starts->size()) {
    return std::nullopt;
  }
  const auto rank = static_cast<std::int64_t>(data->size());
  std::vector<bool> done(data->size());
  for (std::size_t i = 0; i < axes->size(); ++i) {
    const std::int64_t axis = (*axes)[i] < 0 ? (*axes)[i] + rank : (*axes)[i];
    if (axis < 0 || axis >= rank || (*steps)[i] == 0) return std::nullopt;
    if (done[static_cast<std::size_t>(axis)]) return std::nullopt;
    done[static_cast<std::size_t>(axis)] = true;
    std::int64_t& length = (*data)[static_cast<std::size_t>(axis)];
    if (length == kSome) return std::nullopt;
    length = sliced(length, (*starts)[i], (*ends)[i], (*steps)[i]);
    if (length == 0) return std::nullopt;
  }
  return data;
}

FedFacts::Extents FedFacts::of_unsqueeze(const NodeView& node, Budget& budget) const {
  if (node.input_count == 0) return std::nullopt;
  const Extents data = extents(node.graph, model_.inputs(node)[0], budget);
  const auto axes = numbers(node, "axes", 1, {});
  if (!data || !axes || axes->empty() || axes->size() > 8) return std::nullopt;
  Numbers out(data->size() + axes->size(), 0);
  for (const std::int64_t given : *axes) {
    const std::int64_t axis = given < 0 ? given + static_cast<std::int64_t>(out.size()) : given;
    if (axis < 0 || axis >= static_cast<std::int64_t>(out.size())) return std::nullopt;
    std::int64_t& extent = out[static_cast<std::size_t>(axis)];
    if (extent != 0) return std::nullopt;  // named twice
    extent = 1;
  }
  auto next = data->begin();
  for (std::int64_t& extent : out) {
    if (extent == 0) extent = *next++;
  }
  return out;
}

FedFacts::Extents FedFacts::of_transpose(const NodeView& node, Budget& budget) const {
  if (node.input_count == 0) return std::nullopt;
  const Extents data = extents(node.graph, model_.inputs(node)[0], budget);
  if (!data) return std::nullopt;
  Numbers reversed(data->size());
  std::iota(reversed.rbegin(), reversed.rend(), 0);
  const auto order = numbers(node, "perm", kNone, std::move(reversed));
  const auto rank = static_cast<std::int64_t>(data->size());
  if (!order || order->size() != data->size() || !all_between(*order, 0, rank - 1)) {
    return std::nullopt;
  }
  Numbers out;
  for (const std::int64_t axis : *order) out.push_back((*data)[static_cast<std::size_t>(axis)]);
  return out;
}

}  // namespace zerolane::ort
