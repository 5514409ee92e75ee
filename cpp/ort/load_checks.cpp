// SPDX-License-Identifier: Apache-2.0
#include "ort/load_checks.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <limits>
#include <new>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include "core/error.h"
#include "core/onnx_model.h"
#include "ort/guard.h"
#include "ort/guard_rules.h"
#include "ort/model_view.h"

namespace zerolane::ort {
namespace {

constexpr std::string_view kMs = "com.microsoft";
constexpr std::string_view kMl = "ai.onnx.ml";
constexpr std::int64_t kInt32Max = std::numeric_limits<std::int32_t>::max();

// What is wrong with a node, or nullopt.
using Finding = std::optional<std::string>;

// Attributes that must lie in a range where they are given.
struct AttributeRange {
  std::string_view domain, op_type, name;
  std::int64_t least, most;
};

constexpr auto kRanges = std::to_array<AttributeRange>({
    {"", "Attention", "kv_num_heads", 1, kInt32Max},
    {"", "Attention", "q_num_heads", 1, kInt32Max},
    {"", "GatherND", "batch_dims", 0, kInt32Max},
    {kMs, "GroupQueryAttention", "kv_num_heads", 1, kInt32Max},
    {kMs, "GroupQueryAttention", "num_heads", 1, kInt32Max},
    // A kernel samples its square for each cell: more would not end in this life.
    {"", "RoiAlign", "sampling_ratio", std::numeric_limits<std::int64_t>::min(), 1 << 15},
    {kMs, "SparseAttention", "kv_num_heads", 1, kInt32Max},
    {kMs, "SparseAttention", "num_heads", 1, kInt32Max},
    {"", "TfIdfVectorizer", "max_skip_count", std::numeric_limits<std::int64_t>::min(), 1 << 20},
});

// Inputs that the schema calls optional and the kernel reads all the same.
struct NeededInput {
  std::string_view domain, op_type;
  std::size_t input;
  std::size_t only_with = kNone;  // needed where this one is given
};

constexpr auto kNeeded = std::to_array<NeededInput>({
    {kMs, "Attention", 2},
    {kMs, "AttnLSTM", 8},
    {kMs, "AttnLSTM", 9},
    {kMs, "AttnLSTM", 10},
    {kMs, "AttnLSTM", 11},
    {kMs, "QGemm", 8, 7},
    {kMs, "QLinearLeakyRelu", 4},
    {kMs, "QLinearSigmoid", 4},
    {kMs, "QMoE", 3},
    {kMs, "QMoE", 6},
});

// Any number of inputs, none of which may be left out.
constexpr auto kVariadic = std::to_array<std::pair<std::string_view, std::string_view>>({
    {"", "Einsum"},
    {"", "Max"},
    {"", "Mean"},
    {"", "Min"},
    {kMs, "QLinearConcat"},
    {"", "Sum"},
});

// Cells that a window may have; each is visited for each output.
constexpr std::int64_t kMostCells = std::int64_t{1} << 24;

class Checker {
 public:
  Checker(const ModelView& model, const std::string& name) : model_(model), name_(name) {}

  void run(const std::vector<PlannedGuard>& plans) const {
    for (const PlannedGuard& plan : plans) {
      if (plan.fails) refuse_constant(plan);
    }
    for (const NodeView& node : model_.nodes()) {
      for (const auto& finding : {ranges(node), needed(node), variadic(node), special(node)}) {
        if (finding) refuse(node, *finding);
      }
    }
  }

 private:
  [[noreturn]] void refuse(const NodeView& node, const std::string& finding) const {
    fail("the " + describe_node(model_, node) + " " + finding);
  }

  [[noreturn]] void refuse_constant(const PlannedGuard& plan) const {
    std::string shape = "[";
    for (const std::int64_t extent : plan.shape) {
      if (shape.size() > 1) shape += ", ";
      shape += std::to_string(extent);
    }
    fail(describe_input(model_, model_.nodes()[plan.node], plan.input) +
         " is a constant of shape " + shape + "], expected " + requirement(plan.check));
  }

  [[noreturn]] void fail(const std::string& found) const {
    throw make_error(Code::kUnsupported, "loading " + name_, found,
                     "change or export the model again: ONNX Runtime would end the process, or "
                     "never end",
                     name_);
  }

  static bool is(const NodeView& node, std::string_view domain, std::string_view op_type) {
    return node.op_type == op_type && node.domain == domain;
  }

  static Finding ranges(const NodeView& node) {
    for (const AttributeRange& row : kRanges) {
      if (!is(node, row.domain, row.op_type) || !has_attribute(node, row.name)) continue;
      const auto value = int_attribute(node, row.name);
      if (!value || (*value >= row.least && *value <= row.most)) continue;
      std::string text = "has the attribute " + std::string(row.name) + " of ";
      text += std::to_string(*value) + ", expected ";
      if (*value < row.least) return text + std::to_string(row.least) + " or more";
      return text + std::to_string(row.most) + " or less";
    }
    return std::nullopt;
  }

  Finding needed(const NodeView& node) const {
    for (const NeededInput& row : kNeeded) {
      if (!is(node, row.domain, row.op_type) || model_.has_input(node, row.input)) continue;
      if (row.only_with != kNone && !model_.has_input(node, row.only_with)) continue;
      return "leaves out input " + std::to_string(row.input) + ", expected all that it reads";
    }
    return std::nullopt;
  }

