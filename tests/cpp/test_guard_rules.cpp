// SPDX-License-Identifier: Apache-2.0
#include "ort/guard_rules.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "core/error.h"
#include "onnx_bytes.h"

namespace {

using namespace zerolane;
using namespace onnx_bytes;
using enum ort::GuardRule;
using Dims = std::vector<std::int64_t>;

constexpr std::int64_t kFloat = 1, kInt32 = 6, kInt64 = 7;

std::string int_attribute(std::string_view name, std::int64_t value) {
  return bytes(5, bytes(1, name) + integer(3, value) + integer(20, 2));
}

std::string text_attribute(std::string_view name, std::string_view value) {
  return bytes(5, bytes(1, name) + bytes(4, value) + integer(20, 3));
}

std::string ints_attribute(std::string_view name, const Dims& values) {
  std::string list;
  for (const std::int64_t value : values) list += integer(8, value);
  return bytes(5, bytes(1, name) + list + integer(20, 7));
}

std::string tensor(std::string_view name, std::int64_t elem_type, const Dims& dims,
                   const std::string& values = {}) {
  std::string out;
  for (const std::int64_t dim : dims) out += integer(1, dim);
  return out + integer(2, elem_type) + values + bytes(8, name);
}

std::string initializer(std::string_view name, std::int64_t elem_type, const Dims& dims,
                        const std::string& values = {}) {
  return bytes(5, tensor(name, elem_type, dims, values));
}

// The numbers of a tensor, unpacked.
std::string int64_data(const Dims& values) {
  std::string out;
  for (const std::int64_t value : values) out += integer(7, value);
  return out;
}

// -1: a named dimension.
std::string input(std::string_view name, std::int64_t elem_type, const Dims& dims) {
  std::string shape;
  for (const std::int64_t dim : dims) {
    shape += bytes(1, dim < 0 ? bytes(2, "n") : integer(1, dim));
  }
  return bytes(11, value(name, tensor_type(elem_type, shape)));
}

std::string open_input(std::string_view name) {
  return bytes(11, value(name, bytes(1, integer(1, kInt64))));
}

std::string op(std::string_view op_type, Names inputs, std::string_view attributes = {},
               std::string_view domain = {}, std::string_view output = "y") {
  return bytes(1, node(op_type, inputs, {output}, {}, attributes, domain));
}

// "input: what is wanted" of each guard, with "!" in front where a constant breaks the rule.
std::vector<std::string> plans(const std::string& graph, std::string_view more = {},
                               ort::GuardFor runs = ort::GuardFor::kAll) {
  const std::string message = model(graph, more);
  const ort::ModelView view(onnx_bytes::view(message));
  std::vector<std::string> list;
  for (const ort::PlannedGuard& plan : ort::plan_guards(view, runs)) {
    list.push_back((plan.fails ? "!" : "") + std::to_string(plan.input) + ": " +
                   ort::requirement(plan.check));
  }
  return list;
}

using Plans = std::vector<std::string>;
constexpr std::string_view kMs = "com.microsoft";

}  // namespace

