// SPDX-License-Identifier: Apache-2.0
#include "core/onnx_model.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstring>
#include <deque>
#include <limits>
#include <new>
#include <set>
#include <stdexcept>

#include "core/error.h"
#include "core/wire.h"

namespace zerolane {
namespace {

// The field numbers below are those of onnx.proto, which are frozen.

constexpr std::uint64_t kSaturated = std::numeric_limits<std::uint64_t>::max();
constexpr std::size_t kLabelLimit = 64;

std::string_view plain_domain(std::string_view domain) {
  return domain == "ai.onnx" ? std::string_view{} : domain;
}

[[noreturn]] void fail_too_deep() {
  throw make_error(Code::kInvalidModel, "reading an ONNX model",
                   "its graphs or types nest deeper than the " + std::to_string(kMaxGraphDepth) +
                       " levels that are allowed",
                   "no exporter writes such a file: check where it comes from");
}

void append_dims(const WireField& field, std::vector<std::int64_t>& dims) {
  if (field.type == WireType::kVarint) dims.push_back(static_cast<std::int64_t>(field.value));
  if (field.type != WireType::kBytes) return;
  WireReader packed(field);
  for (std::uint64_t value; packed.next_packed(value);) {
    dims.push_back(static_cast<std::int64_t>(value));
  }
}

std::uint64_t element_count(const std::vector<std::int64_t>& dims) {
  std::uint64_t count = 1;
  bool saturated = false;
  for (const std::int64_t dim : dims) {
    if (dim <= 0) return 0;
    const auto size = static_cast<std::uint64_t>(dim);
    saturated = saturated || count > kSaturated / size;
    count *= size;
  }
  return saturated ? kSaturated : count;
}

// By TensorProto.DataType; 0: string, or none.
constexpr std::array<std::uint8_t, 29> kElementBits = {
    0,  32,  8,  8, 16, 16, 32, 64, 0, 8, 16, 64, 32, 64,      // float .. uint64
    64, 128, 16, 8, 8,  8,  8,  4,  4, 4, 8,  2,  2,  6,  6};  // complex64 .. float6

std::uint64_t dense_bytes(std::uint64_t elements, std::int32_t elem_type) {
  const auto type = static_cast<std::size_t>(elem_type);
  const std::uint64_t bits = type < kElementBits.size() ? kElementBits[type] : 0;
  if (bits == 0) return 0;
  if (elements > (kSaturated - 7) / bits) return kSaturated;
  return (elements * bits + 7) / 8;
}

std::pair<std::string_view, std::string_view> read_pair(const WireField& field) {
  std::pair<std::string_view, std::string_view> pair;
  WireReader reader(field);
  for (WireField part; reader.next(part);) {
    if (part.is_bytes(1)) pair.first = part.text();
    if (part.is_bytes(2)) pair.second = part.text();
  }
  return pair;
}

OnnxTensor read_tensor(const WireField& field) {
  OnnxTensor tensor;
  std::uint64_t stored = 0;
  std::uint64_t external_length = kSaturated;
  bool typed_values = false;
  WireReader reader(field);
  for (WireField part; reader.next(part);) {
    switch (part.number) {
      case 1:
        append_dims(part, tensor.dims);
        break;
      case 2:
        if (part.is_varint(2)) tensor.elem_type = static_cast<std::int32_t>(part.value);
        break;
      case 4:
      case 5:
      case 7:
      case 10:
      case 11:  // lists by type, where a small number takes fewer bytes than the type's size
        typed_values = true;
        break;
      case 6:
        if (part.is_bytes(6)) stored += part.payload.size();
        break;
      case 8:
        if (part.is_bytes(8)) tensor.name = part.text();
        break;
      case 9:
        if (part.is_bytes(9)) stored = part.payload.size();
        break;
      case 13:
        if (part.is_bytes(13)) {
          const auto [key, value] = read_pair(part);
          if (key == "location") tensor.location = value;
          if (key == "length") {
            std::from_chars(value.data(), value.data() + value.size(), external_length);
          }
        }
        break;
      case 14:
        if (part.is_varint(14)) tensor.external = part.value == 1;
        break;
      default:
        break;
    }
  }
  tensor.elements = element_count(tensor.dims);
  const std::uint64_t dense = dense_bytes(tensor.elements, tensor.elem_type);
  if (tensor.external) {
    tensor.bytes = external_length == kSaturated ? dense : external_length;
  } else {
    tensor.bytes = typed_values ? dense : stored;
    tensor.location.clear();
  }
  return tensor;
}

OnnxTensor read_sparse_tensor(const WireField& field) {
  OnnxTensor tensor;
  std::vector<std::int64_t> dims;
  std::uint64_t index_bytes = 0;
  WireReader reader(field);
  for (WireField part; reader.next(part);) {
    if (part.is_bytes(1)) tensor = read_tensor(part);
    if (part.is_bytes(2)) index_bytes = read_tensor(part).bytes;
    if (part.number == 3) append_dims(part, dims);
  }
  tensor.bytes = index_bytes > kSaturated - tensor.bytes ? kSaturated : tensor.bytes + index_bytes;
  tensor.dims = std::move(dims);
  tensor.elements = element_count(tensor.dims);
  return tensor;
}

void read_shape(const WireField& field, OnnxValue& value) {
  value.has_shape = true;
  WireReader reader(field);
  for (WireField part; reader.next(part);) {
    if (!part.is_bytes(1)) continue;
    OnnxDim dim;
    WireReader dim_reader(part);
    for (WireField choice; dim_reader.next(choice);) {
      if (choice.is_varint(1)) dim = {static_cast<std::int64_t>(choice.value), {}};
      if (choice.is_bytes(2)) dim = {-1, std::string(choice.text())};
    }
    value.shape.push_back(std::move(dim));
  }
}

std::string_view kind_of(std::uint32_t type_field) {
  switch (type_field) {
    case 1:
      return "tensor";
    case 4:
      return "sequence";
    case 5:
      return "map";
    case 7:
      return "opaque";
    case 8:
      return "sparse_tensor";
    case 9:
      return "optional";
    default:
      return {};
  }
}

void read_type(const WireField& field, OnnxValue& value, int depth) {
  if (depth > kMaxGraphDepth) fail_too_deep();
  std::string_view here;
  WireReader reader(field);
  for (WireField choice; reader.next(choice);) {
    const std::string_view kind = kind_of(choice.number);
    if (kind.empty() || choice.type != WireType::kBytes) continue;
    if (!here.empty() && kind != here) {  // one of: the last one written holds
      value.elem_type = 0;
      value.has_shape = false;
      value.shape.clear();
    }
    here = kind;
    const bool is_tensor = kind == "tensor" || kind == "sparse_tensor";
    const std::uint32_t inner = kind == "map" ? 2 : 1;
    WireReader parts(choice);
    for (WireField part; kind != "opaque" && parts.next(part);) {
      if (is_tensor) {
        if (part.is_varint(1)) value.elem_type = static_cast<std::int32_t>(part.value);
        if (part.is_bytes(2)) read_shape(part, value);
      } else if (part.is_bytes(inner)) {
        read_type(part, value, depth + 1);
      }
    }
  }
  if (depth == 0 && !here.empty()) value.kind = here;
}

OnnxValue read_value(const WireField& field) {
  OnnxValue value;
  WireReader reader(field);
  for (WireField part; reader.next(part);) {
    if (part.is_bytes(1)) value.name = part.text();
    if (part.is_bytes(2)) read_type(part, value, 0);
    if (part.is_bytes(3)) value.doc = part.text();
  }
  return value;
}

class ModelReader {
 public:
  OnnxModel read(std::span<const std::byte> bytes) {
    model_.graphs.emplace_back();
    bool has_graph = false;
    WireReader reader(bytes);
    for (WireField field; reader.next(field);) {
      if (field.is_varint(1)) model_.ir_version = static_cast<std::int64_t>(field.value);
      if (field.is_varint(5)) model_.model_version = static_cast<std::int64_t>(field.value);
      if (field.is_bytes(2)) model_.producer_name = field.text();
      if (field.is_bytes(3)) model_.producer_version = field.text();
      if (field.is_bytes(4)) model_.domain = field.text();
      if (field.is_bytes(6)) model_.doc = field.text();
      if (field.is_bytes(8)) read_opset(field);
      if (field.is_bytes(14)) model_.metadata.emplace_back(read_pair(field));
      if (field.is_bytes(25)) read_function(field);
      if (field.is_bytes(7)) {
        read_graph(field, 0);
        has_graph = true;
      }
    }
    if (!has_graph) {
      throw make_error(
          Code::kInvalidModel, "reading an ONNX model",
          std::to_string(bytes.size()) + " bytes hold no graph, expected one",
          "the file is empty, truncated or not an ONNX model: export or copy it again");
    }
    return std::move(model_);
  }

