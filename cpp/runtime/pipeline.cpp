// SPDX-License-Identifier: Apache-2.0
#include "runtime/pipeline.h"

#include <utility>

#include "runtime/pipeline_context.h"
#include "runtime/pipeline_specs.h"

namespace zerolane {

const char* stage_kind_name(StageKind kind) {
  switch (kind) {
    case StageKind::kOp:
      return "op";
    case StageKind::kPython:
      return "python";
    case StageKind::kPipeline:
      return "pipeline";
    case StageKind::kSession:
      break;
  }
  return "session";
}

PipelineImpl::PipelineImpl(PipelinePlan plan) : plan_(std::move(plan)) {
  PipelineSpecs specs = follow_specs(&plan_);
  inputs_ = std::move(specs.inputs);
  outputs_ = std::move(specs.outputs);
  for (size_t i = 0; i < outputs_.size(); ++i) {
    if (specs.data_decides[i]) distrust(i);
  }
  info_.producer = "zerolane";
  info_.graph_name = plan_.name;
  for (const StagePlan& stage : plan_.stages) {
    calls_python_ |= stage.session->calls_python();
    Counter& counter = counters_.emplace_back();
    counter.label = plan_.name + "/" + stage.name;
    if (stage.kind == StageKind::kPython) counter.label += " (python)";
  }
}

std::unique_ptr<Context> PipelineImpl::make_context() {
  return std::make_unique<PipelineContext>(
      std::static_pointer_cast<PipelineImpl>(shared_from_this()));
}

std::vector<StageStats> PipelineImpl::stats() const {
  std::vector<StageStats> all;
  for (size_t i = 0; i < plan_.stages.size(); ++i) {
    const Counter& counter = counters_[i];
    all.push_back({plan_.stages[i].name, plan_.stages[i].kind, counter.latency.count(),
                   counter.total_ns.load(std::memory_order_relaxed), &counter.latency});
  }
  return all;
}

std::shared_ptr<Pipeline> make_pipeline(PipelinePlan plan) {
  return std::make_shared<PipelineImpl>(std::move(plan));
}

}  // namespace zerolane
