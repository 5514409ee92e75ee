// SPDX-License-Identifier: Apache-2.0
// libzerolane_cuda.so: the table over the CUDA runtime, which is linked in statically.
#include <cuda_runtime_api.h>

#include <cstdio>
#include <cstring>

#include "cuda/strided_cuda.cuh"
#include "cuda/table.h"

namespace zerolane::cuda {
namespace {

cudaStream_t real(NativeStream* stream) { return reinterpret_cast<cudaStream_t>(stream); }
cudaEvent_t real(NativeEvent* event) { return reinterpret_cast<cudaEvent_t>(event); }
cudaGraph_t real(NativeGraph* graph) { return reinterpret_cast<cudaGraph_t>(graph); }
cudaGraphExec_t real(NativeGraphExec* exec) { return reinterpret_cast<cudaGraphExec_t>(exec); }
cudaMemPool_t real(NativePool* pool) { return reinterpret_cast<cudaMemPool_t>(pool); }

// The runtime also remembers a failure for whoever asks next in this thread; our callers get it
// here and now.
int32_t told(cudaError_t status) {
  if (status != cudaSuccess && status != cudaErrorNotReady) cudaGetLastError();
  return static_cast<int32_t>(status);
}

// cudaSetDevice() makes a context on the device it is given, so a device without one must not be
// "restored".
bool has_context(int device) {
  using State = int (*)(int device, unsigned* flags, int* active);
  static const auto state = [] {
    void* found = nullptr;
    cudaDriverEntryPointQueryResult result{};
    cudaGetDriverEntryPointByVersion("cuDevicePrimaryCtxGetState", &found, 12000, cudaEnableDefault,
                                     &result);
    return reinterpret_cast<State>(found);
  }();
  unsigned flags = 0;
  int active = 0;
  return state != nullptr && state(device, &flags, &active) == 0 && active != 0;
}

// Makes a device current for one call.
class On {
 public:
  explicit On(int device) {
    status_ = cudaGetDevice(&previous_);
    if (status_ == cudaSuccess && previous_ != device) {
      restore_ = has_context(previous_);
      status_ = cudaSetDevice(device);
    }
  }
  ~On() {
    if (restore_) cudaSetDevice(previous_);
  }
  On(const On&) = delete;
  On& operator=(const On&) = delete;

  template <class Body>
  int32_t run(Body body) {
    return told(status_ == cudaSuccess ? body() : status_);
  }

