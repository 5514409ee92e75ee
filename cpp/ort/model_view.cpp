// SPDX-License-Identifier: Apache-2.0
#include "ort/model_view.h"

#include <algorithm>
#include <cstring>
#include <limits>

#include "core/error.h"
#include "core/onnx_model.h"

namespace zerolane::ort {
namespace {

// The field numbers below are those of onnx.proto, which are frozen.

std::string_view plain_domain(std::string_view domain) {
  return domain == "ai.onnx" ? std::string_view{} : domain;
}

template <class Take>
void each_int(const WireField& field, Take take) {
  if (field.type == WireType::kVarint) take(static_cast<std::int64_t>(field.value));
  if (field.type != WireType::kBytes) return;
  WireReader packed(field);
  for (std::uint64_t value; packed.next_packed(value);) take(static_cast<std::int64_t>(value));
}

bool is_external(const WireField& tensor) {
  bool external = false;
  WireReader reader(tensor);
  for (WireField part; reader.next(part);) {
    if (part.is_varint(14)) external = part.value == 1;  // TensorProto.EXTERNAL
  }
  return external;
}

// Its name, what it holds of graphs, and whether it holds a tensor that stands in another file.
AttributeView read_attribute(const WireField& field, std::vector<WireField>& graphs,
                             bool& external) {
  AttributeView attribute{{}, field};
  WireReader reader(field);
  for (WireField part; reader.next(part);) {
    if (part.is_bytes(1)) attribute.name = part.text();
    if (part.is_bytes(6) || part.is_bytes(11)) graphs.push_back(part);
    if (part.is_bytes(5) || part.is_bytes(10)) external = external || is_external(part);
    reader.skip_repeats(part);  // the attributes of a forest hold a million numbers
  }
  return attribute;
}

template <class Int>
bool raw_holds(const WireField& raw, std::int64_t value) {
  if (value < std::numeric_limits<Int>::min() || value > std::numeric_limits<Int>::max())
    return false;
  const auto wanted = static_cast<Int>(value);
  for (std::size_t at = 0; at + sizeof(Int) <= raw.payload.size(); at += sizeof(Int)) {
    Int found;
    std::memcpy(&found, raw.payload.data() + at, sizeof(Int));
    if (found == wanted) return true;
  }
  return false;
}

}  // namespace

void ModelView::read_opset(const WireField& field) {
  std::int64_t version = 0;
  WireReader reader(field);
  for (WireField inner; reader.next(inner);) {
    if (inner.is_varint(2)) version = static_cast<std::int64_t>(inner.value);
  }
  opsets_.emplace_back(last_text(field, 1), version);
}

std::int64_t ModelView::opset(std::string_view domain) const {
  for (const auto& [name, version] : opsets_) {
    if (name == domain) return version;
  }
  return 0;
}

ModelView::ModelView(std::span<const std::byte> model) {
  graphs_.emplace_back();
  WireReader reader(model);
  for (WireField field; reader.next(field);) {
    if (field.is_bytes(7)) read_graph(field, 0, 0);
    if (field.is_bytes(25)) read_function(field);
    if (field.is_bytes(8)) read_opset(field);
    if (field.is_varint(1)) ir_version_ = static_cast<std::int64_t>(field.value);
  }
  for (NodeView& node : nodes_) {  // only now do they stay where they are
    node.attributes = std::span(attributes_).subspan(node.first_attribute, node.attribute_count);
  }
  definitions_.resize(graphs_.size());
  has_open_input_ = std::ranges::any_of(
      graphs_[0].inputs, [](const WireField& input) { return !declared_shape(input).has_value(); });
  for (const Graph& graph : graphs_) {
    if (graph.is_function) callers_[{graph.domain, graph.name}];
  }
  if (callers_.empty()) return;
  for (std::size_t i = 0; i < nodes_.size(); ++i) {
    const auto function = callers_.find({nodes_[i].domain, nodes_[i].op_type});
    if (function != callers_.end()) function->second.push_back(i);
  }
}

void ModelView::read_graph(const WireField& field, std::size_t graph, int depth) {
  if (depth > kMaxGraphDepth) {
    throw make_error(Code::kInvalidModel, "reading an ONNX model", "its graphs nest too deep",
                     "check where it comes from");
  }
  WireReader reader(field);
  for (WireField part; reader.next(part);) {
    if (part.is_bytes(1)) read_node(part, graph, depth);
    if (part.is_bytes(5)) graphs_[graph].initializers.push_back(part);
    if (part.is_bytes(11)) graphs_[graph].inputs.push_back(part);
    if (part.is_bytes(15)) graphs_[graph].sparse_initializers.push_back(part);
  }
}

void ModelView::read_function(const WireField& field) {
  const std::size_t graph = graphs_.size();
  graphs_.emplace_back().is_function = true;
  WireReader reader(field);
  for (WireField part; reader.next(part);) {
    if (part.is_bytes(1)) graphs_[graph].name = part.text();
    if (part.is_bytes(4)) graphs_[graph].inputs.push_back(part);
    if (part.is_bytes(7)) read_node(part, graph, 0);
    if (part.is_bytes(10)) graphs_[graph].domain = plain_domain(part.text());
    if (part.is_bytes(11)) {  // a default, which may be a graph
      std::vector<WireField> graphs;
      read_attribute(part, graphs, has_external_constant_);
      read_graphs(graphs, graph, 0);
    }
  }
}

void ModelView::read_node(const WireField& field, std::size_t graph, int depth) {
  const std::size_t index = nodes_.size();
  NodeView node;
  node.field = field;
  node.graph = graph;
  bool has_attributes = false;
  node.first_input = names_.size();
  WireReader reader(field);
  for (WireField part; reader.next(part);) {
    if (part.is_bytes(1)) names_.push_back(part.text());
    if (part.is_bytes(3)) node.name = part.text();
    if (part.is_bytes(4)) node.op_type = part.text();
    if (part.is_bytes(7)) node.domain = plain_domain(part.text());
    node.output_count += part.is_bytes(2) ? 1 : 0;
    has_attributes = has_attributes || part.is_bytes(5);
  }
  node.input_count = names_.size() - node.first_input;
  node.first_output = names_.size();
  if (node.output_count > 0) {
    WireReader again(field);
    for (WireField part; again.next(part);) {
      if (part.is_bytes(2)) names_.push_back(part.text());
    }
  }
  std::vector<WireField> graphs;
  node.first_attribute = attributes_.size();
  if (has_attributes) {
    WireReader again(field);
    for (WireField part; again.next(part);) {
      if (part.is_bytes(5)) {
        attributes_.push_back(read_attribute(part, graphs, has_external_constant_));
      }
    }
  }
  node.attribute_count = attributes_.size() - node.first_attribute;
  nodes_.push_back(node);
  graphs_[graph].nodes.push_back(index);
  read_graphs(graphs, graph, depth);
}

void ModelView::read_graphs(std::span<const WireField> fields, std::size_t graph, int depth) {
  for (const WireField& field : fields) {
    const std::size_t inner = graphs_.size();
    graphs_.emplace_back().parent = graph;
    read_graph(field, inner, depth + 1);
  }
}

bool ModelView::has_op(std::string_view op_type) const {
  return std::ranges::any_of(
      nodes_, [&](const NodeView& node) { return node.op_type == op_type && node.domain.empty(); });
}

bool ModelView::has_external_data() const {
  const auto any_part = [](const WireField& sparse) {
    bool external = false;
    WireReader reader(sparse);
    for (WireField part; reader.next(part);) {
      if (part.is_bytes(1) || part.is_bytes(2)) external = external || is_external(part);
    }
    return external;
  };
  return has_external_constant_ || std::ranges::any_of(graphs_, [&](const Graph& graph) {
           return std::ranges::any_of(graph.initializers, is_external) ||
                  std::ranges::any_of(graph.sparse_initializers, any_part);
         });
}

ValueSource ModelView::output_of(std::size_t index, std::size_t output) const {
  const NodeView& node = nodes_[index];
  ValueSource source;
  source.kind = ValueSource::Kind::kNode;
  source.index = index;
  source.output = output;
  source.graph = node.graph;
  if (node.op_type != "Constant" || !node.domain.empty()) return source;
  const auto attribute = find_attribute(node, "value");
  if (!attribute) return source;
  int tensors = 0;  // protobuf would merge several into one
  WireReader reader(*attribute);
  for (WireField part; reader.next(part);) {
    if (!part.is_bytes(5)) continue;
    source.field = part;
    ++tensors;
  }
  if (tensors == 1) source.kind = ValueSource::Kind::kConstant;
  return source;
}

const std::vector<ModelView::Definition>& ModelView::definitions(std::size_t index) const {
  auto& cached = definitions_[index];
  if (cached) return *cached;
  using Kind = ValueSource::Kind;
  const Graph& graph = graphs_[index];
  std::vector<Definition> list;
  for (std::size_t i = 0; i < graph.inputs.size(); ++i) {
    const WireField& input = graph.inputs[i];
    ValueSource source{.kind = Kind::kUnknown, .field = input, .index = i, .graph = index};
    if (index == 0) source.kind = Kind::kInput;
    if (graph.is_function) source.kind = Kind::kFormal;
    list.push_back({graph.is_function ? input.text() : last_text(input, 1), source});
  }
  for (const WireField& tensor : graph.initializers) {
    list.push_back({last_text(tensor, 8),
                    {.kind = Kind::kConstant, .field = tensor, .index = kNone, .graph = index}});
  }
  for (const WireField& sparse : graph.sparse_initializers) {
    WireReader reader(sparse);
    for (WireField part; reader.next(part);) {
      if (part.is_bytes(1)) list.push_back({last_text(part, 8), {}});
    }
  }
  for (const std::size_t node : graph.nodes) {
    const auto names = outputs(nodes_[node]);
    for (std::size_t i = 0; i < names.size(); ++i) {
      if (!names[i].empty()) list.push_back({names[i], output_of(node, i)});
    }
  }
  std::ranges::stable_sort(list, {}, &Definition::name);
  // An input with a default stays an input; anything else that is defined twice is not known.
  // Before IR version 4 every initializer had to be listed as an input too, and the library takes
  // none of them from a caller.
  const bool fixed = index == 0 && ir_version_ >= 1 && ir_version_ < 4;
  std::size_t kept = 0;
  for (const Definition& each : list) {
    if (kept > 0 && list[kept - 1].name == each.name) {
      ValueSource& first = list[kept - 1].source;
      const bool has_default = first.kind == Kind::kInput && each.source.kind == Kind::kConstant;
      first = !has_default ? ValueSource{} : fixed ? each.source : first;
      first.has_default = has_default && !fixed;
      continue;
    }
    list[kept++] = each;
  }
  list.resize(kept);
  return cached.emplace(std::move(list));
}

ValueSource ModelView::find(std::size_t graph, std::string_view name) const {
  for (; graph != kNone; graph = graphs_[graph].parent) {
    const std::vector<Definition>& list = definitions(graph);
    const auto found = std::ranges::lower_bound(list, name, {}, &Definition::name);
    if (found != list.end() && found->name == name) return found->source;
  }
  return {};
}

std::span<const std::size_t> ModelView::callers(std::size_t graph) const {
  const auto found = callers_.find({graphs_[graph].domain, graphs_[graph].name});
  if (found == callers_.end()) return {};
  return found->second;
}

bool ModelView::redefines_operators() const {
  return std::ranges::any_of(callers_,
                             [](const auto& function) { return function.first.first.empty(); });
}

std::string_view last_text(const WireField& message, std::uint32_t number) {
  std::string_view text;
  WireReader reader(message);
  for (WireField field; reader.next(field);) {
    if (field.is_bytes(number)) text = field.text();
  }
  return text;
}

std::optional<WireField> find_attribute(const NodeView& node, std::string_view name) {
  std::optional<WireField> found;
  for (const AttributeView& attribute : node.attributes) {
    if (attribute.name == name) found = attribute.field;
  }
  return found;
}

bool has_attribute(const NodeView& node, std::string_view name) {
  return find_attribute(node, name).has_value();
}

std::optional<std::int64_t> int_attribute(const NodeView& node, std::string_view name) {
  const auto attribute = find_attribute(node, name);
  if (!attribute) return std::nullopt;
  std::optional<std::int64_t> value = 0;  // what protobuf leaves out
  WireReader reader(*attribute);
  for (WireField part; reader.next(part);) {
    if (part.is_varint(3)) value = static_cast<std::int64_t>(part.value);
    if (part.is_bytes(21)) return std::nullopt;  // ref_attr_name
  }
  return value;
}

std::optional<std::vector<std::int64_t>> ints_attribute(const NodeView& node,
                                                        std::string_view name) {
  const auto attribute = find_attribute(node, name);
  if (!attribute) return std::nullopt;
  std::vector<std::int64_t> values;
  WireReader reader(*attribute);
  for (WireField part; reader.next(part);) {
    if (part.number == 8) each_int(part, [&](std::int64_t value) { values.push_back(value); });
    if (part.is_bytes(21)) return std::nullopt;
  }
  return values;
}

std::optional<std::string_view> text_attribute(const NodeView& node, std::string_view name) {
  const auto attribute = find_attribute(node, name);
  if (!attribute || !last_text(*attribute, 21).empty()) return std::nullopt;
  return last_text(*attribute, 4);
}

std::size_t list_length(const NodeView& node, std::string_view name) {
  const auto attribute = find_attribute(node, name);
  if (!attribute) return 0;
  std::size_t length = 0;
  WireReader reader(*attribute);
  for (WireField part; reader.next(part);) {
    if (part.number == 7) length += part.type == WireType::kFixed32 ? 1 : part.payload.size() / 4;
    if (part.number == 8) each_int(part, [&](std::int64_t) { ++length; });
    if (part.is_bytes(9)) ++length;
  }
  return length;
}

TensorView read_tensor(const WireField& field) {
  TensorView tensor;
  WireReader reader(field);
  for (WireField part; reader.next(part);) {
    if (part.number == 1) each_int(part, [&](std::int64_t dim) { tensor.dims.push_back(dim); });
    if (part.is_varint(2)) tensor.elem_type = static_cast<std::int32_t>(part.value);
    if (part.is_varint(14)) tensor.external = part.value == 1;
  }
  return tensor;
}

bool may_hold(const WireField& field, std::int64_t value) {
  const TensorView tensor = read_tensor(field);
  if (tensor.external) return true;
  bool found = false;
  WireReader reader(field);
  for (WireField part; reader.next(part);) {
    if (part.number == 5 || part.number == 7) {  // int32_data (cut to 32 bits), int64_data
      each_int(part, [&](std::int64_t each) {
        found = found || each == value ||
                (part.number == 5 && static_cast<std::int32_t>(each) == value);
      });
    }
    if (!part.is_bytes(9)) continue;
    if (tensor.elem_type == 6) {
      found = found || raw_holds<std::int32_t>(part, value);
    } else {
      found = found || raw_holds<std::int64_t>(part, value);
    }
  }
  return found;
}

std::optional<std::vector<std::int64_t>> read_ints(const WireField& field) {
  constexpr std::size_t kShort = 64;
  constexpr std::int32_t kInt32 = 6, kInt64 = 7;
  const TensorView tensor = read_tensor(field);
  if (tensor.external || (tensor.elem_type != kInt32 && tensor.elem_type != kInt64)) return {};
  std::vector<std::int64_t> values;
  const auto take_raw = [&]<class Int>(std::span<const std::byte> raw, Int value) {
    for (; raw.size() >= sizeof(Int); raw = raw.subspan(sizeof(Int))) {
      std::memcpy(&value, raw.data(), sizeof(Int));
      values.push_back(value);
    }
  };
  WireReader reader(field);
  for (WireField part; reader.next(part);) {
    if (part.type == WireType::kBytes && part.payload.size() > kShort * 8) return {};
    if (part.number == 5) {
      each_int(part, [&](std::int64_t each) { values.push_back(static_cast<std::int32_t>(each)); });
    }
    if (part.number == 7) each_int(part, [&](std::int64_t each) { values.push_back(each); });
    if (!part.is_bytes(9)) continue;
    if (tensor.elem_type == kInt32) take_raw(part.payload, std::int32_t{});
    if (tensor.elem_type == kInt64) take_raw(part.payload, std::int64_t{});
  }
  return values;
}

std::optional<std::vector<std::int64_t>> declared_shape(const WireField& value_info) {
  std::optional<std::vector<std::int64_t>> dims;
  WireReader value(value_info);
  for (WireField type; value.next(type);) {
    if (!type.is_bytes(2)) continue;
    WireReader kinds(type);
    for (WireField kind; kinds.next(kind);) {
      if (!kind.is_bytes(1)) continue;  // a tensor
      WireReader parts(kind);
      for (WireField part; parts.next(part);) {
        if (!part.is_bytes(2)) continue;
        if (!dims) dims.emplace();
        WireReader shape(part);
        for (WireField dim; shape.next(dim);) {
          if (!dim.is_bytes(1)) continue;
          std::int64_t extent = -1;
          WireReader reader(dim);
          for (WireField each; reader.next(each);) {
            if (each.is_varint(1)) extent = static_cast<std::int64_t>(each.value);
            if (each.is_bytes(2)) extent = -1;  // a name
          }
          dims->push_back(extent > 0 ? extent : -1);
        }
      }
    }
  }
  return dims;
}

std::int32_t declared_type(const WireField& value_info) {
  std::int32_t elem_type = 0;
  WireReader value(value_info);
  for (WireField type; value.next(type);) {
    if (!type.is_bytes(2)) continue;
    WireReader kinds(type);
    for (WireField kind; kinds.next(kind);) {
      elem_type = 0;
      if (!kind.is_bytes(1)) continue;
      WireReader parts(kind);
      for (WireField part; parts.next(part);) {
        if (part.is_varint(1)) elem_type = static_cast<std::int32_t>(part.value);
      }
    }
  }
  return elem_type;
}

}  // namespace zerolane::ort
