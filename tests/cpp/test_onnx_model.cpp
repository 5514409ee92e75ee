// SPDX-License-Identifier: Apache-2.0
#include "core/onnx_model.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <memory>
#include <string>

#include "core/error.h"
#include "onnx_bytes.h"

namespace {

using namespace zerolane;
using namespace onnx_bytes;

Code code_of(std::string_view message) {
  try {
    read_onnx_model(view(message));
  } catch (const Error& error) {
    const std::string_view text = error.what();
    CHECK(text.starts_with("reading an ONNX model: "));
    CHECK(text.find("; ") != std::string_view::npos);
    return error.code();
  }
  return Code::kInternal;
}

std::string external(std::string_view key, std::string_view entry) {
  return bytes(13, bytes(1, key) + bytes(2, entry));
}

std::string small_model() {
  const std::string dims = bytes(1, integer(1, 3)) + bytes(1, bytes(2, "n")) + bytes(1, "");
  const std::string weights = integer(1, 2) + integer(1, 3) + integer(2, 1) +
                              bytes(9, std::string(24, 'w')) + bytes(8, "W");
  const std::string graph = bytes(2, "main") + bytes(11, value("x", tensor_type(1, dims))) +
                            bytes(12, value("y", bytes(1, integer(1, 7)))) + bytes(5, weights) +
                            bytes(1, node("Clip", {"x", "", "W"}, {"y"}, "clip")) +
                            bytes(1, node("Relu", {"y"}, {"z"}, {}, {}, "ai.onnx"));
  return model(graph, bytes(2, "me") + bytes(3, "1.0") + bytes(14, bytes(1, "k") + bytes(2, "v")));
}

}  // namespace

TEST_CASE("onnx model: what the main graph holds") {
  const OnnxModel read = read_onnx_model(view(small_model()));
  CHECK(read.ir_version == 9);
  CHECK(read.producer_name == "me");
  CHECK(read.producer_version == "1.0");
  CHECK(read.graph_name == "main");
  REQUIRE(read.opsets.size() == 1);
  CHECK(read.opsets[0].second == 17);
  REQUIRE(read.metadata.size() == 1);
  CHECK(read.metadata[0].second == "v");

  REQUIRE(read.inputs.size() == 1);
  const OnnxValue& x = read.inputs[0];
  CHECK(x.name == "x");
  CHECK(x.kind == "tensor");
  CHECK(x.elem_type == 1);
  REQUIRE(x.shape.size() == 3);
  CHECK(x.shape[0].value == 3);
  CHECK(x.shape[1].value == -1);
  CHECK(x.shape[1].symbol == "n");
  CHECK(x.shape[2].value == -1);
  CHECK(x.shape[2].symbol.empty());
  REQUIRE(read.outputs.size() == 1);
  CHECK(read.outputs[0].elem_type == 7);
  CHECK_FALSE(read.outputs[0].has_shape);

  REQUIRE(read.initializers.size() == 1);
  CHECK(read.initializers[0].name == "W");
  CHECK(read.initializers[0].dims == std::vector<std::int64_t>{2, 3});
  CHECK(read.initializers[0].elements == 6);
  CHECK(read.initializers[0].bytes == 24);

  REQUIRE(read.nodes.size() == 2);
  CHECK(read.nodes[0].inputs == std::vector<std::string>{"x", "", "W"});
  CHECK(read.nodes[1].domain.empty());
  CHECK(read.path(0).empty());
}

TEST_CASE("onnx model: values that are no tensors") {
  const std::string tensor = tensor_type(8, bytes(1, integer(1, 2)));
  const std::string map = bytes(5, integer(1, 7) + bytes(2, tensor));
  const std::string graph = bytes(11, value("s", bytes(4, bytes(1, tensor)))) +
                            bytes(11, value("sm", bytes(4, bytes(1, map)))) +
                            bytes(11, value("o", bytes(9, bytes(1, tensor)))) +
                            bytes(11, value("q", bytes(7, bytes(1, "d")))) +
                            bytes(11, bytes(1, "none")) +
                            bytes(11, value("last", map + bytes(1, integer(1, 1))));
  const OnnxModel read = read_onnx_model(view(model(graph)));
  REQUIRE(read.inputs.size() == 6);
  CHECK(read.inputs[0].kind == "sequence");
  CHECK(read.inputs[0].elem_type == 8);
  CHECK(read.inputs[0].shape.size() == 1);
  CHECK(read.inputs[1].kind == "sequence");
  CHECK(read.inputs[1].elem_type == 8);
  CHECK(read.inputs[2].kind == "optional");
  CHECK(read.inputs[3].kind == "opaque");
  CHECK(read.inputs[4].kind.empty());
  CHECK(read.inputs[5].kind == "tensor");  // of several types written, the last one holds
  CHECK(read.inputs[5].elem_type == 1);
  CHECK_FALSE(read.inputs[5].has_shape);
}

