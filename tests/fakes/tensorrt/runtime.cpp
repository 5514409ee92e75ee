// SPDX-License-Identifier: Apache-2.0
// What the library exports, the runtime, its configuration and its cache of kernels.
#include <cstring>
#include <sstream>

#include "objects.h"

namespace fake {
namespace {

constexpr int kMajor = FAKE_FAMILY;
constexpr const char* kVersion = FAKE_VERSION;
constexpr const char* kCacheMagic = "FAKE-KERNELS\n";

CudaEngine* deserialize(RuntimeFake& runtime, const void* data, size_t size) {
  ++number("deserialized");
  if (planned("fail.deserialize")) {
    runtime.report.error(ErrorCode::kFailedAllocation, "Error Code 2: OutOfMemory (planned)");
    return nullptr;
  }
  Plan plan;
  std::string reason;
  if (!read_plan(data, size, &plan, &reason)) {
    runtime.report.error(ErrorCode::kInternalError, reason);
    return nullptr;
  }
  if (plan.version != kVersion) {
    runtime.report.error(ErrorCode::kInternalError, "Version tag does not match: the plan is of " +
                                                        plan.version + ", this library is " +
                                                        kVersion);
    return nullptr;
  }
  if (plan.host_code && !runtime.host_code_allowed) {
    runtime.report.error(ErrorCode::kInvalidState,
                         "host code in the plan, and setEngineHostCodeAllowed is false");
    return nullptr;
  }
  try {
    return (new EngineFake(std::move(plan), runtime.report.logger, runtime.registry))
        ->address<CudaEngine>();
  } catch (const std::exception& error) {
    runtime.report.error(ErrorCode::kInternalError, error.what());
    return nullptr;
  }
}

FAKE(Runtime, deserializeCudaEngine, [](void* self, const void* data, size_t size) {
  return deserialize(self_of<RuntimeFake>(self), data, size);
});
FAKE(Runtime, getPluginRegistry,
     [](void* self) { return self_of<RuntimeFake>(self).registry.direct(); });
FAKE(Runtime, setErrorRecorder,
     [](void* self, ErrorRecorder* recorder) { self_of<RuntimeFake>(self).report.set(recorder); });
FAKE(Runtime, setEngineHostCodeAllowed,
     [](void* self, bool allowed) { self_of<RuntimeFake>(self).host_code_allowed = allowed; });
FAKE(Runtime, getEngineHostCodeAllowed,
     [](void* self) { return self_of<RuntimeFake>(self).host_code_allowed; });
FAKE(Runtime, getLogger, [](void* self) { return self_of<RuntimeFake>(self).report.logger; });

FAKE(HostMemory, data,
     [](void* self) -> void* { return self_of<HostMemoryFake>(self).bytes.data(); });
FAKE(HostMemory, size, [](void* self) { return self_of<HostMemoryFake>(self).bytes.size(); });
FAKE(HostMemory, type, [](void*) { return DataType::kInt8; });

FAKE(RuntimeConfig, setExecutionContextAllocationStrategy,
     [](void* self, ExecutionContextAllocationStrategy strategy) {
       self_of<ConfigFake>(self).strategy = strategy;
     });
FAKE(RuntimeConfig, getExecutionContextAllocationStrategy,
     [](void* self) { return self_of<ConfigFake>(self).strategy; });
FAKE(RuntimeConfig, createRuntimeCache,
     [](void*) { return (new CacheFake)->address<RuntimeCache>(); });
FAKE(RuntimeConfig, setRuntimeCache, [](void* self, const RuntimeCache* cache) {
  self_of<ConfigFake>(self).cache = &behind<CacheFake>(cache);
  return true;
});

FAKE(RuntimeCache, serialize, [](void* self) {
  auto& cache = self_of<CacheFake>(self);
  std::lock_guard lock(cache.mutex);
  std::string text = kCacheMagic;
  for (const auto& kernel : cache.kernels) text += kernel.first + "\n";
  return (new HostMemoryFake(text))->address<HostMemory>();
});
FAKE(RuntimeCache, deserialize, [](void* self, const void* data, size_t size) {
  auto& cache = self_of<CacheFake>(self);
  std::string text(static_cast<const char*>(data), size);
  if (text.compare(0, std::strlen(kCacheMagic), kCacheMagic) != 0) return false;
  std::istringstream lines(text.substr(std::strlen(kCacheMagic)));
  std::lock_guard lock(cache.mutex);
  for (std::string line; std::getline(lines, line);) cache.kernels[line] = 1;
  number("kernels.read") += static_cast<int64_t>(cache.kernels.size());
  return true;
});

}  // namespace
}  // namespace fake

extern "C" {
#define EXPORT __attribute__((visibility("default")))
EXPORT int32_t getInferLibVersion() { return FAKE_FAMILY * 10000 + FAKE_MINOR * 100 + FAKE_PATCH; }
EXPORT void* createInferRuntime_INTERNAL(void* logger, int32_t version) {
  if (version != getInferLibVersion() || logger == nullptr) return nullptr;
  return (new fake::RuntimeFake(logger))->address<void>();
}
}
