// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>

// The border between zerolane and libzerolane_cuda.so: plain functions and structs, no exception
// and no C++ object across. The real library calls the CUDA runtime; tests/fakes/cuda has the same
// table over host memory. Functions are only ever appended, with a new kTableVersion.
namespace zerolane::cuda {

// Opaque objects of the runtime: cudaStream_t, cudaEvent_t, ... are exactly these addresses.
struct NativeStream;
struct NativeEvent;
struct NativeGraph;
struct NativeGraphExec;
struct NativePool;

// What a status means to us. Every other call of the table returns a status; 0 is success.
enum class StatusKind : int32_t {
  kSuccess,
  kNotReady,     // a query: the work is not done yet
  kOutOfMemory,  // of a device or of pinned host memory
  kNoDriver,     // no driver, or one too old
  kNoDevice,     // a driver, and no GPU that this process may use, or no such number
  kInvalid,      // an argument or a handle
  kCapture,      // not permitted while a stream is captured, or the capture broke
  kFatal,        // the context is lost: every later call fails too
  kOther,
};

enum class CopyKind : int32_t { kHostToDevice, kDeviceToHost, kDeviceToDevice, kInfer };
enum class MemoryKind : int32_t { kHost, kPinned, kDevice, kManaged };
enum class CaptureState : int32_t { kNone, kActive, kBroken };

struct DeviceInfo {
  char name[256];
  char pci[24];  // "0000:65:00.0"
  uint8_t uuid[16];
  int32_t major, minor;  // compute capability
  int32_t multiprocessors;
  int32_t clock_khz, memory_clock_khz, memory_bus_bits;  // 0: not known
  int32_t copy_engines;
  int32_t integrated;                         // shares the host's memory
  int32_t memory_pools;                       // stream-ordered pools work
  int32_t least_priority, greatest_priority;  // of streams; greater is the smaller number
  uint64_t memory_bytes;
  uint64_t l2_bytes;
};

struct PointerInfo {
  MemoryKind kind;
  int32_t device;  // -1 for plain host memory
};

struct PoolUsage {
  uint64_t reserved_bytes;  // held from the device
  uint64_t used_bytes;      // handed out
  uint64_t peak_reserved_bytes;
  uint64_t peak_used_bytes;
};

// Copies elements between two memories of one device. Strides are in bytes and may be negative or
// zero (source only); a dense side has the strides of its shape.
inline constexpr int kMaxStridedRank = 8;
struct StridedCopy {
  void* to;
  const void* from;
  int32_t element_bytes;  // 1, 2, 4, 8 or 16; addresses and strides are multiples of it
  int32_t rank;
  int64_t shape[kMaxStridedRank];
  int64_t to_strides[kMaxStridedRank];
  int64_t from_strides[kMaxStridedRank];
};

using HostFunction = void (*)(void* argument);

inline constexpr uint32_t kTableVersion = 1;

// `device` is the one that the other arguments belong to. Functions that take it work on that
// device, whatever the thread's current device is, put that back, and touch no other GPU. Streams
// may belong to others; null is the legacy default stream.
struct Table {
  uint32_t version;
  uint32_t bytes;       // sizeof(Table) where the library was built
  const char* library;  // what this is, in words

  const char* (*error_name)(int32_t status) noexcept;
  const char* (*error_text)(int32_t status) noexcept;
  StatusKind (*status_kind)(int32_t status) noexcept;

  // These four make no context on any device.
  int32_t (*driver_version)(int32_t* version) noexcept;  // 13000: CUDA 13.0; 0: no driver
  int32_t (*runtime_version)(int32_t* version) noexcept;
  int32_t (*device_count)(int32_t* count) noexcept;
  int32_t (*device_info)(int32_t device, DeviceInfo* info) noexcept;

  int32_t (*memory_info)(int32_t device, uint64_t* free_bytes, uint64_t* total_bytes) noexcept;
  int32_t (*pointer_info)(int32_t device, const void* data, PointerInfo* info) noexcept;

  // Stream-ordered memory. The pool keeps up to release_threshold bytes when streams synchronise.
  int32_t (*pool_create)(int32_t device, uint64_t release_threshold, NativePool** pool) noexcept;
  int32_t (*pool_destroy)(int32_t device, NativePool* pool) noexcept;
  int32_t (*pool_allocate)(int32_t device, NativePool* pool, uint64_t bytes, NativeStream* stream,
                           void** data) noexcept;
  int32_t (*pool_free)(int32_t device, void* data, NativeStream* stream) noexcept;
  int32_t (*pool_trim)(int32_t device, NativePool* pool, uint64_t keep_bytes) noexcept;
  int32_t (*pool_usage)(int32_t device, NativePool* pool, PoolUsage* usage) noexcept;