TEST_CASE("guard rules: shapes") {
  const auto holds = [](ort::GuardRule rule, std::int64_t argument, const Dims& shape,
                        std::int64_t detail = 0, std::int64_t rank = 0) {
    return ort::holds({rule, argument, detail, rank}, shape);
  };
  CHECK(holds(kNonzero, ort::kAllAxes, {}) == true);
  CHECK(holds(kNonzero, ort::kAllAxes, {1, 2}) == true);
  CHECK(holds(kNonzero, ort::kAllAxes, {1, 0}) == false);
  CHECK(holds(kNonzero, 2, {0, 1, 0}) == true);
  CHECK(holds(kNonzero, 2, {1, 0, 1}) == false);
  CHECK(holds(kNonzero, 2, {0, 0, 1}, 1) == true);  // excused by axis 0
  CHECK(holds(kNonzero, 2, {1, 0, 1}, 1) == false);
  CHECK(holds(kNonzero, 2, {0, 0, 1}, 0, 3) == false);
  CHECK(holds(kNonzero, 2, {0, 0, 1}, 0, 4) == true);  // of another rank
  CHECK(holds(kNonzero, 2, {5, -1}) == std::nullopt);
  CHECK(holds(kNonzero, 2, {-1, 5}) == true);
  CHECK(holds(kNonzero, 3, {-1, 0}) == false);
  CHECK(holds(kNonzero, 2, {-1, 0}, 1) == std::nullopt);
  Dims many(70, 1);
  many[66] = 0;
  CHECK(holds(kNonzero, INT64_MAX, many) == true);
  CHECK(holds(kNonzero, ort::kAllAxes, many) == false);

  CHECK(holds(kRankIs, 2, {0, 0}) == true);
  CHECK(holds(kRankIs, 2, {1}) == false);
  CHECK(holds(kRankIs, -1, {1}) == false);
  CHECK(holds(kRankAtLeast, 1, {0}) == true);
  CHECK(holds(kRankAtLeast, 1, {}) == false);

  CHECK(holds(kInnerNonzero, 1, {2, 0}) == false);
  CHECK(holds(kInnerNonzero, 1, {0, 0}) == true);
  CHECK(holds(kInnerNonzero, 1, {0, 0}, 1) == false);
  CHECK(holds(kInnerNonzero, 1, {0, 2}) == true);
  CHECK(holds(kInnerNonzero, -1, {2, 0}) == false);
  CHECK(holds(kInnerNonzero, -9, {2, 0}) == false);
  CHECK(holds(kInnerNonzero, 9, {2, 0}) == true);
  CHECK(holds(kInnerNonzero, INT64_MIN, {2, 0}) == false);
  CHECK(holds(kInnerNonzero, -1, {}) == true);

  CHECK(holds(kSquare, 0, {0, 3, 3}) == true);
  CHECK(holds(kSquare, 0, {3, 0}) == false);
  CHECK(holds(kSquare, 0, {3, -1}) == std::nullopt);
  CHECK(holds(kSquare, 0, {3}) == true);

  CHECK(holds(kExtentAtLeast, 2, {9, 1}, 1) == false);
  CHECK(holds(kExtentAtLeast, 2, {1, 2}, 1) == true);
  CHECK(holds(kExtentAtLeast, 2, {1}, 1) == true);
  CHECK(holds(kExtentAtLeast, 2, {1}, -1) == true);
  CHECK(holds(kExtentAtLeast, 2, {-1}, 0) == std::nullopt);

  CHECK(holds(kDivides, 0, {0}) == std::nullopt);
  CHECK(holds(static_cast<ort::GuardRule>(99), 0, {1}) == false);
}

TEST_CASE("guard rules: what is wanted") {
  CHECK(ort::requirement({kNonzero, ort::kAllAxes}) == "no axis of length zero");
  CHECK(ort::requirement({kNonzero, 2}) == "no length of zero on axis 1");
  CHECK(ort::requirement({kNonzero, ~3}) == "no length of zero on axis 2 and on");
  CHECK(ort::requirement({kNonzero, 6}) == "no length of zero on axis 1, 2");
  CHECK(ort::requirement({kRankIs, 4}) == "4 dimensions");
  CHECK(ort::requirement({kRankAtLeast, 1}) == "at least 1 dimension");
  CHECK(ort::requirement({kInnerNonzero, 1}) == "no length of zero from axis 1 on");
  CHECK(ort::requirement({kInnerNonzero, -1}) == "a last axis above zero");
  CHECK(ort::requirement({kInnerNonzero, -2}) == "no length of zero from axis -2 to the last");
  CHECK(ort::requirement({kExtentAtLeast, 2, 1}) == "a length of at least 2 on axis 1");
  for (const auto rule : {kSquare, kValueNonzero, kSameRank, kDivides}) {
    CHECK_FALSE(ort::requirement({rule}).empty());
  }
}

