// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace zerolane {

// What a model file says of itself, read from its bytes without any vendor library. Element
// types are the numbers of ONNX's TensorProto.DataType (1 float, 7 int64, 8 string, ...).

struct OnnxDim {
  std::int64_t value = -1;  // -1: not fixed by the model
  std::string symbol;       // name of a dynamic dimension; may be empty
};

struct OnnxValue {
  std::string name;
  std::string doc;
  // "tensor", "sparse_tensor", "sequence", "map", "optional", "opaque", or "" if untyped.
  std::string_view kind;
  std::int32_t elem_type = 0;  // of the innermost tensor; of a map: of its values
  bool has_shape = false;      // false: even the rank is unknown
  std::vector<OnnxDim> shape;
};

struct OnnxTensor {
  std::string name;
  std::int32_t elem_type = 0;
  std::vector<std::int64_t> dims;
  std::uint64_t elements = 0;  // product of dims; 0 if a dimension is negative, else saturated
  std::uint64_t bytes = 0;     // of the values, inside the file or in the external one
  bool external = false;
  std::string location;   // external: file, relative to the model's folder
  std::size_t graph = 0;  // index into OnnxModel::graphs
};

struct OnnxNode {
  std::string name;
  std::string op_type;
  std::string domain;  // "" for the standard operators, also where the file says "ai.onnx"
  std::vector<std::string> inputs;  // "" for an optional input left out
  std::vector<std::string> outputs;
  std::size_t graph = 0;  // index into OnnxModel::graphs
};

// Where a node or a tensor lives: the main graph, a function's body, or a graph in an attribute.
struct OnnxGraph {
  static constexpr std::size_t kNone = static_cast<std::size_t>(-1);
  std::string label;           // function "domain::name", or the attribute; "" for the main graph
  std::size_t parent = kNone;  // graph around this one, index into OnnxModel::graphs
  std::size_t owner = kNone;   // node that holds it, index into OnnxModel::nodes
  int depth = 0;               // 0: main graph or function
};

// An operator of somebody's own domain that a model uses.
struct OpUse {
  std::string domain;
  std::string op;
  std::int64_t version = 0;  // of the domain that the model imports; 0: it does not say
};

struct OnnxModel {
  std::int64_t ir_version = 0;
  std::int64_t model_version = 0;
  std::string producer_name;
  std::string producer_version;
  std::string domain;
  std::string doc;
  std::string graph_name;
  std::vector<std::pair<std::string, std::int64_t>> opsets;  // domain as in OnnxNode
  std::vector<OnnxValue> inputs;                             // of the main graph, as in the file:
  std::vector<OnnxValue> outputs;                            // inputs may repeat initializers
  std::vector<OnnxTensor> initializers;                      // of all graphs, sparse ones included
  std::vector<OnnxTensor> constants;                         // tensors held by Constant nodes
  std::vector<OnnxNode> nodes;    // of all graphs and functions, in file order
  std::vector<OnnxGraph> graphs;  // [0] is the main graph
  std::vector<std::pair<std::string, std::string>> metadata;
  std::size_t function_count = 0;

  // "" in the main graph, else like "/If_3/then_branch" or "/my.domain::Swish".
  std::string path(std::size_t graph) const;
  // The operators that no vendor's domain and no function of the model defines, each once.
  std::vector<OpUse> foreign_ops() const;
};

// Reads everything above; payloads of tensors are skipped, not copied. Memory is linear in the
// size of the file. Throws kInvalidModel for bytes that are no ONNX model, are truncated, or nest
// more than 64 graphs; kUnsupported for an ORT-format file; kOutOfMemory. Thread-safe.
OnnxModel read_onnx_model(std::span<const std::byte> bytes);

// Whether the operators of a domain come with the vendor libraries.
bool is_vendor_domain(std::string_view domain) noexcept;

// Whether these are the first bytes (8 are enough) of onnxruntime's own flatbuffer format.
bool is_ort_format(std::span<const std::byte> bytes) noexcept;

// Graphs nested deeper are refused; protobuf's own limit stops vendor libraries before that.
inline constexpr int kMaxGraphDepth = 64;

}  // namespace zerolane
