// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "runtime/pipeline.h"

namespace zerolane {

class PipelineImpl final : public Pipeline {
 public:
  struct Counter {
    std::string label;  // of the stage's spans: "pipeline/stage"
    LatencyHistogram latency;
    std::atomic<int64_t> total_ns{0};
  };

  explicit PipelineImpl(PipelinePlan plan);

  const std::string& name() const override { return plan_.name; }
  const std::vector<TensorSpec>& inputs() const override { return inputs_; }
  size_t required_inputs() const override { return inputs_.size(); }
  const std::vector<TensorSpec>& outputs() const override { return outputs_; }
  const ModelInfo& info() const override { return info_; }
  std::unique_ptr<Context> make_context() override;
  bool calls_python() const override { return calls_python_; }
  std::string end_profiling() override { return {}; }
  std::vector<StageStats> stats() const override;

  const PipelinePlan& plan() const { return plan_; }
  Counter& counter(size_t stage) { return counters_[stage]; }

 private:
  PipelinePlan plan_;
  std::vector<TensorSpec> inputs_;
  std::vector<TensorSpec> outputs_;
  ModelInfo info_;
  bool calls_python_ = false;
  std::deque<Counter> counters_;  // one a stage
};

class PipelineContext final : public Context {
 public:
  explicit PipelineContext(std::shared_ptr<PipelineImpl> pipeline);

  void bind_input(size_t index, const View& view) override;
  void bind_output(size_t index, const View& view) override;
  void set_input(size_t index, const View& view) override;
  void set_input(size_t index, const Value& value) override;
  void clear_input(size_t index) override;
  void set_output(size_t index, const View& view) override;
  void request_output(size_t index) override;
  void request_output_on(size_t index, DeviceId device) override;
  void drop_output(size_t index) override;
  void run() override;
  Value take_output(size_t index) override;
  void cancel() noexcept override;
  void rearm() override;
  Stream* stream() noexcept override { return stream_; }

 private:
  // A tensor of the pipeline and what it is in this run.
  struct Slot {
    enum class Holds : uint8_t { kNothing, kMemory, kValue };
    Holds holds = Holds::kNothing;
    View view;                       // kMemory
    std::shared_ptr<Storage> owner;  // of that memory; null: it is lent for this run
    bool once = false;               // serves one run alone: its address means nothing to the next
    Value value;                     // kValue: strings, sequences, maps
    // Memory of the context, for results whose shape is known before the run.
    std::shared_ptr<Storage> own;
    size_t own_bytes = 0;
  };

  enum class Want : uint8_t { kNothing, kBound, kSet, kRequested };
  struct Output {  // of the pipeline
    Want want = Want::kNothing;
    View view;        // kBound, kSet
    DeviceId device;  // kRequested: where
    Value result;     // kRequested: until it is taken
  };

  // What the context of a stage was told of an output; kSet and kBound: the caller's memory.
  enum class Gives : uint8_t { kUnknown, kNothing, kOwn, kSet, kBound, kRequested };
  struct StageInput {
    Slot* slot = nullptr;  // null: left out for good
    bool required = true;
    bool seen = false;   // the context has it, of this type and shape,
    bool bound = false;  // and for all runs to come, at this address
    const void* data = nullptr;
    DType dtype = DType::kNone;
    Shape shape;
    std::unique_ptr<Buffer> down;  // host memory for what lies on a device, for a stage of the host
  };
  struct StageOutput {
    Slot* slot = nullptr;
    bool read = false;  // by another stage
    int result = -1;    // which output of the pipeline it is
    DeviceId place;     // of memory of ours: where all are who touch it
    Gives gives = Gives::kUnknown;
    bool predicted = false;  // memory was given as predicted
    const void* data = nullptr;
    Shape shape;
  };
  struct Stage {
    const StagePlan* plan = nullptr;
    Session* session = nullptr;
    std::unique_ptr<Context> context;
    Stream* stream = nullptr;
    bool needed = true;
    bool outer = false;  // reads an input of the pipeline, or may write an output
    std::vector<StageInput> inputs;
    std::vector<StageOutput> outputs;
    std::vector<PredictedShape> predicted;
  };

  void wire();
  bool stage_on_other_device(const Stream* stream) const;
  void choose_places();
  void find_needed();
  void run_stage(size_t index);
  void give_inputs(Stage& stage);
  bool give_memory(Stage& stage, size_t index);
  void give_value(Stage& stage, size_t index);
  const View& on_host(StageInput& input, const View& view);
  void predict(Stage& stage);
  void give_outputs(Stage& stage);
  void give_output(Stage& stage, size_t index);
  bool give_callers(Stage& stage, size_t index);
  void* own_memory(Slot& slot, size_t bytes, DeviceId place);
  void request(Stage& stage, size_t index);
  void run_context(Stage& stage);
  void take_results(Stage& stage);
  void keep(Stage& stage, size_t index, Value value);
  void deliver(size_t stage, StageOutput& output);
  void copy_out(void* to, const View& from);
  void forget_results() noexcept;
  void distrust_after(size_t stage);
  void end_cancel() noexcept;
  [[noreturn]] void throw_cancelled() const;

  std::shared_ptr<PipelineImpl> pipeline_;
  std::vector<Slot> inputs_;                // of the pipeline
  std::vector<std::vector<Slot>> results_;  // of each stage
  std::vector<Output> outputs_;             // of the pipeline
  std::vector<Stage> stages_;
  Stream* stream_ = nullptr;  // of the first stage on a device
  bool wants_changed_ = true;
  View moved_;              // what on_host() returned last
  bool on_device_ = false;  // some memory that was given lies on the device
  std::atomic<Context*> running_{nullptr};
  std::atomic<bool> cancelled_{false};
  std::atomic<int> cancelling_{0};  // threads inside cancel()
  LiveCount live_{LiveKind::kContext};
};

}  // namespace zerolane
