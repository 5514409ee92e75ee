// SPDX-License-Identifier: Apache-2.0
#include "trt/engine.h"

namespace zerolane::trt {

std::string Engine::layers(bool json) const {
  const Calls& calls = library_.calls;
  Owned<EngineInspector> inspector(calls.CudaEngine_createEngineInspector(engine_.get()));
  const char* text = nullptr;
  if (inspector) {
    text = calls.EngineInspector_getEngineInformation(
        inspector.get(), json ? LayerInformationFormat::kJson : LayerInformationFormat::kOneline);
  }
  if (text == nullptr) throw failure(library_, "inspecting " + name_, errors_.take(), name_);
  return text;
}

Engine::Facts Engine::facts() const {
  const Calls& calls = library_.calls;
  Facts facts;
  facts.library = library_.title();
  facts.layer_count = calls.CudaEngine_getNbLayers(engine_.get());
  facts.aux_streams = calls.CudaEngine_getNbAuxStreams(engine_.get());
  facts.refittable = calls.CudaEngine_isRefittable(engine_.get());
  if (calls.CudaEngine_getEngineStat) {
    facts.weight_bytes =
        calls.CudaEngine_getEngineStat(engine_.get(), EngineStat::kTotalWeightsSize);
  }
  if (calls.CudaEngine_getStreamableWeightsSize) {
    facts.streamable_bytes = calls.CudaEngine_getStreamableWeightsSize(engine_.get());
  }
  if (facts.streamable_bytes > 0 && calls.CudaEngine_getWeightStreamingBudgetV2) {
    facts.streaming_budget = calls.CudaEngine_getWeightStreamingBudgetV2(engine_.get());
  }
  facts.activation_bytes = activation_bytes_;
  return facts;
}

}  // namespace zerolane::trt
