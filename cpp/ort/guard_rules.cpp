// SPDX-License-Identifier: Apache-2.0
#include "ort/guard_rules.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "ort/fed_facts.h"
#include "ort/value_facts.h"

namespace zerolane::ort {
namespace {

using enum GuardRule;
using From = ArgumentFrom;

constexpr std::size_t kShownName = 120;
const std::vector<std::int64_t> kNoExtents = {0};

// Einsum without an equation cannot load, so any answer will do for it.
std::string_view equation_of(const NodeView& node) {
  return text_attribute(node, "equation").value_or(std::string_view{});
}

// The subscript of an operand, spaces included.
std::string_view subscript(std::string_view equation, std::size_t operand) {
  std::string_view left = equation.substr(0, equation.find("->"));
  for (; operand > 0; --operand) {
    const std::size_t comma = left.find(',');
    if (comma == std::string_view::npos) return {};
    left.remove_prefix(comma + 1);
  }
  return left.substr(0, left.find(','));
}

// Whether an equation of two operands, letters renamed by their first place, is a plain or batched
// product of matrices: those take no transpose, and empty operands are right.
bool is_plain_product(std::string_view equation) {
  std::string renamed, letters;
  for (const char c : equation) {
    if (c == ' ') continue;
    if (c == ',' || c == '-' || c == '>' || c == '.') {
      renamed += c;
      continue;
    }
    std::size_t place = letters.find(c);
    if (place == std::string::npos) {
      place = letters.size();
      letters += c;
    }
    renamed += static_cast<char>('a' + place);
  }
  return renamed == "ab,bc->ac" || renamed == "abc,acd->abd";
}

class Planner {
 public:
  Planner(const ModelView& model, GuardFor runs)
      : model_(model), facts_(model), fed_facts_(model), runs_(runs) {}

  std::vector<PlannedGuard> run() {
    for (std::size_t i = 0; i < model_.nodes().size(); ++i) {
      const NodeView& node = model_.nodes()[i];
      const auto rows = guard_table();
      auto at = std::ranges::lower_bound(rows, node.op_type, {}, &GuardedInput::op_type);
      for (; at != rows.end() && at->op_type == node.op_type; ++at) {
        const GuardedInput& row = *at;
        if (row.domain != node.domain) continue;
        if (row.step == 0) {
          plan_input(row, i, row.input);
          continue;
        }
        for (std::size_t input = row.input; input < node.input_count; input += row.step) {
          plan_input(row, i, input);
        }
      }
      const bool pool = node.op_type == "MaxPool" || node.op_type == "AveragePool";
      if (runs_ == GuardFor::kTwin && pool && node.domain.empty() && model_.has_input(node, 0)) {
        plan_pool(GuardedInput{}, i, 0);
      }
    }
    return std::move(plans_);
  }

 private:
  std::string_view name_of(const NodeView& node, std::size_t input) const {
    return model_.inputs(node)[input];
  }

  void plan_input(const GuardedInput& row, std::size_t index, std::size_t input) {
    const NodeView& node = model_.nodes()[index];
    if (!model_.has_input(node, input)) return;
    if (row.other != kNone && !model_.has_input(node, row.other)) return;
    if (!applies(row, node, input)) return;
    if (row.from == From::kPool) return plan_pool(row, index, input);
    GuardCheck check = row.check;
    if (!fill_argument(row, node, input, check)) return;
    add(row, index, input, check);
  }

