// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "core/wire.h"

namespace zerolane::ort {

inline constexpr std::size_t kNone = static_cast<std::size_t>(-1);

struct AttributeView {
  std::string_view name;
  WireField field;  // the AttributeProto
};

// One node of a graph or of a function's body.
struct NodeView {
  WireField field;  // the whole message
  std::size_t graph = kNone;
  std::string_view name, domain, op_type;  // domain "" for the standard operators
  std::size_t first_input = 0, input_count = 0;
  std::size_t first_output = 0, output_count = 0;
  std::size_t first_attribute = 0, attribute_count = 0;
  std::span<const AttributeView> attributes;
};

// Where a value comes from, as far as the file says.
struct ValueSource {
  enum class Kind : std::uint8_t {
    kUnknown,   // a subgraph's own input, several definitions, or none
    kConstant,  // an initializer that no caller can replace, or a Constant node's tensor
    kInput,     // an input of the main graph, also one with a default
    kNode,      // any other node's output
    kFormal,    // an input of a function's body
  };
  Kind kind = Kind::kUnknown;
  WireField field;            // kConstant: the TensorProto; kInput: the ValueInfoProto
  std::size_t index = kNone;  // kNode: the node; kFormal: number of the input
  std::size_t output = 0;     // kNode: which output
  std::size_t graph = kNone;  // that defines it
  bool has_default = false;   // kInput: an initializer stands in where the caller gives none
};

struct TensorView {
  std::int32_t elem_type = 0;
  std::vector<std::int64_t> dims;
  bool external = false;
};

// The nodes of a model and what defines their values, read from its bytes, which must outlive it.
// Weights are not read. Linear in the number of nodes and names. Not for several threads at once:
// look-ups fill caches.
class ModelView {
 public:
  // Throws kInvalidModel for bytes that are no readable model.
  explicit ModelView(std::span<const std::byte> model);
  ModelView(const ModelView&) = delete;
  ModelView& operator=(const ModelView&) = delete;

  const std::vector<NodeView>& nodes() const { return nodes_; }
  std::span<const std::string_view> inputs(const NodeView& node) const {
    return {names_.data() + node.first_input, node.input_count};
  }
  std::span<const std::string_view> outputs(const NodeView& node) const {
    return {names_.data() + node.first_output, node.output_count};
  }
  bool has_input(const NodeView& node, std::size_t index) const {
    return index < node.input_count && !inputs(node)[index].empty();
  }

  // What defines `name` as seen from inside `graph`: there or in a graph around it.
  ValueSource find(std::size_t graph, std::string_view name) const;
  // The nodes that call the function whose body is `graph`.
  std::span<const std::size_t> callers(std::size_t graph) const;
  // Whether a function of the model stands for this node.
  bool is_function(const NodeView& node) const {
    return callers_.contains({node.domain, node.op_type});
  }
  // Whether some graph or function has a standard operator of this type. Linear.
  bool has_op(std::string_view op_type) const;
  // The version of a domain's operators that the model imports; 0 where it does not say.
  std::int64_t opset(std::string_view domain) const;
  // Whether some weights stand in files beside the model.
  bool has_external_data() const;
  // Whether a function of the model goes by the name of a standard operator.
  bool redefines_operators() const;
  // Some input of the main graph has no shape, so that even its rank is left to the caller.
  bool has_input_of_open_rank() const { return has_open_input_; }

 private:
  struct Graph {
    std::size_t parent = kNone;
    bool is_function = false;
    std::string_view domain, name;  // of a function
    std::vector<WireField> inputs;  // ValueInfoProto, of a function: names
    std::vector<WireField> initializers;
    std::vector<WireField> sparse_initializers;
    std::vector<std::size_t> nodes;
  };
  struct Definition {
    std::string_view name;
    ValueSource source;
  };

  void read_opset(const WireField& field);
  void read_graph(const WireField& field, std::size_t graph, int depth);
  void read_function(const WireField& field);
  void read_node(const WireField& field, std::size_t graph, int depth);
  void read_graphs(std::span<const WireField> fields, std::size_t graph, int depth);
  const std::vector<Definition>& definitions(std::size_t graph) const;
  ValueSource output_of(std::size_t node, std::size_t output) const;

  std::vector<NodeView> nodes_;
  std::vector<std::string_view> names_;
  std::vector<AttributeView> attributes_;
  std::vector<Graph> graphs_;  // [0] is the main graph
  mutable std::vector<std::optional<std::vector<Definition>>> definitions_;  // by graph, by name
  std::map<std::pair<std::string_view, std::string_view>, std::vector<std::size_t>> callers_;
  std::vector<std::pair<std::string_view, std::int64_t>> opsets_;
  bool has_open_input_ = false;
  bool has_external_constant_ = false;
  std::int64_t ir_version_ = 0;
};

// The value of a text field: of several, the last one holds.
std::string_view last_text(const WireField& message, std::uint32_t number);

// The attribute of a node; nullopt where it has none of that name.
std::optional<WireField> find_attribute(const NodeView& node, std::string_view name);
bool has_attribute(const NodeView& node, std::string_view name);
// Its values. Nullopt where it has none, or takes them from the caller of a function.
std::optional<std::int64_t> int_attribute(const NodeView& node, std::string_view name);
std::optional<std::vector<std::int64_t>> ints_attribute(const NodeView& node,
                                                        std::string_view name);
std::optional<std::string_view> text_attribute(const NodeView& node, std::string_view name);
// Length of a list of numbers or texts; 0 where it has none.
std::size_t list_length(const NodeView& node, std::string_view name);

TensorView read_tensor(const WireField& tensor);
// Whether an integer tensor may hold `value`: true if its numbers cannot be read here.
bool may_hold(const WireField& tensor, std::int64_t value);

// The numbers of a short int32 or int64 tensor. Nullopt for another one, or one in another file.
std::optional<std::vector<std::int64_t>> read_ints(const WireField& tensor);

// The declared extents of a graph's input, -1 where left open. Nullopt where even the rank is.
std::optional<std::vector<std::int64_t>> declared_shape(const WireField& value_info);
std::int32_t declared_type(const WireField& value_info);  // 0: not a tensor, or not said

}  // namespace zerolane::ort
