// SPDX-License-Identifier: Apache-2.0
#include "plan.h"

#include <sstream>

namespace fake {
namespace {

std::vector<int64_t> numbers(const std::string& text) {
  std::vector<int64_t> out;
  std::istringstream in(text);
  for (std::string item; std::getline(in, item, ',');) out.push_back(std::stoll(item));
  return out;
}

std::string from_hex(const std::string& text) {
  std::string out;
  for (size_t i = 0; i + 1 < text.size(); i += 2) {
    out += static_cast<char>(std::stoi(text.substr(i, 2), nullptr, 16));
  }
  return out;
}

// node, of_node, field, output: as network.cpp writes them.
void read_node(const std::vector<std::string>& field, Plan* plan) {
  if (field[0] == "node") {
    NodeFact node;
    node.name = field[1];
    node.op_type = field[2];
    node.plugin = field[3] == "plugin";
    node.version = field[4];
    node.workspace = std::stoll(field[5]);
    plan->nodes.push_back(node);
    return;
  }
  NodeFact& node = plan->nodes.back();
  if (field[0] == "reads") node.inputs.push_back(field[1]);
  if (field[0] == "makes") node.outputs.push_back({field[1], std::stoi(field[2]), field[3]});
  if (field[0] == "field") {
    node.fields.push_back({field[1], std::stoi(field[2]), std::stoi(field[3]), from_hex(field[4])});
  }
}

}  // namespace

const IoFact* Plan::find(const std::string& name) const {
  for (const IoFact& tensor : tensors) {
    if (tensor.name == name) return &tensor;
  }
  return nullptr;
}

bool read_plan(const void* data, size_t size, Plan* plan, std::string* reason) {
  std::string all(static_cast<const char*>(data), size);
  const std::string magic = "FAKE-TENSORRT 1\n";
  if (all.compare(0, magic.size(), magic) != 0) {
    *reason = "Serialization assertion failed: the magic tag does not match";
    return false;
  }
  size_t at = magic.size();
  while (at < all.size()) {
    size_t end = all.find('\n', at);
    if (end == std::string::npos) break;
    std::istringstream line(all.substr(at, end - at));
    at = end + 1;
    std::vector<std::string> field;
    for (std::string item; std::getline(line, item, '\t');) field.push_back(item);
    field.resize(6);
    const std::string& key = field[0];
    if (key == "version") {
      plan->version = field[1];
    } else if (key == "host_code") {
      plan->host_code = field[1] == "1";
    } else if (key == "refit") {
      plan->refit = field[1] == "1";
    } else if (key == "stripped") {
      plan->stripped = field[1] == "1";
    } else if (key == "activation") {
      plan->activation_bytes = std::stoll(field[1]);
    } else if (key == "weight_bytes") {
      plan->weight_bytes = std::stoll(field[1]);
    } else if (key == "streamable") {
      plan->streamable_bytes = std::stoll(field[1]);
    } else if (key == "input" || key == "output") {
      IoFact fact;
      fact.input = key == "input";
      fact.name = field[1];
      fact.type = std::stoi(field[2]);
      fact.on_host = field[3] == "host";
      fact.data_decides = field[3] == "data";
      fact.dims = numbers(field[4]);
      plan->tensors.push_back(fact);
    } else if (key == "profile") {
      plan->profiles.emplace_back();
    } else if (key == "shape" || key == "values") {
      Range range{field[1], numbers(field[2]), numbers(field[3]), numbers(field[4])};
      (key == "shape" ? plan->profiles.back().shapes : plan->profiles.back().values)
          .push_back(range);
    } else if (key == "weight") {
      std::vector<int64_t> dims = numbers(field[3]);
      int64_t count = 1;
      for (int64_t d : dims) count *= d;
      plan->weights.push_back({field[1], std::stoi(field[2]), count, dims});
    } else if (key == "layer") {
      plan->layers.push_back(field[1]);
    } else if (key == "node" || key == "reads" || key == "makes" || key == "field") {
      read_node(field, plan);
    } else if (key == "model") {
      size_t bytes = std::stoull(field[1]);
      if (all.size() - at != bytes) break;
      plan->model = all.substr(at);
      return true;
    }
  }
  *reason = "Serialization assertion failed: the plan is cut short";
  return false;
}

}  // namespace fake