TEST_CASE("guard rules: every row of the table can be met, and can be left out") {
  for (const ort::GuardedInput& row : ort::guard_table()) {
    CAPTURE(row.op_type);
    CAPTURE(row.input);
    const ort::When& when = row.when;
    std::string attributes;
    if (!when.name.empty() && when.kind != ort::When::Kind::kIsNot &&
        when.kind != ort::When::Kind::kLacksAny) {
      attributes += int_attribute(when.name, 1);
    }
    if (row.from == ort::ArgumentFrom::kAfterAxis) attributes = int_attribute("axis", 0);
    if (row.from == ort::ArgumentFrom::kPool) attributes += ints_attribute("kernel_shape", {2, 2});
    if (row.op_type == "Einsum") attributes = text_attribute("equation", "ab,cd,ef->a");
    const bool left_out = when.kind == ort::When::Kind::kLeftOut;
    // Inputs i0, i1, ... of open rank; constants break what is checked at load only.
    const bool constant = when.kind == ort::When::Kind::kConstant;
    std::string graph, inputs;
    const bool scales = row.from == ort::ArgumentFrom::kScales;
    for (std::size_t i = 0; i < 12; ++i) {
      const std::string name = "i" + std::to_string(i);
      const bool skipped = left_out && i == static_cast<std::size_t>(when.number);
      inputs += bytes(1, skipped ? "" : name);
      if (scales && i == 2) {
        graph += initializer(name, kFloat, {4});
      } else if (constant && i == row.input) {
        graph += initializer(name, kInt64, {0});
      } else {
        graph += open_input(name);
      }
    }
    const std::string node =
        inputs + bytes(2, "y") + bytes(4, row.op_type) + attributes + bytes(7, row.domain);
    const std::string message = model(bytes(1, node) + graph);
    const ort::ModelView view(onnx_bytes::view(message));
    const auto found = ort::plan_guards(view);
    CHECK(std::ranges::any_of(found, [&](const ort::PlannedGuard& plan) {
      return plan.input == row.input && plan.check.rule == row.check.rule &&
             plan.other == row.other && plan.at_load == constant;
    }));
    const std::string other = model(
        bytes(1, inputs + bytes(2, "y") + bytes(4, row.op_type) + attributes + bytes(7, "other")));
    CHECK(ort::plan_guards(ort::ModelView(onnx_bytes::view(other))).empty());
  }
}

TEST_CASE("guard rules: only inputs that may be empty stand for files that cannot be rewritten") {
  for (const ort::GuardedInput& row : ort::guarded_inputs()) {
    CHECK((row.check.rule == kNonzero || row.check.rule == kInnerNonzero));
    CHECK(row.op_type != "Conv");
    CHECK(row.op_type != "Div");
  }
  CHECK(std::ranges::any_of(ort::guarded_inputs(),
                            [](const auto& row) { return row.op_type == "LSTM"; }));
}

TEST_CASE("guard rules: a GRU takes an empty sequence where its lengths are given") {
  CHECK(plans(op("GRU", {"x", "w", "r"})) == Plans{"0: no length of zero on axis 0, 1, 2"});
  CHECK(plans(op("GRU", {"x", "w", "r", "", "n"})) == Plans{"0: no length of zero on axis 1, 2"});
  CHECK(plans(op("GRU", {"x", "w", "r"}) + input("x", kFloat, {1, 2, 3})) == Plans{});
  CHECK(plans(op("GRU", {"x", "w", "r"}) + input("x", kFloat, {-1, 2, 3})).size() == 1);
}

TEST_CASE("guard rules: weights of convolutions") {
  const auto conv = [](const std::string& more) { return plans(op("Conv", {"x", "w"}) + more); };
  const Plans guarded{"1: no length of zero on axis 1 and on"};
  CHECK(conv(initializer("w", kFloat, {8, 4, 3, 3})) == Plans{});
  CHECK(conv(initializer("w", kFloat, {0, 4, 3, 3})) == Plans{});
  CHECK(conv(initializer("w", kFloat, {8, 4, 0, 3})) ==
        Plans{"!1: no length of zero on axis 1 and on"});
  CHECK(conv(initializer("w", kFloat, {8})) == Plans{"!1: at least 2 dimensions"});
  CHECK(conv(input("w", kFloat, {8, 4, 3, 3})) == Plans{});
  CHECK(conv(input("w", kFloat, {-1, 4, 3, 3})) == Plans{});
  CHECK(conv(input("w", kFloat, {8, 4, -1, 3})) == guarded);
  // An initializer that is an input too can be replaced by the caller.
  CHECK(conv(initializer("w", kFloat, {8, 4, 3, 3}) + input("w", kFloat, {8, -1, 3, 3})) ==
        guarded);
  CHECK(conv(initializer("w", kFloat, {8, 4, 3, 3}) + initializer("w", kFloat, {8, 4, 0, 3})) ==
        guarded);
  CHECK(conv("") == guarded);
  // Quantized weights, and others that no input reaches.
  const std::string stored = initializer("q", 3, {8, 4, 3, 3}) + initializer("s", kFloat, {8});
  const std::string unpack = op("DequantizeLinear", {"q", "s"}, {}, {}, "w");
  CHECK(conv(stored + unpack) == Plans{});
  CHECK(conv(initializer("q", 3, {8, 0, 3, 3}) + initializer("s", kFloat, {8}) + unpack) ==
        guarded);
  CHECK(conv(initializer("q", 3, {8, 4, 3, 3}) + unpack) == guarded);
  // Inside a function, what all callers hand over counts.
  const std::string function =
      bytes(25, bytes(1, "F") + bytes(4, "a") + bytes(4, "b") +
                    bytes(7, node("Conv", {"a", "b"}, {"y"})) + bytes(10, "my"));
  const std::string weight = initializer("w", kFloat, {8, 4, 3, 3});
  const std::string call = op("F", {"x", "w"}, {}, "my");
  CHECK(plans(call + weight, function) == Plans{});
  CHECK(plans(call + weight + op("F", {"x", "v"}, {}, "my"), function) == guarded);
  CHECK(plans(weight, function) == guarded);  // never called: not known
}

