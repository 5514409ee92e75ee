// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/onnx_model.h"
#include "core/wire_edit.h"
#include "trt/plugin_creators.h"

namespace zerolane::trt {

// The nodes of a model that ops of the registry compute, in all of its graphs and functions, and
// the model as TensorRT's parser shall read it. The parser knows nothing of domains, has operators
// of its own under names that ops may have too, cuts integers down to 32 bits, and takes neither
// inputs that are left out nor plugins with another number of outputs than the node. So each such
// node is written anew:
//
//   my::Scale(x, "", z) -> (y, "")      becomes      "my::Scale"(x, z) -> (y, counts...)
//
// with the attributes plugin_version and kNodeField (its number), by which its plugin finds all
// else here. The model's bytes must outlive this.
class PluginModel {
 public:
  // Reads attributes and makes the ops' states. Nodes that no library has defined are left as they
  // are. Throws kUnsupported (no CUDA body, what TensorRT has no way for), kInvalidArgument (as
  // OpState; attributes of a kind that no op has), kInvalidModel, and what finding a library
  // throws.
  PluginModel(std::span<const std::byte> model, const std::string& name);

  bool empty() const noexcept { return nodes_.empty(); }
  // Each op once.
  std::vector<const OpEntry*> ops() const;
  // The model with its plugin nodes.
  std::vector<std::byte> rewrite() const;
  // Makes plugins for the nodes of the rewritten model. This must outlive them.
  PluginCreators::Make make_plugins(const Library& library,
                                    std::shared_ptr<PluginFailures> failures) const;
  // After the rewritten model was parsed: true if shape functions made more counted extents than
  // their plugins have outputs for. These are then taken in, and the model is to be rewritten and
  // parsed again.
  bool take_in_counted();
  // What was asked of the plugin of each node, in the order of kPluginCallbacks.
  struct Asked {
    std::string op;
    std::string node;
    std::array<uint32_t, std::size(kPluginCallbacks)> calls;
  };
  std::vector<Asked> asked() const;
  // Whether a tensor of the main graph is of uint8 and goes through the network as int8.
  bool is_uint8(std::string_view tensor) const { return uint8_.contains(tensor); }

 private:
  struct Node {
    size_t index;  // in OnnxModel::nodes
    std::shared_ptr<PluginFacts> facts;
  };
  class Walk;

  void add_node(size_t index, const WireField& field, const OpEntry& entry);
  void find_uint8();
  std::string describe(size_t index) const;
  std::string write_node(const Node& node) const;

  std::span<const std::byte> bytes_;
  std::string name_;
  OnnxModel model_;
  std::vector<Node> nodes_;  // in the file's order
  std::set<std::string, std::less<>> uint8_;
};

}  // namespace zerolane::trt
