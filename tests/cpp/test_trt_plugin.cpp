// SPDX-License-Identifier: Apache-2.0
// Ops as plugins, as far as no library of the vendor's is needed: models as the parser shall read
// them, and fields of engines, whole and damaged.
#include <doctest/doctest.h>

#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "core/error.h"
#include "core/onnx_model.h"
#include "onnx_bytes.h"
#include "registry/library.h"
#include "trt/library.h"
#include "trt/plugin_model.h"
#include "zerolane/op.h"

using namespace zerolane;
using namespace zerolane::trt;
namespace ob = onnx_bytes;

namespace {

struct Plug {
  float real = 1;
  int64_t integer = 0;
  std::string text = "plain";
  std::vector<int64_t> integers{1, 2};
  std::vector<float> reals{0.5};
  static void define(op::Definition<Plug>& op) {
    op.name("cpp_trt", "Plug").doc("");
    const auto T = op.type<float, uint8_t>("T");
    const auto I = op.type<int64_t>("I");
    op.attribute("real", &Plug::real).required();
    op.attribute("integer", &Plug::integer);
    op.attribute("text", &Plug::text);
    op.attribute("integers", &Plug::integers).bounds(-1e6, 1e6);
    op.attribute("reals", &Plug::reals);
    op.input("x", T);
    op.optional_input("b", T);
    op.input("w", T);
    op.output("y", T);
    op.output("rows", I);
    op.optional_output("total", T);
    op.cpu();
    op.cuda();
  }
  void shape(op::Shapes& s) const {
    s.output(0, s.dims(0));
    s.output(1, {});
    s.output(2, {});
  }
  void cpu(const op::Call&) const {}
  int cuda(const op::Call&) const { return 0; }
};

struct Host {
  static void define(op::Definition<Host>& op) {
    op.name("cpp_trt", "Host").doc("");
    const auto T = op.type<float>("T");
    op.input("x", T);
    op.output("y", T);
    op.cpu();
  }
  void shape(op::Shapes& s) const { s.output(0, s.dims(0)); }
  void cpu(const op::Call&) const {}
};

const OpEntry& entry() {
  static const OpLibrary& library =
      register_ops(*op::library("cpp_trt_test", "1", ZL_OP_ABI, op::tables_of<Plug, Host>()));
  return *library.ops[0];
}

std::string real_attribute(std::string_view name, float value) {
  std::string bits(reinterpret_cast<const char*>(&value), sizeof value);
  return ob::bytes(5, ob::bytes(1, name) + ob::varint(2 << 3 | 5) + bits + ob::integer(20, 1));
}
std::string int_attribute(std::string_view name, int64_t value) {
  return ob::bytes(5, ob::bytes(1, name) + ob::integer(3, value) + ob::integer(20, 2));
}
std::string ints_attribute(std::string_view name, std::vector<int64_t> values, bool packed) {
  std::string body = ob::bytes(1, name), list;
  for (int64_t value : values) {
    list += packed ? ob::varint(static_cast<uint64_t>(value)) : ob::integer(8, value);
  }
  return ob::bytes(5, body + (packed ? ob::bytes(8, list) : list) + ob::integer(20, 7));
}

const std::string kReal = real_attribute("real", 2.5f);
const std::string kOpset = ob::bytes(8, ob::opset("cpp_trt", 1));

std::string plug(ob::Names inputs, ob::Names outputs, std::string_view name,
                 const std::string& attributes = kReal) {
  return ob::node("Plug", inputs, outputs, name, attributes, "cpp_trt");
}

OnnxModel rewritten(const std::string& model) {
  const std::vector<std::byte> bytes = PluginModel(ob::view(model), "m.onnx").rewrite();
  return read_onnx_model(bytes);
}

Code code_of(const std::string& model) {
  try {
    const PluginModel made(ob::view(model), "m.onnx");
  } catch (const Error& error) {
    return error.code();
  }
  return Code::kCancelled;  // nothing was thrown
}

std::shared_ptr<PluginFacts> facts_of(Attributes attributes) {
  auto facts = std::make_shared<PluginFacts>();
  facts->state = std::make_shared<const OpState>(entry(), attributes, "node 'n' of m.onnx");
  facts->present = {true, false, true};
  facts->outputs = {0, 1, 2};
  facts->counted = 3;
  facts->uint8_inputs = {true, false};
  facts->uint8_outputs = {true, false, false};
  facts->complete();
  return facts;
}

}  // namespace