TEST_CASE("guard rules: none against what only empty inputs bring about, where a twin has those") {
  // An LSTM behind `nodes`, which make v.
  const auto guarded = [](const std::string& nodes, const std::string& more = {}) {
    const std::string graph = op("LSTM", {"v", "w", "r"}) + nodes + more;
    CHECK(plans(graph).size() == 1);
    CHECK(plans(graph, {}, ort::GuardFor::kTwin).size() == 1);
    return !plans(graph, {}, ort::GuardFor::kFed).empty();
  };
  const std::string x = input("x", kFloat, {-1, -1, 16});
  CHECK_FALSE(guarded(input("v", kFloat, {-1, -1, 4})));
  CHECK_FALSE(guarded(op("Transpose", {"x"}, {}, {}, "v"), x));
  CHECK_FALSE(guarded(op("Reshape", {"x", "anything"}, {}, {}, "v"), x));
  CHECK(guarded(""));
  CHECK(guarded(op("Identity", {"other"}, {}, {}, "v"), x));
  CHECK(guarded(op("Identity", {"x"}, {}, "other", "v"), x));
  CHECK(guarded(bytes(11, value("v", bytes(4, bytes(1, "")))), x));  // a sequence

  // What others hold may be empty whatever the caller gives.
  CHECK(guarded(op("Add", {"x", "other"}, {}, {}, "v"), x));
  CHECK(guarded(op("Add", {"x", "c"}, {}, {}, "v"), x + initializer("c", kFloat, {0})));
  CHECK_FALSE(guarded(op("Add", {"x", "c"}, {}, {}, "v"), x + initializer("c", kFloat, {16})));
  CHECK(guarded(input("v", kFloat, {-1, -1, 4}), initializer("v", kFloat, {0, 0, 4})));
  for (const std::string_view op_type : {"NonZero", "Slice", "Expand", "Tile", "Pad", "TopK",
                                         "Compress", "Resize", "Split", "Shape", "Range"}) {
    CHECK(guarded(op(op_type, {"x", "n", "m"}, {}, {}, "v"), x));
  }
  // Only the first output of most operators has the shape that is known.
  CHECK(guarded(bytes(1, node("Dropout", {"x"}, {"u", "v"})), x));
  CHECK_FALSE(guarded(bytes(1, node("GRU", {"x", "w", "r"}, {"u", "v"})) +
                          initializer("w", kFloat, {1, 12, 16}) +
                          initializer("r", kFloat, {1, 12, 4}),
                      input("x", kFloat, {1, 2, 16})));

  // A function of the model under the name of an operator could do anything.
  const std::string function = bytes(25, bytes(1, "Transpose") + bytes(4, "a"));
  const std::string graph = op("LSTM", {"v", "w", "r"}) + op("Transpose", {"x"}, {}, {}, "v") + x;
  CHECK(plans(graph, {}, ort::GuardFor::kFed).empty());
  CHECK_FALSE(plans(graph, function, ort::GuardFor::kFed).empty());

  // Rules about ranks and values stay.
  const std::string rank = op("ReverseSequence", {"x", "n"}) + open_input("x");
  CHECK(plans(rank, {}, ort::GuardFor::kFed) == plans(rank));
}