 private:
  cudaError_t status_ = cudaSuccess;
  int previous_ = 0;
  bool restore_ = false;
};

const char* error_name(int32_t status) noexcept {
  return cudaGetErrorName(static_cast<cudaError_t>(status));
}
const char* error_text(int32_t status) noexcept {
  return cudaGetErrorString(static_cast<cudaError_t>(status));
}

StatusKind status_kind(int32_t status) noexcept {
  switch (static_cast<cudaError_t>(status)) {
    case cudaSuccess:
      return StatusKind::kSuccess;
    case cudaErrorNotReady:
      return StatusKind::kNotReady;
    case cudaErrorMemoryAllocation:
      return StatusKind::kOutOfMemory;
    case cudaErrorInsufficientDriver:
    case cudaErrorStubLibrary:
    case cudaErrorSystemDriverMismatch:
    case cudaErrorCompatNotSupportedOnDevice:
      return StatusKind::kNoDriver;
    case cudaErrorNoDevice:
    case cudaErrorInvalidDevice:
    case cudaErrorDevicesUnavailable:
      return StatusKind::kNoDevice;
    case cudaErrorInvalidValue:
    case cudaErrorInvalidResourceHandle:
    case cudaErrorInvalidMemcpyDirection:
      return StatusKind::kInvalid;
    case cudaErrorStreamCaptureUnsupported:
    case cudaErrorStreamCaptureInvalidated:
    case cudaErrorStreamCaptureMerge:
    case cudaErrorStreamCaptureUnmatched:
    case cudaErrorStreamCaptureUnjoined:
    case cudaErrorStreamCaptureIsolation:
    case cudaErrorStreamCaptureImplicit:
    case cudaErrorStreamCaptureWrongThread:
      return StatusKind::kCapture;
    case cudaErrorIllegalAddress:
    case cudaErrorLaunchFailure:
    case cudaErrorLaunchTimeout:
    case cudaErrorAssert:
    case cudaErrorHardwareStackError:
    case cudaErrorIllegalInstruction:
    case cudaErrorMisalignedAddress:
    case cudaErrorInvalidAddressSpace:
    case cudaErrorInvalidPc:
    case cudaErrorECCUncorrectable:
    case cudaErrorNvlinkUncorrectable:
    case cudaErrorContextIsDestroyed:
    case cudaErrorExternalDevice:
    case cudaErrorMpsConnectionFailed:
      return StatusKind::kFatal;
    default:
      return StatusKind::kOther;
  }
}

int32_t driver_version(int32_t* version) noexcept { return told(cudaDriverGetVersion(version)); }
int32_t runtime_version(int32_t* version) noexcept { return told(cudaRuntimeGetVersion(version)); }
int32_t device_count(int32_t* count) noexcept { return told(cudaGetDeviceCount(count)); }

int32_t device_info(int32_t device, DeviceInfo* info) noexcept {
  cudaDeviceProp facts{};
  cudaError_t status = cudaGetDeviceProperties(&facts, device);
  if (status != cudaSuccess) return told(status);
  *info = {};
  static_assert(sizeof(info->name) == sizeof(facts.name));
  std::memcpy(info->name, facts.name, sizeof(info->name));
  std::memcpy(info->uuid, &facts.uuid, sizeof(info->uuid));
  std::snprintf(info->pci, sizeof(info->pci), "%04x:%02x:%02x.0", facts.pciDomainID, facts.pciBusID,
                facts.pciDeviceID);
  info->major = facts.major;
  info->minor = facts.minor;
  info->multiprocessors = facts.multiProcessorCount;
  info->memory_bus_bits = facts.memoryBusWidth;
  info->copy_engines = facts.asyncEngineCount;
  info->integrated = facts.integrated;
  info->memory_pools = facts.memoryPoolsSupported;
  info->memory_bytes = facts.totalGlobalMem;
  info->l2_bytes = static_cast<uint64_t>(facts.l2CacheSize);
  // Virtual machines may hide the clocks.
  if (cudaDeviceGetAttribute(&info->clock_khz, cudaDevAttrClockRate, device) != cudaSuccess) {
    info->clock_khz = 0;
  }
  if (cudaDeviceGetAttribute(&info->memory_clock_khz, cudaDevAttrMemoryClockRate, device) !=
      cudaSuccess) {
    info->memory_clock_khz = 0;
  }
  cudaGetLastError();
  return 0;
}

int32_t memory_info(int32_t device, uint64_t* free_bytes, uint64_t* total_bytes) noexcept {
  size_t free = 0;
  size_t total = 0;
  int32_t status = On(device).run([&] { return cudaMemGetInfo(&free, &total); });
  *free_bytes = free;
  *total_bytes = total;
  return status;
}

int32_t pointer_info(int32_t device, const void* data, PointerInfo* info) noexcept {
  cudaPointerAttributes facts{};
  int32_t status = On(device).run([&] { return cudaPointerGetAttributes(&facts, data); });
  if (status != 0) return status;
  *info = {MemoryKind::kHost, -1};
  if (facts.type == cudaMemoryTypeHost) *info = {MemoryKind::kPinned, facts.device};
  if (facts.type == cudaMemoryTypeDevice) *info = {MemoryKind::kDevice, facts.device};
  if (facts.type == cudaMemoryTypeManaged) *info = {MemoryKind::kManaged, facts.device};
  return 0;
}

int32_t pool_create(int32_t device, uint64_t release_threshold, NativePool** pool) noexcept {
  return On(device).run([&] {
    cudaMemPoolProps wanted{};
    wanted.allocType = cudaMemAllocationTypePinned;
    wanted.location.type = cudaMemLocationTypeDevice;
    wanted.location.id = device;
    cudaMemPool_t made = nullptr;
    cudaError_t status = cudaMemPoolCreate(&made, &wanted);
    if (status != cudaSuccess) return status;
    status = cudaMemPoolSetAttribute(made, cudaMemPoolAttrReleaseThreshold, &release_threshold);
    if (status != cudaSuccess) {
      cudaMemPoolDestroy(made);
      return status;
    }
    *pool = reinterpret_cast<NativePool*>(made);
    return cudaSuccess;
  });
}
int32_t pool_destroy(int32_t device, NativePool* pool) noexcept {
  return On(device).run([&] { return cudaMemPoolDestroy(real(pool)); });
}
int32_t pool_allocate(int32_t device, NativePool* pool, uint64_t bytes, NativeStream* stream,
                      void** data) noexcept {
  return On(device).run(
      [&] { return cudaMallocFromPoolAsync(data, bytes, real(pool), real(stream)); });
}
int32_t pool_free(int32_t device, void* data, NativeStream* stream) noexcept {
  return On(device).run([&] { return cudaFreeAsync(data, real(stream)); });
}
int32_t pool_trim(int32_t device, NativePool* pool, uint64_t keep_bytes) noexcept {
  return On(device).run([&] { return cudaMemPoolTrimTo(real(pool), keep_bytes); });
}
int32_t pool_usage(int32_t device, NativePool* pool, PoolUsage* usage) noexcept {
  return On(device).run([&] {
    *usage = {};
    const struct {
      cudaMemPoolAttr attribute;
      uint64_t* value;
    } wanted[] = {{cudaMemPoolAttrReservedMemCurrent, &usage->reserved_bytes},
                  {cudaMemPoolAttrUsedMemCurrent, &usage->used_bytes},
                  {cudaMemPoolAttrReservedMemHigh, &usage->peak_reserved_bytes},
                  {cudaMemPoolAttrUsedMemHigh, &usage->peak_used_bytes}};
    for (const auto& [attribute, value] : wanted) {
      cudaError_t status = cudaMemPoolGetAttribute(real(pool), attribute, value);
      if (status != cudaSuccess) return status;
    }
    return cudaSuccess;
  });
}

int32_t device_allocate(int32_t device, uint64_t bytes, void** data) noexcept {
  return On(device).run([&] { return cudaMalloc(data, bytes); });
}
int32_t device_free(int32_t device, void* data) noexcept {
  return On(device).run([&] { return cudaFree(data); });
}
int32_t host_allocate(int32_t device, uint64_t bytes, void** data) noexcept {
  return On(device).run([&] { return cudaHostAlloc(data, bytes, cudaHostAllocPortable); });
}
int32_t host_free(int32_t device, void* data) noexcept {
  return On(device).run([&] { return cudaFreeHost(data); });
}
int32_t host_register(int32_t device, void* data, uint64_t bytes) noexcept {
  return On(device).run([&] { return cudaHostRegister(data, bytes, cudaHostRegisterPortable); });
}
int32_t host_unregister(int32_t device, void* data) noexcept {
  return On(device).run([&] { return cudaHostUnregister(data); });
}

int32_t stream_priorities(int32_t device, int32_t* least, int32_t* greatest) noexcept {
  return On(device).run([&] { return cudaDeviceGetStreamPriorityRange(least, greatest); });
}
int32_t stream_create(int32_t device, int32_t priority, NativeStream** stream) noexcept {
  return On(device).run([&] {
    return cudaStreamCreateWithPriority(reinterpret_cast<cudaStream_t*>(stream),
                                        cudaStreamNonBlocking, priority);
  });
}
int32_t stream_destroy(int32_t device, NativeStream* stream) noexcept {
  return On(device).run([&] { return cudaStreamDestroy(real(stream)); });
}
int32_t stream_synchronize(int32_t device, NativeStream* stream) noexcept {
  return On(device).run([&] { return cudaStreamSynchronize(real(stream)); });
}
int32_t stream_query(int32_t device, NativeStream* stream) noexcept {
  return On(device).run([&] { return cudaStreamQuery(real(stream)); });
}
int32_t stream_wait_event(int32_t device, NativeStream* stream, NativeEvent* event) noexcept {
  return On(device).run([&] { return cudaStreamWaitEvent(real(stream), real(event), 0); });
}

int32_t event_create(int32_t device, int32_t timing, int32_t blocking,
                     NativeEvent** event) noexcept {
  unsigned flags = (timing != 0 ? cudaEventDefault : cudaEventDisableTiming) |
                   (blocking != 0 ? cudaEventBlockingSync : 0U);
  return On(device).run(
      [&] { return cudaEventCreateWithFlags(reinterpret_cast<cudaEvent_t*>(event), flags); });
}
int32_t event_destroy(int32_t device, NativeEvent* event) noexcept {
  return On(device).run([&] { return cudaEventDestroy(real(event)); });
}
int32_t event_record(int32_t device, NativeEvent* event, NativeStream* stream) noexcept {
  return On(device).run([&] { return cudaEventRecord(real(event), real(stream)); });
}
int32_t event_synchronize(int32_t device, NativeEvent* event) noexcept {
  return On(device).run([&] { return cudaEventSynchronize(real(event)); });
}
int32_t event_query(int32_t device, NativeEvent* event) noexcept {
  return On(device).run([&] { return cudaEventQuery(real(event)); });
}
int32_t event_elapsed_ms(int32_t device, NativeEvent* from, NativeEvent* to, float* ms) noexcept {
  return On(device).run([&] { return cudaEventElapsedTime(ms, real(from), real(to)); });
}

int32_t copy_async(int32_t device, void* to, const void* from, uint64_t bytes, CopyKind kind,
                   NativeStream* stream) noexcept {
  cudaMemcpyKind direction = cudaMemcpyDefault;
  if (kind == CopyKind::kHostToDevice) direction = cudaMemcpyHostToDevice;
  if (kind == CopyKind::kDeviceToHost) direction = cudaMemcpyDeviceToHost;
  if (kind == CopyKind::kDeviceToDevice) direction = cudaMemcpyDeviceToDevice;
  return On(device).run([&] { return cudaMemcpyAsync(to, from, bytes, direction, real(stream)); });
}
int32_t fill_async(int32_t device, void* data, int32_t byte, uint64_t bytes,
                   NativeStream* stream) noexcept {
  return On(device).run([&] { return cudaMemsetAsync(data, byte, bytes, real(stream)); });
}
int32_t copy_strided_async(int32_t device, const StridedCopy* copy, NativeStream* stream) noexcept {
  return On(device).run([&] { return launch_strided_copy(*copy, real(stream)); });
}
int32_t launch_host(int32_t device, NativeStream* stream, HostFunction function,
                    void* argument) noexcept {
  return On(device).run([&] { return cudaLaunchHostFunc(real(stream), function, argument); });
}

int32_t capture_begin(int32_t device, NativeStream* stream) noexcept {
  return On(device).run(
      [&] { return cudaStreamBeginCapture(real(stream), cudaStreamCaptureModeThreadLocal); });
}
int32_t capture_end(int32_t device, NativeStream* stream, NativeGraph** graph) noexcept {
  return On(device).run(
      [&] { return cudaStreamEndCapture(real(stream), reinterpret_cast<cudaGraph_t*>(graph)); });
}
int32_t capture_state(int32_t device, NativeStream* stream, CaptureState* state) noexcept {
  cudaStreamCaptureStatus found{};
  int32_t status = On(device).run([&] { return cudaStreamIsCapturing(real(stream), &found); });
  *state = CaptureState::kNone;
  if (found == cudaStreamCaptureStatusActive) *state = CaptureState::kActive;
  if (found == cudaStreamCaptureStatusInvalidated) *state = CaptureState::kBroken;
  return status;
}
int32_t graph_nodes(int32_t device, NativeGraph* graph, uint64_t* count) noexcept {
  size_t nodes = 0;
  int32_t status = On(device).run([&] { return cudaGraphGetNodes(real(graph), nullptr, &nodes); });
  *count = nodes;
  return status;
}
int32_t graph_retain(int32_t device, NativeGraph* graph, void* object,
                     HostFunction destroy) noexcept {
  return On(device).run([&] {
    cudaUserObject_t owner = nullptr;
    cudaError_t status =
        cudaUserObjectCreate(&owner, object, destroy, 1, cudaUserObjectNoDestructorSync);
    if (status != cudaSuccess) {
      destroy(object);
      return status;
    }
    status = cudaGraphRetainUserObject(real(graph), owner, 1, cudaGraphUserObjectMove);
    if (status != cudaSuccess) cudaUserObjectRelease(owner, 1);  // destroys the object
    return status;
  });
}
int32_t graph_destroy(int32_t device, NativeGraph* graph) noexcept {
  return On(device).run([&] { return cudaGraphDestroy(real(graph)); });
}
int32_t graph_instantiate(int32_t device, NativeGraph* graph, NativeGraphExec** exec) noexcept {
  return On(device).run([&] {
    return cudaGraphInstantiate(reinterpret_cast<cudaGraphExec_t*>(exec), real(graph), 0);
  });
}
int32_t graph_update(int32_t device, NativeGraphExec* exec, NativeGraph* graph,
                     int32_t* updated) noexcept {
  *updated = 0;
  return On(device).run([&] {
    cudaGraphExecUpdateResultInfo why{};
    cudaError_t status = cudaGraphExecUpdate(real(exec), real(graph), &why);
    if (status == cudaErrorGraphExecUpdateFailure) {
      cudaGetLastError();
      return cudaSuccess;
    }
    if (status == cudaSuccess) *updated = 1;
    return status;
  });
}
int32_t graph_launch(int32_t device, NativeGraphExec* exec, NativeStream* stream) noexcept {
  return On(device).run([&] { return cudaGraphLaunch(real(exec), real(stream)); });
}
int32_t graph_exec_destroy(int32_t device, NativeGraphExec* exec) noexcept {
  return On(device).run([&] { return cudaGraphExecDestroy(real(exec)); });
}
int32_t make_current(int32_t device, int32_t* previous) noexcept {
  int before = 0;
  cudaError_t status = cudaGetDevice(&before);
  *previous = -1;
  if (status != cudaSuccess || before == device) return told(status);
  if (has_context(before)) *previous = before;
  return told(cudaSetDevice(device));
}

}  // namespace

extern "C" __attribute__((visibility("default"))) const Table* zerolane_cuda_table() noexcept {
  static const Table table = {
      .version = kTableVersion,
      .bytes = sizeof(Table),
      .library = "CUDA runtime, linked statically",
      .error_name = error_name,
      .error_text = error_text,
      .status_kind = status_kind,
      .driver_version = driver_version,
      .runtime_version = runtime_version,
      .device_count = device_count,
      .device_info = device_info,
      .memory_info = memory_info,
      .pointer_info = pointer_info,
      .pool_create = pool_create,
      .pool_destroy = pool_destroy,
      .pool_allocate = pool_allocate,
      .pool_free = pool_free,
      .pool_trim = pool_trim,
      .pool_usage = pool_usage,
      .device_allocate = device_allocate,
      .device_free = device_free,
      .host_allocate = host_allocate,
      .host_free = host_free,
      .host_register = host_register,
      .host_unregister = host_unregister,
      .stream_priorities = stream_priorities,
      .stream_create = stream_create,
      .stream_destroy = stream_destroy,
      .stream_synchronize = stream_synchronize,
      .stream_query = stream_query,
      .stream_wait_event = stream_wait_event,
      .event_create = event_create,
      .event_destroy = event_destroy,
      .event_record = event_record,
      .event_synchronize = event_synchronize,
      .event_query = event_query,
      .event_elapsed_ms = event_elapsed_ms,
      .copy_async = copy_async,
      .fill_async = fill_async,
      .copy_strided_async = copy_strided_async,
      .launch_host = launch_host,
      .capture_begin = capture_begin,
      .capture_end = capture_end,
      .capture_state = capture_state,
      .graph_nodes = graph_nodes,
      .graph_retain = graph_retain,
      .graph_destroy = graph_destroy,
      .graph_instantiate = graph_instantiate,
      .graph_update = graph_update,
      .graph_launch = graph_launch,
      .graph_exec_destroy = graph_exec_destroy,
      .make_current = make_current,
  };
  return &table;
}

}  // namespace zerolane::cuda