 private:
  void read_opset(const WireField& field) {
    std::string_view domain;
    std::int64_t version = 0;
    WireReader reader(field);
    for (WireField part; reader.next(part);) {
      if (part.is_bytes(1)) domain = part.text();
      if (part.is_varint(2)) version = static_cast<std::int64_t>(part.value);
    }
    model_.opsets.emplace_back(plain_domain(domain), version);
  }

  void read_function(const WireField& field) {
    ++model_.function_count;
    const std::size_t graph = model_.graphs.size();
    model_.graphs.emplace_back();
    std::string_view domain, name;
    WireReader reader(field);
    for (WireField part; reader.next(part);) {
      if (part.is_bytes(1)) name = part.text();
      if (part.is_bytes(10)) domain = part.text();
      if (part.is_bytes(7)) read_node(part, graph);
      if (part.is_bytes(11)) read_attribute(part, graph, OnnxGraph::kNone, false);  // a default
    }
    std::string& label = model_.graphs[graph].label;
    label = domain;
    if (!domain.empty()) label += "::";
    label += name;
  }

  void read_graph(const WireField& field, std::size_t graph) {
    WireReader reader(field);
    for (WireField part; reader.next(part);) {
      if (part.is_bytes(1)) read_node(part, graph);
      if (part.is_bytes(5)) add_tensor(model_.initializers, read_tensor(part), graph);
      if (part.is_bytes(15)) add_tensor(model_.initializers, read_sparse_tensor(part), graph);
      if (graph != 0) continue;
      if (part.is_bytes(2)) model_.graph_name = part.text();
      if (part.is_bytes(11)) model_.inputs.push_back(read_value(part));
      if (part.is_bytes(12)) model_.outputs.push_back(read_value(part));
    }
  }