TEST_CASE("guard rules: initializers of old models are constants, though listed as inputs") {
  // A weight made by ConstantOfShape, as the models of the onnx package have them.
  const std::string graph = op("Conv", {"x", "w"}) + op("ConstantOfShape", {"s"}, {}, {}, "w") +
                            input("x", kFloat, {-1, 3, 8, 8}) + input("s", kInt64, {4}) +
                            initializer("s", kInt64, {4}, int64_data({16, 3, 3, 3}));
  CHECK(plans(graph, integer(1, 3), ort::GuardFor::kFed).empty());
  CHECK(plans(graph, integer(1, 4), ort::GuardFor::kFed).size() == 1);
  CHECK(plans(graph, {}, ort::GuardFor::kFed).size() == 1);
  const std::string empty = op("Conv", {"x", "w"}) + op("ConstantOfShape", {"s"}, {}, {}, "w") +
                            input("x", kFloat, {-1, 3, 8, 8}) + input("s", kInt64, {4}) +
                            initializer("s", kInt64, {4}, int64_data({16, 0, 3, 3}));
  CHECK(plans(empty, integer(1, 3), ort::GuardFor::kFed).size() == 1);
}

TEST_CASE("guard rules: extents of slices and convolutions") {
  const auto guarded = [](const std::string& graph) {
    return !plans(op("LSTM", {"v", "w", "r"}) + graph, {}, ort::GuardFor::kFed).empty();
  };
  const auto numbers = [](std::string_view name, const Dims& values) {
    std::string list;
    for (const std::int64_t value : values) list += integer(7, value);
    return initializer(name, kInt64, {static_cast<std::int64_t>(values.size())}, list);
  };
  const std::string x = input("x", kFloat, {-1, 6, 16});
  const auto slice = [&](std::int64_t start, std::int64_t end, std::int64_t axis,
                         std::int64_t step) {
    return guarded(op("Slice", {"x", "b", "e", "a", "s"}, {}, {}, "v") + x + numbers("b", {start}) +
                   numbers("e", {end}) + numbers("a", {axis}) + numbers("s", {step}));
  };
  CHECK_FALSE(slice(0, INT64_MAX, 1, 1));
  CHECK_FALSE(slice(5, INT64_MAX, 1, 1));
  CHECK_FALSE(slice(5, 6, -2, 3));
  CHECK_FALSE(slice(-1, INT64_MAX, 1, 1));
  CHECK_FALSE(slice(-9, 1, 1, 1));
  CHECK_FALSE(slice(-1, INT64_MIN, 1, -1));
  CHECK_FALSE(slice(0, INT64_MIN, 1, -1));
  CHECK_FALSE(slice(2, 1, 1, INT64_MIN));
  CHECK(slice(6, INT64_MAX, 1, 1));
  CHECK(slice(2, 2, 1, 1));
  CHECK(slice(3, 2, 1, 1));
  CHECK(slice(2, 3, 1, -1));
  CHECK(slice(-1, -1, 1, -1));
  CHECK(slice(0, -6, 1, 1));
  CHECK(slice(0, 1, 1, 0));
  CHECK(slice(0, 1, 3, 1));
  CHECK(slice(0, 1, 0, 1));  // of a length that is not known
  CHECK(guarded(op("Slice", {"x", "b", "e", "a"}, {}, {}, "v") + x + numbers("b", {0, 0}) +
                numbers("e", {4, 4}) + numbers("a", {1, 1})));
  CHECK(guarded(op("Slice", {"x", "b", "e"}, {}, {}, "v") + x + numbers("b", {0}) +
                input("e", kInt64, {1})));
  const std::string old = ints_attribute("starts", {1}) + ints_attribute("axes", {2});
  CHECK_FALSE(guarded(op("Slice", {"x"}, old + ints_attribute("ends", {-1}), {}, "v") + x));
  CHECK(guarded(op("Slice", {"x"}, old + ints_attribute("ends", {1}), {}, "v") + x));
  const std::string raw = bytes(9, std::string("\x01\0\0\0\x02\0\0\0", 8));
  CHECK_FALSE(guarded(op("Slice", {"x", "b", "e"}, {}, {}, "v") + input("x", kFloat, {6, 6}) +
                      initializer("b", kInt32, {2}, raw) + numbers("e", {6, 3})));
  CHECK(guarded(op("Slice", {"x", "b", "e"}, {}, {}, "v") + input("x", kFloat, {6, 6}) +
                initializer("b", kInt32, {2}, raw) + numbers("e", {6, 2})));

  // x has 16 or any number of places; `length` of them come out.
  const auto conv = [&](const Dims& image, std::int64_t window, const std::string& attributes = {},
                        std::int64_t place = 0) {
    return guarded(op("Conv", {"x", "k"}, attributes, {}, "u") + input("x", kFloat, image) +
                   initializer("k", kFloat, {8, 6, window}) +
                   op("Slice", {"u", "b", "e", "a"}, {}, {}, "v") + numbers("b", {place}) +
                   numbers("e", {INT64_MAX}) + numbers("a", {2}));
  };
  const auto plain = [&](const Dims& image, std::int64_t window,
                         const std::string& attributes = {}) {
    return guarded(op("Conv", {"x", "k"}, attributes, {}, "v") + input("x", kFloat, image) +
                   initializer("k", kFloat, {8, 6, window}));
  };
  CHECK_FALSE(plain({-1, 6, 16}, 16));
  CHECK(plain({-1, 6, 16}, 17));
  CHECK(plain({-1, 6, -1}, 2));
  CHECK_FALSE(plain({-1, 6, -1}, 1));
  CHECK_FALSE(plain({-1, 6, -1}, 3, ints_attribute("pads", {1, 1})));
  CHECK(plain({-1, 6, -1}, 3, ints_attribute("pads", {1, 0})));
  CHECK(plain({-1, 6, -1}, 3, ints_attribute("pads", {1, 1}) + ints_attribute("dilations", {2})));
  CHECK(
      plain({-1, 6, -1}, 3, ints_attribute("pads", {1, 1}) + text_attribute("auto_pad", "VALID")));
  CHECK_FALSE(plain({-1, 6, -1}, 3, text_attribute("auto_pad", "SAME_UPPER")));
  CHECK(plain({-1, 6, 16}, 3, ints_attribute("pads", {-9, -9})));
  CHECK(plain({-1, 6, 16}, 3, ints_attribute("strides", {0})));
  CHECK(plain({-1, 6, 16, 16}, 3));
  CHECK_FALSE(conv({-1, 6, 16}, 3, {}, 13));
  CHECK(conv({-1, 6, 16}, 3, {}, 14));
  CHECK_FALSE(conv({-1, 6, 16}, 3, ints_attribute("strides", {4}), 3));
  CHECK(conv({-1, 6, 16}, 3, ints_attribute("strides", {4}), 4));
  CHECK_FALSE(conv({-1, 6, 17}, 9,
                   ints_attribute("strides", {4}) + text_attribute("auto_pad", "SAME_LOWER"), 4));
  CHECK(conv({-1, 6, 16}, 9,
             ints_attribute("strides", {4}) + text_attribute("auto_pad", "SAME_LOWER"), 4));

  // Unsqueeze and Transpose move extents about.
  const std::string moved = op("Unsqueeze", {"x", "a"}, {}, {}, "u") +
                            op("Transpose", {"u"}, ints_attribute("perm", {2, 0, 1}), {}, "t") +
                            op("Slice", {"t", "b", "e"}, {}, {}, "v") +
                            input("x", kFloat, {-1, 256}) + numbers("a", {1}) + numbers("e", {256});
  CHECK_FALSE(guarded(moved + numbers("b", {255})));
  CHECK(guarded(moved + numbers("b", {256})));
}