  void add(const GuardedInput& row, std::size_t index, std::size_t input, const GuardCheck& check) {
    const NodeView& node = model_.nodes()[index];
    const std::string_view name = name_of(node, input);
    PlannedGuard plan{.node = index, .input = input, .other = row.other, .check = check};
    if (check.rule == kDivides && divides(node, input, row.other)) return;
    if (const auto shape = facts_.shape(node.graph, name)) {
      const auto verdict = check.rule == kSameRank
                               ? same_rank(*shape, node.graph, name_of(node, row.other))
                               : holds(check, *shape);
      if (verdict == true) return;
      const bool alone = row.other == kNone || check.rule == kSameRank;
      if (verdict == false && alone && facts_.is_constant(node.graph, name)) {
        plan.fails = true;
        plan.shape = *shape;
      }
    }
    plan.at_load = row.when.kind == When::Kind::kConstant ||
                   (row.when.kind == When::Kind::kOpenRank && !is_open(row, node, input));
    if (plan.at_load && !plan.fails) return;
    const bool about_zeros = check.rule == kNonzero || check.rule == kInnerNonzero;
    if (about_zeros && !plan.fails && facts_.never_empty(node.graph, name)) return;
    if (about_zeros && !plan.fails && runs_ == GuardFor::kFed &&
        fed_facts_.never_empty(node.graph, name)) {
      return;
    }
    plans_.push_back(std::move(plan));
  }

  bool applies(const GuardedInput& row, const NodeView& node, std::size_t input) const {
    const When& when = row.when;
    const auto number = static_cast<std::size_t>(when.number);
    switch (when.kind) {
      case When::Kind::kAlways:
      case When::Kind::kConstant:
        return true;
      case When::Kind::kHasAttribute:
        return has_attribute(node, when.name);
      case When::Kind::kIsSet:
        return has_attribute(node, when.name) && int_attribute(node, when.name) != 0;
      case When::Kind::kIsNot:
        return int_attribute(node, when.name) != when.number;
      case When::Kind::kGiven:
        return model_.has_input(node, number);
      case When::Kind::kLeftOut:
        return !model_.has_input(node, number);
      case When::Kind::kLacksAny:
        return !has_attribute(node, when.name) || !has_attribute(node, when.other_name);
      case When::Kind::kOpenRank:
        return facts_.is_constant(node.graph, name_of(node, input)) || is_open(row, node, input);
      case When::Kind::kRankMayBe: {
        if (!model_.has_input(node, number)) return true;
        const auto rank = facts_.rank(node.graph, name_of(node, number));
        return !rank || *rank == static_cast<std::size_t>(when.more);
      }
      case When::Kind::kNeedsIndices:
        return node.input_count > 1 && !is_plain_product(equation_of(node));
    }
    return true;
  }

  bool is_open(const GuardedInput& row, const NodeView& node, std::size_t input) const {
    return facts_.has_open_rank(node.graph, name_of(node, input)) ||
           (row.other != kNone && facts_.has_open_rank(node.graph, name_of(node, row.other)));
  }

  // False: no guard is needed.
  bool fill_argument(const GuardedInput& row, const NodeView& node, std::size_t input,
                     GuardCheck& check) const {
    switch (row.from) {
      case From::kTable:
      case From::kPool:
        return true;
      case From::kAxis:
        if (has_attribute(node, "axis")) {
          // An axis that a function's caller gives is not known: all of them.
          check.argument = int_attribute(node, "axis").value_or(0);
        }
        return true;
      case From::kAfterAxis: {
        const auto axis = int_attribute(node, "axis");
        if (axis == -1 || axis == std::numeric_limits<std::int64_t>::max()) return false;
        check.argument = axis ? *axis + 1 : 0;
        return true;
      }
      case From::kSubscript: {
        const std::string_view letters = subscript(equation_of(node), input);
        if (letters.find('.') != std::string_view::npos) return false;
        check.argument = std::ranges::count_if(letters, [](char c) { return c != ' '; });
        return true;
      }
      case From::kScales:
        check.argument = static_cast<std::int64_t>(count_scales(node));
        return check.argument > 0 && !has_attribute(node, "axes");
    }
    return true;
  }

  std::size_t count_scales(const NodeView& node) const {
    if (const std::size_t length = list_length(node, "scales")) return length;
    const std::size_t input = node.input_count > 2 ? 2 : 1;  // RoI boxes came in between
    if (!model_.has_input(node, input)) return 0;
    const std::string_view name = name_of(node, input);
    if (!facts_.is_constant(node.graph, name)) return 0;
    std::int64_t count = 1;
    for (const std::int64_t extent : facts_.shape(node.graph, name).value_or(kNoExtents)) {
      count = extent > 0 && extent < 64 && count < 64 ? count * extent : 0;
    }
    return static_cast<std::size_t>(count);
  }