  void read_node(const WireField& field, std::size_t graph) {
    const std::size_t index = model_.nodes.size();
    OnnxNode& node = model_.nodes.emplace_back();  // its graphs' nodes come after it, so it is
    node.graph = graph;                            // complete before they are read
    bool has_attributes = false;
    WireReader reader(field);
    for (WireField part; reader.next(part);) {
      if (part.is_bytes(1)) node.inputs.emplace_back(part.text());
      if (part.is_bytes(2)) node.outputs.emplace_back(part.text());
      if (part.is_bytes(3)) node.name = part.text();
      if (part.is_bytes(4)) node.op_type = part.text();
      if (part.is_bytes(7)) node.domain = plain_domain(part.text());
      has_attributes = has_attributes || part.is_bytes(5);
    }
    if (!has_attributes) return;
    const bool is_constant = node.op_type == "Constant" && node.domain.empty();
    WireReader again(field);
    for (WireField part; again.next(part);) {
      if (part.is_bytes(5)) read_attribute(part, graph, index, is_constant);
    }
  }

  void read_attribute(const WireField& field, std::size_t graph, std::size_t owner,
                      bool is_constant) {
    std::string_view name;
    std::size_t list_length = 0;
    WireReader reader(field);
    for (WireField part; reader.next(part);) {
      if (part.is_bytes(1)) name = part.text().substr(0, kLabelLimit);
      if (is_constant && part.is_bytes(5)) add_tensor(model_.constants, read_tensor(part), graph);
      if (is_constant && part.is_bytes(22)) {
        add_tensor(model_.constants, read_sparse_tensor(part), graph);
      }
      if (!part.is_bytes(6) && !part.is_bytes(11)) continue;
      const int depth = model_.graphs[graph].depth + 1;
      if (depth > kMaxGraphDepth) fail_too_deep();
      const std::size_t inner = model_.graphs.size();
      std::string label(name);
      if (part.number == 11) label += "[" + std::to_string(list_length++) + "]";
      model_.graphs.push_back({std::move(label), graph, owner, depth});
      read_graph(part, inner);
    }
  }