TEST_CASE("guard rules: open ranks cost a guard, declared ones none") {
  CHECK(plans(op("Concat", {"a", "b", "c"}) + input("a", kFloat, {-1, 2})) == Plans{});
  CHECK(plans(op("Concat", {"a", "b", "c"}) + open_input("b")).size() == 1);
  CHECK(plans(op("Concat", {"a", "b", "c"}) + open_input("a")).size() == 2);
  CHECK(plans(op("Relu", {"a"}, {}, {}, "r") + op("Concat", {"r", "b"}) + open_input("a")).size() ==
        1);
  CHECK(plans(op("Concat", {"a", "b"}) + open_input("other")) == Plans{});
  // Constants of other ranks are found when the model is loaded.
  const std::string two = initializer("two", kFloat, {2, 3}),
                    none = initializer("none", kFloat, {0});
  CHECK(plans(op("Concat", {"two", "none"}) + two + none) ==
        Plans{"!1: as many dimensions as the other input"});
  CHECK(plans(op("Concat", {"two", "two"}) + two) == Plans{});
  CHECK(plans(op("Concat", {"x", "none"}) + none) == Plans{});
  const std::string scales = initializer("s", kFloat, {4});
  CHECK(plans(op("Resize", {"x", "", "s"}) + scales + open_input("x")) == Plans{"0: 4 dimensions"});
  CHECK(plans(op("Resize", {"x", "", "s"}) + scales) == Plans{});
  CHECK(plans(op("Resize", {"x", "", "s"}, ints_attribute("axes", {0})) + scales +
              open_input("x")) == Plans{});
  CHECK(plans(op("Resize", {"x", "", "", "n"}) + open_input("x")) == Plans{});
}