TEST_CASE("plugin: nodes are written anew in graphs, branches and functions") {
  entry();
  const std::string branch = ob::bytes(1, plug({"x", "", "w"}, {"o", "r"}, "inside"));
  const std::string function =
      ob::bytes(25, ob::bytes(1, "F") + ob::bytes(10, "mine") + ob::bytes(4, "a") +
                        ob::bytes(5, "c") + ob::bytes(7, plug({"a", "a", "a"}, {"c"}, "body")) +
                        ob::bytes(9, ob::opset("cpp_trt", 1)));
  const std::string graph =
      ob::bytes(1, ob::node("Relu", {"x"}, {"a"}, "relu")) +
      ob::bytes(1, plug({"a", "", "w"}, {"y", "", "t"}, "outer")) +
      ob::bytes(1, ob::node("If", {"c"}, {"z"}, "if", ob::graph_attribute("then_branch", branch))) +
      ob::bytes(1, ob::node("F", {"x"}, {"v"}, "call", {}, "mine"));
  const OnnxModel model = rewritten(ob::model(graph, kOpset + function));
  REQUIRE(model.nodes.size() == 6);
  CHECK(model.nodes[0].op_type == "Relu");
  const OnnxNode& outer = model.nodes[1];
  CHECK(outer.op_type == "cpp_trt::Plug");
  CHECK(outer.domain == "cpp_trt");
  CHECK(outer.name == "outer");
  CHECK(outer.inputs == std::vector<std::string>{"a", "w"});
  CHECK(outer.outputs == std::vector<std::string>{"y", "zl:1/unwanted1", "t"});
  CHECK(model.nodes[3].op_type == "cpp_trt::Plug");
  CHECK(model.nodes[3].outputs == std::vector<std::string>{"o", "r"});
  CHECK(model.nodes[4].op_type == "F");
  CHECK(model.nodes[5].inputs == std::vector<std::string>{"a", "a", "a"});
  CHECK(PluginModel(ob::view(ob::model(graph, kOpset + function)), "m").ops().size() == 1);
}

TEST_CASE("plugin: models without ops of the registry stay as they are") {
  entry();
  for (const std::string& node :
       {ob::node("Relu", {"x"}, {"y"}, "n"), ob::node("Other", {"x"}, {"y"}, "n", {}, "nobody")}) {
    const std::string bytes = ob::model(ob::bytes(1, node));
    const PluginModel model(ob::view(bytes), "m.onnx");
    CHECK(model.empty());
    CHECK(ob::text(model.rewrite()) == bytes);
  }
}

TEST_CASE("plugin: attributes are read whole, of those that the op has") {
  entry();
  const std::string tensor = ob::bytes(5, ob::bytes(1, "stranger") + ob::integer(20, 4));
  for (bool packed : {false, true}) {
    const std::string attributes = kReal + int_attribute("integer", int64_t{1} << 40) +
                                   ints_attribute("integers", {5, -7}, packed) + tensor;
    const std::string bytes =
        ob::model(ob::bytes(1, plug({"x", "b", "w"}, {"y", "r"}, "n", attributes)), kOpset);
    const PluginModel model(ob::view(bytes), "m.onnx");
    const Library library("test");
    const int32_t number = 0;
    const PluginField node{kNodeField, &number, PluginFieldType::kInt32, 1};
    auto failures = std::make_shared<PluginFailures>("test");
    const auto made = model.make_plugins(library, failures)(entry(), {1, &node});
    const PluginFieldCollection* fields = made->getFieldsToSerialize();
    REQUIRE(fields != nullptr);
    size_t scratch = 1;
    const auto facts = read_fields(entry(), *fields, &scratch);
    CHECK(scratch == 0);
    const auto& values = facts->state->values();
    CHECK(std::get<double>(values[0]) == 2.5);
    CHECK(std::get<int64_t>(values[1]) == int64_t{1} << 40);
    CHECK(std::get<std::string>(values[2]) == "plain");
    CHECK(std::get<std::vector<int64_t>>(values[3]) == std::vector<int64_t>{5, -7});
    CHECK(facts->present == std::vector<bool>{true, true, true});
    CHECK(facts->outputs == std::vector<size_t>{0, 1});
    CHECK(facts->state->where() == "node 'n' (cpp_trt::Plug) of m.onnx");
  }
}

