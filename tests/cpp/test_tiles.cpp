// SPDX-License-Identifier: Apache-2.0
#include "ort/tiles.h"

#include <doctest/doctest.h>

#include <bit>
#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "core/error.h"
#include "core/onnx_model.h"
#include "onnx_bytes.h"

namespace {

using namespace zerolane;
using namespace onnx_bytes;

std::string number(std::string_view name, std::int64_t value) {
  return bytes(5, bytes(1, name) + integer(3, value) + integer(20, 2));
}

std::string numbers(std::string_view name, const std::vector<std::int64_t>& values) {
  std::string packed;
  for (const std::int64_t value : values) packed += varint(static_cast<std::uint64_t>(value));
  return bytes(5, bytes(1, name) + bytes(8, packed) + integer(20, 7));
}

std::string text_of(std::string_view name, std::string_view value) {
  return bytes(5, bytes(1, name) + bytes(4, value) + integer(20, 3));
}

std::string tensor(std::string_view name, std::int64_t type, const std::vector<std::int64_t>& dims,
                   std::string_view raw) {
  std::string out;
  for (const std::int64_t dim : dims) out += integer(1, dim);
  return out + integer(2, type) + bytes(8, name) + bytes(9, raw);
}

std::string floats(std::size_t count, float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  std::string out;
  for (std::size_t i = 0; i < 4 * count; ++i) out += static_cast<char>(bits >> i % 4 * 8);
  return out;
}

// The constants of a convolution of 20 filters of 3 x 2 on 7 channels, by input.
std::map<std::size_t, std::string> constants() {
  return {{1, tensor("xs", 1, {}, floats(1, 0.5F))},
          {2, tensor("xz", 2, {}, "\x80")},
          {3, tensor("w", 3, {20, 7, 3, 2}, std::string(20 * 7 * 6, '\1'))},
          {4, tensor("ws", 1, {20}, floats(20, 0.25F))},
          {5, tensor("wz", 3, {20}, std::string(20, '\0'))},
          {6, tensor("ys", 1, {}, floats(1, 2.0F))},
          {7, tensor("yz", 2, {}, "\3")},
          {8, tensor("b", 6, {20}, std::string(80, '\0'))}};
}

const std::string kUsual = number("channels_last", 1) + numbers("kernel_shape", {3, 2}) +
                           numbers("strides", {2, 1}) + numbers("pads", {1, 0, 1, 1});

std::string optimized(const std::map<std::size_t, std::string>& initializers,
                      const std::string& attributes = kUsual, std::string_view more = {},
                      std::string_view domain = "com.microsoft") {
  std::string graph =
      bytes(1, node("QLinearConv", {"x", "xs", "xz", "w", "ws", "wz", "ys", "yz", "b"}, {"y"},
                    "conv", attributes, domain));
  graph += more;
  graph += bytes(2, "g");
  for (const auto& [input, initializer] : initializers) graph += bytes(5, initializer);
  graph += bytes(11, value("x", tensor_type(2, ""))) + bytes(12, value("y", tensor_type(2, "")));
  return model(graph);
}

std::size_t replaced(const std::string& message) {
  return ort::tile_model(view(message)).nodes.size();
}

std::size_t replaced(std::size_t input, const std::string& initializer) {
  auto all = constants();
  all[input] = initializer;
  return replaced(optimized(all));
}

}  // namespace

TEST_CASE("tiles: a convolution is replaced and its weights leave the file") {
  const std::string message = optimized(constants());
  const ort::TileModel made = ort::tile_model(view(message));
  REQUIRE(made.nodes.size() == 1);
  const ort::TileNode& node = made.nodes[0];
  CHECK(node.name == "conv");
  CHECK(node.rank() == 4);
  const kernels::TileConv& conv = node.plan.conv;
  CHECK(conv.channels == 7);
  CHECK(conv.filters == 20);
  CHECK(conv.kernel[0] == 3);
  CHECK(conv.kernel[1] == 2);
  CHECK(conv.stride[0] == 2);
  CHECK(conv.dilation[0] == 1);
  CHECK(conv.before[0] == 1);
  CHECK(conv.after[1] == 1);
  CHECK(conv.input_zero == 128);
  CHECK(conv.output_zero == 3);
  CHECK(node.plan.scales[19] == 0.0625F);
  CHECK(node.plan.bias[0] == -128 * 42);
  CHECK(node.out_extent(1, 9) == 5);
  CHECK(node.out_extent(2, 9) == 9);
  CHECK(node.out_extent(1, 0) == std::nullopt);
  CHECK(node.out_extent(2, -1) == std::nullopt);

  const OnnxModel read = read_onnx_model(made.bytes);
  REQUIRE(read.nodes.size() == 1);
  CHECK(read.nodes[0].op_type == ort::kTileOp);
  CHECK(read.nodes[0].domain == ort::kTileDomain);
  CHECK(read.nodes[0].inputs == std::vector<std::string>{"x"});
  CHECK(read.nodes[0].outputs == std::vector<std::string>{"y"});
  CHECK(read.nodes[0].name == "conv");
  CHECK(read.initializers.empty());
  CHECK(read.inputs.size() == 1);
  CHECK(read.opsets.back() == std::pair<std::string, std::int64_t>{ort::kTileDomain, 1});
}

TEST_CASE("tiles: what others read stays in the file") {
  const std::string other =
      bytes(1, node("QLinearConv", {"y", "xs", "xz", "w", "ws", "wz", "ys", "yz"}, {"z"}, "grouped",
                    kUsual + number("group", 7), "com.microsoft"));
  const ort::TileModel made = ort::tile_model(view(optimized(constants(), kUsual, other)));
  REQUIRE(made.nodes.size() == 1);
  const OnnxModel read = read_onnx_model(made.bytes);
  REQUIRE(read.nodes.size() == 2);
  CHECK(read.nodes[1].op_type == "QLinearConv");
  std::vector<std::string> names;
  for (const OnnxTensor& each : read.initializers) names.push_back(each.name);
  CHECK(names == std::vector<std::string>{"xs", "xz", "w", "ws", "wz", "ys", "yz"});
}