  // Blocking device memory, for devices without pools. Freeing waits for the whole device.
  int32_t (*device_allocate)(int32_t device, uint64_t bytes, void** data) noexcept;
  int32_t (*device_free)(int32_t device, void* data) noexcept;

  // Pinned host memory, usable by every device.
  int32_t (*host_allocate)(int32_t device, uint64_t bytes, void** data) noexcept;
  int32_t (*host_free)(int32_t device, void* data) noexcept;
  int32_t (*host_register)(int32_t device, void* data, uint64_t bytes) noexcept;
  int32_t (*host_unregister)(int32_t device, void* data) noexcept;

  // The greater priority is the smaller number: 0 and -5, say.
  int32_t (*stream_priorities)(int32_t device, int32_t* least, int32_t* greatest) noexcept;
  // Streams never synchronise with the legacy default stream. The priority is clamped.
  int32_t (*stream_create)(int32_t device, int32_t priority, NativeStream** stream) noexcept;
  // Queued work still runs.
  int32_t (*stream_destroy)(int32_t device, NativeStream* stream) noexcept;
  int32_t (*stream_synchronize)(int32_t device, NativeStream* stream) noexcept;
  // kNotReady while there is work.
  int32_t (*stream_query)(int32_t device, NativeStream* stream) noexcept;
  int32_t (*stream_wait_event)(int32_t device, NativeStream* stream, NativeEvent* event) noexcept;

  // timing: elapsed_ms works. blocking: waiting sleeps instead of spinning.
  int32_t (*event_create)(int32_t device, int32_t timing, int32_t blocking,
                          NativeEvent** event) noexcept;
  int32_t (*event_destroy)(int32_t device, NativeEvent* event) noexcept;
  int32_t (*event_record)(int32_t device, NativeEvent* event, NativeStream* stream) noexcept;
  int32_t (*event_synchronize)(int32_t device, NativeEvent* event) noexcept;
  int32_t (*event_query)(int32_t device, NativeEvent* event) noexcept;
  int32_t (*event_elapsed_ms)(int32_t device, NativeEvent* from, NativeEvent* to,
                              float* ms) noexcept;

  // Asynchronous to the host where the host memory is pinned.
  int32_t (*copy_async)(int32_t device, void* to, const void* from, uint64_t bytes, CopyKind kind,
                        NativeStream* stream) noexcept;
  int32_t (*fill_async)(int32_t device, void* data, int32_t byte, uint64_t bytes,
                        NativeStream* stream) noexcept;
  int32_t (*copy_strided_async)(int32_t device, const StridedCopy* copy,
                                NativeStream* stream) noexcept;
  // The function runs on a thread of the runtime and may call nothing of this table.
  int32_t (*launch_host)(int32_t device, NativeStream* stream, HostFunction function,
                         void* argument) noexcept;

  // Capture is per thread: other threads may go on using the runtime.
  int32_t (*capture_begin)(int32_t device, NativeStream* stream) noexcept;
  int32_t (*capture_end)(int32_t device, NativeStream* stream, NativeGraph** graph) noexcept;
  int32_t (*capture_state)(int32_t device, NativeStream* stream, CaptureState* state) noexcept;
  int32_t (*graph_nodes)(int32_t device, NativeGraph* graph, uint64_t* count) noexcept;
  // Gives the object to the graph: `destroy` runs once the graph, everything instantiated from it
  // and their last runs are gone. It may call nothing of this table.
  int32_t (*graph_retain)(int32_t device, NativeGraph* graph, void* object,
                          HostFunction destroy) noexcept;
  int32_t (*graph_destroy)(int32_t device, NativeGraph* graph) noexcept;
  int32_t (*graph_instantiate)(int32_t device, NativeGraph* graph, NativeGraphExec** exec) noexcept;
  // *updated 0: the graphs differ too much, and exec is as it was.
  int32_t (*graph_update)(int32_t device, NativeGraphExec* exec, NativeGraph* graph,
                          int32_t* updated) noexcept;
  int32_t (*graph_launch)(int32_t device, NativeGraphExec* exec, NativeStream* stream) noexcept;
  // Runs in flight still finish.
  int32_t (*graph_exec_destroy)(int32_t device, NativeGraphExec* exec) noexcept;

  // Makes the device the calling thread's current one, for vendor libraries that work on that.
  // Tells the one to be put back by a second call, or -1 where nothing is to be put back.
  int32_t (*make_current)(int32_t device, int32_t* previous) noexcept;
};

// The one symbol of the library.
using TableFunction = const Table* (*)();
inline constexpr const char* kTableSymbol = "zerolane_cuda_table";

}  // namespace zerolane::cuda
