// SPDX-License-Identifier: Apache-2.0
// The engine, its inspector and its refitter.
#include <algorithm>
#include <stdexcept>

#include "graph.h"
#include "objects.h"

namespace fake {

EngineFake::EngineFake(Plan given, void* logger, const RegistryFake& registry)
    : Base("CudaEngine"), plan(std::move(given)) {
  report.logger = logger;
  streaming_budget = plan.streamable_bytes;
  lacks_weights = plan.stripped;
  if (plan.nodes.empty()) {
    model = std::make_shared<Model>(plan.model, std::map<std::string, NewWeights>{});
  }
  try {
    for (const NodeFact& node : plan.nodes) plugins.push_back(make_plugin(node, registry));
  } catch (...) {
    for (PluginV3* plugin : plugins) delete plugin;
    throw;
  }
}

EngineFake::~EngineFake() {
  for (PluginV3* plugin : plugins) delete plugin;
  if (contexts != 0) ++number("violations.engine_before_context");
}

ExecutionContext* make_execution(EngineFake& engine, ExecutionContextAllocationStrategy strategy,
                                 CacheFake* cache);

namespace {

EngineFake& engine_of(void* self) { return self_of<EngineFake>(self); }

const IoFact& fact(void* self, const char* name) {
  const IoFact* found = engine_of(self).plan.find(name);
  if (found == nullptr) throw std::runtime_error("no such tensor");
  return *found;
}

const std::vector<int64_t>& pick(const Range& range, OptProfileSelector which) {
  return which == OptProfileSelector::kMin   ? range.min
         : which == OptProfileSelector::kOpt ? range.opt
                                             : range.max;
}

const Range* range_of(const std::vector<Range>& ranges, const char* name) {
  for (const Range& range : ranges) {
    if (range.name == name) return &range;
  }
  return nullptr;
}

const std::vector<int64_t>* values_of(void* self, const char* name, int32_t profile,
                                      OptProfileSelector which) {
  const Range* range =
      range_of(engine_of(self).plan.profiles.at(static_cast<size_t>(profile)).values, name);
  return range != nullptr ? &pick(*range, which) : nullptr;
}

FAKE(CudaEngine, getNbIOTensors,
     [](void* self) { return static_cast<int32_t>(engine_of(self).plan.tensors.size()); });
FAKE(CudaEngine, getIOTensorName, [](void* self, int32_t index) -> const char* {
  return engine_of(self).plan.tensors.at(static_cast<size_t>(index)).name.c_str();
});
FAKE(CudaEngine, getTensorIOMode, [](void* self, const char* name) {
  return fact(self, name).input ? TensorIOMode::kInput : TensorIOMode::kOutput;
});
FAKE(CudaEngine, getTensorDataType,
     [](void* self, const char* name) { return static_cast<DataType>(fact(self, name).type); });
FAKE(CudaEngine, getTensorLocation, [](void* self, const char* name) {
  return fact(self, name).on_host ? TensorLocation::kHost : TensorLocation::kDevice;
});
FAKE(CudaEngine, isShapeInferenceIO,
     [](void* self, const char* name) { return fact(self, name).on_host; });
FAKE(CudaEngine, getTensorShape,
     [](void* self, const char* name) { return to_dims(fact(self, name).dims); });
FAKE(CudaEngine, getTensorFormat, [](void*, const char*) { return TensorFormat::kLinear; });
FAKE(CudaEngine, getNbOptimizationProfiles,
     [](void* self) { return static_cast<int32_t>(engine_of(self).plan.profiles.size()); });
FAKE(CudaEngine, getProfileShape,
     [](void* self, const char* name, int32_t profile, OptProfileSelector which) {
       const Range* range =
           range_of(engine_of(self).plan.profiles.at(static_cast<size_t>(profile)).shapes, name);
       Dims none;
       none.nbDims = -1;
       return range != nullptr ? to_dims(pick(*range, which)) : none;
     });
FAKE(CudaEngine, getProfileTensorValuesV2,
     [](void* self, const char* name, int32_t profile, OptProfileSelector which) -> const int64_t* {
       const std::vector<int64_t>* values = values_of(self, name, profile, which);
       return values != nullptr ? values->data() : nullptr;
     });
FAKE(CudaEngine, getProfileTensorValues,
     [](void* self, const char* name, int32_t profile, OptProfileSelector which) -> const int32_t* {
       const std::vector<int64_t>* values = values_of(self, name, profile, which);
       static thread_local std::vector<int32_t> narrow;
       if (values == nullptr) return nullptr;
       narrow.assign(values->begin(), values->end());
       return narrow.data();
     });
FAKE(CudaEngine, getDeviceMemorySizeForProfileV2,
     [](void* self, int32_t) { return engine_of(self).plan.activation_bytes; });
FAKE(CudaEngine, getDeviceMemorySizeForProfile, [](void* self, int32_t) {
  return static_cast<size_t>(engine_of(self).plan.activation_bytes);
});
FAKE(CudaEngine, getNbLayers,
     [](void* self) { return static_cast<int32_t>(engine_of(self).plan.layers.size()); });
FAKE(CudaEngine, getNbAuxStreams, [](void*) { return int32_t{0}; });
FAKE(CudaEngine, isRefittable, [](void* self) { return engine_of(self).plan.refit; });
FAKE(CudaEngine, getName, [](void*) -> const char* { return "fake"; });
FAKE(CudaEngine, setErrorRecorder,
     [](void* self, ErrorRecorder* recorder) { engine_of(self).report.set(recorder); });
FAKE(CudaEngine, getEngineStat, [](void* self, EngineStat stat) {
  return stat == EngineStat::kTotalWeightsSize ? engine_of(self).plan.weight_bytes : 0;
});
FAKE(CudaEngine, getStreamableWeightsSize,
     [](void* self) { return engine_of(self).plan.streamable_bytes; });
FAKE(CudaEngine, setWeightStreamingBudgetV2, [](void* self, int64_t budget) {
  EngineFake& engine = engine_of(self);
  if (budget < 0 || budget > engine.plan.streamable_bytes) {
    engine.report.error(ErrorCode::kInvalidArgument, "the budget is out of range");
    return false;
  }
  if (engine.contexts != 0) {
    engine.report.error(ErrorCode::kInvalidState, "there are execution contexts");
    return false;
  }
  engine.streaming_budget = budget;
  return true;
});
FAKE(CudaEngine, getWeightStreamingBudgetV2,
     [](void* self) { return engine_of(self).streaming_budget; });
FAKE(CudaEngine, getWeightStreamingScratchMemorySize, [](void* self) {
  return engine_of(self).plan.streamable_bytes > 0 ? int64_t{64} : int64_t{0};
});
FAKE(CudaEngine, createRuntimeConfig,
     [](void*) { return (new ConfigFake)->address<RuntimeConfig>(); });
FAKE(CudaEngine, createExecutionContext,
     [](void* self, ExecutionContextAllocationStrategy strategy) {
       return make_execution(engine_of(self), strategy, nullptr);
     });
FAKE(CudaEngine, createExecutionContextWithRuntimeConfig, [](void* self, RuntimeConfig* config) {
  auto& settings = behind<ConfigFake>(config);
  return make_execution(engine_of(self), settings.strategy, settings.cache);
});

struct InspectorFake : Base {
  explicit InspectorFake(EngineFake& of) : Base("EngineInspector"), engine(of) {}
  EngineFake& engine;
  std::string text;
};

FAKE(CudaEngine, createEngineInspector,
     [](void* self) { return (new InspectorFake(engine_of(self)))->address<EngineInspector>(); });
FAKE(EngineInspector, getEngineInformation,
     [](void* self, LayerInformationFormat format) -> const char* {
       auto& inspector = self_of<InspectorFake>(self);
       bool json = format == LayerInformationFormat::kJson;
       inspector.text = json ? "{\"Layers\": [" : "Layers:\n";
       bool first = true;
       for (const std::string& layer : inspector.engine.plan.layers) {
         inspector.text += json ? (first ? "\"" : ", \"") + layer + "\"" : layer + "\n";
         first = false;
       }
       if (json) inspector.text += "]}";
       return inspector.text.c_str();
     });

int32_t list_names(const std::vector<const char*>& names, int32_t size, const char** out) {
  for (size_t i = 0; i < names.size() && i < static_cast<size_t>(size); ++i) out[i] = names[i];
  return static_cast<int32_t>(names.size());
}

RefitterFake& refitter_of(void* self) { return self_of<RefitterFake>(self); }

FAKE(Refitter, setErrorRecorder,
     [](void* self, ErrorRecorder* recorder) { refitter_of(self).report.set(recorder); });
FAKE(Refitter, getAllWeights, [](void* self, int32_t size, const char** out) {
  std::vector<const char*> names;
  for (const auto& weight : refitter_of(self).engine.plan.weights) {
    names.push_back(weight.name.c_str());
  }
  return list_names(names, size, out);
});
// Some layers need all of their weights: here, all or none of the engine's.
FAKE(Refitter, getMissingWeights, [](void* self, int32_t size, const char** out) {
  RefitterFake& refitter = refitter_of(self);
  std::vector<const char*> names;
  for (const auto& weight : refitter.engine.plan.weights) {
    bool have = !refitter.replacement.empty() || refitter.given.contains(weight.name);
    if (!have) names.push_back(weight.name.c_str());
  }
  return list_names(names, size, out);
});
FAKE(Refitter, getWeightsPrototype, [](void* self, const char* name) {
  const Plan::Weight* weight = refitter_of(self).find(name);
  Weights out;
  if (weight != nullptr) out = {static_cast<DataType>(weight->type), nullptr, weight->count};
  return out;
});
FAKE(Refitter, setNamedWeights, [](void* self, const char* name, Weights weights) {
  RefitterFake& refitter = refitter_of(self);
  const Plan::Weight* wanted = refitter.find(name);
  int32_t type = static_cast<int32_t>(weights.type);
  if (wanted == nullptr || wanted->type != type || wanted->count != weights.count) {
    refitter.report.error(ErrorCode::kInvalidArgument, "these weights do not fit");
    return false;
  }
  NewWeights& kept = refitter.given[name];
  kept.type = type;
  kept.bytes.assign(static_cast<const char*>(weights.values),
                    static_cast<size_t>(bytes_of(type, {weights.count})));
  return true;
});
FAKE(Refitter, refitCudaEngine, [](void* self) {
  RefitterFake& refitter = refitter_of(self);
  EngineFake& engine = refitter.engine;
  if (engine.running != 0) ++number("violations.refit_while_running");
  if (planned("fail.refit")) {
    refitter.report.error(ErrorCode::kInternalError, "refit failed (planned)");
    return false;
  }
  try {
    std::map<std::string, NewWeights> weights = refitter.given;
    for (auto& [name, weight] : weights) {
      const Plan::Weight* known = refitter.find(name.c_str());
      weight.dims = known->dims;
    }
    const std::string& whole =
        refitter.replacement.empty() ? engine.plan.model : refitter.replacement;
    engine.model = std::make_shared<Model>(whole, weights);
    engine.lacks_weights = false;
    return true;
  } catch (const std::exception& error) {
    refitter.report.error(ErrorCode::kInternalError, error.what());
    return false;
  }
});

}  // namespace

void* make_refitter(void* engine, void* logger) {
  return (new RefitterFake(behind<EngineFake>(engine), logger))->address<void>();
}

}  // namespace fake

extern "C" __attribute__((visibility("default"))) void* createInferRefitter_INTERNAL(void* engine,
                                                                                     void* logger,
                                                                                     int32_t) {
  return fake::make_refitter(engine, logger);
}