TEST_CASE("guard rules: Einsum") {
  const auto einsum = [](std::string_view equation, Names inputs, const std::string& more = {}) {
    return plans(op("Einsum", inputs, text_attribute("equation", equation)) + more);
  };
  CHECK(einsum("ij,jk->ik", {"a", "b"}) == Plans{});
  CHECK(einsum("b i j, b j k -> b i k", {"a", "b"}) == Plans{});
  CHECK(einsum("ij->ji", {"a"}) == Plans{});
  CHECK(einsum("ij,kj->ik", {"a", "b"}) ==
        Plans{"0: no axis of length zero", "1: no axis of length zero"});
  CHECK(einsum("ij->ji", {"a"}, open_input("a")) == Plans{"0: at least 2 dimensions"});
  CHECK(einsum("...ij->...ji", {"a"}, open_input("a")) == Plans{});
  CHECK(einsum("ij, jkl -> ik", {"a", "b"}, open_input("b")).back() == "1: no axis of length zero");
  CHECK(einsum("", {"a", "b"}, open_input("b")).size() == 3);
}

TEST_CASE("guard rules: division") {
  const auto divides = [](const std::string& more, std::string_view op_type = "Div") {
    return plans(op(op_type, {"a", "b"}) + more).empty();
  };
  const auto number = [](std::string_view name, std::int64_t value) {
    return initializer(name, kInt64, {1}, integer(7, value));
  };
  const std::string raw = bytes(9, std::string("\x02\0\0\0\xff\xff\xff\xff", 8));
  CHECK_FALSE(divides(""));
  CHECK_FALSE(divides(input("a", kInt64, {-1})));
  CHECK(divides(input("a", kFloat, {-1})));
  CHECK(divides(input("b", kFloat, {-1})));
  CHECK(divides(number("b", 4)));
  CHECK_FALSE(divides(number("b", -1)));
  CHECK(divides(number("a", -1)));
  CHECK_FALSE(divides(number("a", INT64_MIN)));
  CHECK_FALSE(divides(initializer("b", kInt32, {2}, raw)));
  CHECK(divides(initializer("b", kInt64, {1}, raw)));  // the same bytes are another number
  CHECK_FALSE(divides(initializer("b", kInt32, {1}, integer(5, 0xffffffff))));  // is -1 as well
  CHECK_FALSE(divides(initializer("b", kInt64, {1}, bytes(9, "????????") + integer(14, 1))));
  CHECK_FALSE(divides(number("b", 4) + number("b", -1)));
  CHECK_FALSE(divides(number("b", 4) + input("b", kInt64, {1})));

  // Shapes are never negative, however they are moved about.
  const std::string extent =
      op("Shape", {"x"}, {}, {}, "s") + op("Gather", {"s", "i"}, {}, {}, "a");
  CHECK(divides(extent));
  CHECK(divides(op("TopK", {"x", "k"}, {}, {}, "v") + extent));
  CHECK_FALSE(divides(op("Add", {"x", "i"}, {}, {}, "a")));
  // Floating types, through what keeps them.
  CHECK(divides(op("Sqrt", {"v"}, {}, {}, "b")));
  CHECK(divides(op("Cast", {"v"}, int_attribute("to", 1), {}, "a")));
  CHECK_FALSE(divides(op("Cast", {"v"}, int_attribute("to", kInt32), {}, "a")));
  CHECK(divides(op("Sigmoid", {"v"}, {}, {}, "u") + op("Mul", {"t", "u"}, {}, {}, "a")));
  CHECK_FALSE(divides(op("Sigmoid", {"v"}, {}, "other", "a")));
  const std::string constant =
      bytes(5, bytes(1, "value") + bytes(5, tensor("", kInt64, {}, integer(7, 8))));
  CHECK(divides(op("Constant", {}, constant, {}, "b")));
  CHECK(divides(op("Constant", {}, int_attribute("value_int", 8), {}, "b")));
  CHECK_FALSE(divides(op("Constant", {}, int_attribute("value_int", -1), {}, "b")));

  CHECK_FALSE(divides("", "Mod"));
  CHECK(plans(op("Mod", {"a", "b"}, int_attribute("fmod", 1))) == Plans{});
  // A constant of a graph further out.
  const std::string branch = op("Div", {"a", "b"});
  const std::string outer = op("If", {"c"}, graph_attribute("then_branch", branch), {}, "z");
  CHECK(plans(outer + number("b", 3)) == Plans{});
  CHECK(plans(outer + number("b", -1)).size() == 1);
  // A chain longer than the budget is not known, and takes no time.
  std::string chain;
  for (int i = 0; i < 3000; ++i) {
    chain += bytes(1, node("Add", {"v" + std::to_string(i), "v" + std::to_string(i)},
                           {"v" + std::to_string(i + 1)}));
  }
  CHECK_FALSE(divides(chain + op("Identity", {"v3000"}, {}, {}, "a")));
  CHECK_FALSE(divides(op("Identity", {"a"}, {}, {}, "a")));  // a circle
}