TEST_CASE("tiles: constants in other forms") {
  CHECK(replaced(2, integer(2, 2) + bytes(8, "xz") + integer(5, 128)) == 1);
  CHECK(replaced(2, integer(2, 2) + bytes(8, "xz") + bytes(5, varint(128))) == 1);
  CHECK(replaced(4, tensor("ws", 1, {}, floats(1, 0.25F))) == 1);
  CHECK(replaced(5, tensor("wz", 3, {}, std::string(1, '\0'))) == 1);
  CHECK(replaced(5, integer(2, 3) + bytes(8, "wz") + integer(5, 0)) == 1);
  auto no_bias = constants();
  no_bias.erase(8);
  CHECK(replaced(optimized(no_bias)) == 0);  // an input of that name is no constant
}

TEST_CASE("tiles: a convolution along one axis") {
  auto all = constants();
  all[3] = tensor("w", 3, {20, 7, 5}, std::string(20 * 7 * 5, '\1'));
  const std::string attributes = number("channels_last", 1) + numbers("strides", {3}) +
                                 numbers("dilations", {2}) + numbers("pads", {4, 1});
  const ort::TileModel made = ort::tile_model(view(optimized(all, attributes)));
  REQUIRE(made.nodes.size() == 1);
  const kernels::TileConv& conv = made.nodes[0].plan.conv;
  CHECK(made.nodes[0].rank() == 3);
  CHECK(conv.kernel[0] == 1);
  CHECK(conv.kernel[1] == 5);
  CHECK(conv.stride[1] == 3);
  CHECK(conv.before[1] == 4);
  CHECK(made.nodes[0].out_extent(1, 10) == 3);
}

TEST_CASE("tiles: what is left to the library") {
  CHECK(replaced(2, tensor("xz", 3, {}, "\1")) == 0);                                 // int8
  CHECK(replaced(2, tensor("xz", 2, {2}, "\1\1")) == 0);                              // two of them
  CHECK(replaced(3, tensor("w", 2, {20, 7, 3, 2}, std::string(840, '\1'))) == 0);     // uint8
  CHECK(replaced(3, tensor("w", 3, {20, 7, 3, 2}, std::string(839, '\1'))) == 0);     // cut short
  CHECK(replaced(3, tensor("w", 3, {20, 7, 1, 3, 2}, std::string(840, '\1'))) == 0);  // 3-D
  CHECK(replaced(3, tensor("w", 3, {20, -7, 3, 2}, std::string(840, '\1'))) == 0);
  CHECK(replaced(4, tensor("ws", 1, {20}, floats(20, -0.25F))) == 0);
  CHECK(replaced(4, tensor("ws", 1, {20}, floats(20, std::bit_cast<float>(0x7fc00000)))) == 0);
  CHECK(replaced(4, tensor("ws", 1, {19}, floats(19, 0.25F))) == 0);
  CHECK(replaced(5, tensor("wz", 3, {20}, std::string(20, '\1'))) == 0);
  CHECK(replaced(6, tensor("ys", 1, {}, floats(1, 0))) == 0);
  CHECK(replaced(8, tensor("b", 7, {20}, std::string(160, '\0'))) == 0);
  CHECK(replaced(3, tensor("other", 3, {20, 7, 3, 2}, std::string(840, '\1'))) == 0);
  // Few filters, few products.
  auto small = constants();
  small[3] = tensor("w", 3, {7, 7, 3, 2}, std::string(294, '\1'));
  small[4] = tensor("ws", 1, {}, floats(1, 0.25F));
  small[5] = tensor("wz", 3, {}, std::string(1, '\0'));
  small[8] = tensor("b", 6, {7}, std::string(28, '\0'));
  CHECK(replaced(optimized(small)) == 0);

  const std::string last = number("channels_last", 1);
  CHECK(replaced(optimized(constants(), {})) == 0);  // channels first
  CHECK(replaced(optimized(constants(), last)) == 1);
  CHECK(replaced(optimized(constants(), last + number("group", 7))) == 0);
  CHECK(replaced(optimized(constants(), last + text_of("auto_pad", "NOTSET"))) == 1);
  CHECK(replaced(optimized(constants(), last + text_of("auto_pad", "SAME_UPPER"))) == 0);
  CHECK(replaced(optimized(constants(), last + numbers("kernel_shape", {2, 3}))) == 0);
  CHECK(replaced(optimized(constants(), last + numbers("strides", {0, 1}))) == 0);
  CHECK(replaced(optimized(constants(), last + numbers("strides", {1}))) == 0);
  CHECK(replaced(optimized(constants(), last + numbers("pads", {-1, 0, 0, 0}))) == 0);
  CHECK(replaced(optimized(constants(), last + numbers("pads", {2, 1, 2, 1}))) == 1);
  CHECK(replaced(optimized(constants(), last + numbers("pads", {2, 2, 2, 1}))) == 0);
  CHECK(replaced(optimized(constants(), last + numbers("dilations", {1, 2000}))) == 0);
  CHECK(replaced(optimized(constants(), last, {}, "my.domain")) == 0);
}

TEST_CASE("tiles: bytes that are no model") {
  CHECK_THROWS_AS((void)ort::tile_model(view("\x3a\x7f nothing")), Error);
  CHECK(ort::tile_model({}).nodes.empty());
}
