// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "registry/call.h"
#include "trt/calls.h"
#include "trt/plugin_failures.h"
#include "trt/plugin_fields.h"

namespace zerolane::trt {

// The op's constants on the GPU that its plugin runs on, made once for all execution contexts.
class PluginConstants {
 public:
  // `device`: -1 for the thread's current GPU, which a builder measures on.
  PluginConstants(std::shared_ptr<const OpState> state, int device)
      : state_(std::move(state)), device_(device) {}
  // Blocks while it copies, the first time.
  const DeviceConstants& get();
  // Known once get() was called.
  int device() const noexcept { return device_; }

 private:
  std::shared_ptr<const OpState> state_;
  std::mutex mutex_;  // guards the two below
  int device_;
  std::unique_ptr<DeviceConstants> made_;
};

// An op as a TensorRT plugin, for one node of a network or of an engine. The library deletes it,
// and copies of it. One thread at a time calls an object; copies are called at once. What a
// callback fails with goes to the failures.
class Plugin final : public PluginV3,
                     public PluginV3OneCore,
                     public PluginV3OneBuild,
                     public PluginV3OneRuntime {
 public:
  // `scratch`: bytes that the build granted; nullopt while building. `device`: see PluginConstants.
  Plugin(const Calls& calls, std::shared_ptr<const PluginFacts> facts,
         std::shared_ptr<PluginFailures> failures, std::optional<size_t> scratch, int device);
  Plugin(const Plugin& other);
  Plugin& operator=(const Plugin&) = delete;

  PluginCapability* getCapabilityInterface(PluginCapabilityType type) noexcept override;
  PluginV3* clone() noexcept override;

  const char* getPluginName() const noexcept override;
  const char* getPluginVersion() const noexcept override;
  const char* getPluginNamespace() const noexcept override { return ""; }

  int32_t configurePlugin(const DynamicPluginTensorDesc* inputs, int32_t input_count,
                          const DynamicPluginTensorDesc* outputs,
                          int32_t output_count) noexcept override;
  int32_t getOutputDataTypes(DataType* outputs, int32_t output_count, const DataType* inputs,
                             int32_t input_count) const noexcept override;
  int32_t getOutputShapes(const DimsExprs* inputs, int32_t input_count,
                          const DimsExprs* shape_inputs, int32_t shape_input_count,
                          DimsExprs* outputs, int32_t output_count,
                          ExprBuilder& builder) noexcept override;
  bool supportsFormatCombination(int32_t position, const DynamicPluginTensorDesc* tensors,
                                 int32_t input_count, int32_t output_count) noexcept override;
  int32_t getNbOutputs() const noexcept override;
  size_t getWorkspaceSize(const DynamicPluginTensorDesc* inputs, int32_t input_count,
                          const DynamicPluginTensorDesc* outputs,
                          int32_t output_count) const noexcept override;
  const char* getTimingCacheID() noexcept override { return facts_->timing_id.c_str(); }

  int32_t onShapeChange(const PluginTensorDesc* inputs, int32_t input_count,
                        const PluginTensorDesc* outputs, int32_t output_count) noexcept override;
  int32_t enqueue(const PluginTensorDesc* input_descs, const PluginTensorDesc* output_descs,
                  const void* const* inputs, void* const* outputs, void* workspace,
                  StreamHandle stream) noexcept override;
  PluginV3* attachToContext(PluginResourceContext* context) noexcept override;
  const PluginFieldCollection* getFieldsToSerialize() noexcept override;

 private:
  void count(PluginCallback callback) const noexcept {
    facts_->counts[static_cast<size_t>(callback)].fetch_add(1, std::memory_order_relaxed);
  }
  bool keep_failure(const char* doing) const noexcept;
  void check_counts(int32_t input_count, int32_t output_count) const;
  [[noreturn]] void refuse_uint8(const std::string& what) const;
  std::vector<DType> types_of(std::span<const DataType> inputs) const;
  DataType output_type(size_t index, const std::vector<DType>& types) const;
  size_t scratch_for(const DynamicPluginTensorDesc* inputs) const;
  bool is_planned(const PluginTensorDesc* inputs) const;
  void plan(const PluginTensorDesc* inputs, const PluginTensorDesc* outputs);

  const Calls& calls_;
  std::shared_ptr<const PluginFacts> facts_;
  std::shared_ptr<PluginFailures> failures_;
  std::shared_ptr<PluginConstants> constants_;
  const DeviceConstants* on_gpu_ = nullptr;  // once there is something to run on
  const bool building_;
  size_t scratch_;  // granted, or found out so far
  OpCall call_;
  bool planned_ = false;
  std::vector<int64_t*> counts_;
  std::unique_ptr<PluginFields> fields_;
};

}  // namespace zerolane::trt