  static void add_tensor(std::vector<OnnxTensor>& list, OnnxTensor tensor, std::size_t graph) {
    tensor.graph = graph;
    list.push_back(std::move(tensor));
  }

  OnnxModel model_;
};

void refuse_ort_format(std::span<const std::byte> bytes) {
  if (!is_ort_format(bytes)) return;
  throw make_error(Code::kUnsupported, "reading an ONNX model",
                   "the bytes are an ORT-format (flatbuffer) model, expected ONNX protobuf",
                   "load it with onnxruntime, or read the .onnx file that it was made from");
}

template <class Read>
auto with_errors(Read read) {
  try {
    return read();
  } catch (const std::bad_alloc&) {
  } catch (const std::length_error&) {
  }
  throw make_error(
      Code::kOutOfMemory, "reading an ONNX model",
      "memory ran out for the description of its nodes and tensors",
      "free memory, or check a file that is not much larger than memory: it is hostile");
}

}  // namespace

OnnxModel read_onnx_model(std::span<const std::byte> bytes) {
  refuse_ort_format(bytes);
  return with_errors([&] { return ModelReader().read(bytes); });
}

bool is_ort_format(std::span<const std::byte> bytes) noexcept {
  return bytes.size() >= 8 && std::memcmp(bytes.data() + 4, "ORTM", 4) == 0;
}

bool is_vendor_domain(std::string_view domain) noexcept {
  static constexpr std::string_view kPrefixes[] = {"ai.onnx", "com.microsoft", "com.ms.",
                                                   "org.pytorch"};
  return domain.empty() || std::ranges::any_of(kPrefixes, [&](std::string_view prefix) {
           return domain.starts_with(prefix);
         });
}

std::vector<OpUse> OnnxModel::foreign_ops() const {
  std::set<std::string_view> known;  // functions, and operators that are listed
  for (const OnnxGraph& graph : graphs) {
    if (graph.parent == OnnxGraph::kNone) known.insert(graph.label);
  }
  std::vector<OpUse> uses;
  std::deque<std::string> names;
  for (const OnnxNode& node : nodes) {
    if (is_vendor_domain(node.domain)) continue;
    names.push_back(node.domain + "::" + node.op_type);
    if (!known.insert(names.back()).second) continue;
    std::int64_t version = 0;
    for (const auto& [domain, imported] : opsets) {
      if (domain == node.domain) version = imported;
    }
    uses.push_back({node.domain, node.op_type, version});
  }
  return uses;
}

std::string OnnxModel::path(std::size_t graph) const {
  std::vector<std::string> parts;
  while (true) {
    const OnnxGraph& here = graphs.at(graph);
    if (!here.label.empty()) parts.push_back(here.label);
    if (here.owner != OnnxGraph::kNone) {
      const OnnxNode& owner = nodes.at(here.owner);
      parts.push_back(owner.name.empty() ? owner.op_type : owner.name);
    }
    if (here.parent == OnnxGraph::kNone) break;
    graph = here.parent;
  }
  std::string path;
  for (auto part = parts.rbegin(); part != parts.rend(); ++part) {
    if (!part->starts_with('/')) path += '/';
    path += *part;
  }
  return path;
}

}  // namespace zerolane