  std::optional<bool> same_rank(std::span<const std::int64_t> shape, std::size_t graph,
                                std::string_view other) const {
    const auto rank = facts_.rank(graph, other);
    return rank ? std::optional(*rank == shape.size()) : std::nullopt;
  }

  void plan_pool(const GuardedInput& row, std::size_t index, std::size_t input) {
    const NodeView& node = model_.nodes()[index];
    const auto kernel = ints_attribute(node, "kernel_shape").value_or(std::vector<std::int64_t>{});
    const auto pads = ints_attribute(node, "pads").value_or(std::vector<std::int64_t>{});
    const auto strides = ints_attribute(node, "strides").value_or(std::vector<std::int64_t>{});
    const auto dilations = ints_attribute(node, "dilations").value_or(std::vector<std::int64_t>{});
    const std::string_view auto_pad = text_attribute(node, "auto_pad").value_or("NOTSET");
    const bool ceil = int_attribute(node, "ceil_mode").value_or(0) != 0;
    const bool channels_first = node.domain.empty();
    // The library's division rounds towards zero: short of the window by less than a stride is one
    // window still.
    const bool lenient = ceil || channels_first;
    const auto at = [](const std::vector<std::int64_t>& list, std::size_t i, std::int64_t other) {
      return i < list.size() && list[i] >= 0 && list[i] <= INT32_MAX ? list[i] : other;
    };
    for (std::size_t axis = 0; axis < kernel.size() && axis < 8; ++axis) {
      std::int64_t least = (at(kernel, axis, INT32_MAX) - 1) * at(dilations, axis, 1) + 1;
      if (auto_pad == "NOTSET") least -= at(pads, axis, 0) + at(pads, axis + kernel.size(), 0);
      if (auto_pad.starts_with("SAME")) least = 1;
      if (lenient) least -= at(strides, axis, 1) - 1;
      add(row, index, input,
          {kExtentAtLeast, std::max<std::int64_t>(least, 1),
           static_cast<std::int64_t>(axis) + (channels_first ? 2 : 1)});
    }
  }

  bool divides(const NodeView& node, std::size_t divisor, std::size_t dividend) const {
    const std::string_view below = name_of(node, divisor), above = name_of(node, dividend);
    return facts_.never_holds(node.graph, below, -1) || facts_.is_float(node.graph, above) ||
           facts_.is_float(node.graph, below) ||
           (facts_.never_holds(node.graph, above, std::numeric_limits<std::int32_t>::min()) &&
            facts_.never_holds(node.graph, above, std::numeric_limits<std::int64_t>::min()));
  }

