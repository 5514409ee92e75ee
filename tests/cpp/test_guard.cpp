// SPDX-License-Identifier: Apache-2.0
#include "ort/guard.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <string>

#include "core/onnx_model.h"
#include "onnx_bytes.h"

namespace {

using namespace zerolane;
using namespace onnx_bytes;

std::string guarded(std::string_view message) {
  const auto out = ort::guard_model(view(message));
  REQUIRE(out.has_value());
  return text(*out);
}

// "op(inputs)->outputs" of each node, in file order.
std::vector<std::string> nodes_of(std::string_view message) {
  const OnnxModel read = read_onnx_model(view(message));
  std::vector<std::string> list;
  for (const OnnxNode& each : read.nodes) {
    std::string line = each.op_type + "(";
    for (const std::string& input : each.inputs) line += input + ",";
    line += ")->";
    for (const std::string& output : each.outputs) line += output + ",";
    list.push_back(line);
  }
  return list;
}

std::int64_t guard_opsets(std::string_view message) {
  return std::ranges::count(read_onnx_model(view(message)).opsets,
                            std::pair<std::string, std::int64_t>("zerolane.guard", 1));
}

const std::string kLstm = bytes(1, node("LSTM", {"x", "W", "R"}, {"y"}, "enc"));

}  // namespace

TEST_CASE("guard: a guarded input goes through a node of ours") {
  // Fields that nobody knows, and a length in long form, must come through as they are.
  const std::string unknown = bytes(1999, "?") + varint(77 << 3 | 3) + varint(77 << 3 | 4);
  const std::string before = bytes(2, "main") + unknown;
  const std::string after = bytes(1, node("Relu", {"y"}, {"z"})) + unknown;
  const std::string out = guarded(model(before + kLstm + after, unknown));

  const std::string what = "input 0 \"x\" of the LSTM node \"enc\"";
  const std::string attributes = bytes(5, bytes(1, "what") + bytes(4, what) + integer(20, 3)) +
                                 bytes(5, bytes(1, "rule") + integer(3, 0) + integer(20, 2)) +
                                 bytes(5, bytes(1, "argument") + integer(3, 2) + integer(20, 2)) +
                                 bytes(5, bytes(1, "detail") + integer(3, 0) + integer(20, 2)) +
                                 bytes(5, bytes(1, "rank") + integer(3, 0) + integer(20, 2));
  const std::string name = "zerolane.guard/0";
  const std::string guard = node("Require", {"x"}, {name}, name, attributes, "zerolane.guard");
  const std::string lstm = bytes(1, node("LSTM", {name, "W", "R"}, {"y"}, "enc"));
  CHECK(out == model(before + bytes(1, guard) + lstm + after,
                     unknown + bytes(8, opset("zerolane.guard", 1))));
}

TEST_CASE("guard: a length in long form may become shorter") {
  const std::string long_form = varint(1 << 3 | 2);
  const std::string body = node("LSTM", {std::string(200, 'x'), "W", "R"}, {"y"});
  std::string padded = varint(body.size());
  padded.back() = static_cast<char>(padded.back() | 0x80);
  padded += std::string("\x80\x80\x80\x80\x80", 5) + std::string(1, '\0');
  const std::string out = guarded(model(long_form + padded + body));
  CHECK(nodes_of(out) ==
        std::vector<std::string>{"Require(" + std::string(200, 'x') + ",)->zerolane.guard/0,",
                                 "LSTM(zerolane.guard/0,W,R,)->y,"});
}

TEST_CASE("guard: models without such operators are left alone") {
  const auto untouched = [](const std::string& graph) {
    return !ort::guard_model(view(model(graph))).has_value();
  };
  CHECK(untouched(""));
  CHECK(untouched(bytes(1, node("Relu", {"x"}, {"y"}))));
  CHECK(untouched(bytes(1, node("LSTM", {}, {"y"}))));              // no such input
  CHECK(untouched(bytes(1, node("LSTM", {"", "W", "R"}, {"y"}))));  // left out
  CHECK(untouched(bytes(1, node("LSTM", {"x", "W", "R"}, {"y"}, {}, {}, "other"))));
  CHECK(untouched(nested_graph(5, bytes(1, node("Relu", {"x"}, {"y"})))));
}

TEST_CASE("guard: the standard domain has two spellings") {
  const std::string out =
      guarded(model(bytes(1, node("GRU", {"x", "W", "R"}, {"y"}, {}, {}, "ai.onnx"))));
  CHECK(nodes_of(out).size() == 2);
  CHECK(out.find("of the GRU node that writes \"y\"") != std::string::npos);
}

