// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "core/shape.h"
#include "cuda/graph.h"
#include "cuda/stream.h"
#include "trt/engine.h"
#include "trt/output_memory.h"

namespace zerolane::trt {

class LayerProfile;

// One execution context of the library, set to one set of input shapes, and the graph captured from
// it. The vendor advises one execution context for each captured graph (shape-dependent state lives
// in it), so a Context keeps several of these. One thread at a time.
class Execution {
 public:
  // Throws kOutOfMemory, kBackend.
  Execution(Engine& engine, LayerProfile* profile);
  Execution(const Execution&) = delete;
  Execution& operator=(const Execution&) = delete;
  ~Execution();

  // Whether it is set to these inputs: shapes, and the values of shape tensors.
  bool is_set_to(const std::vector<Profiles::Given>& given) const noexcept;
  // Chooses a profile and sets the shapes. `host_inputs[i]` is the memory of shape tensor i,
  // filled, null for others; it stays where it is until the next call. Throws kShapeMismatch (no
  // profile takes them), kBackend; then it is set to nothing.
  void set(const std::vector<Profiles::Given>& given, const std::vector<const void*>& host_inputs,
           cuda::CudaStream& stream);

  struct OutputFacts {
    bool known = false;  // false: the data decides
    Shape shape;
  };
  const std::vector<OutputFacts>& outputs() const noexcept { return outputs_; }
  bool data_dependent() const noexcept { return data_dependent_; }
  size_t profile() const noexcept { return profile_; }
  size_t activation_bytes() const { return engine_.activation_bytes(profile_); }

  // Addresses, handed to the library only when they change.
  void set_input(size_t index, const void* address);
  void set_output(size_t index, void* address);
  void set_output(size_t index, OutputMemory* memory);
  void set_activations(void* data, size_t bytes);

  // Puts the engine's work on the stream. Throws kBackend (kOutOfMemory) when the library refuses.
  void enqueue(cuda::CudaStream& stream);

  // The graph of this execution: run() launches it while `key` (every address and number the work
  // depends on) stays as it was captured, else enqueues plainly. From the second run in a row with
  // the same key on, the work is captured behind the run, for the next one. `work` enqueues
  // everything, this execution's enqueue() among it, and returns how many copies of its own it
  // added. A capture that fails, in which the library refused to enqueue, or to which it added
  // nothing, leaves no graph, a warning, and plain runs from then on.
  void run(cuda::CudaStream& stream, const std::vector<const void*>& key, bool may_capture,
           const std::function<size_t()>& work);
  // Whether it has run since its shapes were set.
  bool ran() const noexcept { return warm_; }
  bool has_graph() const noexcept { return static_cast<bool>(graph_); }
  uint64_t replays() const noexcept { return replays_; }

  // Hands the layers' times of the last run to the profile given to the constructor.
  void report_layers();

  uint64_t last_used = 0;  // for its owner's eviction

 private:
  void check(bool ok, const char* doing, const std::string& what);
  [[noreturn]] void fail(const std::string& doing, const std::string& found);
  void set_address(const IoTensor& tensor, std::vector<const void*>& known, size_t index,
                   const void* address);

  Engine& engine_;
  ErrorCollector errors_;  // outlives context_
  Owned<ExecutionContext> context_;
  bool set_ = false;
  bool warm_ = false;  // one plain run since the shapes were set
  size_t profile_ = 0;
  bool profile_set_ = false;
  bool data_dependent_ = false;
  std::vector<Profiles::Given> given_;
  std::vector<OutputFacts> outputs_;
  std::vector<const void*> input_addresses_;
  std::vector<const void*> output_addresses_;
  std::vector<OutputMemory*> output_memories_;
  void* activations_ = nullptr;
  bool activations_set_ = false;
  cuda::Graph graph_;
  std::vector<const void*> key_;  // of graph_, or of the last run
  uint64_t key_generation_ = 0;
  bool capture_failed_ = false;
  uint64_t replays_ = 0;
};

}  // namespace zerolane::trt
