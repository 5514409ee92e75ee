// SPDX-License-Identifier: Apache-2.0
// The execution context: shapes, addresses, and work on the stream.
#include <algorithm>
#include <cstring>
#include <stdexcept>

#include "graph.h"
#include "objects.h"

namespace fake {
namespace {

// One enqueued run: everything it needs, copied when it was enqueued.
struct Job {
  EngineFake* engine = nullptr;
  std::shared_ptr<Model> model;
  std::vector<ModelInput> inputs;
  std::vector<std::string> host_values;  // behind inputs on the host
  std::vector<std::string> outputs;
  std::vector<void*> addresses;
  std::vector<int64_t> sizes;  // -1: the data decides
  std::vector<ModelOutput> results;
  unsigned char* scratch = nullptr;
  int64_t scratch_bytes = 0;
  bool keep = false;  // part of a graph
  bool failed = false;
};

// Each run writes its own mark all over its scratch memory, and looks at the end whether another
// run was there.
void mark(Job& job, unsigned char value) {
  if (job.scratch_bytes > 0)
    std::memset(job.scratch, value, static_cast<size_t>(job.scratch_bytes));
}

bool is_marked(const Job& job, unsigned char value) {
  return std::all_of(job.scratch, job.scratch + job.scratch_bytes,
                     [value](unsigned char byte) { return byte == value; });
}

void compute(void* argument) {
  auto& job = *static_cast<Job*>(argument);
  auto value = static_cast<unsigned char>(++number("runs"));
  ++job.engine->running;
  mark(job, value);
  try {
    job.results = job.model->run(job.inputs, job.outputs);
    for (size_t i = 0; i < job.results.size(); ++i) {
      const std::string& bytes = job.results[i].bytes;
      if (job.sizes[i] < 0) continue;
      if (job.sizes[i] != static_cast<int64_t>(bytes.size())) {
        throw std::runtime_error("the result has another size than was inferred");
      }
      std::memcpy(job.addresses[i], bytes.data(), bytes.size());
    }
  } catch (const std::exception& error) {
    job.engine->report.error(ErrorCode::kFailedExecution, error.what());
    job.failed = true;
  }
  if (!is_marked(job, value)) ++number("violations.scratch");
  --job.engine->running;
  if (!job.keep &&
      std::all_of(job.sizes.begin(), job.sizes.end(), [](int64_t s) { return s >= 0; }))
    delete &job;
}

struct ExecutionFake : Base {
  ExecutionFake(EngineFake& of, bool user_managed, CacheFake* kernels)
      : Base("ExecutionContext"), engine(of), user_managed(user_managed), cache(kernels) {
    report.logger = of.report.logger;
    if (!of.plan.nodes.empty()) graph = std::make_unique<GraphRun>(of);
    ++engine.contexts;
  }
  ~ExecutionFake() override { --engine.contexts; }

  EngineFake& engine;
  bool user_managed;
  CacheFake* cache;
  Reporter report;
  int32_t profile = -1;
  std::map<std::string, std::vector<int64_t>> shapes;
  std::map<std::string, void*> addresses;
  std::map<std::string, OutputAllocator*> allocators;
  std::vector<std::vector<int64_t>> inferred;  // by output
  bool inference_done = false;
  bool warm = false;
  void* scratch = nullptr;
  int64_t scratch_bytes = -1;
  void* profiler = nullptr;
  bool emits = true;
  int64_t unreported = 0;
  std::vector<std::unique_ptr<Job>> captured;
  std::unique_ptr<GraphRun> graph;  // of a plan of nodes

