// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <span>
#include <string>
#include <string_view>
#include <vector>

// Writes ONNX protobuf messages for tests: a message is a std::string, fields are added by number.
namespace onnx_bytes {

inline std::string varint(std::uint64_t value) {
  std::string out;
  for (; value >= 0x80; value >>= 7) out += static_cast<char>((value & 0x7f) | 0x80);
  return out + static_cast<char>(value);
}

inline std::string integer(std::uint32_t field, std::int64_t value) {
  return varint(field << 3) + varint(static_cast<std::uint64_t>(value));
}

inline std::string bytes(std::uint32_t field, std::string_view payload) {
  return varint(field << 3 | 2) + varint(payload.size()) + std::string(payload);
}

inline std::span<const std::byte> view(std::string_view message) {
  return std::as_bytes(std::span(message));
}

inline std::string text(std::span<const std::byte> message) {
  return {reinterpret_cast<const char*>(message.data()), message.size()};
}

using Names = std::initializer_list<std::string_view>;

inline std::string node(std::string_view op_type, Names inputs, Names outputs,
                        std::string_view name = {}, std::string_view attributes = {},
                        std::string_view domain = {}) {
  std::string out;
  for (const std::string_view input : inputs) out += bytes(1, input);
  for (const std::string_view output : outputs) out += bytes(2, output);
  if (!name.empty()) out += bytes(3, name);
  out += bytes(4, op_type);
  out += attributes;
  if (!domain.empty()) out += bytes(7, domain);
  return out;
}

inline std::string graph_attribute(std::string_view name, std::string_view graph) {
  return bytes(5, bytes(1, name) + bytes(6, graph) + integer(20, 5));
}

inline std::string opset(std::string_view domain, std::int64_t version) {
  return bytes(1, domain) + integer(2, version);
}

inline std::string tensor_type(std::int64_t elem_type, std::string_view dims) {
  return bytes(1, integer(1, elem_type) + bytes(2, dims));
}

inline std::string value(std::string_view name, std::string_view type) {
  return bytes(1, name) + bytes(2, type);
}

// A graph of nodes only; `depth` of them around each other, each the branch of an If.
inline std::string nested_graph(int depth, const std::string& innermost) {
  std::string graph = innermost;
  for (int i = 0; i < depth; ++i) {
    graph = bytes(1, node("If", {"c"}, {"y"}, {}, graph_attribute("then_branch", graph)));
  }
  return graph;
}

inline std::string model(std::string_view graph, std::string_view more = {}) {
  return integer(1, 9) + bytes(7, graph) + bytes(8, opset("", 17)) + std::string(more);
}

}  // namespace onnx_bytes