TEST_CASE("plugin: nodes that do not fit are refused before the library sees them") {
  entry();
  const auto with = [](const std::string& node) { return ob::model(ob::bytes(1, node), kOpset); };
  CHECK(code_of(with(plug({"x", "", "w"}, {"y"}, "n"))) == Code::kCancelled);
  CHECK(code_of(with(plug({"x", "", "w"}, {"y"}, "n", ""))) == Code::kInvalidArgument);
  const std::string tensor = ob::bytes(5, ob::bytes(1, "real") + ob::integer(20, 4));
  CHECK(code_of(with(plug({"x", "", "w"}, {"y"}, "n", tensor))) == Code::kInvalidArgument);
  const std::string given = ob::bytes(5, ob::bytes(1, "real") + ob::bytes(21, "of_caller"));
  CHECK(code_of(with(plug({"x", "", "w"}, {"y"}, "n", given))) == Code::kUnsupported);
  CHECK(code_of(with(plug({"x", "", "w"}, {"y", "r", "t", "u"}, "n"))) == Code::kInvalidArgument);
  CHECK(code_of(with(ob::node("Host", {"x"}, {"y"}, "n", {}, "cpp_trt"))) == Code::kUnsupported);
}

TEST_CASE("plugin: bytes of the model and between ops are declared int8") {
  entry();
  const auto graph = [](const std::string& more) {
    const std::string type = ob::tensor_type(2, "");
    return ob::model(
        ob::bytes(1, plug({"x", "", "x"}, {"t", "r"}, "first")) +
            ob::bytes(1, plug({"t", "", "k"}, {"y", "s"}, "second")) + more +
            ob::bytes(5, ob::integer(2, 2) + ob::bytes(8, "k") + ob::bytes(9, "\xff")) +
            ob::bytes(11, ob::value("x", type)) + ob::bytes(12, ob::value("y", type)) +
            ob::bytes(12, ob::value("s", ob::tensor_type(7, ""))),
        kOpset);
  };
  const std::string bytes = graph("");
  const PluginModel made(ob::view(bytes), "m.onnx");
  for (const char* name : {"x", "t", "y", "k"}) CHECK(made.is_uint8(name));
  CHECK_FALSE(made.is_uint8("s"));
  const OnnxModel model = rewritten(bytes);
  CHECK(model.inputs[0].elem_type == 3);
  CHECK(model.outputs[0].elem_type == 3);
  CHECK(model.outputs[1].elem_type == 7);
  CHECK(model.initializers[0].elem_type == 3);
  CHECK(code_of(graph(ob::bytes(1, ob::node("Cast", {"t"}, {"z"}, "c")))) == Code::kUnsupported);
}

TEST_CASE("plugin: models cut short or damaged are errors, or models") {
  entry();
  const std::string branch = ob::bytes(1, plug({"x", "", "w"}, {"o", "r"}, "inside"));
  const std::string whole = ob::model(
      ob::bytes(
          1, plug({"a", "", "w"}, {"y", "", "t"}, "outer", kReal + int_attribute("integer", 7))) +
          ob::bytes(1, ob::node("If", {"c"}, {"z"}, "if", ob::graph_attribute("t", branch))) +
          ob::bytes(11, ob::value("a", ob::tensor_type(2, ""))),
      kOpset);
  const auto attempt = [](const std::string& bytes) {
    try {
      const PluginModel model(ob::view(bytes), "m.onnx");
      (void)read_onnx_model(model.rewrite());  // must not throw
    } catch (const Error& error) {
      CHECK(error.message().find("; ") != std::string::npos);
    }
  };
  for (size_t size = 0; size <= whole.size(); ++size) attempt(whole.substr(0, size));
  std::mt19937 random(5);
  for (int i = 0; i < 20000; ++i) {
    std::string bytes = whole;
    for (unsigned k = random() % 4 + 1; k > 0; --k) {
      bytes[random() % bytes.size()] = static_cast<char>(random());
    }
    attempt(bytes);
  }
}

