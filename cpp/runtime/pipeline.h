// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/session.h"
#include "registry/attributes.h"
#include "runtime/op_session.h"

namespace zerolane {

enum class StageKind : uint8_t { kSession, kOp, kPython, kPipeline };
const char* stage_kind_name(StageKind kind);  // "session", "op", "python", "pipeline"

// Where a tensor of a pipeline comes from: an input of the pipeline, or an output of a stage.
struct TensorSource {
  static constexpr int kPipelineInput = -1;
  int stage = kPipelineInput;
  size_t index = 0;
  bool operator==(const TensorSource&) const = default;
};

// One stage as the wiring gives it. An op has a state and no session; all else a session.
//
// Sessions of kind kPython are held to less: the element type kNone in their specs stands for any,
// their inputs are given as values that share memory (set_input with a Tensor) where the pipeline
// owns it, and their outputs are always asked for (request_output).
struct StagePlan {
  std::string name;
  StageKind kind = StageKind::kSession;
  std::shared_ptr<Session> session;
  std::shared_ptr<const OpState> op;
  OpPlace place;  // of an op
  // One an input, in the stage's order; none: it is left out.
  std::vector<std::optional<TensorSource>> inputs;
};

struct PipelinePlan {
  struct Input {
    std::string name;
    DType dtype = DType::kNone;  // kNone: as the stages want it
    bool has_shape = false;      // false: as the stages want it
    std::vector<Dim> shape;
  };
  struct Output {
    std::string name;
    TensorSource source;
  };

  std::string name;
  std::vector<StagePlan> stages;  // each behind those that it takes from
  std::vector<Input> inputs;
  std::vector<Output> outputs;
  OpPlace gpu;  // where a stage works on a GPU: that GPU, and memory of it
};

// What one stage of a pipeline has done, in all contexts together.
struct StageStats {
  std::string name;
  StageKind kind = StageKind::kSession;
  uint64_t count = 0;
  int64_t total_ns = 0;
  const LatencyHistogram* latency = nullptr;  // lives as long as the pipeline
};

// Stages that run one after the other on the calling thread, as one session. Immutable; any thread.
//
// Each context has a context of every stage. Between stages, tensors lie in memory of the context,
// which the one stage writes and the next reads, and which serves the next run again: on a GPU
// where all who touch it are there. Nothing is allocated once the context has run with some shapes,
// except for what the stages themselves must allocate: results whose size their data decide,
// strings, sequences, results of Python stages.
//
// The errors of a stage keep their code, and name stage and pipeline. cancel() ends the stage that
// runs, and no later one begins.
class Pipeline : public Session {
 public:
  virtual std::vector<StageStats> stats() const = 0;
};

// Throws kInvalidArgument and kShapeMismatch where element types, ranks or fixed dimensions of two
// stages do not fit (with both their names), or an element type is nowhere to be had; kUnsupported
// for sparse and opaque values; what make_op_session throws.
std::shared_ptr<Pipeline> make_pipeline(PipelinePlan plan);

}  // namespace zerolane
