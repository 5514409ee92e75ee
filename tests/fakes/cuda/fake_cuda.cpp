// SPDX-License-Identifier: Apache-2.0
// A stand-in for libzerolane_cuda.so: the same table over host memory. Each stream is a thread with
// an ordered queue, so that work which forgets to wait is seen to run too early; graphs record and
// replay; memory is counted, and failures can be asked for (control.h, or ZEROLANE_FAKE_CUDA in the
// environment: "devices=2,memory=1048576,pools=0,driver=0,fail=graph_launch:719:0:1").
#include "state.h"

namespace zerolane::cuda::fake {
namespace {

// --- the table ---

struct Name {
  int32_t status;
  const char* name;
  const char* text;
  StatusKind kind;
};
constexpr Name kNames[] = {
    {0, "cudaSuccess", "no error", StatusKind::kSuccess},
    {kInvalidValue, "cudaErrorInvalidValue", "invalid argument", StatusKind::kInvalid},
    {kOutOfMemory, "cudaErrorMemoryAllocation", "out of memory", StatusKind::kOutOfMemory},
    {kInsufficientDriver, "cudaErrorInsufficientDriver",
     "CUDA driver version is insufficient for CUDA runtime version", StatusKind::kNoDriver},
    {kNoDevice, "cudaErrorNoDevice", "no CUDA-capable device is detected", StatusKind::kNoDevice},
    {kInvalidDevice, "cudaErrorInvalidDevice", "invalid device ordinal", StatusKind::kNoDevice},
    {kInvalidHandle, "cudaErrorInvalidResourceHandle", "invalid resource handle",
     StatusKind::kInvalid},
    {kNotReady, "cudaErrorNotReady", "device not ready", StatusKind::kNotReady},
    {kIllegalAddress, "cudaErrorIllegalAddress", "an illegal memory access was encountered",
     StatusKind::kFatal},
    {kLaunchFailure, "cudaErrorLaunchFailure", "unspecified launch failure", StatusKind::kFatal},
    {kCaptureUnsupported, "cudaErrorStreamCaptureUnsupported",
     "operation not permitted when stream is capturing", StatusKind::kCapture},
    {kCaptureInvalidated, "cudaErrorStreamCaptureInvalidated",
     "operation failed due to a previous error during capture", StatusKind::kCapture},
    {kCaptureUnmatched, "cudaErrorStreamCaptureUnmatched",
     "the capture was not begun on this stream", StatusKind::kCapture},
    {kCaptureUnjoined, "cudaErrorStreamCaptureUnjoined", "capturing stream has unjoined work",
     StatusKind::kCapture},
    {kCaptureIsolation, "cudaErrorStreamCaptureIsolation",
     "dependency created on uncaptured work in another stream", StatusKind::kCapture},
    {kCaptureWrongThread, "cudaErrorStreamCaptureWrongThread",
     "attempt to terminate a thread-local capture sequence from another thread",
     StatusKind::kCapture},
};

const Name* find_name(int32_t status) {
  for (const Name& row : kNames) {
    if (row.status == status) return &row;
  }
  return nullptr;
}
const char* error_name(int32_t status) noexcept {
  const Name* row = find_name(status);
  return row != nullptr ? row->name : "cudaErrorUnknown";
}
const char* error_text(int32_t status) noexcept {
  const Name* row = find_name(status);
  return row != nullptr ? row->text : "unknown error";
}
StatusKind status_kind(int32_t status) noexcept {
  const Name* row = find_name(status);
  return row != nullptr ? row->kind : StatusKind::kOther;
}

int32_t driver_version(int32_t* version) noexcept {
  *version = state().driver;
  return 0;
}
int32_t runtime_version(int32_t* version) noexcept {
  *version = 13000;
  return 0;
}
int32_t device_count(int32_t* count) noexcept {
  Lock lock(state().mutex);
  *count = state().devices;
  if (state().driver == 0) return kInsufficientDriver;
  if (int32_t status = planned("device_count")) return status;
  return state().devices == 0 ? kNoDevice : 0;
}
int32_t device_info(int32_t device, DeviceInfo* info) noexcept {
  Lock lock(state().mutex);
  if (int32_t status = enter("device_info", device)) return status;
  *info = {};
  std::snprintf(info->name, sizeof(info->name), "stand-in %d", device);
  std::snprintf(info->pci, sizeof(info->pci), "0000:%02x:00.0", device + 1);
  info->uuid[0] = static_cast<uint8_t>(device + 1);
  info->major = 9;
  info->multiprocessors = 4;
  info->clock_khz = 1'000'000;
  info->memory_clock_khz = 2'000'000;
  info->memory_bus_bits = 256;
  info->copy_engines = 2;
  info->memory_pools = state().memory_pools;
  info->memory_bytes = state().memory;
  info->l2_bytes = 1 << 20;
  return 0;
}

int32_t memory_info(int32_t device, uint64_t* free_bytes, uint64_t* total_bytes) noexcept {
  Lock lock(state().mutex);
  if (int32_t status = enter("memory_info", device)) return status;
  uint64_t used = state().reserved[device];
  *total_bytes = state().memory;
  *free_bytes = used < state().memory ? state().memory - used : 0;
  return 0;
}
int32_t pointer_info(int32_t device, const void* data, PointerInfo* info) noexcept {
  Lock lock(state().mutex);
  if (int32_t status = enter("pointer_info", device)) return status;
  auto [begin, block] = find_block(data);
  *info = block == nullptr ? PointerInfo{MemoryKind::kHost, -1}
                           : PointerInfo{block->kind, block->device};
  return 0;
}

int32_t pool_create(int32_t device, uint64_t release_threshold, NativePool** pool) noexcept {
  Lock lock(state().mutex);
  if (int32_t status = enter("pool_create", device)) return status;
  auto* made = new Pool{device, release_threshold, {}};
  state().pools.insert(made);
  *pool = reinterpret_cast<NativePool*>(made);
  return 0;
}
int32_t pool_destroy(int32_t device, NativePool* native) noexcept {
  Lock lock(state().mutex);
  if (int32_t status = enter("pool_destroy", device)) return status;
  auto* pool = reinterpret_cast<Pool*>(native);
  if (state().pools.erase(pool) == 0) return kInvalidHandle;
  state().reserved[device] -= pool->usage.reserved_bytes;
  delete pool;
  return 0;
}
int32_t pool_allocate(int32_t device, NativePool* native, uint64_t bytes, NativeStream* stream,
                      void** data) noexcept {
  State& s = state();
  Lock lock(s.mutex);
  if (int32_t status = enter("pool_allocate", device)) return status;
  auto* pool = reinterpret_cast<Pool*>(native);
  Stream* order = resolve(device, stream);
  if (!s.pools.contains(pool) || order == nullptr) return kInvalidHandle;
  if (order->capture) {  // the real one makes a node of it, and then the graph owns the memory
    order->capture->broken = true;
    return kCaptureUnsupported;
  }
  uint64_t cached = pool->usage.reserved_bytes - pool->usage.used_bytes;
  uint64_t grow = bytes > cached ? bytes - cached : 0;
  if (grow > s.memory || s.reserved[device] > s.memory - grow) return kOutOfMemory;
  *data = make_block({MemoryKind::kDevice, device, bytes, pool});
  if (*data == nullptr) return kOutOfMemory;
  s.reserved[device] += grow;
  PoolUsage& usage = pool->usage;
  usage.reserved_bytes += grow;
  usage.used_bytes += bytes;
  usage.peak_reserved_bytes = std::max(usage.peak_reserved_bytes, usage.reserved_bytes);
  usage.peak_used_bytes = std::max(usage.peak_used_bytes, usage.used_bytes);
  ++s.counts.device_allocations;
  return 0;
}
void shrink(Pool& pool, uint64_t keep) {
  uint64_t left = std::max(pool.usage.used_bytes, std::min(pool.usage.reserved_bytes, keep));
  state().reserved[pool.device] -= pool.usage.reserved_bytes - left;
  pool.usage.reserved_bytes = left;
}
int32_t pool_free(int32_t device, void* data, NativeStream* stream) noexcept {
  State& s = state();
  Lock lock(s.mutex);
  if (int32_t status = enter("pool_free", device)) return status;
  auto found = s.blocks.find(reinterpret_cast<uintptr_t>(data));
  if (found == s.blocks.end() || found->second.pool == nullptr || found->second.freed) {
    return kInvalidValue;
  }
  Stream* order = resolve(device, stream);
  if (order == nullptr) return kInvalidHandle;
  if (order->capture) {
    order->capture->broken = true;
    return kCaptureUnsupported;
  }
  found->second.freed = true;
  order->push([data] {  // even after the context was lost: nothing may leak
    Lock lock(state().mutex);
    auto block = state().blocks.extract(reinterpret_cast<uintptr_t>(data));
    Pool& pool = *block.mapped().pool;
    if (state().pools.contains(&pool)) {
      pool.usage.used_bytes -= block.mapped().bytes;
      uint64_t used = pool.usage.used_bytes;
      shrink(pool, pool.threshold > UINT64_MAX - used ? UINT64_MAX : used + pool.threshold);
    }
    std::free(data);
  });
  return 0;
}
int32_t pool_trim(int32_t device, NativePool* native, uint64_t keep_bytes) noexcept {
  Lock lock(state().mutex);
  if (int32_t status = enter("pool_trim", device)) return status;
  auto* pool = reinterpret_cast<Pool*>(native);
  if (!state().pools.contains(pool)) return kInvalidHandle;
  shrink(*pool, keep_bytes);
  return 0;
}
int32_t pool_usage(int32_t device, NativePool* native, PoolUsage* usage) noexcept {
  Lock lock(state().mutex);
  if (int32_t status = enter("pool_usage", device)) return status;
  auto* pool = reinterpret_cast<Pool*>(native);
  if (!state().pools.contains(pool)) return kInvalidHandle;
  *usage = pool->usage;
  return 0;
}

int32_t device_allocate(int32_t device, uint64_t bytes, void** data) noexcept {
  State& s = state();
  Lock lock(s.mutex);
  if (int32_t status = enter("device_allocate", device)) return status;
  if (int32_t status = unsafe_in_capture()) return status;
  if (bytes > s.memory || s.reserved[device] > s.memory - bytes) return kOutOfMemory;
  *data = make_block({MemoryKind::kDevice, device, bytes});
  if (*data == nullptr) return kOutOfMemory;
  s.reserved[device] += bytes;
  ++s.counts.device_allocations;
  return 0;
}
int32_t device_free(int32_t device, void* data) noexcept {
  State& s = state();
  std::vector<Stream*> busy;
  {
    Lock lock(s.mutex);
    if (int32_t status = enter("device_free", device)) return status;
    if (int32_t status = unsafe_in_capture()) return status;
    auto found = s.blocks.find(reinterpret_cast<uintptr_t>(data));
    if (found == s.blocks.end() || found->second.kind != MemoryKind::kDevice ||
        found->second.pool != nullptr) {
      return kInvalidValue;
    }
    for (Stream* stream : s.streams) {
      if (stream->device == device) busy.push_back(stream);
    }
  }
  for (Stream* stream : busy) stream->drain();
  Lock lock(s.mutex);
  auto block = s.blocks.extract(reinterpret_cast<uintptr_t>(data));
  s.reserved[device] -= block.mapped().bytes;
  std::free(data);
  return 0;
}

int32_t host_allocate(int32_t device, uint64_t bytes, void** data) noexcept {
  State& s = state();
  Lock lock(s.mutex);
  if (int32_t status = enter("host_allocate", device)) return status;
  if (int32_t status = unsafe_in_capture()) return status;
  *data = make_block({MemoryKind::kPinned, device, bytes});
  if (*data == nullptr) return kOutOfMemory;
  ++s.counts.pinned_allocations;
  return 0;
}
int32_t drop_host(void* data, bool foreign) {
  auto found = state().blocks.find(reinterpret_cast<uintptr_t>(data));
  if (found == state().blocks.end() || found->second.kind != MemoryKind::kPinned ||
      found->second.foreign != foreign) {
    return kInvalidValue;
  }
  state().blocks.erase(found);
  return 0;
}
int32_t host_free(int32_t device, void* data) noexcept {
  Lock lock(state().mutex);
  if (int32_t status = enter("host_free", device)) return status;
  if (int32_t status = drop_host(data, /*foreign=*/false)) return status;
  std::free(data);
  return 0;
}
int32_t host_register(int32_t device, void* data, uint64_t bytes) noexcept {
  Lock lock(state().mutex);
  if (int32_t status = enter("host_register", device)) return status;
  if (bytes == 0 || find_block(data).second != nullptr) return kInvalidValue;
  state().blocks[reinterpret_cast<uintptr_t>(data)] = {MemoryKind::kPinned, device, bytes, nullptr,
                                                       /*foreign=*/true};
  return 0;
}
int32_t host_unregister(int32_t device, void* data) noexcept {
  Lock lock(state().mutex);
  if (int32_t status = enter("host_unregister", device)) return status;
  return drop_host(data, /*foreign=*/true);
}

int32_t stream_priorities(int32_t device, int32_t* least, int32_t* greatest) noexcept {
  Lock lock(state().mutex);
  if (int32_t status = enter("stream_priorities", device)) return status;
  *least = 0;
  *greatest = -5;
  return 0;
}
int32_t stream_create(int32_t device, int32_t, NativeStream** stream) noexcept {
  Lock lock(state().mutex);
  if (int32_t status = enter("stream_create", device)) return status;
  auto* made = new Stream(device, /*is_default=*/false);
  state().streams.insert(made);
  *stream = reinterpret_cast<NativeStream*>(made);
  return 0;
}
int32_t stream_destroy(int32_t device, NativeStream* native) noexcept {
  Stream* stream = nullptr;
  {
    Lock lock(state().mutex);
    if (int32_t status = enter("stream_destroy", device)) return status;
    stream = resolve(device, native);
    if (stream == nullptr || stream->is_default) return kInvalidHandle;
    if (stream->capture) return kCaptureUnsupported;
    state().streams.erase(stream);
    state().gates.erase(stream);
  }
  delete stream;
  return 0;
}
int32_t stream_synchronize(int32_t device, NativeStream* native) noexcept {
  Stream* stream = nullptr;
  {
    Lock lock(state().mutex);
    if (int32_t status = enter("stream_synchronize", device)) return status;
    ++state().counts.stream_synchronizes;
    stream = resolve(device, native);
    if (stream == nullptr) return kInvalidHandle;
    if (stream->capture) {
      stream->capture->broken = true;
      return kCaptureUnsupported;
    }
  }
  stream->drain();
  return state().lost;
}
int32_t stream_query(int32_t device, NativeStream* native) noexcept {
  Lock lock(state().mutex);
  if (int32_t status = enter("stream_query", device)) return status;
  Stream* stream = resolve(device, native);
  if (stream == nullptr) return kInvalidHandle;
  if (stream->capture) {
    stream->capture->broken = true;
    return kCaptureUnsupported;
  }
  return stream->idle() ? 0 : kNotReady;
}
int32_t stream_wait_event(int32_t device, NativeStream* native,
                          NativeEvent* native_event) noexcept {
  Lock lock(state().mutex);
  if (int32_t status = enter("stream_wait_event", device)) return status;
  ++state().counts.event_waits;
  Stream* stream = resolve(device, native);
  auto* event = reinterpret_cast<Event*>(native_event);
  if (stream == nullptr || !state().events.contains(event)) return kInvalidHandle;
  if (event->capture) {
    if (stream->capture && stream->capture != event->capture) return kCaptureIsolation;
    Capture& capture = *event->capture;
    if (!stream->capture) {  // joins the capture
      stream->capture = event->capture;
      capture.members.insert(stream);
      capture.unjoined.insert(stream);
    }
    if (stream == capture.origin) capture.unjoined.erase(event->recorder);
    return 0;
  }
  if (stream->capture) {
    stream->capture->broken = true;
    return kCaptureIsolation;
  }
  uint64_t point = 0;
  {
    std::lock_guard inner(event->points->mutex);
    point = event->points->recorded;
  }
  stream->push([points = event->points, point] { points->wait(point); });
  return 0;
}

int32_t event_create(int32_t device, int32_t timing, int32_t, NativeEvent** event) noexcept {
  Lock lock(state().mutex);
  if (int32_t status = enter("event_create", device)) return status;
  auto* made = new Event;
  made->timing = timing != 0;
  state().events.insert(made);
  *event = reinterpret_cast<NativeEvent*>(made);
  return 0;
}
int32_t event_destroy(int32_t device, NativeEvent* native) noexcept {
  Lock lock(state().mutex);
  if (int32_t status = enter("event_destroy", device)) return status;
  auto* event = reinterpret_cast<Event*>(native);
  if (state().events.erase(event) == 0) return kInvalidHandle;
  delete event;
  return 0;
}
int32_t event_record(int32_t device, NativeEvent* native_event, NativeStream* native) noexcept {
  Lock lock(state().mutex);
  if (int32_t status = enter("event_record", device)) return status;
  ++state().counts.event_records;
  Stream* stream = resolve(device, native);
  auto* event = reinterpret_cast<Event*>(native_event);
  if (stream == nullptr || !state().events.contains(event)) return kInvalidHandle;
  event->capture = stream->capture;
  event->recorder = stream;
  if (stream->capture) return stream->capture->broken ? kCaptureInvalidated : 0;
  // Anew each time: recorded on another stream, the later point may be reached before the earlier.
  event->points = std::make_shared<Points>();
  uint64_t point = ++event->points->recorded;
  stream->push([points = event->points, point] {
    std::lock_guard lock(points->mutex);
    points->completed = std::max(points->completed, point);
    points->at_ms = now_ms();
    points->changed.notify_all();
  });
  return 0;
}
// The points of an event that the host may look at.
int32_t look(Lock&, NativeEvent* native, std::shared_ptr<Points>* points) {
  auto* event = reinterpret_cast<Event*>(native);
  if (!state().events.contains(event)) return kInvalidHandle;
  if (event->capture) {
    event->capture->broken = true;
    return kCaptureUnsupported;
  }
  *points = event->points;
  return 0;
}
int32_t event_synchronize(int32_t device, NativeEvent* native) noexcept {
  std::shared_ptr<Points> points;
  {
    Lock lock(state().mutex);
    if (int32_t status = enter("event_synchronize", device)) return status;
    ++state().counts.event_synchronizes;
    if (int32_t status = look(lock, native, &points)) return status;
  }
  uint64_t point = 0;
  {
    std::lock_guard lock(points->mutex);
    point = points->recorded;
  }
  points->wait(point);
  return state().lost;
}
int32_t event_query(int32_t device, NativeEvent* native) noexcept {
  Lock lock(state().mutex);
  if (int32_t status = enter("event_query", device)) return status;
  std::shared_ptr<Points> points;
  if (int32_t status = look(lock, native, &points)) return status;
  std::lock_guard inner(points->mutex);
  return points->completed >= points->recorded ? 0 : kNotReady;
}
int32_t event_elapsed_ms(int32_t device, NativeEvent* from, NativeEvent* to, float* ms) noexcept {
  Lock lock(state().mutex);
  if (int32_t status = enter("event_elapsed_ms", device)) return status;
  double at[2] = {};
  int i = 0;
  for (NativeEvent* native : {from, to}) {
    std::shared_ptr<Points> points;
    if (int32_t status = look(lock, native, &points)) return status;
    std::lock_guard inner(points->mutex);
    if (!reinterpret_cast<Event*>(native)->timing || points->recorded == 0) return kInvalidHandle;
    if (points->completed < points->recorded) return kNotReady;
    at[i++] = points->at_ms;
  }
  *ms = static_cast<float>(at[1] - at[0]);
  return 0;
}

int32_t copy_async(int32_t device, void* to, const void* from, uint64_t bytes, CopyKind kind,
                   NativeStream* stream) noexcept {
  Lock lock(state().mutex);
  if (int32_t status = enter("copy_async", device)) return status;
  bool ok = true;
  bool to_device = on_device(to, bytes, &ok);
  bool from_device = on_device(from, bytes, &ok);
  if (kind == CopyKind::kHostToDevice) ok = ok && to_device && !from_device;
  if (kind == CopyKind::kDeviceToHost) ok = ok && !to_device && from_device;
  if (kind == CopyKind::kDeviceToDevice) ok = ok && to_device && from_device;
  if (!ok) return kInvalidValue;
  return put(device, stream, "copy", [=] {
    std::memcpy(to, from, bytes);
    Lock lock(state().mutex);
    Counts& counts = state().counts;
    ++(to_device ? (from_device ? counts.copies_on_device : counts.copies_to_device)
                 : (from_device ? counts.copies_to_host : counts.copies_on_host));
    (to_device ? (from_device ? counts.bytes_on_device : counts.bytes_to_device)
               : (from_device ? counts.bytes_to_host : counts.bytes_on_host)) += bytes;
    if (!to_device) ++state().host_copies[to];
    if (!from_device) ++state().host_copies[from];
  });
}
int32_t fill_async(int32_t device, void* data, int32_t byte, uint64_t bytes,
                   NativeStream* stream) noexcept {
  Lock lock(state().mutex);
  if (int32_t status = enter("fill_async", device)) return status;
  bool ok = true;
  if (!on_device(data, bytes, &ok) || !ok) return kInvalidValue;
  return put(device, stream, "fill", [=] {
    std::memset(data, byte, bytes);
    tally(&Counts::fills);
  });
}
int32_t copy_strided_async(int32_t device, const StridedCopy* given,
                           NativeStream* stream) noexcept {
  Lock lock(state().mutex);
  if (int32_t status = enter("copy_strided_async", device)) return status;
  bool ok = true;
  if (!on_device(given->to, 1, &ok) || !on_device(given->from, 1, &ok) || !ok) return kInvalidValue;
  return put(device, stream, "strided", [copy = *given] {
    int64_t count = 1;
    for (int d = 0; d < copy.rank; ++d) count *= copy.shape[d];
    for (int64_t i = 0; i < count; ++i) {
      int64_t rest = i;
      int64_t to = 0;
      int64_t from = 0;
      for (int d = copy.rank - 1; d >= 0; --d) {
        to += rest % copy.shape[d] * copy.to_strides[d];
        from += rest % copy.shape[d] * copy.from_strides[d];
        rest /= copy.shape[d];
      }
      std::memcpy(static_cast<char*>(copy.to) + to, static_cast<const char*>(copy.from) + from,
                  static_cast<size_t>(copy.element_bytes));
    }
    tally(&Counts::strided_copies);
  });
}
int32_t launch_host(int32_t device, NativeStream* stream, HostFunction function,
                    void* argument) noexcept {
  Lock lock(state().mutex);
  if (int32_t status = enter("launch_host", device)) return status;
  return put(device, stream, "host", [=] {
    tally(&Counts::host_functions);
    function(argument);
  });
}

int32_t capture_begin(int32_t device, NativeStream* native) noexcept {
  Lock lock(state().mutex);
  if (int32_t status = enter("capture_begin", device)) return status;
  Stream* stream = resolve(device, native);
  if (stream == nullptr) return kInvalidHandle;
  if (stream->is_default || stream->capture) return kCaptureUnsupported;
  stream->capture = std::make_shared<Capture>();
  stream->capture->origin = stream;
  stream->capture->thread = std::this_thread::get_id();
  stream->capture->members.insert(stream);
  ++state().counts.captures;
  return 0;
}
int32_t capture_end(int32_t device, NativeStream* native, NativeGraph** graph) noexcept {
  Lock lock(state().mutex);
  *graph = nullptr;
  int32_t status = enter("capture_end", device);
  Stream* stream = resolve(device, native);
  if (stream == nullptr) return kInvalidHandle;
  std::shared_ptr<Capture> capture = stream->capture;
  if (!capture || capture->origin != stream) return kCaptureUnmatched;
  if (capture->thread != std::this_thread::get_id()) return kCaptureWrongThread;
  for (Stream* member : capture->members) member->capture.reset();
  if (status != 0) return status;
  if (capture->broken) return kCaptureInvalidated;
  if (!capture->unjoined.empty()) return kCaptureUnjoined;
  auto* made = new Graph;
  made->nodes = capture->nodes;
  state().graphs.insert(made);
  *graph = reinterpret_cast<NativeGraph*>(made);
  return 0;
}
int32_t capture_state(int32_t device, NativeStream* native, CaptureState* found) noexcept {
  Lock lock(state().mutex);
  if (int32_t status = enter("capture_state", device)) return status;
  Stream* stream = resolve(device, native);
  if (stream == nullptr) return kInvalidHandle;
  *found = CaptureState::kNone;
  if (stream->capture) {
    *found = stream->capture->broken ? CaptureState::kBroken : CaptureState::kActive;
  }
  return 0;
}
int32_t graph_nodes(int32_t device, NativeGraph* native, uint64_t* count) noexcept {
  Lock lock(state().mutex);
  if (int32_t status = enter("graph_nodes", device)) return status;
  auto* graph = reinterpret_cast<Graph*>(native);
  if (!state().graphs.contains(graph)) return kInvalidHandle;
  *count = graph->nodes->size();
  return 0;
}
int32_t graph_retain(int32_t device, NativeGraph* native, void* object,
                     HostFunction destroy) noexcept {
  Lock lock(state().mutex);
  int32_t status = enter("graph_retain", device);
  auto* graph = reinterpret_cast<Graph*>(native);
  if (status == 0 && !state().graphs.contains(graph)) status = kInvalidHandle;
  if (status != 0) {
    destroy(object);
    return status;
  }
  graph->retained->objects.emplace_back(object, destroy);
  return 0;
}
// Takes an object out of its set and destroys it without the lock, for what it retains.
int32_t drop(const char* function, int32_t device, std::set<Graph*>& set, Graph* graph) {
  {
    Lock lock(state().mutex);
    if (int32_t status = enter(function, device)) return status;
    if (set.erase(graph) == 0) return kInvalidHandle;
  }
  delete graph;
  return 0;
}
int32_t graph_destroy(int32_t device, NativeGraph* native) noexcept {
  return drop("graph_destroy", device, state().graphs, reinterpret_cast<Graph*>(native));
}
int32_t graph_exec_destroy(int32_t device, NativeGraphExec* native) noexcept {
  return drop("graph_exec_destroy", device, state().execs, reinterpret_cast<Exec*>(native));
}
int32_t make_current(int32_t device, int32_t* previous) noexcept {
  static thread_local int32_t current = 0;
  *previous = -1;
  Lock lock(state().mutex);
  if (int32_t status = enter("make_current", device)) return status;
  if (current != device) *previous = current;
  current = device;
  return 0;
}
int32_t graph_instantiate(int32_t device, NativeGraph* native, NativeGraphExec** exec) noexcept {
  Lock lock(state().mutex);
  if (int32_t status = enter("graph_instantiate", device)) return status;
  auto* graph = reinterpret_cast<Graph*>(native);
  if (!state().graphs.contains(graph)) return kInvalidHandle;
  auto* made = new Exec(*graph);
  state().execs.insert(made);
  ++state().counts.graph_instantiations;
  *exec = reinterpret_cast<NativeGraphExec*>(made);
  return 0;
}
int32_t graph_update(int32_t device, NativeGraphExec* native_exec, NativeGraph* native,
                     int32_t* updated) noexcept {
  *updated = 0;
  Exec old;  // destroyed after the lock is given back
  Lock lock(state().mutex);
  if (int32_t status = enter("graph_update", device)) return status;
  auto* graph = reinterpret_cast<Graph*>(native);
  auto* exec = reinterpret_cast<Exec*>(native_exec);
  if (!state().graphs.contains(graph) || !state().execs.contains(exec)) return kInvalidHandle;
  bool same = graph->nodes->size() == exec->nodes->size();
  for (size_t i = 0; same && i < graph->nodes->size(); ++i) {
    same = std::string_view((*graph->nodes)[i].kind) == (*exec->nodes)[i].kind;
  }
  if (!same) return 0;
  old = std::exchange(*exec, *graph);
  *updated = 1;
  ++state().counts.graph_updates;
  return 0;
}
int32_t graph_launch(int32_t device, NativeGraphExec* native, NativeStream* stream) noexcept {
  Lock lock(state().mutex);
  if (int32_t status = enter("graph_launch", device)) return status;
  auto* exec = reinterpret_cast<Exec*>(native);
  if (!state().execs.contains(exec)) return kInvalidHandle;
  ++state().counts.graph_launches;
  return put(device, stream, "graph", [held = *exec] {
    for (const Node& node : *held.nodes) node.run();
  });
}

// --- control ---

void counts(Counts* out) noexcept {
  State& s = state();
  Lock lock(s.mutex);
  *out = s.counts;
  out->live_streams = static_cast<int64_t>(s.streams.size());
  out->live_events = static_cast<int64_t>(s.events.size());
  out->live_graphs = static_cast<int64_t>(s.graphs.size());
  out->live_execs = static_cast<int64_t>(s.execs.size());
  out->live_pools = static_cast<int64_t>(s.pools.size());
  for (const auto& [address, block] : s.blocks) {
    ++(block.kind == MemoryKind::kDevice ? out->live_device_blocks : out->live_pinned_blocks);
    if (block.kind == MemoryKind::kDevice) out->live_device_bytes += block.bytes;
  }
}
uint64_t copies_of(const void* host) noexcept {
  Lock lock(state().mutex);
  auto found = state().host_copies.find(host);
  return found == state().host_copies.end() ? 0 : found->second;
}
void clear_counts() noexcept {
  Lock lock(state().mutex);
  state().counts = {};
}
void fail(const char* function, int32_t status, int64_t skip, int64_t times) noexcept {
  Lock lock(state().mutex);
  state().failures[function] = {status, skip, times};
}
void heal() noexcept {
  Lock lock(state().mutex);
  state().failures.clear();
  state().lost = 0;
}
void set_memory(uint64_t bytes) noexcept {
  Lock lock(state().mutex);
  state().memory = bytes;
}
void hold(int32_t device, NativeStream* native) noexcept {
  Lock lock(state().mutex);
  Stream* stream = resolve(device, native);
  if (stream == nullptr) return;
  auto gate = std::make_shared<Gate>();
  state().gates[stream] = gate;
  stream->push([gate] {
    std::unique_lock inner(gate->mutex);
    gate->changed.wait(inner, [&] { return gate->open; });
  });
}
void release(int32_t device, NativeStream* native) noexcept {
  Lock lock(state().mutex);
  auto found = state().gates.find(resolve(device, native));
  if (found == state().gates.end()) return;
  std::lock_guard inner(found->second->mutex);
  found->second->open = true;
  found->second->changed.notify_all();
}

}  // namespace

extern "C" __attribute__((visibility("default"))) const Table* zerolane_cuda_table() noexcept {
  static const Table table = {
      .version = kTableVersion,
      .bytes = sizeof(Table),
      .library = "stand-in over host memory, for tests",
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

extern "C" __attribute__((visibility("default"))) const Control*
zerolane_fake_cuda_control() noexcept {
  static const Control control = {
      .counts = counts,
      .clear_counts = clear_counts,
      .fail = fail,
      .heal = heal,
      .set_memory = set_memory,
      .hold = hold,
      .release = release,
      .copies_of = copies_of,
  };
  return &control;
}

}  // namespace zerolane::cuda::fake