TEST_CASE("plugin: TensorRT-RTX before 1.7 takes no ops of others") {
  Library library("test");
  library.major = 1;
  const auto code = [&](Family family, int minor) {
    library.family = family;
    library.minor = minor;
    try {
      check_takes_plugins(library, "building m.onnx");
    } catch (const Error& error) {
      return error.code();
    }
    return Code::kCancelled;  // nothing was thrown
  };
  CHECK(code(Family::kRtx1, 5) == Code::kUnsupported);
  CHECK(code(Family::kRtx1, 6) == Code::kUnsupported);
  CHECK(code(Family::kRtx1, 7) == Code::kCancelled);
  CHECK(code(Family::k10, 0) == Code::kCancelled);
}

TEST_CASE("plugin: fields bring everything back, what is empty too") {
  const Attributes given = {{"real", -0.1},
                            {"integer", int64_t{-1} << 50},
                            {"text", std::string()},
                            {"integers", std::vector<int64_t>{}},
                            {"reals", std::vector<double>{1e-300, 3}}};
  const auto facts = facts_of(given);
  const PluginFields fields(*facts, 12345);
  for (int32_t i = 0; i < fields.get()->nbFields; ++i) {
    CHECK(fields.get()->fields[i].length > 0);
    CHECK(fields.get()->fields[i].data != nullptr);
  }
  size_t scratch = 0;
  const auto again = read_fields(entry(), *fields.get(), &scratch);
  CHECK(scratch == 12345);
  CHECK(again->state->values() == facts->state->values());
  CHECK(again->state->where() == facts->state->where());
  CHECK(again->present == facts->present);
  CHECK(again->inputs == std::vector<size_t>{0, 2});
  CHECK(again->outputs == facts->outputs);
  CHECK(again->counted == 3);
  CHECK(again->uint8_inputs == facts->uint8_inputs);
  CHECK(again->uint8_outputs == facts->uint8_outputs);
  CHECK(again->timing_id == facts->timing_id);
  CHECK(facts_of({{"real", 2.0}})->timing_id != facts_of({{"real", 3.0}})->timing_id);
}

TEST_CASE("plugin: damaged fields are errors") {
  const auto facts = facts_of({{"real", 1.0}, {"text", std::string("some")}});
  const PluginFields fields(*facts, 8);
  const std::vector<PluginField> whole(fields.get()->fields,
                                       fields.get()->fields + fields.get()->nbFields);
  const auto attempt = [](const std::vector<PluginField>& list) {
    size_t scratch = 0;
    try {
      const PluginFieldCollection all{static_cast<int32_t>(list.size()), list.data()};
      return read_fields(entry(), all, &scratch) != nullptr;
    } catch (const Error& error) {
      const bool typed =
          error.code() == Code::kInvalidModel || error.code() == Code::kInvalidArgument;
      CHECK_MESSAGE(typed, error.message());
      return false;
    }
  };
  CHECK(attempt(whole));
  for (size_t i = 0; i < whole.size(); ++i) {
    std::vector<PluginField> other = whole;
    other.erase(other.begin() + static_cast<std::ptrdiff_t>(i));
    CHECK_FALSE(attempt(other));
    other = whole;
    other[i].type = PluginFieldType::kFloat16;
    CHECK_FALSE(attempt(other));
    for (int32_t length : {0, -1}) {
      other = whole;
      other[i].length = length;
      CHECK_FALSE(attempt(other));
    }
    other = whole;
    other[i].data = nullptr;
    CHECK_FALSE(attempt(other));
  }
  CHECK_FALSE(attempt({}));
  std::mt19937 random(3);
  for (int i = 0; i < 20000; ++i) {
    std::vector<PluginField> other = whole;
    const size_t at = random() % other.size();
    const size_t size = other[at].type == PluginFieldType::kChar ? 1 : 8;
    std::vector<char> data(size * static_cast<size_t>(other[at].length));
    std::memcpy(data.data(), other[at].data, data.size());
    for (unsigned k = random() % 3 + 1; k > 0; --k) {
      data[random() % data.size()] = static_cast<char>(random());
    }
    other[at].data = data.data();
    other[at].length -= static_cast<int32_t>(random() % static_cast<unsigned>(other[at].length));
    (void)attempt(other);
  }
}