TEST_CASE("onnx model: sizes of tensors") {
  const auto tensor = [](std::string_view fields) {
    return read_onnx_model(view(model(bytes(5, fields)))).initializers.at(0);
  };
  const std::string dims_3_5 = bytes(1, varint(3) + varint(5));  // packed
  CHECK(tensor(dims_3_5 + integer(2, 6) + bytes(5, std::string(15, '\1'))).bytes == 60);
  CHECK(tensor(dims_3_5 + integer(2, 22) + bytes(5, std::string(15, '\1'))).bytes == 8);
  CHECK(tensor(dims_3_5 + integer(2, 8) + bytes(6, "ab") + bytes(6, "c")).bytes == 3);
  CHECK(tensor(integer(2, 1) + bytes(9, "abcd")).elements == 1);  // scalar
  CHECK(tensor(integer(1, 0) + integer(2, 1)).bytes == 0);
  CHECK(tensor(integer(1, -4) + integer(2, 1)).elements == 0);

  const std::string huge = integer(1, INT64_MAX) + integer(1, INT64_MAX) + integer(2, 11);
  CHECK(tensor(huge).bytes == 0);  // claimed, but not there
  CHECK(tensor(huge + bytes(10, "")).bytes == UINT64_MAX);
  CHECK(tensor(integer(1, INT64_MAX) + integer(1, 8) + integer(1, 0)).elements == 0);

  const std::string where = integer(14, 1) + external("location", "w.bin");
  const OnnxTensor whole = tensor(dims_3_5 + integer(2, 10) + where);
  CHECK(whole.external);
  CHECK(whole.location == "w.bin");
  CHECK(whole.bytes == 30);
  CHECK(tensor(dims_3_5 + where + external("length", "77")).bytes == 77);
  CHECK(tensor(dims_3_5 + integer(2, 1) + where + external("length", "-1")).bytes == 60);
}

TEST_CASE("onnx model: sparse initializers and constants") {
  const std::string values = integer(1, 2) + integer(2, 1) + bytes(9, "12345678") + bytes(8, "sp");
  const std::string indices = integer(1, 2) + integer(2, 7) + bytes(9, "1234567812345678");
  const std::string sparse = bytes(1, values) + bytes(2, indices) + integer(3, 10);
  const std::string graph =
      bytes(15, sparse) +
      bytes(1, node("Constant", {}, {"a"}, {}, bytes(5, bytes(1, "value") + bytes(5, values)))) +
      bytes(1, node("Constant", {}, {"b"}, {}, bytes(5, bytes(22, sparse)))) +
      bytes(1, node("ConstantOfShape", {"a"}, {"c"}, {}, bytes(5, bytes(5, values))));
  const OnnxModel read = read_onnx_model(view(model(graph)));
  REQUIRE(read.initializers.size() == 1);
  CHECK(read.initializers[0].name == "sp");
  CHECK(read.initializers[0].elements == 10);
  CHECK(read.initializers[0].bytes == 24);
  REQUIRE(read.constants.size() == 2);
  CHECK(read.constants[0].bytes == 8);
  CHECK(read.constants[1].bytes == 24);
}

TEST_CASE("onnx model: nested graphs and functions") {
  const std::string inner = bytes(1, node("Neg", {"x"}, {"a"})) + bytes(5, bytes(8, "in_branch"));
  const std::string list = bytes(5, bytes(1, "bodies") + bytes(11, inner) + bytes(11, inner));
  const std::string graph =
      bytes(1, node("If", {"c"}, {"y"}, "/If_3", graph_attribute("then_branch", inner))) +
      bytes(1, node("Many", {}, {}, {}, list, "my"));
  const std::string function = bytes(1, "F") + bytes(7, node("Abs", {"x"}, {"y"})) +
                               bytes(11, bytes(1, "dflt") + bytes(6, inner)) + bytes(10, "my");
  const std::string whole = model(graph, bytes(25, function));
  const OnnxModel read = read_onnx_model(view(whole));
  CHECK(read.function_count == 1);
  CHECK(read.initializers.size() == 4);
  CHECK(read.path(read.initializers[0].graph) == "/If_3/then_branch");
  std::vector<std::string> found;
  for (const OnnxNode& each : read.nodes)
    found.push_back(read.path(each.graph) + ":" + each.op_type);
  CHECK(found == std::vector<std::string>{":If", "/If_3/then_branch:Neg", ":Many",
                                          "/Many/bodies[0]:Neg", "/Many/bodies[1]:Neg",
                                          "/my::F:Abs", "/my::F/dflt:Neg"});
}

