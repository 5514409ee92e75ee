// SPDX-License-Identifier: Apache-2.0
#include "trt/execution.h"

#include <algorithm>
#include <utility>

#include "core/error.h"
#include "core/fork.h"
#include "core/log.h"
#include "core/trace.h"
#include "trt/layer_profile.h"

namespace zerolane::trt {
namespace {

StreamHandle native(cuda::CudaStream& stream) {
  return reinterpret_cast<StreamHandle>(stream.native());
}

}  // namespace

Execution::Execution(Engine& engine, LayerProfile* profile)
    : engine_(engine), context_(engine.make_execution(errors_)) {
  input_addresses_.resize(engine.inputs().size());
  output_addresses_.resize(engine.outputs().size());
  output_memories_.resize(engine.outputs().size());
  outputs_.resize(engine.outputs().size());
  if (profile != nullptr) {
    const Calls& calls = engine.calls();
    calls.ExecutionContext_setProfiler(context_.get(), profile->address(engine.library().family));
    // Times are asked for after the run, so that enqueueing does not wait for it.
    calls.ExecutionContext_setEnqueueEmitsProfile(context_.get(), false);
  }
}

Execution::~Execution() = default;

void Execution::fail(const std::string& doing, const std::string& found) {
  engine_.plugin_failures().rethrow_own();
  std::vector<ReportedError> reported = errors_.take();
  if (reported.empty()) reported.push_back({ErrorCode::kUnspecifiedError, found});
  throw failure(engine_.library(), doing + " " + engine_.name(), reported, engine_.name());
}

void Execution::check(bool ok, const char* doing, const std::string& what) {
  if (!ok) [[unlikely]] {
    fail(doing, "the library refused " + what);
  }
}

bool Execution::is_set_to(const std::vector<Profiles::Given>& given) const noexcept {
  if (!set_) return false;
  for (size_t i = 0; i < given.size(); ++i) {
    if (!(given[i].shape == given_[i].shape) || given[i].values != given_[i].values) return false;
  }
  return true;
}

void Execution::set(const std::vector<Profiles::Given>& given,
                    const std::vector<const void*>& host_inputs, cuda::CudaStream& stream) {
  size_t profile = engine_.profiles().choose(given, engine_.name());
  const Calls& calls = engine_.calls();
  set_ = false;
  warm_ = false;
  graph_ = cuda::Graph();
  key_.clear();
  capture_failed_ = false;
  data_dependent_ = false;
  errors_.clear();
  if (!profile_set_ || profile != profile_) {
    profile_set_ = false;
    check(calls.ExecutionContext_setOptimizationProfileAsync(
              context_.get(), static_cast<int32_t>(profile), native(stream)),
          "setting the shapes of", "optimization profile " + std::to_string(profile));
    stream.synchronize();
    profile_ = profile;
    profile_set_ = true;
    // The library forgets addresses with the profile.
    std::fill(input_addresses_.begin(), input_addresses_.end(), nullptr);
    std::fill(output_addresses_.begin(), output_addresses_.end(), nullptr);
    activations_set_ = false;
  }
  const std::vector<IoTensor>& inputs = engine_.inputs();
  for (size_t i = 0; i < inputs.size(); ++i) {
    check(calls.ExecutionContext_setInputShape(context_.get(), inputs[i].name.c_str(),
                                               to_dims(given[i].shape)),
          "setting the shapes of",
          "shape " + given[i].shape.text() + " of '" + inputs[i].name + "'");
    if (inputs[i].on_host) {
      input_addresses_[i] = nullptr;  // the values may differ under the same address
      set_input(i, host_inputs[i]);
    }
  }
  const char* missing[1] = {};
  int32_t count = calls.ExecutionContext_inferShapes(context_.get(), 1, missing);
  check(count == 0, "computing the output shapes of",
        count > 0 && missing[0] != nullptr ? "to go on without '" + std::string(missing[0]) + "'"
                                           : std::string("these input shapes"));
  const std::vector<IoTensor>& outputs = engine_.outputs();
  for (size_t i = 0; i < outputs.size(); ++i) {
    Dims dims = calls.ExecutionContext_getTensorShape(context_.get(), outputs[i].name.c_str());
    check(dims.nbDims >= 0 && dims.nbDims <= kMaxDims, "computing the output shapes of",
          "to tell the shape of '" + outputs[i].name + "'");
    std::span<const int64_t> extents(dims.d, static_cast<size_t>(dims.nbDims));
    outputs_[i].known =
        std::all_of(extents.begin(), extents.end(), [](int64_t d) { return d >= 0; });
    if (outputs_[i].known) {
      outputs_[i].shape = Shape(extents);
      if (output_memories_[i] != nullptr) set_output(i, static_cast<OutputMemory*>(nullptr));
    } else {
      data_dependent_ = true;
    }
  }
  given_ = given;
  set_ = true;
}

void Execution::set_address(const IoTensor& tensor, std::vector<const void*>& known, size_t index,
                            const void* address) {
  if (known[index] == address) [[likely]] {
    return;
  }
  known[index] = nullptr;
  check(engine_.calls().ExecutionContext_setTensorAddress(context_.get(), tensor.name.c_str(),
                                                          const_cast<void*>(address)),
        "binding memory of", "the address of '" + tensor.name + "'");
  known[index] = address;
}

void Execution::set_input(size_t index, const void* address) {
  set_address(engine_.inputs()[index], input_addresses_, index, address);
}

void Execution::set_output(size_t index, void* address) {
  set_address(engine_.outputs()[index], output_addresses_, index, address);
}

void Execution::set_output(size_t index, OutputMemory* memory) {
  if (output_memories_[index] == memory) return;
  const std::string& name = engine_.outputs()[index].name;
  check(engine_.calls().ExecutionContext_setOutputAllocator(context_.get(), name.c_str(), memory),
        "binding memory of", "an allocator for '" + name + "'");
  output_memories_[index] = memory;
}

void Execution::set_activations(void* data, size_t bytes) {
  if (activations_set_ && activations_ == data) [[likely]] {
    return;
  }
  const Calls& calls = engine_.calls();
  if (calls.ExecutionContext_setDeviceMemoryV2) {
    calls.ExecutionContext_setDeviceMemoryV2(context_.get(), data, static_cast<int64_t>(bytes));
  } else {
    calls.ExecutionContext_setDeviceMemory(context_.get(), data);
  }
  activations_ = data;
  activations_set_ = true;
}

void Execution::enqueue(cuda::CudaStream& stream) {
  if (!engine_.calls().ExecutionContext_enqueueV3(context_.get(), native(stream))) [[unlikely]] {
    fail("running", "the library refused to enqueue it");
  }
}

void Execution::run(cuda::CudaStream& stream, const std::vector<const void*>& key, bool may_capture,
                    const std::function<size_t()>& work) {
  uint64_t generation = engine_.generation();
  bool same = warm_ && key == key_ && generation == key_generation_;
  if (same && graph_) [[likely]] {
    graph_.launch(stream);
    ++replays_;
    return;
  }
  graph_ = cuda::Graph();
  errors_.clear();
  work();
  if (!same) {
    key_ = key;
    key_generation_ = generation;
    warm_ = true;  // the library has done its deferred work for these shapes
    return;
  }
  if (!may_capture || capture_failed_ || data_dependent_) return;
  const Calls& calls = engine_.calls();
  try {
    if (calls.ExecutionContext_isStreamCapturable &&
        !calls.ExecutionContext_isStreamCapturable(context_.get(), native(stream))) {
      throw make_error(Code::kUnsupported, "capturing a graph of " + engine_.name(),
                       "the library says that this work cannot be captured", "nothing to do");
    }
    size_t copies = 0;
    cuda::Graph captured = cuda::Graph::capture(stream, [&] { copies = work(); });
    if (captured.nodes() <= copies) {
      throw make_error(Code::kBackend, "capturing a graph of " + engine_.name(),
                       "the library put nothing into it", "nothing to do");
    }
    graph_ = std::move(captured);
  } catch (const Error& error) {
    capture_failed_ = true;
    log(LogLevel::kWarning, "zerolane", "tensorrt",
        error.message() + " (running without a graph from now on)");
  }
}

void Execution::report_layers() {
  engine_.calls().ExecutionContext_reportToProfiler(context_.get());
}

}  // namespace zerolane::trt
