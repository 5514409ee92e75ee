// SPDX-License-Identifier: Apache-2.0
#include "ort/load_checks.h"

#include <doctest/doctest.h>

#include <cstdint>
#include <string>
#include <vector>

#include "core/error.h"
#include "onnx_bytes.h"
#include "ort/guard.h"

namespace {

using namespace zerolane;
using namespace onnx_bytes;

constexpr std::string_view kMs = "com.microsoft", kMl = "ai.onnx.ml";

std::string number(std::string_view name, std::int64_t value) {
  return bytes(5, bytes(1, name) + integer(3, value) + integer(20, 2));
}

std::string numbers(std::string_view name, const std::vector<std::int64_t>& values) {
  std::string packed;
  for (const std::int64_t value : values) packed += varint(static_cast<std::uint64_t>(value));
  return bytes(5, bytes(1, name) + bytes(8, packed) + integer(20, 7));
}

std::string words(std::string_view name, Names values) {
  std::string list;
  for (const std::string_view value : values) list += bytes(9, value);
  return bytes(5, bytes(1, name) + list + integer(20, 8));
}

std::string text_of(std::string_view name, std::string_view value) {
  return bytes(5, bytes(1, name) + bytes(4, value) + integer(20, 3));
}

// The message, or "" where the model may load.
std::string refusal(const std::string& graph, std::string_view more = {}) {
  const std::string message = model(graph, more);
  try {
    (void)ort::examine(view(message), "m.onnx", ort::GuardFor::kAll);
  } catch (const Error& error) {
    CHECK(error.code() == Code::kUnsupported);
    CHECK(error.subject() == "m.onnx");
    return error.message();
  }
  return {};
}

std::string refused(std::string_view op, Names inputs, const std::string& attributes = {},
                    std::string_view domain = {}) {
  return refusal(bytes(1, node(op, inputs, {"y"}, "n", attributes, domain)));
}

bool loads(std::string_view op, Names inputs, const std::string& attributes = {},
           std::string_view domain = {}) {
  return refused(op, inputs, attributes, domain).empty();
}

}  // namespace

TEST_CASE("load checks: a message says what, where and why") {
  CHECK(refused("GatherND", {"x", "i"}, number("batch_dims", -2)) ==
        "loading m.onnx: the GatherND node \"n\" has the attribute batch_dims of -2, expected 0 or "
        "more; change or export the model again: ONNX Runtime would end the process, or never end");
  CHECK(refusal(bytes(1, node("Conv", {"x", "w"}, {"y"})) +
                bytes(5, integer(1, 8) + integer(1, 0) + integer(1, 3) + bytes(8, "w"))) ==
        "loading m.onnx: input 1 \"w\" of the Conv node that writes \"y\" is a constant of shape "
        "[8, 0, 3], expected no length of zero on axis 1 and on; change or export the model again: "
        "ONNX Runtime would end the process, or never end");
}

TEST_CASE("load checks: attributes out of range") {
  CHECK(loads("GatherND", {"x", "i"}));
  CHECK(loads("GatherND", {"x", "i"}, number("batch_dims", 1)));
  CHECK(loads("RoiAlign", {"x", "r", "b"}, number("sampling_ratio", -1)));
  CHECK_FALSE(loads("RoiAlign", {"x", "r", "b"}, number("sampling_ratio", 1LL << 32)));
  for (const std::int64_t heads : {std::int64_t{0}, std::int64_t{1} << 32, std::int64_t{-1}}) {
    CHECK_FALSE(loads("Attention", {"q", "k", "v"}, number("q_num_heads", heads)));
    CHECK_FALSE(loads("GroupQueryAttention", {"q", "k", "v"}, number("num_heads", heads), kMs));
  }
  CHECK(loads("Attention", {"q", "k", "v"}, number("q_num_heads", 8)));
  CHECK(loads("GroupQueryAttention", {"q", "k", "v"}, number("num_heads", 0), "other"));
  CHECK_FALSE(loads("TfIdfVectorizer", {"x"}, number("max_skip_count", 1LL << 31)));
  // A reference to an attribute of a function is not known here.
  CHECK(loads("GatherND", {"x", "i"}, bytes(5, bytes(1, "batch_dims") + bytes(21, "b"))));
}

TEST_CASE("load checks: inputs that kernels read unasked") {
  CHECK_FALSE(loads("Attention", {"x", "w"}, {}, kMs));
  CHECK_FALSE(loads("Attention", {"x", "w", "", "m"}, {}, kMs));
  CHECK(loads("Attention", {"x", "w", "b"}, {}, kMs));
  CHECK_FALSE(loads("QGemm", {"a", "s", "z", "b", "s", "z", "", "ys"}, {}, kMs));
  CHECK(loads("QGemm", {"a", "s", "z", "b", "s", "z"}, {}, kMs));
  CHECK_FALSE(loads("QLinearSigmoid", {"x", "s", "z", "ys"}, {}, kMs));
  CHECK_FALSE(loads("Max", {"a", "", "b"}));
  CHECK_FALSE(loads("Sum", {"a", "b", ""}));
  CHECK(loads("Min", {"a", "b"}));
  CHECK(loads("Max", {"a", "", "b"}, {}, "other"));
  CHECK(loads("Clip", {"x", "", "m"}));
}

