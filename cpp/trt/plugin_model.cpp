// SPDX-License-Identifier: Apache-2.0
#include "trt/plugin_model.h"

#include <algorithm>
#include <functional>
#include <map>
#include <optional>
#include <utility>

#include "core/error.h"
#include "core/wire.h"
#include "trt/library.h"
#include "trt/onnx_attributes.h"

namespace zerolane::trt {
namespace {

constexpr std::int32_t kOnnxUint8 = 2, kOnnxInt8 = 3;

std::string_view last_text(const WireField& message, std::uint32_t number) {
  std::string_view found;
  WireReader reader(message);
  for (WireField part; reader.next(part);) {
    if (part.is_bytes(number)) found = part.text();
  }
  return found;
}

std::string int_attribute(std::string_view name, std::int64_t value) {
  std::string attribute;
  put_bytes(attribute, 1, name);
  put_int(attribute, 3, static_cast<std::uint64_t>(value));
  put_int(attribute, 20, 2);  // AttributeProto.INT
  return attribute;
}

std::string text_attribute(std::string_view name, std::string_view value) {
  std::string attribute;
  put_bytes(attribute, 1, name);
  put_bytes(attribute, 4, value);
  put_int(attribute, 20, 3);  // AttributeProto.STRING
  return attribute;
}

}  // namespace

// One walk through the model, in the order in which OnnxModel counts the nodes.
class PluginModel::Walk {
 public:
  using Growth = WireEdits::Growth;
  // What stands in place of a node's message; nullopt: it stays.
  using Visit = std::function<std::optional<std::string>(const WireField& node, size_t index)>;

  // Values and constants of the main graph named in `uint8` are declared int8.
  Walk(Visit visit, const std::set<std::string, std::less<>>& uint8)
      : visit_(std::move(visit)), uint8_(uint8) {}

  WireEdits run(std::span<const std::byte> model) {
    WireReader reader(model);
    for (WireField field; reader.next(field);) {
      if (field.is_bytes(7)) edit_graph(field, /*main=*/true);
      if (field.is_bytes(25)) edit_function(field);
    }
    return std::move(edits_);
  }

 private:
  Growth edit_graph(const WireField& graph, bool main) {
    return edits_.edit_message(graph, [&] {
      Growth growth = 0;
      WireReader reader(graph);
      for (WireField field; reader.next(field);) {
        if (field.is_bytes(1)) growth += edit_node(field);
        if (!main || uint8_.empty()) continue;
        const bool value = field.is_bytes(11) || field.is_bytes(12) || field.is_bytes(13);
        if (value && uint8_.contains(last_text(field, 1))) {
          growth += edit_type(field, {2, 1, 1});  // ValueInfoProto.type.tensor_type.elem_type
        }
        if (field.is_bytes(5) && uint8_.contains(last_text(field, 8))) {
          growth += edit_type(field, {2});  // TensorProto.data_type
        }
      }
      return growth;
    });
  }

  Growth edit_function(const WireField& function) {
    return edits_.edit_message(function, [&] {
      Growth growth = 0;
      WireReader reader(function);
      for (WireField field; reader.next(field);) {
        if (field.is_bytes(7)) growth += edit_node(field);
        if (field.is_bytes(11)) growth += edit_attribute(field);  // a default that is a graph
      }
      return growth;
    });
  }

  Growth edit_node(const WireField& node) {
    if (std::optional<std::string> other = visit_(node, next_node_++)) {
      return edits_.replace(node, *other);
    }
    return edits_.edit_message(node, [&] {
      Growth growth = 0;
      WireReader reader(node);
      for (WireField field; reader.next(field);) {
        if (field.is_bytes(5)) growth += edit_attribute(field);
      }
      return growth;
    });
  }

  Growth edit_attribute(const WireField& attribute) {
    return edits_.edit_message(attribute, [&] {
      Growth growth = 0;
      WireReader reader(attribute);
      for (WireField field; reader.next(field);) {
        if (field.is_bytes(6) || field.is_bytes(11)) growth += edit_graph(field, /*main=*/false);
      }
      return growth;
    });
  }

  // The element type that lies behind these fields, one inside the other.
  Growth edit_type(const WireField& message, std::initializer_list<std::uint32_t> path) {
    return edit_type(message, std::span(path.begin(), path.size()));
  }
  Growth edit_type(const WireField& message, std::span<const std::uint32_t> path) {
    return edits_.edit_message(message, [&] {
      Growth growth = 0;
      WireReader reader(message);
      for (WireField field; reader.next(field);) {
        if (path.size() > 1 && field.is_bytes(path.front())) {
          growth += edit_type(field, path.subspan(1));
        } else if (path.size() == 1 && field.is_varint(path.front()) && field.value == kOnnxUint8) {
          std::string type;
          put_varint(type, kOnnxInt8);
          growth += edits_.overwrite(field.payload_offset, field.end_offset(), std::move(type));
        }
      }
      return growth;
    });
  }

