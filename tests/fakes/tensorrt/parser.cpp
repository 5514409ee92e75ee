// SPDX-License-Identifier: Apache-2.0
// The ONNX parser, in the same library: the test puts a link with the parser's name beside it.
// Behaves as that of TensorRT-RTX 1.7.1 where it meets a plugin.
#include <algorithm>
#include <stdexcept>

#include "core/onnx_model.h"
#include "core/wire.h"
#include "network.h"

namespace fake {
namespace {

// What the real parser hands a plugin: integers in 32 bits.
struct Attribute {
  std::string name;
  std::uint64_t type = 0;
  std::vector<int32_t> integers;
  std::string text;
};

struct ParserFake : Base {
  ParserFake(NetworkFake& of, void* logger) : Base("Parser"), network(of) {
    report.logger = logger;
  }
  void* direct() { return &callee; }

  NetworkFake& network;
  Reporter report;
  std::vector<std::unique_ptr<ErrorFake>> errors;
  std::vector<std::vector<Attribute>> attributes;  // by node of the main graph

  bool fail(ParserErrorCode code, const std::string& text, int32_t at = -1,
            const zerolane::OnnxNode* node = nullptr) {
    errors.push_back(std::make_unique<ErrorFake>(code, text, at));
    if (node != nullptr) {
      errors.back()->name = node->name;
      errors.back()->op_type = node->op_type;
    }
    return false;
  }
  bool parse(std::span<const std::byte> bytes);
  bool add_node(const zerolane::OnnxNode& node, int32_t at);
  bool add_plugin(const zerolane::OnnxNode& node, int32_t at, std::vector<TensorFake*> inputs);
  PluginV3* create(const zerolane::OnnxNode& node, int32_t at);
  void read_attributes(std::span<const std::byte> bytes);
};

DataType type_of(int32_t onnx) {
  switch (onnx) {
    case 1:
    case 11:  // the real one reads doubles as floats
      return DataType::kFloat;
    case 2:
      return DataType::kUint8;
    case 3:
      return DataType::kInt8;
    case 6:
      return DataType::kInt32;
    case 7:
      return DataType::kInt64;
    case 9:
      return DataType::kBool;
    case 10:
      return DataType::kHalf;
    case 16:
      return DataType::kBf16;
    default:
      throw std::runtime_error("Unsupported ONNX data type");
  }
}

void ParserFake::read_attributes(std::span<const std::byte> bytes) {
  using zerolane::WireField;
  using zerolane::WireReader;
  WireReader model(bytes);
  for (WireField graph; model.next(graph);) {
    if (!graph.is_bytes(7)) continue;
    WireReader nodes(graph);
    for (WireField node; nodes.next(node);) {
      if (!node.is_bytes(1)) continue;
      std::vector<Attribute>& list = attributes.emplace_back();
      WireReader fields(node);
      for (WireField field; fields.next(field);) {
        if (!field.is_bytes(5)) continue;
        Attribute& attribute = list.emplace_back();
        WireReader parts(field);
        for (WireField part; parts.next(part);) {
          if (part.is_bytes(1)) attribute.name = part.text();
          if (part.is_varint(20)) attribute.type = part.value;
          if (part.is_varint(3)) attribute.integers = {static_cast<int32_t>(part.value)};
          if (part.is_bytes(4)) attribute.text = part.text();
        }
      }
    }
  }
}

bool ParserFake::parse(std::span<const std::byte> bytes) {
  ++number("parsed");
  try {
    const zerolane::OnnxModel model = zerolane::read_onnx_model(bytes);
    read_attributes(bytes);
    for (const zerolane::OnnxValue& value : model.inputs) {
      TensorFake* tensor = network.add(value.name);
      tensor->type = type_of(value.elem_type);
      tensor->input = true;
      for (size_t axis = 0; axis < value.shape.size(); ++axis) {
        const int64_t fixed = value.shape[axis].value;
        tensor->dims.push_back(fixed >= 0 ? make_number(fixed)
                                          : make_extent(value.name, static_cast<int64_t>(axis)));
      }
      network.inputs.push_back(tensor);
    }
    for (size_t i = 0; i < model.nodes.size(); ++i) {
      if (!add_node(model.nodes[i], static_cast<int32_t>(i))) return false;
    }
    for (const zerolane::OnnxValue& value : model.outputs) {
      TensorFake* tensor = network.find(value.name);
      if (tensor == nullptr) throw std::runtime_error("nobody makes " + value.name);
      network.outputs.push_back(tensor);
    }
    return true;
  } catch (const std::exception& error) {
    return fail(ParserErrorCode::kInvalidGraph, error.what());
  }
}

bool ParserFake::add_node(const zerolane::OnnxNode& node, int32_t at) {
  std::vector<TensorFake*> inputs;
  for (const std::string& name : node.inputs) {
    TensorFake* tensor = network.find(name);
    if (tensor == nullptr) {
      return fail(ParserErrorCode::kInvalidNode, "input != nullptr: " + name, at, &node);
    }
    inputs.push_back(tensor);
  }
  // An operator of the parser's own goes before a plugin, whatever the domain.
  const bool own = node.op_type == "Relu" || node.op_type == "Neg" || node.op_type == "Identity";
  if (!own) return add_plugin(node, at, inputs);
  auto layer = std::make_unique<LayerFake>();
  layer->name = node.name;
  layer->op_type = node.op_type;
  layer->inputs = inputs;
  layer->has_shapes = true;
  TensorFake* output = network.add(node.outputs[0]);
  output->type = inputs[0]->type;
  output->from = layer.get();
  output->made_of = inputs[0]->dims;
  for (size_t axis = 0; axis < inputs[0]->dims.size(); ++axis) {
    const bool constant = inputs[0]->dims[axis]->kind == Expression::Kind::kNumber;
    output->dims.push_back(constant ? inputs[0]->dims[axis]
                                    : make_extent(output->name, static_cast<int64_t>(axis)));
  }
  layer->outputs = {output};
  network.layers.push_back(std::move(layer));
  return true;
}

PluginV3* ParserFake::create(const zerolane::OnnxNode& node, int32_t at) {
  const std::vector<Attribute>& list = attributes.at(static_cast<size_t>(at));
  std::string version = "1", space;
  for (const Attribute& attribute : list) {
    if (attribute.name == "plugin_version") version = attribute.text;
    if (attribute.name == "plugin_namespace") space = attribute.text;
  }
  PluginCreatorV3One* creator = network.builder.registry.find(node.op_type, version, space);
  if (creator == nullptr) {
    fail(ParserErrorCode::kUnsupportedNode,
         "Assertion failed: plugin: Plugin not found, are the plugin name, version, and namespace "
         "correct?",
         at, &node);
    return nullptr;
  }
  std::vector<PluginField> fields;
  const PluginFieldCollection* names = creator->getFieldNames();
  for (int32_t i = 0; names != nullptr && i < names->nbFields; ++i) {
    for (const Attribute& attribute : list) {
      if (attribute.name != names->fields[i].name || attribute.type != 2) continue;
      fields.push_back({names->fields[i].name, attribute.integers.data(), PluginFieldType::kInt32,
                        static_cast<int32_t>(attribute.integers.size())});
    }
  }
  const PluginFieldCollection all{static_cast<int32_t>(fields.size()), fields.data()};
  PluginV3* plugin = creator->createPlugin(node.name.c_str(), &all, TensorRTPhase::kBuild);
  if (plugin == nullptr) {
    fail(ParserErrorCode::kUnsupportedNode,
         "Assertion failed: plugin: Could not create the plugin.", at, &node);
  }
  return plugin;
}

bool ParserFake::add_plugin(const zerolane::OnnxNode& node, int32_t at,
                            std::vector<TensorFake*> inputs) {
  PluginV3* created = create(node, at);
  if (created == nullptr) return false;
  auto layer = std::make_unique<LayerFake>();
  layer->name = node.name;
  layer->op_type = node.op_type;
  layer->plugin = created->clone();
  delete created;
  if (layer->plugin == nullptr) {
    return fail(ParserErrorCode::kInvalidNode, "a plugin cannot be cloned", at, &node);
  }
  layer->inputs = std::move(inputs);
  const int32_t count = layer->build().getNbOutputs();
  const auto named = std::ranges::count_if(node.outputs, [](auto& name) { return !name.empty(); });
  if (named != count) {
    return fail(ParserErrorCode::kInvalidGraph,
                "Node has more output tensors than TRT expected, expected output size is " +
                    std::to_string(count),
                at, &node);
  }
  std::vector<DataType> in, out(static_cast<size_t>(count));
  for (const TensorFake* tensor : layer->inputs) in.push_back(tensor->type);
  if (layer->build().getOutputDataTypes(out.data(), count, in.data(),
                                        static_cast<int32_t>(in.size())) != 0) {
    return fail(ParserErrorCode::kInvalidNode,
                "getOutputDataTypes reported a non-zero return code: 1", at, &node);
  }
  for (int32_t i = 0; i < count; ++i) {
    TensorFake* tensor = network.add(node.outputs[static_cast<size_t>(i)]);
    tensor->type = out[static_cast<size_t>(i)];
    tensor->from = layer.get();
    layer->outputs.push_back(tensor);
  }
  LayerFake& added = *layer;
  network.layers.push_back(std::move(layer));
  return network.infer(added) ||
         fail(ParserErrorCode::kInvalidNode, "output shape computation failed", at, &node);
}

ParserFake& parser_of(void* self) { return self_of<ParserFake>(self); }

FAKE(Parser, parse, [](void* self, const void* data, size_t size, const char*) {
  return parser_of(self).parse({static_cast<const std::byte*>(data), size});
});
FAKE(Parser, getNbErrors,
     [](void* self) { return static_cast<int32_t>(parser_of(self).errors.size()); });
FAKE(Parser, getError, [](void* self, int32_t index) {
  return parser_of(self).errors.at(static_cast<size_t>(index))->direct();
});
// Every node that a parse refuses: here, the first.
FAKE(Parser, supportsModelV2, [](void* self, const void* data, size_t size, const char*) {
  return parser_of(self).parse({static_cast<const std::byte*>(data), size});
});
FAKE(Parser, getNbSubgraphs, [](void*) { return int64_t{0}; });
FAKE(Parser, destroy, [](void* self) { delete &parser_of(self); });

const ErrorFake& error_of(void* self) { return self_of<ErrorFake>(self); }

FAKE(ParserError, code, [](void* self) { return error_of(self).code; });
FAKE(ParserError, desc, [](void* self) -> const char* { return error_of(self).text.c_str(); });
FAKE(ParserError, func, [](void*) -> const char* { return "stand-in"; });
FAKE(ParserError, node, [](void* self) { return error_of(self).node; });
FAKE(ParserError, nodeName, [](void* self) -> const char* { return error_of(self).name.c_str(); });
FAKE(ParserError, nodeOperator,
     [](void* self) -> const char* { return error_of(self).op_type.c_str(); });

}  // namespace
}  // namespace fake

extern "C" {
__attribute__((visibility("default"))) int32_t getNvOnnxParserVersion() { return 100; }
__attribute__((visibility("default"))) void* createNvOnnxParser_INTERNAL(void* network,
                                                                         void* logger, int32_t) {
  return (new fake::ParserFake(fake::behind<fake::NetworkFake>(network), logger))->direct();
}
}