TEST_CASE("load checks: windows, vocabularies and labels") {
  CHECK_FALSE(loads("LpPool", {"x"}, numbers("kernel_shape", {INT32_MAX, INT32_MAX})));
  CHECK_FALSE(loads("AveragePool", {"x"}, numbers("kernel_shape", {INT64_MAX, INT64_MAX})));
  CHECK(loads("MaxPool", {"x"}, numbers("kernel_shape", {512, 512})));

  const auto tfidf = [](const std::vector<std::int64_t>& begins, std::int64_t indexes) {
    return loads("TfIdfVectorizer", {"x"},
                 numbers("pool_int64s", {1, 2, 3, 4, 5}) + numbers("ngram_counts", begins) +
                     numbers("ngram_indexes",
                             std::vector<std::int64_t>(static_cast<std::size_t>(indexes), 0)));
  };
  CHECK(tfidf({0}, 5));
  CHECK(tfidf({0, 1}, 3));  // one word and two pairs
  CHECK(tfidf({0, 5}, 5));
  CHECK_FALSE(tfidf({0}, 4));
  CHECK_FALSE(tfidf({0, 2}, 3));
  CHECK_FALSE(tfidf({0, 6}, 5));
  CHECK_FALSE(tfidf({3, 1}, 4));
  CHECK_FALSE(tfidf({-1}, 6));

  CHECK_FALSE(loads("FeatureVectorizer", {"x"}, numbers("inputdimensions", {3, -1}), kMl));
  CHECK(loads("FeatureVectorizer", {"x"}, numbers("inputdimensions", {3, 1}), kMl));
  const std::string logistic = text_of("post_transform", "LOGISTIC");
  CHECK_FALSE(
      loads("TreeEnsembleClassifier", {"x"}, logistic + words("classlabels_strings", {"a"}), kMl));
  CHECK(loads("TreeEnsembleClassifier", {"x"}, logistic + words("classlabels_strings", {"a", "b"}),
              kMl));
  CHECK(loads("TreeEnsembleClassifier", {"x"},
              text_of("post_transform", "NONE") + words("classlabels_strings", {"a"}), kMl));
}

TEST_CASE("load checks: constants, in all graphs and functions") {
  const std::string one_hot = bytes(1, node("OneHot", {"i", "d", "v"}, {"y"}));
  const std::string depth = bytes(5, integer(1, 0) + integer(2, 7) + bytes(8, "d"));
  CHECK_FALSE(refusal(one_hot + depth).empty());
  CHECK(refusal(one_hot).empty());
  CHECK(refusal(one_hot + depth + bytes(11, value("d", tensor_type(7, "")))).empty());
  CHECK_FALSE(refusal(nested_graph(5, one_hot) + depth).empty());
  const std::string constant =
      node("Constant", {}, {"d"}, {}, bytes(5, bytes(1, "value") + bytes(5, integer(1, 0))));
  const std::string function = bytes(1, "F") + bytes(7, constant) +
                               bytes(7, node("OneHot", {"i", "d", "v"}, {"y"})) + bytes(10, "my");
  CHECK_FALSE(refusal("", bytes(25, function)).empty());
}

TEST_CASE("load checks: unreadable bytes are left to the vendor library") {
  const std::string whole = model(bytes(1, node("Max", {"a", "", "b"}, {"y"})));
  CHECK_THROWS_AS((void)ort::examine(view(whole), "m", ort::GuardFor::kAll), Error);
  CHECK_NOTHROW((void)ort::examine(view(""), "m", ort::GuardFor::kAll));
  CHECK_NOTHROW((void)ort::examine(view("not a model"), "m", ort::GuardFor::kAll));
  CHECK_NOTHROW((void)ort::examine(view(whole.substr(0, 12)), "m", ort::GuardFor::kAll));
  CHECK_NOTHROW((void)ort::examine(view(bytes(2, "__ORTM") + whole), "m",
                                   ort::GuardFor::kAll));  // ORT format
  CHECK_NOTHROW((void)ort::examine(
      view(model(nested_graph(2000, bytes(1, node("Max", {"a", "", "b"}, {"y"}))))), "m",
      ort::GuardFor::kAll));
}

TEST_CASE("load checks: checking and guarding at once") {
  const std::string lstm = bytes(1, node("LSTM", {"x", "w", "r"}, {"y"}));
  const auto out = ort::examine(view(model(lstm)), "m", ort::GuardFor::kAll);
  REQUIRE(out.guarded.has_value());
  CHECK(*out.guarded == *ort::guard_model(view(model(lstm))));
  CHECK_FALSE(out.compares);
  const std::string relu = bytes(1, node("Relu", {"x"}, {"y"}));
  CHECK_FALSE(ort::examine(view(model(relu)), "m", ort::GuardFor::kAll).guarded);
  CHECK_FALSE(ort::examine(view("not a model"), "m", ort::GuardFor::kAll).guarded);
  const std::string max = bytes(1, node("Max", {"a", ""}, {"y"}));
  CHECK_THROWS_AS((void)ort::examine(view(model(lstm + max)), "m", ort::GuardFor::kAll), Error);
}

TEST_CASE("load checks: weights in other files are seen wherever they stand") {
  const auto external = [](const std::string& graph) {
    return ort::examine(view(model(graph)), "m", ort::GuardFor::kAll).external_data;
  };
  const std::string relu = bytes(1, node("Relu", {"x"}, {"y"}));
  const std::string inside = bytes(8, "w") + integer(14, 0),
                    outside = bytes(8, "w") + integer(14, 1);
  CHECK_FALSE(external(relu));
  CHECK_FALSE(external(relu + bytes(5, inside)));
  CHECK(external(relu + bytes(5, outside)));
  CHECK(external(relu + bytes(15, bytes(1, inside) + bytes(2, outside))));
  const std::string constant =
      node("Constant", {}, {"c"}, {}, bytes(5, bytes(1, "value") + bytes(5, outside)));
  CHECK(external(bytes(1, constant)));
  CHECK(external(nested_graph(3, relu + bytes(5, outside))));
  CHECK(
      ort::examine(view("not a model"), "m", ort::GuardFor::kAll).external_data);  // cannot be told
}
