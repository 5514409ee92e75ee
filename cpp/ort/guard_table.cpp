// SPDX-License-Identifier: Apache-2.0
#include "ort/guard_rules.h"

#include <algorithm>
#include <array>
#include <iterator>

namespace zerolane::ort {
namespace {

using enum GuardRule;
using From = ArgumentFrom;

template <class... Axes>
constexpr std::int64_t axes(Axes... axis) {
  return ((std::int64_t{1} << axis) | ... | std::int64_t{0});
}

constexpr GuardCheck nonzero(std::int64_t mask, std::int64_t unless = 0, std::int64_t rank = 0) {
  return {kNonzero, mask, unless, rank};
}
constexpr GuardCheck rank_is(std::int64_t rank) { return {kRankIs, rank}; }
constexpr GuardCheck rank_at_least(std::int64_t rank) { return {kRankAtLeast, rank}; }
constexpr GuardCheck inner_nonzero(std::int64_t from) { return {kInnerNonzero, from}; }
constexpr GuardCheck always_inner_nonzero(std::int64_t from) { return {kInnerNonzero, from, 1}; }
constexpr GuardCheck kNotEmpty = nonzero(kAllAxes);
constexpr std::int64_t kSpatialAxes = ~axes(0, 1);

constexpr When kAlways{};
constexpr When kOpenRank{When::Kind::kOpenRank};
constexpr When kConstant{When::Kind::kConstant};
constexpr When kNeedsIndices{When::Kind::kNeedsIndices};
constexpr When kLacksHeads{When::Kind::kLacksAny, "q_num_heads", 0, 0, "kv_num_heads"};
constexpr When has(std::string_view name) { return {When::Kind::kHasAttribute, name}; }
constexpr When is_set(std::string_view name) { return {When::Kind::kIsSet, name}; }
constexpr When is_not(std::string_view name, std::int64_t value) {
  return {When::Kind::kIsNot, name, value};
}
constexpr When given(std::int64_t input) { return {When::Kind::kGiven, {}, input}; }
constexpr When left_out(std::int64_t input) { return {When::Kind::kLeftOut, {}, input}; }
constexpr When rank_may_be(std::int64_t input, std::int64_t rank) {
  return {When::Kind::kRankMayBe, {}, input, rank};
}

constexpr std::string_view kMs = "com.microsoft";

// Found by feeding zero-size, odd-rank and extreme inputs to every operator of onnxruntime 1.31.1;
// tests/models/fatal_cases.py reproduces them. Nodes of ours cost the fusions around them, so rows
// about operators that are common (Conv, Concat, Resize, ...) apply only where a weight is no
// constant, or where a model leaves the rank of an input open, which exporters never do.
constexpr auto kGuardTable = std::to_array<GuardedInput>({
    {"", "AffineGrid", 1, rank_is(1)},
    {"", "Attention", 0, rank_is(4), kLacksHeads},
    {"", "Attention", 1, nonzero(axes(1), 0, 4)},
    {"", "Attention", 4, rank_at_least(1), kOpenRank},
    {"", "Attention", 5, rank_at_least(1), kOpenRank},
    {kMs, "AttnLSTM", 0, rank_at_least(3)},
    {kMs, "AttnLSTM", 0, nonzero(axes(1, 2))},
    {"", "Concat", 1, {kSameRank}, kOpenRank, From::kTable, 1, 0},
    {"", "Conv", 0, rank_at_least(2), kOpenRank},
    {"", "Conv", 1, rank_at_least(2), kOpenRank},
    {"", "Conv", 1, nonzero(~axes(0))},
    {"", "ConvInteger", 0, rank_at_least(2), kOpenRank},
    {"", "ConvInteger", 1, rank_at_least(2), kOpenRank},
    {"", "ConvTranspose", 0, nonzero(axes(2, 3), axes(0, 1), 5), rank_may_be(1, 5)},
    {kMs, "CropAndResize", 0, rank_is(4)},
    {kMs, "CropAndResize", 1, rank_is(2)},
    {kMs, "CropAndResize", 2, rank_at_least(1), kOpenRank},
    {"", "DFT", 0, rank_at_least(1)},
    {"", "DFT", 1, kNotEmpty},
    {"", "DFT", 2, kNotEmpty},
    {kMs, "DecoderMaskedMultiHeadAttention", 7, kNotEmpty},
    {kMs, "DecoderMaskedMultiHeadAttention", 8, kNotEmpty},
    {"", "Div", 1, {kDivides}, kAlways, From::kTable, 0, 0},
    {kMs, "DynamicQuantizeLSTM", 0, nonzero(axes(1))},
    {"", "Einsum", 0, rank_at_least(0), kOpenRank, From::kSubscript, 1},
    {"", "Einsum", 0, kNotEmpty, kNeedsIndices, From::kTable, 1},
    {kMs, "EmbedLayerNormalization", 0, rank_at_least(2), given(8)},
    {kMs, "EmbedLayerNormalization", 8, rank_at_least(2)},
    {"ai.onnx.ml", "FeatureVectorizer", 0, nonzero(axes(0)), kAlways, From::kTable, 1},
    {kMs, "FusedConv", 0, rank_at_least(2), kOpenRank},
    {kMs, "FusedConv", 1, rank_at_least(2), kOpenRank},
    {kMs, "FusedConv", 1, nonzero(~axes(0))},
    {kMs, "FusedMatMul", 0, nonzero(axes(0)), is_set("transBatchA")},
    {kMs, "FusedMatMul", 1, nonzero(axes(0)), is_set("transBatchB")},
    {"", "GRU", 0, nonzero(axes(1, 2)), given(4)},
    {"", "GRU", 0, nonzero(axes(0, 1, 2)), left_out(4)},
    {"", "GridSample", 0, rank_at_least(1), kOpenRank},
    {kMs, "GridSample", 0, rank_at_least(1), kOpenRank},
    {kMs, "GroupQueryAttention", 0, nonzero(axes(0))},
    {kMs, "GroupQueryAttention", 9, rank_at_least(2), kOpenRank},
    {"", "InstanceNormalization", 0, nonzero(kSpatialAxes, axes(0, 1))},
    {kMs, "Inverse", 0, {kSquare}},
    {"", "LSTM", 0, nonzero(axes(1))},
    {kMs, "LinearAttention", 0, nonzero(axes(2))},
    {kMs, "LinearAttention", 1, nonzero(axes(2))},
    {"", "Loop", 0, kNotEmpty},
    {"", "MaxRoiPool", 0, rank_is(4)},
    {"", "MaxRoiPool", 1, rank_is(2)},
    {kMs, "MoE", 0, always_inner_nonzero(-1)},
    {"", "Mod", 1, {kDivides}, is_not("fmod", 1), From::kTable, 0, 0},
    {kMs, "MultiHeadAttention", 0, nonzero(axes(2), axes(0), 3)},
    {kMs, "MultiHeadAttention", 2, nonzero(axes(2), axes(0), 3)},
    {kMs, "MultiHeadAttention", 2, nonzero(axes(3), axes(0), 4)},
    {"", "Multinomial", 0, rank_is(2)},
    {"", "OneHot", 1, kNotEmpty, kConstant},
    {kMs, "QAttention", 0, nonzero(axes(0))},
    {kMs, "QLinearAveragePool", 0, {kExtentAtLeast}, is_set("channels_last"), From::kPool},
    {kMs, "QLinearConcat", 0, kNotEmpty},
    {kMs, "QLinearConcat", 1, kNotEmpty},
    {kMs, "QLinearConcat", 3, kNotEmpty, kAlways, From::kTable, 3},
    {kMs, "QLinearConcat", 4, kNotEmpty, kAlways, From::kTable, 3},
    {kMs, "QLinearConcat", 5, {kSameRank}, kOpenRank, From::kTable, 3, 2},
    {"", "QLinearConv", 0, rank_at_least(1), kOpenRank},
    {"", "QLinearConv", 3, rank_at_least(1), kOpenRank},
    {"", "QLinearConv", 3, nonzero(axes(0))},
    {kMs, "QLinearConv", 0, rank_at_least(1), kOpenRank},
    {kMs, "QLinearConv", 3, rank_at_least(1), kOpenRank},
    {kMs, "QLinearConv", 3, nonzero(axes(0))},
    {kMs, "QLinearSoftmax", 1, kNotEmpty, kAlways, From::kTable, 1},
    {kMs, "QLinearWhere", 2, kNotEmpty},
    {kMs, "QLinearWhere", 3, kNotEmpty},
    {kMs, "QLinearWhere", 5, kNotEmpty, kAlways, From::kTable, 1},
    {kMs, "QMoE", 0, always_inner_nonzero(-1)},
    {"", "QuantizeLinear", 0, always_inner_nonzero(1), is_set("block_size"), From::kAxis},
    {"", "Resize", 0, rank_is(0), kOpenRank, From::kScales},
    {"", "ReverseSequence", 0, rank_at_least(2)},
    {"", "RoiAlign", 0, rank_is(4)},
    {"", "RoiAlign", 0, nonzero(axes(2, 3), axes(0, 1)), kAlways, From::kTable, 0, 1},
    {"", "RoiAlign", 1, rank_is(2)},
    {"", "RoiAlign", 2, rank_at_least(1), kOpenRank},
    {kMs, "RotaryEmbedding", 0, inner_nonzero(-1)},
    {"", "STFT", 0, rank_at_least(2)},
    {"", "STFT", 2, rank_at_least(1), kOpenRank},
    {"", "STFT", 2, kNotEmpty, left_out(3)},
    {"", "STFT", 3, {kValueNonzero}},
    {"", "SequenceAt", 1, kNotEmpty},
    {"", "SequenceErase", 1, kNotEmpty},
    {"", "SequenceInsert", 2, kNotEmpty},
    {kMs, "SkipLayerNormalization", 1, nonzero(axes(0)), kAlways, From::kTable, 0, 0},
    {kMs, "SkipSimplifiedLayerNormalization", 1, nonzero(axes(0)), kAlways, From::kTable, 0, 0},
    {"ai.onnx.ml", "TreeEnsemble", 0, nonzero(axes(0), 0, 1)},
    {"", "Unique", 0, inner_nonzero(0), has("axis"), From::kAfterAxis},
    {"", "Upsample", 0, rank_is(0), kOpenRank, From::kScales},
    {kMs, "WordConvEmbedding", 1, nonzero(~axes(0))},
});
static_assert(std::ranges::is_sorted(kGuardTable, {}, &GuardedInput::op_type));

}  // namespace

std::span<const GuardedInput> guard_table() noexcept { return kGuardTable; }

std::span<const GuardedInput> guarded_inputs() {
  static const std::vector<GuardedInput> rows = [] {
    std::vector<GuardedInput> list;
    std::ranges::copy_if(kGuardTable, std::back_inserter(list), [](const GuardedInput& row) {
      const bool is_weight = row.input > 0 && row.op_type.find("Conv") != std::string_view::npos;
      return (row.check.rule == kNonzero || row.check.rule == kInnerNonzero) &&
             row.when.kind != When::Kind::kConstant && !is_weight;
    });
    return list;
  }();
  return rows;
}

}  // namespace zerolane::ort