  bool refuse(ErrorCode code, const std::string& text) const {
    report.error(code, text);
    return false;
  }
  std::vector<const IoFact*> facts(bool input) const {
    std::vector<const IoFact*> out;
    for (const IoFact& fact : engine.plan.tensors) {
      if (fact.input == input) out.push_back(&fact);
    }
    return out;
  }
  bool infer();
  bool enqueue(cuda::NativeStream* stream);
  bool deliver(Job& job, cuda::NativeStream* stream);
  bool infer_graph();
  bool enqueue_graph(cuda::NativeStream* stream, bool capturing);
  void report_layers();
};

ExecutionFake& execution_of(const void* self) { return self_of<ExecutionFake>(self); }

// Shapes come from a run on zeros (with the real values of shape tensors), once for each set.
bool ExecutionFake::infer() {
  if (inference_done) return true;
  if (graph) return infer_graph();
  std::string key;
  std::vector<ModelInput> inputs;
  std::vector<std::string> zeros;
  zeros.reserve(engine.plan.tensors.size());
  for (const IoFact* fact : facts(true)) {
    auto shape = shapes.find(fact->name);
    if (shape == shapes.end())
      return refuse(ErrorCode::kInvalidState, fact->name + " has no shape");
    for (int64_t d : shape->second) key += std::to_string(d) + ",";
    zeros.emplace_back(static_cast<size_t>(bytes_of(fact->type, shape->second)), '\0');
    const void* data = zeros.back().data();
    if (fact->on_host) {
      data = addresses[fact->name];
      if (data == nullptr) return refuse(ErrorCode::kInvalidState, fact->name + " has no values");
      key.append(static_cast<const char*>(data), zeros.back().size());
    }
    inputs.push_back({fact->name, fact->type, shape->second, data});
    key += ";";
  }
  std::lock_guard lock(engine.mutex);
  auto found = engine.shapes.find(key);
  if (found == engine.shapes.end()) {
    std::vector<std::string> names;
    for (const IoFact* fact : facts(false)) names.push_back(fact->name);
    std::vector<std::vector<int64_t>> dims;
    try {
      for (ModelOutput& output : engine.model->run(inputs, names)) dims.push_back(output.dims);
    } catch (const std::exception& error) {
      return refuse(ErrorCode::kInvalidArgument, error.what());
    }
    found = engine.shapes.emplace(key, dims).first;
  }
  inferred = found->second;
  std::vector<const IoFact*> outputs = facts(false);
  for (size_t i = 0; i < outputs.size(); ++i) {
    if (outputs[i]->data_decides) inferred[i].assign(inferred[i].size(), -1);
  }
  inference_done = true;
  return true;
}

bool ExecutionFake::enqueue(cuda::NativeStream* stream) {
  const cuda::Table& table = cuda_table();
  cuda::CaptureState capture = cuda::CaptureState::kNone;
  table.capture_state(0, stream, &capture);
  bool capturing = capture != cuda::CaptureState::kNone;
  ++number(capturing ? "captured" : "enqueued");
  if (capturing && planned("empty.capture")) return true;
  if (planned(capturing ? "fail.capture" : "fail.enqueue")) {
    return refuse(ErrorCode::kFailedExecution, "enqueue failed (planned)");
  }
  if (!capturing && planned("fail.memory")) {
    return refuse(ErrorCode::kFailedAllocation, "out of memory (planned)");
  }
  if (profile < 0) return refuse(ErrorCode::kInvalidState, "no optimization profile was set");
  if (!infer()) return false;
  if (capturing && !warm) ++number("violations.capture_before_run");
  int64_t needed = engine.plan.activation_bytes;
  if (user_managed && needed > 0 && (scratch == nullptr || scratch_bytes < needed)) {
    return refuse(ErrorCode::kInvalidState, "the scratch memory is missing or too small");
  }
  if (graph) return enqueue_graph(stream, capturing);
  auto job = std::make_unique<Job>();
  job->engine = &engine;
  job->model = engine.model;
  bool data_decides = false;
  auto address_of = [&](const IoFact& fact) {
    void* address = addresses[fact.name];
    cuda::PointerInfo where{};
    if (address != nullptr) table.pointer_info(0, address, &where);
    bool device = where.kind == cuda::MemoryKind::kDevice;
    if (address == nullptr || (!fact.on_host && !device) || (fact.on_host && device)) {
      ++number("violations.address");
      address = nullptr;
      refuse(ErrorCode::kInvalidArgument, "the address of " + fact.name + " is not usable");
    }
    return address;
  };
  job->host_values.reserve(engine.plan.tensors.size());
  for (const IoFact* fact : facts(true)) {
    const void* address = address_of(*fact);
    if (address == nullptr) return false;
    if (fact->on_host) {
      job->host_values.emplace_back(static_cast<const char*>(address),
                                    static_cast<size_t>(bytes_of(fact->type, shapes[fact->name])));
      address = job->host_values.back().data();
    }
    job->inputs.push_back({fact->name, fact->type, shapes[fact->name], address});
  }
  std::vector<const IoFact*> outputs = facts(false);
  for (size_t i = 0; i < outputs.size(); ++i) {
    job->outputs.push_back(outputs[i]->name);
    void* address = nullptr;
    int64_t size = -1;
    if (outputs[i]->data_decides) {
      data_decides = true;
      if (allocators[outputs[i]->name] == nullptr) {
        return refuse(ErrorCode::kInvalidState, outputs[i]->name + " needs an allocator");
      }
    } else {
      address = address_of(*outputs[i]);
      if (address == nullptr) return false;
      size = bytes_of(outputs[i]->type, inferred[i]);
    }
    job->addresses.push_back(address);
    job->sizes.push_back(size);
  }
  if (user_managed) {
    job->scratch = static_cast<unsigned char*>(scratch);
    job->scratch_bytes = needed;
  }
  warm = true;
  if (cache != nullptr) {
    std::string kernel;
    for (const auto& [name, dims] : shapes) {
      kernel += name;
      for (int64_t d : dims) kernel += " " + std::to_string(d);
      kernel += ";";
    }
    std::lock_guard lock(cache->mutex);
    if (cache->kernels.emplace(kernel, 1).second) ++number("kernels.compiled");
  }
  ++unreported;
  if (data_decides) return deliver(*job, stream);
  job->keep = capturing;
  if (table.launch_host(0, stream, compute, job.get()) != 0) {
    return refuse(ErrorCode::kFailedExecution, "the work could not be launched");
  }
  if (capturing) {
    captured.push_back(std::move(job));
  } else {
    job.release();
  }
  if (profiler != nullptr && emits && !capturing) {
    table.stream_synchronize(0, stream);
    report_layers();
  }
  return true;
}

bool ExecutionFake::infer_graph() {
  try {
    graph->set_shapes(shapes);
    inferred.clear();
    for (const IoFact* fact : facts(false)) inferred.push_back(graph->dims(fact->name));
  } catch (const std::exception& error) {
    return refuse(ErrorCode::kInvalidArgument, error.what());
  }
  inference_done = true;
  return true;
}

bool ExecutionFake::enqueue_graph(cuda::NativeStream* stream, bool capturing) {
  try {
    graph->enqueue(stream, addresses, capturing);
    warm = true;
    const cuda::Table& table = cuda_table();
    for (const IoFact* fact : facts(false)) {
      if (!fact->data_decides) continue;
      const std::vector<int64_t>& dims = graph->dims(fact->name);
      OutputAllocator* allocator = allocators[fact->name];
      if (allocator == nullptr) throw std::runtime_error(fact->name + " needs an allocator");
      const auto bytes = static_cast<uint64_t>(bytes_of(fact->type, dims));
      void* to = allocator->reallocateOutputAsync(fact->name.c_str(), addresses[fact->name], bytes,
                                                  256, reinterpret_cast<StreamHandle>(stream));
      if (to == nullptr) throw std::runtime_error("no memory for an output");
      allocator->notifyShape(fact->name.c_str(), to_dims(dims));
      table.copy_async(0, to, graph->data(fact->name), bytes, cuda::CopyKind::kHostToDevice,
                       stream);
      table.stream_synchronize(0, stream);
    }
  } catch (const std::exception& error) {
    return refuse(ErrorCode::kFailedExecution, error.what());
  }
  return true;
}

// As the real library, waits for the sizes before it returns.
bool ExecutionFake::deliver(Job& job, cuda::NativeStream* stream) {
  const cuda::Table& table = cuda_table();
  cuda::CaptureState capture = cuda::CaptureState::kNone;
  table.capture_state(0, stream, &capture);
  if (capture != cuda::CaptureState::kNone) {
    return refuse(ErrorCode::kInvalidState, "sizes that depend on data cannot be captured");
  }
  if (table.launch_host(0, stream, compute, &job) != 0 ||
      table.stream_synchronize(0, stream) != 0 || job.failed) {
    return refuse(ErrorCode::kFailedExecution, "the run failed");
  }
  for (size_t i = 0; i < job.outputs.size(); ++i) {
    if (job.sizes[i] >= 0) continue;
    const char* name = job.outputs[i].c_str();
    const ModelOutput& result = job.results[i];
    void* to = allocators[job.outputs[i]]->reallocateOutputAsync(
        name, addresses[job.outputs[i]], result.bytes.size(), 256,
        reinterpret_cast<StreamHandle>(stream));
    if (to == nullptr) return refuse(ErrorCode::kFailedAllocation, "no memory for an output");
    allocators[job.outputs[i]]->notifyShape(name, to_dims(result.dims));
    table.copy_async(0, to, result.bytes.data(), result.bytes.size(), cuda::CopyKind::kHostToDevice,
                     stream);
  }
  return table.stream_synchronize(0, stream) == 0;
}

void ExecutionFake::report_layers() {
  if (profiler == nullptr || unreported == 0) return;
  unreported = 0;
  for (const std::string& layer : engine.plan.layers) {
#if FAKE_FAMILY == 10
    static_cast<Profiler10*>(profiler)->reportLayerTime(layer.c_str(), 0.25F);
#else
    static_cast<Profiler*>(profiler)->reportLayerTime(layer.c_str(), 0.25F);
#endif
  }
}

cuda::NativeStream* stream_of(StreamHandle stream) {
  return reinterpret_cast<cuda::NativeStream*>(stream);
}

FAKE(ExecutionContext, setErrorRecorder,
     [](void* self, ErrorRecorder* recorder) { execution_of(self).report.set(recorder); });
FAKE(ExecutionContext, setProfiler,
     [](void* self, void* profiler) { execution_of(self).profiler = profiler; });
FAKE(ExecutionContext, setEnqueueEmitsProfile,
     [](void* self, bool emits) { execution_of(self).emits = emits; });
FAKE(ExecutionContext, reportToProfiler, [](void* self) {
  execution_of(self).report_layers();
  return true;
});
FAKE(ExecutionContext, setOptimizationProfileAsync, [](void* self, int32_t profile, StreamHandle) {
  ExecutionFake& execution = execution_of(self);
  if (profile < 0 || static_cast<size_t>(profile) >= execution.engine.plan.profiles.size()) {
    return execution.refuse(ErrorCode::kInvalidArgument, "no such profile");
  }
  execution.profile = profile;
  execution.shapes.clear();
  execution.addresses.clear();
  execution.inference_done = false;
  return true;
});
FAKE(ExecutionContext, setInputShape, [](void* self, const char* name, const Dims& dims) {
  ExecutionFake& execution = execution_of(self);
  if (execution.profile < 0) return execution.refuse(ErrorCode::kInvalidState, "no profile");
  const auto& profile = execution.engine.plan.profiles[static_cast<size_t>(execution.profile)];
  std::vector<int64_t> given = from_dims(dims);
  for (const Range& range : profile.shapes) {
    if (range.name != name) continue;
    bool fits = given.size() == range.min.size();
    for (size_t d = 0; fits && d < given.size(); ++d) {
      fits = given[d] >= range.min[d] && given[d] <= range.max[d];
    }
    if (!fits) {
      ++number("violations.profile");
      return execution.refuse(ErrorCode::kInvalidArgument, "the shape is outside the profile");
    }
  }
  execution.shapes[name] = given;
  execution.inference_done = false;
  execution.warm = false;
  return true;
});
FAKE(ExecutionContext, inferShapes, [](void* self, int32_t size, const char** missing) {
  ExecutionFake& execution = execution_of(self);
  int32_t count = 0;
  for (const IoFact* fact : execution.facts(true)) {
    if (execution.shapes.contains(fact->name)) continue;
    if (count < size) missing[count] = fact->name.c_str();
    ++count;
  }
  if (count > 0) return count;
  execution.inference_done = false;
  return execution.infer() ? 0 : -1;
});
FAKE(ExecutionContext, getTensorShape, [](void* self, const char* name) {
  ExecutionFake& execution = execution_of(self);
  Dims none;
  none.nbDims = -1;
  if (auto shape = execution.shapes.find(name); shape != execution.shapes.end()) {
    return to_dims(shape->second);
  }
  if (!execution.infer()) return none;
  std::vector<const IoFact*> outputs = execution.facts(false);
  for (size_t i = 0; i < outputs.size(); ++i) {
    if (outputs[i]->name == name) return to_dims(execution.inferred[i]);
  }
  return none;
});
FAKE(ExecutionContext, setTensorAddress, [](void* self, const char* name, void* address) {
  ExecutionFake& execution = execution_of(self);
  const IoFact* fact = execution.engine.plan.find(name);
  if (fact == nullptr) return execution.refuse(ErrorCode::kInvalidArgument, "no such tensor");
  ++number("addresses");
  execution.addresses[name] = address;
  if (fact->on_host && fact->input) execution.inference_done = false;
  return true;
});
FAKE(ExecutionContext, setOutputAllocator,
     [](void* self, const char* name, OutputAllocator* allocator) {
       execution_of(self).allocators[name] = allocator;
       return true;
     });
FAKE(ExecutionContext, setDeviceMemoryV2, [](void* self, void* memory, int64_t size) {
  execution_of(self).scratch = memory;
  execution_of(self).scratch_bytes = size;
});
FAKE(ExecutionContext, setDeviceMemory, [](void* self, void* memory) {
  execution_of(self).scratch = memory;
  execution_of(self).scratch_bytes = execution_of(self).engine.plan.activation_bytes;
});
FAKE(ExecutionContext, isStreamCapturable,
     [](void*, StreamHandle) { return number("not_capturable") == 0; });
FAKE(ExecutionContext, enqueueV3,
     [](void* self, StreamHandle stream) { return execution_of(self).enqueue(stream_of(stream)); });

}  // namespace

ExecutionContext* make_execution(EngineFake& engine, ExecutionContextAllocationStrategy strategy,
                                 CacheFake* cache) {
  if (planned("fail.execution")) {
    engine.report.error(ErrorCode::kFailedAllocation, "out of memory for a context (planned)");
    return nullptr;
  }
  if (engine.lacks_weights) ++number("violations.run_without_weights");
  try {
    auto* made = new ExecutionFake(
        engine, strategy == ExecutionContextAllocationStrategy::kUserManaged, cache);
    return made->address<ExecutionContext>();
  } catch (const std::exception& error) {
    engine.report.error(ErrorCode::kInternalError, error.what());
    return nullptr;
  }
}

}  // namespace fake
