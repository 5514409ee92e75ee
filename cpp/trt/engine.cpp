// SPDX-License-Identifier: Apache-2.0
#include "trt/engine.h"

#include <algorithm>
#include <chrono>
#include <map>
#include <thread>
#include <tuple>
#include <utility>

#include "core/error.h"
#include "core/fork.h"
#include "core/trace.h"
#include "cuda/current.h"
#include "trt/plugin_creators.h"

namespace zerolane::trt {
namespace {

using Key = std::tuple<const Library*, std::string, int, bool, uint64_t, std::string>;

std::vector<int64_t> to_vector(const Dims& dims) {
  if (dims.nbDims < 0 || dims.nbDims > kMaxDims) return {};
  return {dims.d, dims.d + dims.nbDims};
}

}  // namespace

DType from_trt(DataType type) noexcept {
  switch (type) {
    case DataType::kFloat:
      return DType::kFloat32;
    case DataType::kHalf:
      return DType::kFloat16;
    case DataType::kInt8:
      return DType::kInt8;
    case DataType::kInt32:
      return DType::kInt32;
    case DataType::kBool:
      return DType::kBool;
    case DataType::kUint8:
      return DType::kUInt8;
    case DataType::kFp8:
      return DType::kFloat8E4M3FN;
    case DataType::kBf16:
      return DType::kBFloat16;
    case DataType::kInt64:
      return DType::kInt64;
    case DataType::kInt4:
      return DType::kInt4;
    case DataType::kFp4:
      return DType::kFloat4E2M1;
    case DataType::kE8m0:
      return DType::kFloat8E8M0;
  }
  return DType::kNone;
}

DataType to_trt(DType dtype, const std::string& doing) {
  for (int32_t i = 0; i <= static_cast<int32_t>(DataType::kE8m0); ++i) {
    if (from_trt(static_cast<DataType>(i)) == dtype) return static_cast<DataType>(i);
  }
  throw make_error(
      Code::kUnsupported, doing,
      "the dtype is " + std::string(dtype_name(dtype)) + ", which TensorRT does not have",
      "convert it, e.g. to float32 or int64");
}

Dims to_dims(const Shape& shape) {
  Dims dims;
  dims.nbDims = static_cast<int32_t>(shape.rank());
  std::copy(shape.dims().begin(), shape.dims().begin() + std::min<size_t>(shape.rank(), kMaxDims),
            dims.d);
  return dims;
}

std::shared_ptr<Engine> Engine::load(Library& library, std::span<const std::byte> plan,
                                     const std::string& name, const std::string& identity,
                                     const EngineSettings& settings, const PlanFacts& facts) {
  static std::mutex mutex;
  static std::map<Key, std::weak_ptr<Engine>> engines;
  Key key{&library,
          identity,
          settings.device,
          settings.allow_host_code,
          settings.memory_limit,
          settings.cache_file};
  // Held while one is loaded: who asks for the same engine meanwhile shall get that one.
  std::lock_guard lock(mutex);
  std::erase_if(engines, [](const auto& entry) { return entry.second.expired(); });
  if (auto found = engines.find(key); found != engines.end()) {
    if (std::shared_ptr<Engine> engine = found->second.lock()) return engine;
  }
  auto engine = std::make_shared<Engine>(library, plan, name, settings, facts);
  engines[key] = engine;
  return engine;
}

Engine::Engine(Library& library, std::span<const std::byte> plan, std::string name,
               const EngineSettings& settings, const PlanFacts& facts)
    : library_(library),
      name_(std::move(name)),
      device_(cuda::open_device(settings.device)),
      activations_(ActivationPool::of(device_)),
      plugin_failures_(std::make_shared<PluginFailures>(library.name())),
      lacks_weights_(settings.stripped),
      fork_generation_(fork_generation.load()) {
  const std::string doing = "loading " + name_ + " with " + library_.title();
  trace::Span span("load", name_, static_cast<int64_t>(plan.size()));
  const Calls& calls = library_.calls;
  cuda::CurrentDevice current(device_);
  runtime_ = make_runtime(library_);
  calls.Runtime_setErrorRecorder(runtime_.get(), &errors_);
  calls.Runtime_setEngineHostCodeAllowed(runtime_.get(), settings.allow_host_code);
  if (!facts.ops.empty()) register_ops(facts.ops);
  engine_ = Owned<CudaEngine>(
      calls.Runtime_deserializeCudaEngine(runtime_.get(), plan.data(), plan.size()));
  if (!engine_) {
    plugin_failures_->rethrow();
    Error error = failure(library_, doing, errors_.take(), name_);
    bool other = error.code() == Code::kOutOfMemory || error.code() == Code::kUnavailable ||
                 error.code() == Code::kDevice;
    if (other) throw error;
    throw Error(Code::kInvalidModel, error.message(), name_);
  }
  calls.CudaEngine_setErrorRecorder(engine_.get(), &errors_);
  read_tensors(facts);
  read_profiles();
  apply_memory_limit(settings.memory_limit, plan.size());
  cache_ = std::make_unique<RuntimeCacheFile>(library_, engine_.get(), settings.cache_file);
}

Engine::~Engine() {
  if (forked_since(fork_generation_)) {  // the driver's threads stayed in the parent
    (void)cache_.release();
    engine_.release();
    (void)creators_.release();
    runtime_.release();
    return;
  }
  cuda::CurrentDevice current(device_, std::nothrow);
  cache_->save();
  cache_.reset();
  engine_.reset();
  creators_.reset();
  runtime_.reset();
}

void Engine::register_ops(const std::vector<const OpEntry*>& ops) {
  creators_ = std::make_unique<PluginCreators>(
      library_, library_.calls.Runtime_getPluginRegistry(runtime_.get()), ops, plugin_failures_,
      make_from_engine(library_, plugin_failures_, device_.index()));
}

void Engine::read_tensors(const PlanFacts& facts) {
  const Calls& calls = library_.calls;
  int32_t count = calls.CudaEngine_getNbIOTensors(engine_.get());
  for (int32_t i = 0; i < count; ++i) {
    const char* name = calls.CudaEngine_getIOTensorName(engine_.get(), i);
    IoTensor tensor;
    tensor.name = name;
    tensor.input = calls.CudaEngine_getTensorIOMode(engine_.get(), name) == TensorIOMode::kInput;
    DataType type = calls.CudaEngine_getTensorDataType(engine_.get(), name);
    tensor.dtype = from_trt(type);
    if (tensor.dtype == DType::kInt8 && facts.uint8.contains(tensor.name)) {
      tensor.dtype = DType::kUInt8;
    }
    tensor.on_host =
        calls.CudaEngine_getTensorLocation(engine_.get(), name) == TensorLocation::kHost;
    tensor.shape = to_vector(calls.CudaEngine_getTensorShape(engine_.get(), name));
    const std::string doing = "reading '" + tensor.name + "' of " + name_;
    if (tensor.dtype == DType::kNone) {
      throw make_error(Code::kUnsupported, doing,
                       "its element type is TensorRT's number " +
                           std::to_string(static_cast<int32_t>(type)) + ", which is not known",
                       "use a newer zerolane", tensor.name);
    }
    TensorFormat format = calls.CudaEngine_getTensorFormat(engine_.get(), name);
    if (format != TensorFormat::kLinear) {
      throw make_error(Code::kUnsupported, doing,
                       "its memory format is TensorRT's number " +
                           std::to_string(static_cast<int32_t>(format)) + ", expected row-major",
                       "build the engine with plain inputs and outputs", tensor.name);
    }
    (tensor.input ? inputs_ : outputs_).push_back(std::move(tensor));
  }
}

void Engine::read_profiles() {
  const Calls& calls = library_.calls;
  int32_t count = calls.CudaEngine_getNbOptimizationProfiles(engine_.get());
  std::vector<std::string> names;
  for (const IoTensor& input : inputs_) names.push_back(input.name);
  std::vector<std::vector<InputRange>> profiles;
  for (int32_t p = 0; p < count; ++p) {
    std::vector<InputRange> ranges;
    for (const IoTensor& input : inputs_) {
      const char* name = input.name.c_str();
      auto shape = [&](OptProfileSelector which) {
        return to_vector(calls.CudaEngine_getProfileShape(engine_.get(), name, p, which));
      };
      auto values = [&](OptProfileSelector which) {
        std::vector<int64_t> found;
        size_t volume = 1;
        for (int64_t d : input.shape) volume *= static_cast<size_t>(std::max<int64_t>(d, 0));
        if (calls.CudaEngine_getProfileTensorValuesV2) {
          if (const int64_t* v =
                  calls.CudaEngine_getProfileTensorValuesV2(engine_.get(), name, p, which)) {
            found.assign(v, v + volume);
          }
        } else if (const int32_t* v =
                       calls.CudaEngine_getProfileTensorValues(engine_.get(), name, p, which)) {
          found.assign(v, v + volume);
        }
        return found;
      };
      InputRange range;
      range.min = shape(OptProfileSelector::kMin);
      range.opt = shape(OptProfileSelector::kOpt);
      range.max = shape(OptProfileSelector::kMax);
      bool fixed =
          std::all_of(input.shape.begin(), input.shape.end(), [](int64_t d) { return d >= 0; });
      if (fixed) range.min = range.opt = range.max = input.shape;  // profiles need not name it
      if (input.on_host) {
        range.min_values = values(OptProfileSelector::kMin);
        range.opt_values = values(OptProfileSelector::kOpt);
        range.max_values = values(OptProfileSelector::kMax);
      }
      ranges.push_back(std::move(range));
    }
    profiles.push_back(std::move(ranges));
    activation_bytes_.push_back(
        calls.CudaEngine_getDeviceMemorySizeForProfileV2
            ? static_cast<size_t>(std::max<int64_t>(
                  calls.CudaEngine_getDeviceMemorySizeForProfileV2(engine_.get(), p), 0))
            : calls.CudaEngine_getDeviceMemorySizeForProfile(engine_.get(), p));
  }
  profiles_ = Profiles(std::move(names), std::move(profiles));
}

void Engine::apply_memory_limit(uint64_t limit, size_t plan_bytes) {
  if (limit == 0) return;
  const Calls& calls = library_.calls;
  const std::string doing = "loading " + name_ + " within " + std::to_string(limit) + " bytes";
  uint64_t activations = 0;
  for (size_t bytes : activation_bytes_) activations = std::max<uint64_t>(activations, bytes);
  int64_t told = calls.CudaEngine_getEngineStat
                     ? calls.CudaEngine_getEngineStat(engine_.get(), EngineStat::kTotalWeightsSize)
                     : -1;
  // Releases that do not tell: a plan is little more than its weights.
  uint64_t weights = told >= 0 ? static_cast<uint64_t>(told) : plan_bytes;
  if (weights + activations <= limit) return;
  int64_t streamable = calls.CudaEngine_getStreamableWeightsSize
                           ? calls.CudaEngine_getStreamableWeightsSize(engine_.get())
                           : 0;
  uint64_t can_go = static_cast<uint64_t>(std::max<int64_t>(streamable, 0));
  uint64_t resident = weights - std::min(weights, can_go);  // weights that must stay
  if (can_go == 0 || !calls.CudaEngine_setWeightStreamingBudgetV2 ||
      resident + activations > limit) {
    throw make_error(
        Code::kOutOfMemory, doing,
        "its weights take " + std::to_string(weights) + " bytes (" + std::to_string(can_go) +
            " of them may be streamed), a run's activations " + std::to_string(activations),
        "raise memory_limit, build with weight streaming, or build for smaller shapes", name_);
  }
  // What streaming itself needs comes out of the same limit, and depends on the budget.
  auto set_budget = [&](uint64_t budget) {
    if (calls.CudaEngine_setWeightStreamingBudgetV2(engine_.get(), static_cast<int64_t>(budget)))
      return;
    throw failure(library_, doing, errors_.take(), name_);
  };
  uint64_t budget = limit - resident - activations;
  set_budget(budget);
  int64_t scratch = calls.CudaEngine_getWeightStreamingScratchMemorySize(engine_.get());
  if (scratch > 0) set_budget(budget - std::min(budget, static_cast<uint64_t>(scratch)));
  // Streaming may change what the profiles need.
  for (size_t p = 0; p < activation_bytes_.size(); ++p) {
    activation_bytes_[p] = static_cast<size_t>(std::max<int64_t>(
        calls.CudaEngine_getDeviceMemorySizeForProfileV2(engine_.get(), static_cast<int32_t>(p)),
        0));
  }
}

Owned<ExecutionContext> Engine::make_execution(ErrorCollector& errors) const {
  if (lacks_weights_.load()) {
    throw make_error(Code::kUnsupported, "running " + name_,
                     "its engine was built without its weights", "refit it with them first", name_);
  }
  const Calls& calls = library_.calls;
  std::lock_guard lock(make_mutex_);
  LoggedErrors logged;
  Owned<ExecutionContext> context(
      cache_->config() != nullptr
          ? calls.CudaEngine_createExecutionContextWithRuntimeConfig(engine_.get(),
                                                                     cache_->config())
          : calls.CudaEngine_createExecutionContext(
                engine_.get(), ExecutionContextAllocationStrategy::kUserManaged));
  if (!context) {
    plugin_failures_->rethrow_own();
    std::vector<ReportedError> reported = errors_.take();
    if (reported.empty()) reported = logged.errors();
    throw failure(library_, "making an execution context for " + name_, reported, name_);
  }
  calls.ExecutionContext_setErrorRecorder(context.get(), &errors);
  return context;
}

void Engine::begin_run() {
  for (;;) {
    running_.fetch_add(1);
    if (!refitting_.load()) [[likely]] {
      return;
    }
    running_.fetch_sub(1);
    std::lock_guard wait(refit_mutex_);
  }
}

void Engine::end_run() noexcept { running_.fetch_sub(1); }

void Engine::note_compiled() noexcept { cache_->save(); }

}  // namespace zerolane::trt
