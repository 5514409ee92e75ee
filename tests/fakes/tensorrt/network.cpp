// SPDX-License-Identifier: Apache-2.0
#include "network.h"

#include <algorithm>
#include <cstring>
#include <functional>
#include <stdexcept>

namespace fake {
namespace {

constexpr const char* kVersion = FAKE_VERSION;

template <typename Capability>
Capability& capability(PluginV3* plugin, PluginCapabilityType type, const char* kind) {
  PluginCapability* found = plugin->getCapabilityInterface(type);
  if (found == nullptr) throw std::runtime_error("a plugin lacks a capability");
  const InterfaceInfo info = found->getInterfaceInfo();
  if (std::strcmp(info.kind, kind) != 0 || info.major < 1 || info.major > 2 ||
      found->getAPILanguage() != APILanguage::kCpp) {
    throw std::runtime_error(std::string("a plugin's capability is of kind ") + info.kind);
  }
  return *static_cast<Capability*>(found);
}

RegistryFake& registry_of(void* self) { return self_of<RegistryFake>(self); }

FAKE(PluginRegistry, registerCreator,
     [](void* self, PluginCreatorInterface* creator, const char* space) {
       auto* made = static_cast<PluginCreatorV3One*>(creator);
       if (std::strcmp(made->getInterfaceInfo().kind, "PLUGIN CREATOR_V3ONE") != 0) return false;
       ++number("creators.registered");
       return registry_of(self)
           .creators
           .emplace(std::tuple(made->getPluginName(), made->getPluginVersion(), space), made)
           .second;
     });
FAKE(PluginRegistry, deregisterCreator, [](void* self, const PluginCreatorInterface* creator) {
  ++number("creators.deregistered");
  return std::erase_if(registry_of(self).creators,
                       [&](const auto& entry) { return entry.second == creator; }) > 0;
});
FAKE(PluginRegistry, getCreator,
     [](void* self, const char* name, const char* version, const char* space)
         -> PluginCreatorInterface* { return registry_of(self).find(name, version, space); });

TensorFake& tensor_of(void* self) { return self_of<TensorFake>(self); }

FAKE(Tensor, getName, [](void* self) -> const char* { return tensor_of(self).name.c_str(); });
FAKE(Tensor, getType, [](void* self) { return tensor_of(self).type; });
FAKE(Tensor, isShapeTensor, [](void*) { return false; });
FAKE(Tensor, getDimensions, [](void* self) {
  TensorFake& tensor = tensor_of(self);
  Dims dims;
  dims.nbDims = -1;
  if (tensor.from != nullptr && !tensor.from->has_shapes) return dims;
  dims.nbDims = static_cast<int32_t>(tensor.dims.size());
  for (size_t i = 0; i < tensor.dims.size(); ++i) {
    const Expression& dim = *tensor.dims[i];
    dims.d[i] = dim.kind == Expression::Kind::kNumber ? dim.number : -1;
  }
  return dims;
});

FAKE(Layer, getNbOutputs,
     [](void* self) { return static_cast<int32_t>(self_of<LayerFake>(self).outputs.size()); });
FAKE(Layer, getOutput, [](void* self, int32_t index) {
  return self_of<LayerFake>(self).outputs.at(static_cast<size_t>(index))->address<Tensor>();
});

NetworkFake& network_of(void* self) { return self_of<NetworkFake>(self); }

FAKE(NetworkDefinition, getNbLayers,
     [](void* self) { return static_cast<int32_t>(network_of(self).layers.size()); });
FAKE(NetworkDefinition, getLayer, [](void* self, int32_t index) {
  return network_of(self).layers.at(static_cast<size_t>(index))->address<Layer>();
});
FAKE(NetworkDefinition, getNbInputs,
     [](void* self) { return static_cast<int32_t>(network_of(self).inputs.size()); });
FAKE(NetworkDefinition, getInput, [](void* self, int32_t index) {
  return network_of(self).inputs.at(static_cast<size_t>(index))->address<Tensor>();
});
FAKE(NetworkDefinition, getNbOutputs,
     [](void* self) { return static_cast<int32_t>(network_of(self).outputs.size()); });
FAKE(NetworkDefinition, getOutput, [](void* self, int32_t index) {
  return network_of(self).outputs.at(static_cast<size_t>(index))->address<Tensor>();
});

FAKE(OptimizationProfile, setDimensions,
     [](void* self, const char* name, OptProfileSelector which, const Dims& dims) {
       self_of<ProfileFake>(self).dims[static_cast<int>(which)][name] = from_dims(dims);
       return true;
     });
FAKE(BuilderConfig, addOptimizationProfile,
     [](void* self, const OptimizationProfile* profile) -> int32_t {
       auto& config = self_of<BuilderConfigFake>(self);
       config.profiles.push_back(&behind<ProfileFake>(profile));
       return static_cast<int32_t>(config.profiles.size()) - 1;
     });
FAKE(BuilderConfig, setProfilingVerbosity, [](void*, ProfilingVerbosity) {});
FAKE(BuilderConfig, setProgressMonitor, [](void*, ProgressMonitor*) {});

BuilderFake& builder_of(void* self) { return self_of<BuilderFake>(self); }

FAKE(Builder, setErrorRecorder,
     [](void* self, ErrorRecorder* recorder) { builder_of(self).report.set(recorder); });
FAKE(Builder, getPluginRegistry, [](void* self) { return builder_of(self).registry.direct(); });
FAKE(Builder, createNetworkV2, [](void* self, uint32_t) {
  return (new NetworkFake(builder_of(self)))->address<NetworkDefinition>();
});
FAKE(Builder, createBuilderConfig,
     [](void*) { return (new BuilderConfigFake)->address<BuilderConfig>(); });
FAKE(Builder, createOptimizationProfile, [](void* self) {
  auto& profiles = builder_of(self).profiles;
  profiles.push_back(std::make_unique<ProfileFake>());
  return profiles.back()->address<OptimizationProfile>();
});

// The shapes of all tensors with the inputs of a profile.
using Shapes = std::map<std::string, std::vector<int64_t>>;

Shapes shapes_of(const NetworkFake& network, const ProfileFake* profile, OptProfileSelector which) {
  Shapes all;
  const auto extent = [&](const std::string& tensor, int64_t axis) {
    return all.at(tensor).at(static_cast<size_t>(axis));
  };
  const Known bound{extent, [&](const Expression& size) {
                      return which == OptProfileSelector::kMin ? 0
                             : which == OptProfileSelector::kOpt
                                 ? evaluate(*size.first, {extent, {}})
                                 : evaluate(*size.second, {extent, {}});
                    }};
  for (const TensorFake* input : network.inputs) {
    std::vector<int64_t>& dims = all[input->name];
    for (const Expr& dim : input->dims) {
      dims.push_back(dim->kind == Expression::Kind::kNumber ? dim->number : -1);
    }
    if (std::ranges::count(dims, -1) == 0) continue;
    if (profile == nullptr) throw std::runtime_error(input->name + " is in no profile");
    dims = profile->dims[static_cast<int>(which)].at(input->name);
  }
  for (const auto& layer : network.layers) {
    for (const TensorFake* output : layer->outputs) {
      std::vector<int64_t> dims;
      for (const Expr& dim : output->made_of) dims.push_back(evaluate(*dim, bound));
      all[output->name] = dims;
    }
  }
  return all;
}

struct Bounds {
  Shapes least, best, greatest;
};

DynamicPluginTensorDesc describe(const TensorFake& tensor, const Bounds& bounds) {
  std::vector<int64_t> dims;
  for (const Expr& dim : tensor.dims) {
    dims.push_back(dim->kind == Expression::Kind::kNumber ? dim->number : -1);
  }
  return {{to_dims(dims), tensor.type, TensorFormat::kLinear, 1},
          to_dims(bounds.least.at(tensor.name)),
          to_dims(bounds.greatest.at(tensor.name)),
          to_dims(bounds.best.at(tensor.name))};
}

std::string to_hex(const void* data, size_t bytes) {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string out;
  for (size_t i = 0; i < bytes; ++i) {
    const auto byte = static_cast<const unsigned char*>(data)[i];
    out += kDigits[byte >> 4];
    out += kDigits[byte & 15];
  }
  return out;
}

size_t field_bytes(const PluginField& field) {
  const size_t size =
      field.type == PluginFieldType::kChar                                               ? 1
      : field.type == PluginFieldType::kInt32 || field.type == PluginFieldType::kFloat32 ? 4
                                                                                         : 8;
  if (field.length < 1 || field.data == nullptr) throw std::runtime_error("a field is empty");
  return size * static_cast<size_t>(field.length);
}

std::string join(const std::vector<int64_t>& dims) {
  std::string out;
  for (int64_t d : dims) out += (out.empty() ? "" : ",") + std::to_string(d);
  return out;
}

// A plugin is cloned, asked for formats, configured for each profile, and serialized.
std::string write_plugin(const LayerFake& layer, const std::vector<Bounds>& profiles) {
  std::unique_ptr<PluginV3> copy(layer.plugin->clone());
  if (copy == nullptr) throw std::runtime_error("a plugin cannot be cloned");
  LayerFake view;
  view.plugin = copy.get();
  struct Let {
    LayerFake& view;
    ~Let() { view.plugin = nullptr; }
  } let{view};
  const auto inputs = static_cast<int32_t>(layer.inputs.size());
  const auto outputs = static_cast<int32_t>(layer.outputs.size());
  size_t workspace = 0;
  for (const Bounds& bounds : profiles) {
    std::vector<DynamicPluginTensorDesc> all;
    for (const TensorFake* tensor : layer.inputs) all.push_back(describe(*tensor, bounds));
    for (const TensorFake* tensor : layer.outputs) all.push_back(describe(*tensor, bounds));
    for (int32_t i = 0; i < inputs + outputs; ++i) {
      if (all[static_cast<size_t>(i)].desc.type == DataType::kUint8) {
        throw std::runtime_error("UInt8 datatype formats are not supported");
      }
      if (!view.build().supportsFormatCombination(i, all.data(), inputs, outputs)) {
        throw std::runtime_error("Failed to find any supported plugin format for " + layer.name);
      }
      DynamicPluginTensorDesc other = all[static_cast<size_t>(i)];
      std::swap(other, all[static_cast<size_t>(i)]);
      all[static_cast<size_t>(i)].desc.format = TensorFormat::kChw32;
      if (view.build().supportsFormatCombination(i, all.data(), inputs, outputs)) {
        ++number("violations.format");
      }
      std::swap(other, all[static_cast<size_t>(i)]);
    }
    if (view.build().configurePlugin(all.data(), inputs, all.data() + inputs, outputs) != 0) {
      throw std::runtime_error("configurePlugin failed for " + layer.name);
    }
    workspace = std::max(
        workspace, view.build().getWorkspaceSize(all.data(), inputs, all.data() + inputs, outputs));
  }
  if (view.build().getTimingCacheID() == nullptr) throw std::runtime_error("no timing cache ID");
  const PluginFieldCollection* fields = view.runtime().getFieldsToSerialize();
  if (fields == nullptr) throw std::runtime_error("getFieldsToSerialize failed");
  std::string out = "node\t" + layer.name + "\t" + view.core().getPluginName() + "\tplugin\t" +
                    view.core().getPluginVersion() + "\t" + std::to_string(workspace) + "\n";
  for (int32_t i = 0; i < fields->nbFields; ++i) {
    const PluginField& field = fields->fields[i];
    out += std::string("field\t") + field.name + "\t" +
           std::to_string(static_cast<int>(field.type)) + "\t" + std::to_string(field.length) +
           "\t" + to_hex(field.data, field_bytes(field)) + "\n";
  }
  return out;
}

// Whether an extent follows from one that the data decides.
bool is_counted(const NetworkFake& network, const TensorFake& tensor) {
  const std::function<bool(const Expression&)> counted = [&](const Expression& dim) {
    switch (dim.kind) {
      case Expression::Kind::kNumber:
        return false;
      case Expression::Kind::kSize:
        return true;
      case Expression::Kind::kExtent:
        return dim.tensor != tensor.name && is_counted(network, *network.find(dim.tensor));
      case Expression::Kind::kOperation:
        return counted(*dim.first) || counted(*dim.second);
    }
    return false;
  };
  return std::ranges::any_of(tensor.made_of, [&](const Expr& dim) { return counted(*dim); });
}

std::string write_plan(const NetworkFake& network, const BuilderConfigFake& config) {
  std::vector<Bounds> profiles;
  std::vector<const ProfileFake*> given = config.profiles;
  if (given.empty()) given.push_back(nullptr);
  for (const ProfileFake* profile : given) {
    profiles.push_back({shapes_of(network, profile, OptProfileSelector::kMin),
                        shapes_of(network, profile, OptProfileSelector::kOpt),
                        shapes_of(network, profile, OptProfileSelector::kMax)});
  }
  std::string out = std::string("FAKE-TENSORRT 1\nversion\t") + kVersion + "\nactivation\t256\n";
  const auto write_tensor = [&](const TensorFake& tensor, const char* key, const char* where) {
    std::vector<int64_t> dims;
    for (const Expr& dim : tensor.dims) {
      dims.push_back(dim->kind == Expression::Kind::kNumber ? dim->number : -1);
    }
    out += std::string(key) + "\t" + tensor.name + "\t" +
           std::to_string(static_cast<int>(tensor.type)) + "\t" + where + "\t" + join(dims) + "\n";
  };
  for (const TensorFake* tensor : network.inputs) write_tensor(*tensor, "input", "device");
  for (const TensorFake* tensor : network.outputs) {
    write_tensor(*tensor, "output", is_counted(network, *tensor) ? "data" : "device");
  }
  for (const Bounds& bounds : profiles) {
    out += "profile\n";
    for (const TensorFake* tensor : network.inputs) {
      out += "shape\t" + tensor->name + "\t" + join(bounds.least.at(tensor->name)) + "\t" +
             join(bounds.best.at(tensor->name)) + "\t" + join(bounds.greatest.at(tensor->name)) +
             "\n";
    }
  }
  for (const auto& layer : network.layers) {
    out += "layer\t" + layer->op_type + "\n";
    out += layer->plugin != nullptr
               ? write_plugin(*layer, profiles)
               : "node\t" + layer->name + "\t" + layer->op_type + "\toperator\t\t0\n";
    for (const TensorFake* tensor : layer->inputs) out += "reads\t" + tensor->name + "\n";
    for (const TensorFake* tensor : layer->outputs) {
      out += "makes\t" + tensor->name + "\t" + std::to_string(static_cast<int>(tensor->type)) +
             "\t" + to_text(tensor->made_of) + "\n";
    }
  }
  return out + "model\t0\n";
}

FAKE(Builder, buildSerializedNetwork,
     [](void* self, NetworkDefinition* network, BuilderConfig* config) -> HostMemory* {
       try {
         auto& given = behind<NetworkFake>(network);
         for (const auto& layer : given.layers) {
           if (layer->plugin != nullptr && !given.infer(*layer)) return nullptr;
         }
         return (new HostMemoryFake(write_plan(given, behind<BuilderConfigFake>(config))))
             ->address<HostMemory>();
       } catch (const std::exception& error) {
         builder_of(self).report.error(ErrorCode::kInternalError, error.what());
         return nullptr;
       }
     });

}  // namespace

RegistryFake::~RegistryFake() {
  if (!creators.empty()) ++number("violations.creators_left");
}

PluginCreatorV3One* RegistryFake::find(const std::string& name, const std::string& version,
                                       const std::string& space) const {
  const auto found = creators.find({name, version, space});
  return found == creators.end() ? nullptr : found->second;
}

PluginV3OneBuild& LayerFake::build() const {
  return capability<PluginV3OneBuild>(plugin, PluginCapabilityType::kBuild, "PLUGIN_V3ONE_BUILD");
}
PluginV3OneRuntime& LayerFake::runtime() const {
  return capability<PluginV3OneRuntime>(plugin, PluginCapabilityType::kRuntime,
                                        "PLUGIN_V3ONE_RUNTIME");
}
PluginV3OneCore& LayerFake::core() const {
  return capability<PluginV3OneCore>(plugin, PluginCapabilityType::kCore, "PLUGIN_V3ONE_CORE");
}

TensorFake* NetworkFake::find(const std::string& wanted) const {
  for (const auto& tensor : tensors) {
    if (tensor->name == wanted) return tensor.get();
  }
  return nullptr;
}

TensorFake* NetworkFake::add(const std::string& wanted) {
  if (find(wanted) != nullptr) throw std::runtime_error("two tensors are called " + wanted);
  tensors.push_back(std::make_unique<TensorFake>());
  tensors.back()->name = wanted;
  return tensors.back().get();
}

bool NetworkFake::infer(LayerFake& layer) {
  std::vector<DimsExprs> in, out(layer.outputs.size());
  for (const TensorFake* tensor : layer.inputs) in.push_back(to_exprs(expressions, tensor->dims));
  auto& builder_expressions = *expressions.address<ExprBuilder>();
  if (layer.build().getOutputShapes(in.data(), static_cast<int32_t>(in.size()), nullptr, 0,
                                    out.data(), static_cast<int32_t>(out.size()),
                                    builder_expressions) != 0) {
    builder.report.error(ErrorCode::kInvalidConfig,
                         layer.name + ": output shape computation failed");
    return false;
  }
  for (size_t i = 0; i < out.size(); ++i) {
    TensorFake& tensor = *layer.outputs[i];
    tensor.made_of = from_exprs(out[i]);
    tensor.dims.clear();
    for (size_t axis = 0; axis < tensor.made_of.size(); ++axis) {
      const bool constant = tensor.made_of[axis]->kind == Expression::Kind::kNumber;
      tensor.dims.push_back(constant ? tensor.made_of[axis]
                                     : make_extent(tensor.name, static_cast<int64_t>(axis)));
    }
  }
  layer.has_shapes = true;
  return true;
}

}  // namespace fake

extern "C" __attribute__((visibility("default"))) void* createInferBuilder_INTERNAL(
    void* logger, int32_t version) {
  if (version != FAKE_FAMILY * 10000 + FAKE_MINOR * 100 + FAKE_PATCH || logger == nullptr) {
    return nullptr;
  }
  return (new fake::BuilderFake(logger))->address<void>();
}