TEST_CASE("onnx model: what protobuf takes is taken") {
  const std::string group = varint(99 << 3 | 3) + integer(1, 5) + varint(98 << 3 | 3) +
                            varint(98 << 3 | 4) + varint(99 << 3 | 4);
  const std::string fixed = varint(97 << 3 | 1) + "12345678" + varint(96 << 3 | 5) + "1234";
  const std::string long_zero = std::string("\x80\x80\x80", 3) + std::string(1, '\0');
  const std::string unknown = group + fixed + bytes(2000, "later field") + "\x78" + long_zero;
  const std::string wrong_type = integer(7, 3) + bytes(1, "ir_version as text");
  const OnnxModel read = read_onnx_model(view(unknown + wrong_type + small_model() + unknown));
  CHECK(read.nodes.size() == 2);
  CHECK(read.ir_version == 9);

  // A message written twice is one message: graphs are joined, of plain values the last holds.
  const OnnxModel twice = read_onnx_model(view(small_model() + small_model() + integer(1, 10)));
  CHECK(twice.nodes.size() == 4);
  CHECK(twice.graphs.size() == 1);
  CHECK(twice.ir_version == 10);
}

TEST_CASE("onnx model: bad bytes are an error") {
  CHECK(code_of("") == Code::kInvalidModel);
  CHECK(code_of("not a model at all") == Code::kInvalidModel);
  CHECK(code_of(integer(1, 9)) == Code::kInvalidModel);  // no graph

  const auto refused = [whole = small_model()](const std::string& more) {
    return code_of(whole + more) == Code::kInvalidModel;
  };
  const std::string begin = varint(99 << 3 | 3);
  CHECK(refused(varint(7 << 3 | 2) + varint(5) + "abc"));   // cut
  CHECK(refused(varint(7 << 3 | 2) + varint(UINT64_MAX)));  // huge claim
  CHECK(refused(std::string(2, '\0')));                     // field number 0
  CHECK(refused(varint(99 << 3 | 7)));                      // wire type 7
  CHECK(refused(varint(99 << 3 | 4)));                      // group without a beginning,
  CHECK(refused(begin));                                    // without an end,
  CHECK(refused(begin + varint(98 << 3 | 4)));              // with another's end
  std::string groups;
  for (int i = 0; i < 101; ++i) groups = begin + groups + varint(99 << 3 | 4);
  CHECK(refused(groups));
  CHECK(refused("\x08" + std::string(11, '\xff')));  // number of 11 bytes
}

TEST_CASE("onnx model: nesting is bounded") {
  const std::string leaf = bytes(1, node("Neg", {"x"}, {"a"}));
  CHECK(read_onnx_model(view(model(nested_graph(kMaxGraphDepth, leaf)))).nodes.size() == 65);
  const std::string deep = model(nested_graph(kMaxGraphDepth + 1, leaf));
  CHECK(code_of(deep) == Code::kInvalidModel);
  CHECK(code_of(model(nested_graph(2000, leaf))) == Code::kInvalidModel);

  std::string type = tensor_type(1, "");
  for (int i = 0; i < 2000; ++i) type = bytes(4, bytes(1, type));
  CHECK(code_of(model(bytes(11, value("x", type)))) == Code::kInvalidModel);
}

TEST_CASE("onnx model: every cut and every changed byte ends in a model or an error") {
  const std::string whole = small_model();
  int refused = 0;
  const auto attempt = [&](const std::string& message) {
    // A block of its own size, so that a sanitizer sees a read beyond it.
    const auto exact = std::make_unique<std::byte[]>(message.size());
    std::copy_n(view(message).begin(), message.size(), exact.get());
    const std::span<const std::byte> span(exact.get(), message.size());
    try {
      read_onnx_model(span);
    } catch (const Error&) {
      ++refused;
    }
  };
  for (std::size_t length = 0; length < whole.size(); ++length) attempt(whole.substr(0, length));
  for (std::size_t at = 0; at < whole.size(); ++at) {
    for (const char byte : {'\x00', '\x01', '\x0a', '\x0b', '\x7f', '\x80', '\xff'}) {
      std::string changed = whole;
      changed[at] = byte;
      attempt(changed);
    }
  }
  CHECK(refused > 500);
}

TEST_CASE("onnx model: ORT-format files are told apart") {
  std::string ort("\x18\0\0\0ORTM and more", 17);
  CHECK(is_ort_format(view(ort)));
  CHECK_FALSE(is_ort_format(view(ort.substr(0, 7))));
  CHECK_FALSE(is_ort_format(view(small_model())));
  CHECK(code_of(ort) == Code::kUnsupported);
  CHECK(code_of(bytes(2, "__ORTM") + small_model()) == Code::kUnsupported);
}
