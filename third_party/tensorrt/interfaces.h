// SPDX-License-Identifier: Apache-2.0
// Classes that an application derives from and hands to TensorRT. The order of the virtual methods,
// the place of the destructor and the strings of getInterfaceInfo are the interface; names of
// methods are the vendor's. No exception may leave any of them. The library borrows the objects
// unless a comment says otherwise. See README.md beside this file.
#pragma once

#include "tensorrt/types.h"

namespace zerolane::trt {

class VersionedInterface {
 public:
  virtual APILanguage getAPILanguage() const noexcept { return APILanguage::kCpp; }
  virtual InterfaceInfo getInterfaceInfo() const noexcept = 0;
  virtual ~VersionedInterface() = default;

 protected:
  VersionedInterface() = default;
  VersionedInterface(const VersionedInterface&) = default;
  VersionedInterface& operator=(const VersionedInterface&) = default;
};

// Two layouts of the logger: that of TensorRT 10, and that of TensorRT 11 and TensorRT-RTX. Any
// thread may log.
class Logger10 {
 public:
  virtual void log(Severity severity, const char* message) noexcept = 0;
  virtual ~Logger10() = default;
};

class Logger : public VersionedInterface {
 public:
  InterfaceInfo getInterfaceInfo() const noexcept override { return {"ILogger", 1, 0}; }
  virtual void log(Severity severity, const char* message) noexcept = 0;
};

// The same two layouts of the profiler.
class Profiler10 {
 public:
  virtual void reportLayerTime(const char* layer, float milliseconds) noexcept = 0;
  virtual ~Profiler10() = default;
};

class Profiler : public VersionedInterface {
 public:
  InterfaceInfo getInterfaceInfo() const noexcept override { return {"IProfiler", 1, 0}; }
  virtual void reportLayerTime(const char* layer, float milliseconds) noexcept = 0;
};

// Phases of a build nest and run on several threads at once. stepComplete: false ends the build,
// which returns null.
class ProgressMonitor : public VersionedInterface {
 public:
  InterfaceInfo getInterfaceInfo() const noexcept override { return {"IProgressMonitor", 1, 0}; }
  virtual void phaseStart(const char* phase, const char* parent, int32_t steps) noexcept = 0;
  virtual bool stepComplete(const char* phase, int32_t step) noexcept = 0;
  virtual void phaseFinish(const char* phase) noexcept = 0;
};

// Reference counted by the library; it never deletes one. Any thread may report.
class ErrorRecorder : public VersionedInterface {
 public:
  InterfaceInfo getInterfaceInfo() const noexcept override { return {"IErrorRecorder", 1, 0}; }
  virtual int32_t getNbErrors() const noexcept = 0;
  virtual ErrorCode getErrorCode(int32_t index) const noexcept = 0;
  virtual const char* getErrorDesc(int32_t index) const noexcept = 0;
  virtual bool hasOverflowed() const noexcept = 0;
  virtual void clear() noexcept = 0;
  virtual bool reportError(ErrorCode code, const char* text) noexcept = 0;  // true: end the work
  virtual int32_t incRefCount() noexcept = 0;
  virtual int32_t decRefCount() noexcept = 0;
};

// Device memory. Sizes in bytes; null for none; flags: a mask of 1 << AllocatorFlag.
class GpuAllocator : public VersionedInterface {
 public:
  InterfaceInfo getInterfaceInfo() const noexcept override { return {"IGpuAllocator", 1, 0}; }
  virtual void* allocate(uint64_t size, uint64_t alignment, uint32_t flags) noexcept = 0;
  virtual void* reallocate(void* /*memory*/, uint64_t /*alignment*/, uint64_t /*size*/) noexcept {
    return nullptr;
  }
  virtual bool deallocate(void* memory) noexcept = 0;
  virtual void* allocateAsync(uint64_t size, uint64_t alignment, uint32_t flags,
                              StreamHandle /*stream*/) noexcept {
    return allocate(size, alignment, flags);
  }
  virtual bool deallocateAsync(void* memory, StreamHandle /*stream*/) noexcept {
    return deallocate(memory);
  }
};

class GpuAsyncAllocator : public GpuAllocator {
 public:
  void* allocate(uint64_t size, uint64_t alignment, uint32_t flags) noexcept override {
    return allocateAsync(size, alignment, flags, nullptr);
  }
  bool deallocate(void* memory) noexcept override { return deallocateAsync(memory, nullptr); }
  void* allocateAsync(uint64_t size, uint64_t alignment, uint32_t flags,
                      StreamHandle stream) noexcept override = 0;
  bool deallocateAsync(void* memory, StreamHandle stream) noexcept override = 0;
};

// Memory for one output whose size the run decides. `current` is the address set before.
class OutputAllocator : public VersionedInterface {
 public:
  InterfaceInfo getInterfaceInfo() const noexcept override { return {"IOutputAllocator", 1, 0}; }
  virtual void* reallocateOutput(const char* /*tensor*/, void* /*current*/, uint64_t /*size*/,
                                 uint64_t /*alignment*/) noexcept {
    return nullptr;
  }
  virtual void* reallocateOutputAsync(const char* tensor, void* current, uint64_t size,
                                      uint64_t alignment, StreamHandle /*stream*/) noexcept {
    return reallocateOutput(tensor, current, size, alignment);
  }
  virtual void notifyShape(const char* tensor, const Dims& shape) noexcept = 0;
};

// Returns the bytes read; less than asked at the end, negative for failure.
class StreamReader : public VersionedInterface {
 public:
  InterfaceInfo getInterfaceInfo() const noexcept override { return {"IStreamReader", 1, 0}; }
  virtual int64_t read(void* destination, int64_t size) noexcept = 0;
};

// The destination may be device memory.
class StreamReaderV2 : public VersionedInterface {
 public:
  InterfaceInfo getInterfaceInfo() const noexcept override { return {"IStreamReaderV2", 1, 0}; }
  virtual int64_t read(void* destination, int64_t size, StreamHandle stream) noexcept = 0;
  virtual bool seek(int64_t offset, SeekPosition from) noexcept = 0;
};

// Returns the bytes written.
class StreamWriter : public VersionedInterface {
 public:
  InterfaceInfo getInterfaceInfo() const noexcept override { return {"IStreamWriter", 1, 0}; }
  virtual int64_t write(const void* source, int64_t size) noexcept = 0;
};

class DebugListener : public VersionedInterface {
 public:
  InterfaceInfo getInterfaceInfo() const noexcept override { return {"IDebugListener", 1, 0}; }
  virtual bool processDebugTensor(const void* address, TensorLocation location, DataType type,
                                  const Dims& shape, const char* name,
                                  StreamHandle stream) noexcept = 0;
};

// Plugins.

// Made by the library, for attachToContext alone.
class PluginResourceContext {
 public:
  virtual GpuAllocator* getGpuAllocator() const noexcept = 0;
  virtual ErrorRecorder* getErrorRecorder() const noexcept = 0;
  virtual ~PluginResourceContext() = default;
};

class PluginResource : public VersionedInterface {
 public:
  InterfaceInfo getInterfaceInfo() const noexcept override { return {"IPluginResource", 1, 0}; }
  virtual int32_t release() noexcept = 0;  // 0: done
  virtual PluginResource* clone() noexcept = 0;
};

// The base of the three capabilities.
class PluginCapability : public VersionedInterface {};

// A plugin that createPlugin or clone returned is the library's, which deletes it. One object may
// derive from this class and from the three capabilities: getCapabilityInterface then answers with
// the address of the base, and getInterfaceInfo must stay as each base has it.
class PluginV3 : public VersionedInterface {
 public:
  InterfaceInfo getInterfaceInfo() const noexcept override { return {"PLUGIN", 1, 0}; }
  virtual PluginCapability* getCapabilityInterface(PluginCapabilityType type) noexcept = 0;
  virtual PluginV3* clone() noexcept = 0;
};

class PluginV3OneCore : public PluginCapability {
 public:
  InterfaceInfo getInterfaceInfo() const noexcept override { return {"PLUGIN_V3ONE_CORE", 1, 0}; }
  virtual const char* getPluginName() const noexcept = 0;
  virtual const char* getPluginVersion() const noexcept = 0;
  virtual const char* getPluginNamespace() const noexcept = 0;
};

// Methods that return int32_t: 0 for success.
class PluginV3OneBuild : public PluginCapability {
 public:
  InterfaceInfo getInterfaceInfo() const noexcept override { return {"PLUGIN_V3ONE_BUILD", 1, 0}; }
  virtual int32_t configurePlugin(const DynamicPluginTensorDesc* inputs, int32_t input_count,
                                  const DynamicPluginTensorDesc* outputs,
                                  int32_t output_count) noexcept = 0;
  virtual int32_t getOutputDataTypes(DataType* outputs, int32_t output_count,
                                     const DataType* inputs,
                                     int32_t input_count) const noexcept = 0;
  virtual int32_t getOutputShapes(const DimsExprs* inputs, int32_t input_count,
                                  const DimsExprs* shape_inputs, int32_t shape_input_count,
                                  DimsExprs* outputs, int32_t output_count,
                                  ExprBuilder& builder) noexcept = 0;
  virtual bool supportsFormatCombination(int32_t position, const DynamicPluginTensorDesc* tensors,
                                         int32_t input_count, int32_t output_count) noexcept = 0;
  virtual int32_t getNbOutputs() const noexcept = 0;
  virtual size_t getWorkspaceSize(const DynamicPluginTensorDesc* /*inputs*/,
                                  int32_t /*input_count*/,
                                  const DynamicPluginTensorDesc* /*outputs*/,
                                  int32_t /*output_count*/) const noexcept {
    return 0;
  }
  virtual int32_t getValidTactics(int32_t* /*tactics*/, int32_t /*count*/) noexcept { return 0; }
  virtual int32_t getNbTactics() noexcept { return 0; }
  virtual const char* getTimingCacheID() noexcept { return nullptr; }
  virtual int32_t getFormatCombinationLimit() noexcept { return 100; }
  virtual const char* getMetadataString() noexcept { return nullptr; }
};

// From TensorRT 10.3 on. An output may use the memory of an input (getAliasedInput: its index, or
// -1).
class PluginV3OneBuildV2 : public PluginV3OneBuild {
 public:
  InterfaceInfo getInterfaceInfo() const noexcept override { return {"PLUGIN_V3ONE_BUILD", 2, 0}; }
  virtual int32_t getAliasedInput(int32_t /*output*/) noexcept { return -1; }
};

class PluginV3OneRuntime : public PluginCapability {
 public:
  InterfaceInfo getInterfaceInfo() const noexcept override {
    return {"PLUGIN_V3ONE_RUNTIME", 1, 0};
  }
  virtual int32_t setTactic(int32_t /*tactic*/) noexcept { return 0; }
  virtual int32_t onShapeChange(const PluginTensorDesc* inputs, int32_t input_count,
                                const PluginTensorDesc* outputs, int32_t output_count) noexcept = 0;
  virtual int32_t enqueue(const PluginTensorDesc* input_descs, const PluginTensorDesc* output_descs,
                          const void* const* inputs, void* const* outputs, void* workspace,
                          StreamHandle stream) noexcept = 0;
  virtual PluginV3* attachToContext(PluginResourceContext* context) noexcept = 0;
  virtual const PluginFieldCollection* getFieldsToSerialize() noexcept = 0;
};

class PluginCreatorInterface : public VersionedInterface {};

// Stays registered until deregisterCreator; keep it alive until then.
class PluginCreatorV3One : public PluginCreatorInterface {
 public:
  InterfaceInfo getInterfaceInfo() const noexcept override {
    return {"PLUGIN CREATOR_V3ONE", 1, 0};
  }
  virtual PluginV3* createPlugin(const char* name, const PluginFieldCollection* fields,
                                 TensorRTPhase phase) noexcept = 0;
  virtual const PluginFieldCollection* getFieldNames() noexcept = 0;
  virtual const char* getPluginName() const noexcept = 0;
  virtual const char* getPluginVersion() const noexcept = 0;
  virtual const char* getPluginNamespace() const noexcept = 0;
};

}  // namespace zerolane::trt
