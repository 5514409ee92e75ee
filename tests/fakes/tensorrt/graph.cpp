// SPDX-License-Identifier: Apache-2.0
#include "graph.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <stdexcept>

namespace fake {
namespace {

constexpr size_t kGuard = 64;  // bytes behind each workspace that nobody may write
constexpr char kPoison = 0x5a;

PluginV3OneRuntime& runtime_of(PluginV3* plugin) {
  return *static_cast<PluginV3OneRuntime*>(
      plugin->getCapabilityInterface(PluginCapabilityType::kRuntime));
}

// Aligned to 64 bytes and no more, to see whether the plugin aligns it further where it has to.
char* start_of(std::vector<char>& workspace) {
  const uintptr_t at = (reinterpret_cast<uintptr_t>(workspace.data()) + 255) / 256 * 256;
  return reinterpret_cast<char*>(at + 64);
}

}  // namespace

struct GraphRun::Work {
  std::string op;
  const float* in;
  float* out;
  int64_t count;
  static void run(void* self) {
    const Work& work = *static_cast<const Work*>(self);
    for (int64_t i = 0; i < work.count; ++i) {
      const float x = work.in[i];
      work.out[i] = work.op == "Relu" ? std::max(x, 0.0f) : work.op == "Neg" ? -x : x;
    }
  }
};

PluginV3* make_plugin(const NodeFact& node, const RegistryFake& registry) {
  if (!node.plugin) return nullptr;
  PluginCreatorV3One* creator = registry.find(node.op_type, node.version, "");
  if (creator == nullptr) {
    throw std::runtime_error("getPluginCreator could not find plugin " + node.op_type +
                             " version " + node.version);
  }
  std::vector<PluginField> fields;
  for (const NodeFact::Field& field : node.fields) {
    fields.push_back({field.name.c_str(), field.bytes.data(),
                      static_cast<PluginFieldType>(field.type), field.length});
  }
  const PluginFieldCollection all{static_cast<int32_t>(fields.size()), fields.data()};
  ++number("plugins.created");
  PluginV3* plugin = creator->createPlugin(node.name.c_str(), &all, TensorRTPhase::kRuntime);
  if (plugin == nullptr) throw std::runtime_error("Could not create plugin " + node.op_type);
  return plugin;
}

GraphRun::GraphRun(EngineFake& engine) : engine_(engine) {
  for (const IoFact& fact : engine.plan.tensors) types_[fact.name] = fact.type;
  for (size_t i = 0; i < engine.plan.nodes.size(); ++i) {
    const NodeFact& node = engine.plan.nodes[i];
    for (const auto& output : node.outputs) types_[output.name] = output.type;
    PluginV3* plugin = nullptr;
    if (node.plugin) {
      ++number("plugins.attached");
      plugin = runtime_of(engine.plugins[i]).attachToContext(nullptr);
      if (plugin == nullptr) {
        for (PluginV3* made : attached_) delete made;
        throw std::runtime_error("attachToContext failed for " + node.name);
      }
    }
    attached_.push_back(plugin);
    workspaces_.emplace_back(static_cast<size_t>(node.workspace) + 512 + kGuard, kPoison);
  }
}

GraphRun::~GraphRun() {
  for (PluginV3* plugin : attached_) delete plugin;
  for (size_t i = 0; i < workspaces_.size(); ++i) {
    const char* end = start_of(workspaces_[i]) + engine_.plan.nodes[i].workspace;
    const bool whole = std::all_of(end, end + kGuard, [](char byte) { return byte == kPoison; });
    if (!whole) ++number("violations.workspace");
  }
}

PluginTensorDesc GraphRun::describe(const std::string& tensor, bool most) const {
  return {to_dims(most ? most_.at(tensor) : dims_.at(tensor)),
          static_cast<DataType>(types_.at(tensor)), TensorFormat::kLinear, 1};
}

// The extents of a node's outputs. counts: of its sizes, by the output that holds them; null before
// they were counted.
void GraphRun::infer(const NodeFact& node, const std::map<int64_t, int64_t>* counts) {
  const auto in = [](const std::map<std::string, std::vector<int64_t>>& all) {
    return [&all](const std::string& tensor, int64_t axis) {
      return all.at(tensor).at(static_cast<size_t>(axis));
    };
  };
  const Known most{in(most_),
                   [&](const Expression& size) { return evaluate(*size.second, {in(most_), {}}); }};
  const Known known{in(dims_), [&](const Expression& size) {
                      return counts != nullptr ? counts->at(size.number) : int64_t{-1};
                    }};
  for (const auto& output : node.outputs) {
    std::vector<int64_t>& dims = dims_[output.name];
    std::vector<int64_t>& greatest = most_[output.name];
    dims.clear();
    greatest.clear();
    for (const Expr& dim : from_text(output.dims)) {
      dims.push_back(evaluate(*dim, known));
      greatest.push_back(evaluate(*dim, most));
    }
  }
}

void GraphRun::tell_shapes(size_t index) {
  const NodeFact& node = engine_.plan.nodes[index];
  if (!node.plugin) return;
  std::vector<PluginTensorDesc> in, out;
  for (const std::string& name : node.inputs) in.push_back(describe(name, false));
  for (const auto& output : node.outputs) out.push_back(describe(output.name, false));
  ++number("plugins.shaped");
  if (runtime_of(attached_[index])
          .onShapeChange(in.data(), static_cast<int32_t>(in.size()), out.data(),
                         static_cast<int32_t>(out.size())) != 0) {
    throw std::runtime_error("onShapeChange failed for " + node.name);
  }
}

void GraphRun::set_shapes(const std::map<std::string, std::vector<int64_t>>& inputs) {
  dims_ = most_ = inputs;
  for (size_t i = 0; i < engine_.plan.nodes.size(); ++i) {
    infer(engine_.plan.nodes[i], nullptr);
    tell_shapes(i);
  }
  for (const auto& [tensor, dims] : most_) {
    memory_[tensor].resize(static_cast<size_t>(bytes_of(types_.at(tensor), dims)) + 1);
  }
}

void* GraphRun::place(const std::string& tensor, const std::map<std::string, void*>& addresses) {
  const IoFact* fact = engine_.plan.find(tensor);
  if (fact == nullptr || fact->data_decides) return memory_.at(tensor).data();
  const auto found = addresses.find(tensor);
  if (found == addresses.end() || found->second == nullptr) {
    throw std::runtime_error("there is no address for " + tensor);
  }
  return found->second;
}

void GraphRun::run_operator(const NodeFact& node, const void* in, void* out,
                            cuda::NativeStream* stream) {
  works_.push_back(
      std::make_unique<Work>(Work{node.op_type, static_cast<const float*>(in),
                                  static_cast<float*>(out), volume(dims_.at(node.inputs[0]))}));
  if (cuda_table().launch_host(0, stream, &Work::run, works_.back().get()) != 0) {
    throw std::runtime_error("the work could not be launched");
  }
}

void GraphRun::enqueue(cuda::NativeStream* stream, const std::map<std::string, void*>& addresses,
                       bool capturing) {
  for (size_t i = 0; i < engine_.plan.nodes.size(); ++i) {
    const NodeFact& node = engine_.plan.nodes[i];
    infer(node, nullptr);  // inputs may have been counted meanwhile
    std::vector<PluginTensorDesc> in_descs, out_descs;
    std::vector<const void*> in;
    std::vector<void*> out;
    bool counts = false;
    for (const std::string& name : node.inputs) {
      in_descs.push_back(describe(name, false));
      in.push_back(place(name, addresses));
    }
    for (const auto& output : node.outputs) {
      out_descs.push_back(describe(output.name, false));
      out.push_back(place(output.name, addresses));
      counts |= output.dims.find('s') != std::string::npos &&
                std::ranges::count(dims_.at(output.name), -1) > 0;
    }
    if (!node.plugin) {
      run_operator(node, in[0], out[0], stream);
      continue;
    }
    ++number("plugins.enqueued");
    void* workspace = node.workspace > 0 ? start_of(workspaces_[i]) : nullptr;
    if (runtime_of(attached_[i])
            .enqueue(in_descs.data(), out_descs.data(), in.data(), out.data(), workspace,
                     reinterpret_cast<StreamHandle>(stream)) != 0) {
      throw std::runtime_error("enqueue failed for " + node.name);
    }
    if (!counts) continue;
    if (capturing) throw std::runtime_error("sizes that depend on data cannot be captured");
    cuda_table().stream_synchronize(0, stream);
    std::map<int64_t, int64_t> counted;
    for (size_t k = 0; k < out.size(); ++k) {
      if (node.outputs[k].type != static_cast<int32_t>(DataType::kInt64) ||
          !dims_.at(node.outputs[k].name).empty()) {
        continue;
      }
      std::memcpy(&counted[static_cast<int64_t>(k)], out[k], sizeof(int64_t));
    }
    infer(node, &counted);
  }
}

}  // namespace fake
