// SPDX-License-Identifier: Apache-2.0
#include "trt/plugin.h"

#include <algorithm>
#include <cstdint>
#include <string>
#include <utility>

#include "core/error.h"
#include "cuda/current.h"
#include "cuda/device.h"
#include "trt/engine.h"
#include "trt/plugin_shapes.h"

namespace zerolane::trt {
namespace {

constexpr size_t kScratchAlignment = 256;

constexpr int32_t kDone = 0;
constexpr int32_t kFailed = 1;

// TensorRT's type as the op sees it.
DType dtype_of(DataType type, bool as_uint8) {
  return as_uint8 && type == DataType::kInt8 ? DType::kUInt8 : from_trt(type);
}

bool all_known(const Dims& dims) {
  return std::all_of(dims.d, dims.d + dims.nbDims, [](int64_t extent) { return extent >= 0; });
}

Shape shape_of(const Dims& dims) {
  return Shape(std::span(dims.d, static_cast<size_t>(std::clamp(dims.nbDims, 0, kMaxDims))));
}

std::string dims_text(const Dims& dims) {
  std::string out = "[";
  for (int32_t i = 0; i < dims.nbDims; ++i) out += (i > 0 ? ", " : "") + std::to_string(dims.d[i]);
  return out + "]";
}

}  // namespace

const DeviceConstants& PluginConstants::get() {
  std::lock_guard lock(mutex_);
  if (!made_) {
    if (device_ < 0) device_ = cuda::current_device();
    cuda::CudaDevice& device = cuda::open_device(device_);
    cuda::CurrentDevice current(device);
    made_ = std::make_unique<DeviceConstants>(state_, device);
  }
  return *made_;
}

Plugin::Plugin(const Calls& calls, std::shared_ptr<const PluginFacts> facts,
               std::shared_ptr<PluginFailures> failures, std::optional<size_t> scratch, int device)
    : calls_(calls),
      facts_(std::move(facts)),
      failures_(std::move(failures)),
      constants_(std::make_shared<PluginConstants>(facts_->state, device)),
      building_(!scratch),
      scratch_(scratch.value_or(0)),
      call_(facts_->state) {}

Plugin::Plugin(const Plugin& other)
    : PluginV3(other),
      PluginV3OneCore(other),
      PluginV3OneBuild(other),
      PluginV3OneRuntime(other),
      calls_(other.calls_),
      facts_(other.facts_),
      failures_(other.failures_),
      constants_(other.constants_),
      building_(other.building_),
      scratch_(other.scratch_),
      call_(facts_->state) {}

// For what is being handled: adds what was being done to what is no Error of ours.
bool Plugin::keep_failure(const char* doing) const noexcept {
  try {
    throw;
  } catch (const Error&) {
    failures_->keep();
  } catch (const std::exception& error) {
    try {
      throw make_error(Code::kInternal, std::string(doing) + " " + facts_->state->where(),
                       error.what(), "report this", facts_->state->entry().name);
    } catch (...) {
      failures_->keep();
    }
  } catch (...) {
    failures_->keep();
  }
  return false;
}

PluginCapability* Plugin::getCapabilityInterface(PluginCapabilityType type) noexcept {
  switch (type) {
    case PluginCapabilityType::kCore:
      return static_cast<PluginV3OneCore*>(this);
    case PluginCapabilityType::kBuild:
      return static_cast<PluginV3OneBuild*>(this);
    case PluginCapabilityType::kRuntime:
      return static_cast<PluginV3OneRuntime*>(this);
  }
  return nullptr;
}

PluginV3* Plugin::clone() noexcept {
  try {
    return new Plugin(*this);
  } catch (...) {
    keep_failure("copying");
    return nullptr;
  }
}

const char* Plugin::getPluginName() const noexcept { return facts_->state->entry().name.c_str(); }

const char* Plugin::getPluginVersion() const noexcept { return facts_->version.c_str(); }

int32_t Plugin::getNbOutputs() const noexcept {
  return static_cast<int32_t>(facts_->output_count());
}

void Plugin::check_counts(int32_t input_count, int32_t output_count) const {
  if (static_cast<size_t>(input_count) == facts_->inputs.size() &&
      static_cast<size_t>(output_count) == facts_->output_count()) {
    return;
  }
  throw make_error(Code::kInternal, "building " + facts_->state->where(),
                   "TensorRT gives its plugin " + std::to_string(input_count) + " inputs and " +
                       std::to_string(output_count) + " outputs, expected " +
                       std::to_string(facts_->inputs.size()) + " and " +
                       std::to_string(facts_->output_count()),
                   "report this", facts_->state->entry().name);
}

void Plugin::refuse_uint8(const std::string& what) const {
  throw make_error(Code::kUnsupported, "building " + facts_->state->where(),
                   what +
                       " is of uint8, which TensorRT's plugins take from inputs of the model and "
                       "from each other alone, and not inside of functions",
                   "cast it to another type, or inline the function (onnx.inliner)",
                   facts_->state->entry().name);
}

std::vector<DType> Plugin::types_of(std::span<const DataType> inputs) const {
  std::vector<OpInput> given(facts_->present.size());
  for (size_t i = 0; i < inputs.size(); ++i) {
    OpInput& input = given[facts_->inputs[i]];
    input.present = true;
    input.dtype = dtype_of(inputs[i], facts_->uint8_inputs[i]);
    if (inputs[i] == DataType::kUint8) {
      refuse_uint8("input '" + facts_->state->entry().input(facts_->inputs[i]).name + "'");
    }
  }
  std::vector<DType> types;
  resolve_types(*facts_->state, given, &types);
  return types;
}

// Of an output of the plugin.
DataType Plugin::output_type(size_t index, const std::vector<DType>& types) const {
  if (index >= facts_->outputs.size()) return DataType::kInt64;
  const OpEntry& entry = facts_->state->entry();
  const OpEntry::Argument& output = entry.outputs[facts_->outputs[index]];
  const DType dtype = types[output.type];
  if (dtype != DType::kUInt8) return to_trt(dtype, "building " + facts_->state->where());
  if (facts_->uint8_outputs[index]) return DataType::kInt8;
  refuse_uint8("output '" + output.name + "'");
}

int32_t Plugin::getOutputDataTypes(DataType* outputs, int32_t output_count, const DataType* inputs,
                                   int32_t input_count) const noexcept {
  count(PluginCallback::kTypes);
  try {
    check_counts(input_count, output_count);
    const std::vector<DType> types = types_of(std::span(inputs, static_cast<size_t>(input_count)));
    for (size_t i = 0; i < facts_->output_count(); ++i) outputs[i] = output_type(i, types);
    return kDone;
  } catch (...) {
    keep_failure("typing");
    return kFailed;
  }
}

int32_t Plugin::getOutputShapes(const DimsExprs* inputs, int32_t input_count, const DimsExprs*,
                                int32_t, DimsExprs* outputs, int32_t output_count,
                                ExprBuilder& builder) noexcept {
  count(PluginCallback::kShapes);
  try {
    check_counts(input_count, output_count);
    infer_shapes(calls_, builder, *facts_, {inputs, facts_->inputs.size()},
                 {outputs, facts_->output_count()});
    return kDone;
  } catch (...) {
    keep_failure("computing the shapes of");
    return kFailed;
  }
}

bool Plugin::supportsFormatCombination(int32_t position, const DynamicPluginTensorDesc* tensors,
                                       int32_t input_count, int32_t output_count) noexcept {
  count(PluginCallback::kFormats);
  try {
    check_counts(input_count, output_count);
    const auto at = static_cast<size_t>(position);
    const size_t inputs = facts_->inputs.size();
    const PluginTensorDesc& asked = tensors[at].desc;
    if (asked.format != TensorFormat::kLinear) return false;
    if (at >= inputs) {
      std::vector<DataType> given;
      for (size_t i = 0; i < inputs; ++i) given.push_back(tensors[i].desc.type);
      return asked.type == output_type(at - inputs, types_of(given));
    }
    // Only the tensors before it are decided.
    const OpEntry& entry = facts_->state->entry();
    const size_t type = entry.input(facts_->inputs[at]).type;
    const DType dtype = dtype_of(asked.type, facts_->uint8_inputs[at]);
    for (size_t before = 0; before < at; ++before) {
      if (facts_->inputs[before] == entry.decided_by[type]) {
        return dtype == dtype_of(tensors[before].desc.type, facts_->uint8_inputs[before]);
      }
    }
    return std::ranges::count(entry.types[type], dtype) > 0;
  } catch (...) {
    return keep_failure("choosing the formats of");
  }
}

// Bytes for the greatest shapes, or for others where the op wants more for those.
size_t Plugin::scratch_for(const DynamicPluginTensorDesc* inputs) const {
  OpCall call(facts_->state);
  const auto bytes_for = [&](const Dims DynamicPluginTensorDesc::* which) {
    auto& given = call.inputs(facts_->present.size());
    for (size_t i = 0; i < facts_->inputs.size(); ++i) {
      OpInput& input = given[facts_->inputs[i]];
      input.present = true;
      input.dtype = dtype_of(inputs[i].desc.type, facts_->uint8_inputs[i]);
      input.shape = shape_of(inputs[i].*which);
    }
    call.plan();
    return call.cuda_scratch();
  };
  size_t bytes = bytes_for(&DynamicPluginTensorDesc::max);
  for (const auto which : {&DynamicPluginTensorDesc::opt, &DynamicPluginTensorDesc::min}) {
    try {
      bytes = std::max(bytes, bytes_for(which));
    } catch (const Error&) {  // shapes that the op refuses never come to run
    }
  }
  return bytes;
}

int32_t Plugin::configurePlugin(const DynamicPluginTensorDesc* inputs, int32_t input_count,
                                const DynamicPluginTensorDesc*, int32_t output_count) noexcept {
  count(PluginCallback::kConfigure);
  try {
    check_counts(input_count, output_count);
    scratch_ = std::max(scratch_, scratch_for(inputs));
    fields_.reset();
    return kDone;
  } catch (...) {
    keep_failure("configuring");
    return kFailed;
  }
}

size_t Plugin::getWorkspaceSize(const DynamicPluginTensorDesc* inputs, int32_t,
                                const DynamicPluginTensorDesc*, int32_t) const noexcept {
  count(PluginCallback::kWorkspace);
  try {
    const size_t bytes = std::max(scratch_, scratch_for(inputs));
    return bytes == 0 ? 0 : bytes + kScratchAlignment - 1;
  } catch (...) {
    keep_failure("sizing the scratch memory of");
    return 0;  // configurePlugin fails for the same reason
  }
}

bool Plugin::is_planned(const PluginTensorDesc* inputs) const {
  if (!planned_) return false;
  for (size_t i = 0; i < facts_->inputs.size(); ++i) {
    const OpInput& known = call_.input(facts_->inputs[i]);
    const Dims& dims = inputs[i].dims;
    const auto rank = static_cast<size_t>(std::clamp(dims.nbDims, 0, kMaxDims));
    if (known.shape.rank() != rank || !std::equal(dims.d, dims.d + rank, known.shape.data()) ||
        known.dtype != dtype_of(inputs[i].type, facts_->uint8_inputs[i])) {
      return false;
    }
  }
  return true;
}

void Plugin::plan(const PluginTensorDesc* inputs, const PluginTensorDesc* outputs) {
  planned_ = false;
  auto& given = call_.inputs(facts_->present.size());
  for (size_t i = 0; i < facts_->inputs.size(); ++i) {
    OpInput& input = given[facts_->inputs[i]];
    input.present = true;
    input.dtype = dtype_of(inputs[i].type, facts_->uint8_inputs[i]);
    input.shape = shape_of(inputs[i].dims);
  }
  call_.plan();
  const std::string& name = facts_->state->entry().name;
  const auto refuse = [&](const std::string& found, const char* remedy) {
    throw make_error(Code::kInternal, "running " + facts_->state->where(), found, remedy, name);
  };
  // Memory is of the size that the expressions gave.
  for (size_t i = 0; i < facts_->outputs.size(); ++i) {
    const size_t output = facts_->outputs[i];
    const Dims& theirs = outputs[i].dims;
    const bool same = call_.is_counted(output) || !all_known(theirs) ||
                      shape_of(theirs) == call_.output_shape(output);
    const DType dtype = dtype_of(outputs[i].type, facts_->uint8_outputs[i]);
    if (!same || dtype != call_.output_dtype(output)) {
      refuse("output " + std::to_string(output) + " is " +
                 std::string(dtype_name(call_.output_dtype(output))) + " " +
                 call_.output_shape(output).text() + " by its shape function on numbers, and " +
                 std::string(dtype_name(dtype)) + " " + dims_text(theirs) +
                 " by the same on TensorRT's expressions",
             "mend the op: its shapes must not hang on known()");
    }
  }
  for (size_t i = 0; i < call_.output_count(); ++i) {
    if (!std::ranges::count(facts_->outputs, i)) call_.skip_output(i);
  }
  if (call_.counted_extents() > facts_->counted) {
    refuse("its shape function counts " + std::to_string(call_.counted_extents()) +
               " extents, and counted " + std::to_string(facts_->counted) + " when it was built",
           "mend the op: how many it counts must not hang on known()");
  }
  counts_.resize(call_.counted_extents());
  const size_t scratch = call_.cuda_scratch();
  if (building_) scratch_ = std::max(scratch_, scratch);
  if (scratch > scratch_) {
    refuse("it asks for " + std::to_string(scratch) + " bytes of scratch memory, and for " +
               std::to_string(scratch_) + " with the greatest shapes",
           "mend the op: smaller shapes must not need more");
  }
  planned_ = true;
}

int32_t Plugin::onShapeChange(const PluginTensorDesc* inputs, int32_t input_count,
                              const PluginTensorDesc* outputs, int32_t output_count) noexcept {
  try {
    check_counts(input_count, output_count);
    if (on_gpu_ == nullptr) on_gpu_ = &constants_->get();
    const bool known = std::all_of(inputs, inputs + input_count, [](const PluginTensorDesc& input) {
      return all_known(input.dims);
    });
    planned_ = false;
    if (known) plan(inputs, outputs);  // else the data decides them, and enqueue() is told
    return kDone;
  } catch (...) {
    keep_failure("setting the shapes of");
    return kFailed;
  }
}

int32_t Plugin::enqueue(const PluginTensorDesc* input_descs, const PluginTensorDesc* output_descs,
                        const void* const* inputs, void* const* outputs, void* workspace,
                        StreamHandle stream) noexcept {
  try {
    if (on_gpu_ == nullptr) [[unlikely]] {
      throw make_error(Code::kInternal, "running " + facts_->state->where(),
                       "TensorRT has neither attached its plugin nor told its shapes",
                       "report this", facts_->state->entry().name);
    }
    if (!is_planned(input_descs)) [[unlikely]] {
      plan(input_descs, output_descs);
    }
    for (size_t i = 0; i < facts_->inputs.size(); ++i) {
      call_.set_input(facts_->inputs[i], inputs[i]);
    }
    for (size_t i = 0; i < facts_->outputs.size(); ++i) {
      call_.set_output(facts_->outputs[i], outputs[i]);
    }
    for (size_t i = 0; i < counts_.size(); ++i) {
      counts_[i] = static_cast<int64_t*>(outputs[facts_->outputs.size() + i]);
    }
    const uintptr_t start = reinterpret_cast<uintptr_t>(workspace) + kScratchAlignment - 1;
    void* scratch = workspace == nullptr
                        ? nullptr
                        // NOLINTNEXTLINE(performance-no-int-to-ptr): alignment of an address
                        : reinterpret_cast<void*>(start / kScratchAlignment * kScratchAlignment);
    call_.run_cuda(stream, scratch, counts_, *on_gpu_, constants_->device());
    return kDone;
  } catch (...) {
    keep_failure("running");
    return kFailed;
  }
}

PluginV3* Plugin::attachToContext(PluginResourceContext*) noexcept {
  try {
    auto attached = std::make_unique<Plugin>(*this);
    // A builder attaches plugins too, also where there is no GPU: onShapeChange tells that there
    // is.
    if (!building_) attached->on_gpu_ = &constants_->get();
    return attached.release();
  } catch (...) {
    keep_failure("making an execution context for");
    return nullptr;
  }
}

const PluginFieldCollection* Plugin::getFieldsToSerialize() noexcept {
  count(PluginCallback::kSerialize);
  try {
    if (!fields_) fields_ = std::make_unique<PluginFields>(*facts_, scratch_);
    return fields_->get();
  } catch (...) {
    keep_failure("serializing");
    return nullptr;
  }
}

}  // namespace zerolane::trt