TEST_CASE("guard rules: attributes choose the axes") {
  const auto quantize = [](const std::string& attributes) {
    return plans(op("QuantizeLinear", {"x", "s", "z"}, attributes));
  };
  const std::string block = int_attribute("block_size", 4);
  CHECK(quantize("") == Plans{});
  CHECK(quantize(int_attribute("block_size", 0)) == Plans{});
  CHECK(quantize(block) == Plans{"0: no length of zero from axis 1 on"});
  CHECK(quantize(block + int_attribute("axis", -1)) == Plans{"0: a last axis above zero"});
  const auto unique = [](std::int64_t axis) {
    return plans(op("Unique", {"x"}, int_attribute("axis", axis)));
  };
  CHECK(unique(0) == Plans{"0: no length of zero from axis 1 on"});
  CHECK(unique(-2) == Plans{"0: a last axis above zero"});
  CHECK(unique(-1) == Plans{});
  CHECK(plans(op("Unique", {"x"})) == Plans{});
  // Taken from the caller of a function: not known, so no axis may be empty.
  const std::string reference = bytes(5, bytes(1, "axis") + bytes(21, "a"));
  CHECK(plans(op("Unique", {"x"}, reference)) == Plans{"0: no length of zero from axis 0 on"});

  const auto pool = [](const std::string& attributes) {
    return plans(
        op("QLinearAveragePool", {"x"}, ints_attribute("kernel_shape", {3, 4}) + attributes, kMs));
  };
  const std::string last = int_attribute("channels_last", 1);
  CHECK(pool("") == Plans{});
  CHECK(pool(last) ==
        Plans{"0: a length of at least 3 on axis 1", "0: a length of at least 4 on axis 2"});
  CHECK(pool(last + ints_attribute("pads", {1, 0, 1, 1})) ==
        Plans{"0: a length of at least 1 on axis 1", "0: a length of at least 3 on axis 2"});
  CHECK(pool(last + text_attribute("auto_pad", "SAME_UPPER")).front() ==
        "0: a length of at least 1 on axis 1");
  CHECK(pool(last + int_attribute("ceil_mode", 1) + ints_attribute("strides", {3, 2})) ==
        Plans{"0: a length of at least 1 on axis 1", "0: a length of at least 3 on axis 2"});
}

TEST_CASE("guard rules: the reader of models finds what stands behind long lists") {
  // Lists written one number a field, as protobuf's first syntax does; the name comes last.
  std::string list;
  for (int i = 0; i < 300; ++i) list += integer(8, i) + varint(7 << 3 | 5) + "\x40\x3d\x40\x01";
  for (int i = 0; i < 300; ++i) list += varint(7 << 3 | 5) + "\x40\x3d\x40\x01";
  for (const std::int64_t value : {3, 300, -1, 5}) list += integer(8, value);
  const std::string inner = bytes(6, op("LSTM", {"x", "w", "r"}));
  const std::string graph = op("Unique", {"x"}, bytes(5, list + inner + bytes(1, "axis")));
  const std::string message = model(graph);
  const ort::ModelView view(onnx_bytes::view(message));
  REQUIRE(view.nodes().size() == 2);
  CHECK(ort::has_attribute(view.nodes()[0], "axis"));
  CHECK(ort::list_length(view.nodes()[0], "axis") == 904);
  CHECK(ort::ints_attribute(view.nodes()[0], "axis")->back() == 5);
  // Cut anywhere, the bytes are refused or read, never overrun.
  for (std::size_t length = 0; length < message.size(); ++length) {
    const std::vector<char> cut(message.begin(), message.begin() + static_cast<long>(length));
    try {
      const ort::ModelView part(std::as_bytes(std::span(cut)));
    } catch (const Error&) {
    }
  }
}