  Finding variadic(const NodeView& node) const {
    for (const auto& [domain, op_type] : kVariadic) {
      if (!is(node, domain, op_type)) continue;
      const auto inputs = model_.inputs(node);
      const auto gap = std::ranges::find(inputs, std::string_view{});
      if (gap == inputs.end()) continue;
      return "leaves out input " + std::to_string(gap - inputs.begin()) + ", expected all of them";
    }
    return std::nullopt;
  }

  static Finding special(const NodeView& node) {
    for (const std::string_view pool : {"AveragePool", "LpPool", "MaxPool"}) {
      if (is(node, "", pool)) return window(node);
    }
    if (is(node, "", "TfIdfVectorizer")) return tfidf(node);
    if (is(node, kMl, "FeatureVectorizer")) {
      const auto lengths = ints_attribute(node, "inputdimensions");
      if (lengths && std::ranges::any_of(*lengths, [](std::int64_t each) { return each < 0; }))
        return "has a negative number among its inputdimensions, expected none";
    }
    if (is(node, kMl, "TreeEnsembleClassifier") &&
        text_attribute(node, "post_transform") == "LOGISTIC") {
      const std::size_t labels =
          list_length(node, "classlabels_int64s") + list_length(node, "classlabels_strings");
      if (labels == 1) return "has 1 class label with post_transform LOGISTIC, expected 2";
    }
    return std::nullopt;
  }

  static Finding window(const NodeView& node) {
    std::int64_t cells = 1;
    for (const std::int64_t extent :
         ints_attribute(node, "kernel_shape").value_or(std::vector<std::int64_t>{})) {
      if (extent > 0 && cells <= kMostCells) {
        cells = extent > kMostCells ? kMostCells + 1 : cells * extent;
      }
    }
    if (cells <= kMostCells) return std::nullopt;
    return "has a kernel_shape of more than " + std::to_string(kMostCells) +
           " cells, expected one that the image fills";
  }

  // `ngram_counts` holds where in the pool the 1-grams, 2-grams, ... begin.
  static Finding tfidf(const NodeView& node) {
    const auto begins = ints_attribute(node, "ngram_counts");
    if (!begins || !has_attribute(node, "ngram_indexes")) return std::nullopt;
    const auto pool = static_cast<std::int64_t>(
        std::max(list_length(node, "pool_int64s"), list_length(node, "pool_strings")));
    std::int64_t grams = 0;
    for (std::size_t i = 0; i < begins->size(); ++i) {
      const std::int64_t begin = (*begins)[i];
      const std::int64_t end = i + 1 < begins->size() ? (*begins)[i + 1] : pool;
      const auto words = static_cast<std::int64_t>(i) + 1;
      if (begin < 0 || begin > end || end > pool || (end - begin) % words != 0) {
        return "has ngram_counts that do not divide its pool of " + std::to_string(pool) +
               " items, expected rising begins of whole n-grams";
      }
      grams += (end - begin) / words;
    }
    const std::size_t indexes = list_length(node, "ngram_indexes");
    if (indexes == static_cast<std::size_t>(grams)) return std::nullopt;
    return "has " + std::to_string(indexes) + " ngram_indexes for a pool of " +
           std::to_string(grams) + " n-grams, expected as many";
  }

  const ModelView& model_;
  const std::string& name_;
};

// Operators whose results are empty or small because of the data, not of any input's shape.
bool makes_shapes_from_data(const ModelView& view) {
  static const char* const kOps[] = {"NonZero", "Compress",   "Unique",      "NonMaxSuppression",
                                     "Loop",    "SequenceAt", "StringSplit", "Scan"};
  return std::any_of(std::begin(kOps), std::end(kOps),
                     [&](const char* op) { return view.has_op(op); });
}

std::vector<OpUse> uses_of(const ModelView& view) {
  std::vector<OpUse> uses;
  for (const NodeView& node : view.nodes()) {
    if (is_vendor_domain(node.domain) || node.domain == kGuardDomain || view.is_function(node)) {
      continue;
    }
    const bool known = std::ranges::any_of(uses, [&](const OpUse& use) {
      return use.domain == node.domain && use.op == node.op_type;
    });
    if (known) continue;
    uses.push_back({std::string(node.domain), std::string(node.op_type), view.opset(node.domain)});
  }
  return uses;
}

}  // namespace

Examined examine(std::span<const std::byte> model, const std::string& name, GuardFor runs) {
  Examined found;
  if (is_ort_format(model)) return found;
  try {
    const ModelView view(model);
    std::vector<PlannedGuard> plans = plan_guards(view, runs);
    Checker(view, name).run(plans);
    found.compares = std::ranges::any_of(
        plans, [](const PlannedGuard& plan) { return plan.other != kNone && !plan.at_load; });
    found.external_data = view.has_external_data();
    found.pools = view.has_op("MaxPool") || view.has_op("AveragePool");
    found.quantized_convolutions =
        view.has_op("QLinearConv") || (view.has_op("QuantizeLinear") && view.has_op("Conv"));
    found.transposes_empties =
        view.has_op("Transpose") && view.has_op("MatMul") && makes_shapes_from_data(view);
    found.ops = uses_of(view);
    found.guarded = guard_model(model, view, std::move(plans));
  } catch (const std::bad_alloc&) {
    throw make_error(
        Code::kOutOfMemory, "loading " + name, "memory ran out for the description of its nodes",
        "free memory, or check a file that is not much larger than memory: it is hostile", name);
  } catch (const Error& error) {
    if (error.code() != Code::kInvalidModel) throw;
    return {};  // the library says what is wrong with it
  }
  return found;
}

}  // namespace zerolane::ort