  const ModelView& model_;
  ValueFacts facts_;
  FedFacts fed_facts_;
  GuardFor runs_;
  std::vector<PlannedGuard> plans_;
};

bool in_mask(std::int64_t mask, std::size_t axis) {
  return (mask >> std::min<std::size_t>(axis, 63) & 1) != 0;
}

// Whether an axis that `chosen` names has length zero; nullopt where that is not known.
template <class Chosen>
std::optional<bool> any_zero(std::span<const std::int64_t> shape, Chosen chosen) {
  bool unknown = false;
  for (std::size_t axis = 0; axis < shape.size(); ++axis) {
    if (!chosen(axis)) continue;
    if (shape[axis] == 0) return true;
    unknown = unknown || shape[axis] < 0;
  }
  return unknown ? std::nullopt : std::optional(false);
}

// Holds unless `bad`, save where `excused`.
std::optional<bool> unless(std::optional<bool> bad, std::optional<bool> excused) {
  if (bad == false || excused == true) return true;
  if (bad == true && excused == false) return false;
  return std::nullopt;
}

std::string axis_list(std::int64_t mask) {
  std::string text;
  for (int axis = 0; axis < 63; ++axis) {
    if (!in_mask(mask, static_cast<std::size_t>(axis))) continue;
    if (!text.empty()) text += ", ";
    text += std::to_string(axis);
    if (mask >> axis == -1) return text + " and on";
  }
  return text;
}

}  // namespace

std::vector<PlannedGuard> plan_guards(const ModelView& model, GuardFor runs) {
  return Planner(model, runs).run();
}

std::optional<bool> holds(const GuardCheck& check, std::span<const std::int64_t> shape) noexcept {
  const auto rank = static_cast<std::int64_t>(shape.size());
  if (check.rank != 0 && check.rank != rank) return true;
  switch (check.rule) {
    case kNonzero:
      return unless(
          any_zero(shape, [&](std::size_t axis) { return in_mask(check.argument, axis); }),
          any_zero(shape, [&](std::size_t axis) { return in_mask(check.detail, axis); }));
    case kRankIs:
      return rank == check.argument;
    case kRankAtLeast:
      return rank >= check.argument;
    case kInnerNonzero: {
      // An axis that the tensor does not have is refused by the library: nothing is excused then.
      std::int64_t from = check.argument < 0 ? check.argument + rank : check.argument;
      from = std::clamp<std::int64_t>(from, 0, rank);
      const auto start = static_cast<std::size_t>(from);
      return unless(
          any_zero(shape, [&](std::size_t axis) { return axis >= start; }),
          any_zero(shape, [&](std::size_t axis) { return check.detail == 0 && axis < start; }));
    }
    case kSquare: {
      if (rank < 2) return true;
      const std::int64_t rows = shape[shape.size() - 2], columns = shape.back();
      if (rows < 0 || columns < 0) return std::nullopt;
      return rows == columns;
    }
    case kExtentAtLeast: {
      if (check.detail < 0 || check.detail >= rank) return true;
      const std::int64_t extent = shape[static_cast<std::size_t>(check.detail)];
      if (extent < 0) return std::nullopt;
      return extent >= check.argument;
    }
    case kValueNonzero:
    case kSameRank:
    case kDivides:
      return std::nullopt;
  }
  return false;
}

std::string requirement(const GuardCheck& check) {
  const auto dimensions = [](std::int64_t count) {
    return std::to_string(count) + (count == 1 ? " dimension" : " dimensions");
  };
  switch (check.rule) {
    case kNonzero:
      if (check.argument == kAllAxes) return "no axis of length zero";
      return "no length of zero on axis " + axis_list(check.argument);
    case kRankIs:
      return dimensions(check.argument);
    case kRankAtLeast:
      return "at least " + dimensions(check.argument);
    case kInnerNonzero:
      if (check.argument == -1) return "a last axis above zero";
      if (check.argument < 0) {
        return "no length of zero from axis " + std::to_string(check.argument) + " to the last";
      }
      return "no length of zero from axis " + std::to_string(check.argument) + " on";
    case kSquare:
      return "square matrices";
    case kExtentAtLeast:
      return "a length of at least " + std::to_string(check.argument) + " on axis " +
             std::to_string(check.detail);
    case kValueNonzero:
      return "no value of 0";
    case kSameRank:
      return "as many dimensions as the other input";
    case kDivides:
      return "no -1 where the smallest integer is divided";
  }
  return "a rule that this release knows";
}

std::string describe_node(const ModelView& model, const NodeView& node) {
  std::string text(node.op_type.substr(0, kShownName));
  const auto outputs = model.outputs(node);
  text += node.name.empty() ? " node that writes \"" : " node \"";
  text += (!node.name.empty() ? node.name
           : outputs.empty()  ? std::string_view{}
                              : outputs.front())
              .substr(0, kShownName);
  text += '"';
  return text;
}

std::string describe_input(const ModelView& model, const NodeView& node, std::size_t input) {
  std::string text = "input " + std::to_string(input) + " \"";
  text += model.inputs(node)[input].substr(0, kShownName);
  text += "\" of the ";
  text += describe_node(model, node);
  return text;
}

}  // namespace zerolane::ort