TEST_CASE("guard: names that are taken are avoided") {
  const std::string in_branch = bytes(1, node("Identity", {"x"}, {"zerolane.guard/1"}));
  const std::string branch =
      bytes(1, node("If", {"c"}, {"q"}, {}, graph_attribute("g", in_branch)));
  const std::string graph = kLstm + kLstm + branch + bytes(11, bytes(1, "zerolane.guard/0")) +
                            bytes(5, bytes(8, "zerolane.guard/2"));
  const std::vector<std::string> found = nodes_of(guarded(model(graph)));
  CHECK(found == std::vector<std::string>{
                     "Require(x,)->zerolane.guard/3,", "LSTM(zerolane.guard/3,W,R,)->y,",
                     "Require(x,)->zerolane.guard/4,", "LSTM(zerolane.guard/4,W,R,)->y,",
                     "If(c,)->q,", "Identity(x,)->zerolane.guard/1,"});

  // Guarding a guarded model gives a readable one with one opset entry.
  const std::string twice = guarded(guarded(model(kLstm)));
  CHECK(nodes_of(twice) == std::vector<std::string>{"Require(x,)->zerolane.guard/0,",
                                                    "Require(zerolane.guard/0,)->zerolane.guard/1,",
                                                    "LSTM(zerolane.guard/1,W,R,)->y,"});
  CHECK(guard_opsets(twice) == 1);
}

TEST_CASE("guard: nested graphs and function bodies") {
  const std::string nested = guarded(model(nested_graph(20, kLstm)));
  const OnnxModel read = read_onnx_model(view(nested));
  REQUIRE(read.nodes.size() == 22);
  CHECK(read.nodes[20].op_type == "Require");
  CHECK(read.nodes[20].inputs == std::vector<std::string>{"x"});  // from a graph further out
  CHECK(read.graphs[read.nodes[20].graph].depth == 20);
  CHECK(read.nodes[20].graph == read.nodes[21].graph);

  const std::string body = node("LSTM", {"X", "W", "R"}, {"Y"});
  const std::string function =
      bytes(1, "F") + bytes(4, "X") + bytes(7, body) + bytes(9, opset("", 17)) + bytes(10, "my");
  const std::string call = bytes(1, node("F", {"x", "W", "R"}, {"y"}, {}, {}, "my"));
  const std::string out = guarded(model(call, bytes(25, function)));
  CHECK(nodes_of(out) == std::vector<std::string>{"F(x,W,R,)->y,", "Require(X,)->zerolane.guard/0,",
                                                  "LSTM(zerolane.guard/0,W,R,)->Y,"});
  CHECK(guard_opsets(out) == 1);
  // The function imports the domain as well, inside its own bytes.
  const std::string after = bytes(8, opset("zerolane.guard", 1));
  const std::string field =
      out.substr(model(call).size(), out.size() - model(call).size() - after.size());
  CHECK(field == bytes(25, field.substr(4)));  // two bytes each for the tag and the new length

  const std::string list = bytes(5, bytes(1, "bodies") + bytes(11, kLstm) + bytes(11, kLstm));
  CHECK(nodes_of(guarded(model(bytes(1, node("Many", {}, {}, {}, list))))).size() == 5);

  const std::string in_default = bytes(11, bytes(1, "g") + bytes(6, kLstm));
  CHECK(nodes_of(guarded(model(call, bytes(25, function + in_default)))).size() == 5);
}

TEST_CASE("guard: unreadable bytes are left to the vendor library") {
  const std::string whole = model(nested_graph(2, kLstm));
  const std::string cut_inside = whole.substr(0, 20);
  CHECK_FALSE(ort::guard_model(view("")).has_value());
  CHECK_FALSE(ort::guard_model(view("not a model")).has_value());
  CHECK_FALSE(ort::guard_model(view(cut_inside)).has_value());
  CHECK_FALSE(ort::guard_model(view(model(nested_graph(2000, kLstm)))).has_value());
  CHECK_FALSE(ort::guard_model(view(bytes(2, "__ORTM") + whole)).has_value());  // ORT format
  CHECK(ort::guard_model(view(bytes(2, "__ortm") + whole)).has_value());

  for (std::size_t at = 0; at < whole.size(); ++at) {
    std::string changed = whole;
    changed[at] = static_cast<char>(changed[at] ^ 0x15);
    const auto out = ort::guard_model(view(changed));
    if (out.has_value()) CHECK_NOTHROW(ort::ModelView(*out));
  }
}
