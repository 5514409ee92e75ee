// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cstddef>
#include <functional>
#include <memory>
#include <mutex>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "core/dtype.h"
#include "cuda/device.h"
#include "trt/activation.h"
#include "trt/library.h"
#include "trt/objects.h"
#include "trt/plugin_failures.h"
#include "trt/profiles.h"
#include "trt/runtime_cache.h"

namespace zerolane {
struct OpEntry;
}

namespace zerolane::trt {

class PluginCreators;

// What one input or output of an engine is.
struct IoTensor {
  std::string name;
  bool input = false;
  DType dtype = DType::kNone;
  bool on_host = false;        // its address is host memory: a shape tensor
  std::vector<int64_t> shape;  // -1: dynamic
};

// What decides how a plan is loaded. Sessions that agree in all of it share the engine.
struct EngineSettings {
  int device = 0;
  bool allow_host_code =
      false;  // plans may hold code that runs on the host (version-compatible ones)
  uint64_t memory_limit =
      0;                   // bytes of device memory for weights and one run's activations; 0: none
  std::string cache_file;  // for kernels that the runtime compiles; "": not kept
  bool stripped = false;   // the plan lacks weights: nothing runs before a refit
  bool operator==(const EngineSettings&) const = default;
};

// What the plan itself cannot tell; follows from its bytes and whoever built it.
struct PlanFacts {
  std::vector<const OpEntry*> ops;  // that it has as plugins
  // Inputs and outputs of uint8 that it has as int8, because plugins read or write them.
  std::set<std::string, std::less<>> uint8;
};

// A deserialised plan: immutable but for refit(). Any thread.
class Engine {
 public:
  // The engine of a plan; `identity` names the plan's bytes (a digest). Loaded once: while one with
  // the same library, identity and settings lives, that one is returned. The bytes are not needed
  // afterwards. Throws kInvalidModel (no plan, or one of another release or GPU), kUnsupported
  // (host code that is not allowed, ops without a CUDA body), kOutOfMemory, and what ops in it fail
  // with.
  static std::shared_ptr<Engine> load(Library& library, std::span<const std::byte> plan,
                                      const std::string& name, const std::string& identity,
                                      const EngineSettings& settings, const PlanFacts& facts);

  Engine(Library& library, std::span<const std::byte> plan, std::string name,
         const EngineSettings& settings, const PlanFacts& facts);  // use load()
  ~Engine();
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  Library& library() const noexcept { return library_; }
  const Calls& calls() const noexcept { return library_.calls; }
  CudaEngine* handle() const noexcept { return engine_.get(); }
  const std::string& name() const noexcept { return name_; }
  cuda::CudaDevice& device() const noexcept { return device_; }
  const std::vector<IoTensor>& inputs() const noexcept { return inputs_; }
  const std::vector<IoTensor>& outputs() const noexcept { return outputs_; }
  const Profiles& profiles() const noexcept { return profiles_; }
  ActivationPool& activations() const noexcept { return *activations_; }
  // Scratch memory that a run with a profile needs, in bytes.
  size_t activation_bytes(size_t profile) const { return activation_bytes_[profile]; }

  // What its plugins failed with.
  PluginFailures& plugin_failures() const noexcept { return *plugin_failures_; }

  // A new execution context whose scratch memory the caller sets; it reports to `errors`, which
  // outlives it. Throws kOutOfMemory, kBackend.
  Owned<ExecutionContext> make_execution(ErrorCollector& errors) const;

  // Weights by name, in memory of the host; count is in elements. Waits for the runs in flight,
  // holds new ones back, then all contexts use the new weights. Throws kUnsupported (not built for
  // it), kInvalidArgument (a name, type or size that does not fit, or weights that are missing).
  struct NamedWeights {
    std::string name;
    DType dtype;
    const void* data;
    int64_t count;
  };
  void refit(const std::vector<NamedWeights>& weights);
  // The same with the weights of an ONNX model, named for users, that has the graph the engine was
  // built from: the file at `path`, or, where `bytes` is not empty, those. Throws kInvalidModel for
  // one that the library's parser does not take. The parser may crash on a damaged model.
  void refit_from(const std::string& model, const std::string& path,
                  std::span<const std::byte> bytes);
  // Names of the weights that may be given; none for an engine that was not built for it.
  std::vector<std::string> refittable_weights() const;
  // Counts refits: graphs captured before one are stale.
  uint64_t generation() const noexcept { return generation_.load(std::memory_order_acquire); }

  // What the library tells about the layers, as JSON or one line each. As detailed as the build
  // made it.
  std::string layers(bool json) const;

  struct Facts {
    std::string library;  // "TensorRT-RTX 1.7.1"
    int layer_count = 0;
    int aux_streams = 0;
    bool refittable = false;
    int64_t weight_bytes = -1;  // -1: not told by this release
    int64_t streamable_bytes = -1;
    int64_t streaming_budget = -1;         // weights kept on the device; -1: all, or not told
    std::vector<size_t> activation_bytes;  // one a profile
  };
  Facts facts() const;

  // Marks a run from before its first call until its work is done, so that refit() can wait for it.
  class Running {
   public:
    explicit Running(Engine& engine) : engine_(engine) { engine.begin_run(); }
    ~Running() { engine_.end_run(); }
    Running(const Running&) = delete;
    Running& operator=(const Running&) = delete;

   private:
    Engine& engine_;
  };
  // Called after the first run with new shapes: kernels may have been compiled for them.
  void note_compiled() noexcept;

 private:
  void register_ops(const std::vector<const OpEntry*>& ops);
  void read_tensors(const PlanFacts& facts);
  void read_profiles();
  void apply_memory_limit(uint64_t limit, size_t plan_bytes);
  // `give` hands weights to the refitter, and returns what must outlive their use.
  void refit_with(const std::string& doing,
                  const std::function<Owned<ParserRefitter>(Refitter*, ErrorCollector&)>& give);
  void begin_run();
  void end_run() noexcept;

  Library& library_;
  std::string name_;
  mutable ErrorCollector errors_;  // outlives the objects below
  cuda::CudaDevice& device_;
  std::shared_ptr<ActivationPool> activations_;
  std::shared_ptr<PluginFailures> plugin_failures_;
  Owned<Runtime> runtime_;
  std::unique_ptr<PluginCreators> creators_;  // in the registry of the runtime
  Owned<CudaEngine> engine_;                  // destroyed before its runtime
  std::unique_ptr<RuntimeCacheFile> cache_;
  std::vector<IoTensor> inputs_;
  std::vector<IoTensor> outputs_;
  Profiles profiles_;
  std::vector<size_t> activation_bytes_;
  std::atomic<uint64_t> generation_{0};
  std::atomic<int64_t> running_{0};
  std::atomic<bool> refitting_{false};
  std::atomic<bool> lacks_weights_;
  mutable std::mutex make_mutex_;  // the library does not promise that contexts may be made at once
  std::mutex refit_mutex_;  // one refit at a time; begin_run() waits on it while there is one
  unsigned fork_generation_;
};

// Element types between TensorRT and us; kNone for one we have no name for.
DType from_trt(DataType type) noexcept;
// Throws kUnsupported for a type that TensorRT does not have.
DataType to_trt(DType dtype, const std::string& doing);

Dims to_dims(const Shape& shape);

}  // namespace zerolane::trt