  Visit visit_;
  const std::set<std::string, std::less<>>& uint8_;
  WireEdits edits_;
  size_t next_node_ = 0;
};

PluginModel::PluginModel(std::span<const std::byte> model, const std::string& name)
    : bytes_(model), name_(name), model_(read_onnx_model(model)) {
  std::map<std::string, const OpEntry*> known;
  for (const OpUse& use : model_.foreign_ops()) {
    const std::string full = use.domain + "::" + use.op;
    const int version =
        use.version > 0 && use.version < INT32_MAX ? static_cast<int>(use.version) : INT32_MAX;
    if (const OpEntry* entry = resolve_op(full, version)) known[full] = entry;
  }
  if (known.empty()) return;
  Walk(
      [&](const WireField& field, size_t index) -> std::optional<std::string> {
        const OnnxNode& node = model_.nodes[index];
        const auto found = known.find(node.domain + "::" + node.op_type);
        if (found != known.end()) add_node(index, field, *found->second);
        return std::nullopt;
      },
      uint8_)
      .run(bytes_);
  find_uint8();
}

std::string PluginModel::describe(size_t index) const {
  const OnnxNode& node = model_.nodes[index];
  const std::string which =
      node.name.empty() ? "node " + std::to_string(index) : "node '" + node.name + "'";
  return which + " (" + node.domain + "::" + node.op_type + ") of " + name_;
}

void PluginModel::add_node(size_t index, const WireField& field, const OpEntry& entry) {
  const OnnxNode& node = model_.nodes[index];
  const std::string where = describe(index);
  if (!entry.on_cuda()) {
    throw make_error(Code::kUnsupported, "building " + where,
                     "the op has a CPU body alone, expected a CUDA body",
                     "write one, and build its library where nvcc is; or run the model with "
                     "backend='onnxruntime'",
                     entry.name);
  }
  auto facts = std::make_shared<PluginFacts>();
  facts->state =
      std::make_shared<const OpState>(entry, read_attributes(entry, field, where), where);
  size_t inputs = node.inputs.size();
  while (inputs > 0 && node.inputs[inputs - 1].empty()) --inputs;
  for (size_t i = 0; i < inputs; ++i) facts->present.push_back(!node.inputs[i].empty());
  for (size_t i = 0; i < entry.outputs.size(); ++i) {
    const bool named = i < node.outputs.size() && !node.outputs[i].empty();
    if (named || entry.outputs[i].kind == kZlRequired) facts->outputs.push_back(i);
  }
  if (node.outputs.size() > entry.outputs.size()) {
    throw make_error(Code::kInvalidArgument, "building " + where,
                     "it has " + std::to_string(node.outputs.size()) + " outputs, expected " +
                         std::to_string(entry.outputs.size()) + " at most",
                     "export the model again", entry.name);
  }
  facts->complete();
  facts->uint8_inputs.resize(facts->inputs.size());
  facts->uint8_outputs.resize(facts->outputs.size());
  nodes_.push_back({index, std::move(facts)});
}

// Finds the tensors of uint8 that plugins read and write; functions are left out, as they have no
// types of their own.
void PluginModel::find_uint8() {
  std::map<size_t, PluginFacts*> plugins;
  for (const Node& node : nodes_) plugins[node.index] = node.facts.get();
  std::set<std::string_view> inputs;  // of the model, and constants, of uint8
  for (const OnnxValue& value : model_.inputs) {
    if (value.elem_type == kOnnxUint8 && value.kind == "tensor") inputs.insert(value.name);
  }
  for (const OnnxTensor& tensor : model_.initializers) {
    if (tensor.elem_type == kOnnxUint8 && tensor.graph == 0) inputs.insert(tensor.name);
  }
  const auto in_function = [&](const OnnxNode& node) {
    size_t graph = node.graph;
    while (model_.graphs[graph].parent != OnnxGraph::kNone) graph = model_.graphs[graph].parent;
    return graph != 0;
  };
  for (size_t index = 0; index < model_.nodes.size(); ++index) {
    const OnnxNode& node = model_.nodes[index];
    const auto found = plugins.find(index);
    if (found == plugins.end() || in_function(node)) continue;
    PluginFacts& facts = *found->second;
    const OpEntry& entry = facts.state->entry();
    for (size_t i = 0; i < facts.inputs.size(); ++i) {
      const std::string& name = node.inputs[facts.inputs[i]];
      facts.uint8_inputs[i] = inputs.contains(name) || uint8_.contains(name);
      if (facts.uint8_inputs[i]) uint8_.insert(name);
    }
    for (size_t i = 0; i < facts.outputs.size(); ++i) {
      const size_t type = entry.outputs[facts.outputs[i]].type;
      const auto decider = std::ranges::find(facts.inputs, entry.decided_by[type]);
      facts.uint8_outputs[i] =
          decider == facts.inputs.end()
              ? entry.types[type].front() == DType::kUInt8
              : bool{facts.uint8_inputs[static_cast<size_t>(decider - facts.inputs.begin())]};
      if (facts.uint8_outputs[i] && facts.outputs[i] < node.outputs.size()) {
        uint8_.insert(node.outputs[facts.outputs[i]]);
      }
    }
  }
  for (size_t index = 0; index < model_.nodes.size(); ++index) {
    const OnnxNode& node = model_.nodes[index];
    if (plugins.contains(index) || in_function(node)) continue;
    for (const std::string& name : node.inputs) {
      if (name.empty() || !uint8_.contains(name)) continue;
      throw make_error(Code::kUnsupported, "building " + describe(index),
                       "it reads '" + name +
                           "' of uint8, as an op does that is a plugin, and "
                           "TensorRT's plugins take uint8 only where no operator does",
                       "give the model that input twice, or cast it in an op", name);
    }
  }
}

std::vector<const OpEntry*> PluginModel::ops() const {
  std::vector<const OpEntry*> all;
  for (const Node& node : nodes_) {
    const OpEntry* entry = &node.facts->state->entry();
    if (!std::ranges::count(all, entry)) all.push_back(entry);
  }
  return all;
}

std::string PluginModel::write_node(const Node& plugin) const {
  const OnnxNode& node = model_.nodes[plugin.index];
  const PluginFacts& facts = *plugin.facts;
  const std::string own = "zl:" + std::to_string(plugin.index) + "/";
  std::string out;
  for (size_t input : facts.inputs) put_bytes(out, 1, node.inputs[input]);
  for (size_t output : facts.outputs) {
    const bool named = output < node.outputs.size() && !node.outputs[output].empty();
    put_bytes(out, 2, named ? node.outputs[output] : own + "unwanted" + std::to_string(output));
  }
  for (size_t i = 0; i < facts.counted; ++i) put_bytes(out, 2, own + "count" + std::to_string(i));
  put_bytes(out, 3, node.name);
  put_bytes(out, 4, facts.state->entry().name);
  const auto place = std::ranges::find(nodes_, plugin.index, &Node::index) - nodes_.begin();
  put_bytes(out, 5, int_attribute(kNodeField, place));
  put_bytes(out, 5, text_attribute("plugin_version", facts.version));
  put_bytes(out, 7, node.domain);
  return out;
}

std::vector<std::byte> PluginModel::rewrite() const {
  auto next = nodes_.begin();
  return Walk(
             [&](const WireField&, size_t index) -> std::optional<std::string> {
               if (next == nodes_.end() || next->index != index) return std::nullopt;
               return write_node(*next++);
             },
             uint8_)
      .run(bytes_)
      .apply(bytes_);
}

PluginCreators::Make PluginModel::make_plugins(const Library& library,
                                               std::shared_ptr<PluginFailures> failures) const {
  return [this, &library, failures = std::move(failures)](const OpEntry& entry,
                                                          const PluginFieldCollection& fields) {
    const int64_t node = node_of(fields);
    if (node < 0) {  // the builder makes plugins of what it has serialized, too
      return make_from_engine(library, failures, -1)(entry, fields);
    }
    if (static_cast<size_t>(node) >= nodes_.size() ||
        &nodes_[static_cast<size_t>(node)].facts->state->entry() != &entry) {
      throw make_error(Code::kInternal, "making a plugin of " + entry.name,
                       "the parser asks for node " + std::to_string(node), "report this",
                       entry.name);
    }
    return std::make_unique<Plugin>(library.calls, nodes_[static_cast<size_t>(node)].facts,
                                    failures, std::nullopt, -1);
  };
}

bool PluginModel::take_in_counted() {
  bool more = false;
  for (Node& node : nodes_) {
    const size_t found = node.facts->counted_found.load();
    if (found <= node.facts->counted) continue;
    more = true;
    // Plugins of the network before hold on to the old ones.
    auto facts = std::make_shared<PluginFacts>();
    facts->state = node.facts->state;
    facts->present = node.facts->present;
    facts->outputs = node.facts->outputs;
    facts->counted = found;
    facts->uint8_inputs = node.facts->uint8_inputs;
    facts->uint8_outputs = node.facts->uint8_outputs;
    for (size_t i = 0; i < facts->counts.size(); ++i)
      facts->counts[i] = node.facts->counts[i].load();
    facts->complete();
    node.facts = std::move(facts);
  }
  return more;
}

std::vector<PluginModel::Asked> PluginModel::asked() const {
  std::vector<Asked> all;
  for (const Node& node : nodes_) {
    Asked& asked =
        all.emplace_back(Asked{node.facts->state->entry().name, model_.nodes[node.index].name, {}});
    for (size_t i = 0; i < asked.calls.size(); ++i) asked.calls[i] = node.facts->counts[i].load();
  }
  return all;
}

}  // namespace zerolane::trt
