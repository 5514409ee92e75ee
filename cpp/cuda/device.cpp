// SPDX-License-Identifier: Apache-2.0
#include "cuda/device.h"

#include <map>
#include <utility>

#include "core/error.h"
#include "core/log.h"
#include "cuda/memory.h"
#include "cuda/stream.h"

namespace zerolane::cuda {
namespace {

// Pinned host memory as a device of its own, so that the core's Pool can cache it.
class PinnedHost final : public zerolane::Device {
 public:
  PinnedHost(const Table& table, int index) : table_(table), index_(index) {}

  DeviceId id() const override { return {}; }
  void* allocate(size_t bytes) override {
    refuse_after_fork();
    void* data = nullptr;
    size_t asked = bytes == 0 ? kAlignment : bytes;
    check(table_.host_allocate(index_, asked, &data), {"cudaHostAlloc", index_, asked});
    return data;
  }
  void release(void* data, size_t) noexcept override {
    if (!forked()) table_.host_free(index_, data);
  }
  void copy(void* to, const void* from, size_t bytes) override {
    host_device().copy(to, from, bytes);
  }
  std::unique_ptr<zerolane::Stream> make_stream() override { return make_host_stream(); }

 private:
  const Table& table_;
  const int index_;
};

}  // namespace

CudaDevice::CudaDevice(const Table& table, int index) : table_(table), index_(index) {
  check(table_.device_info(index, &info_), {"cudaGetDeviceProperties", index});
}

CudaDevice::~CudaDevice() = default;

DevicePool& CudaDevice::pool() {
  refuse_after_fork();
  std::lock_guard lock(mutex_);
  if (!pool_) pool_ = std::make_unique<DevicePool>(*this);
  return *pool_;
}

NativeStream* CudaDevice::memory_stream() {
  refuse_after_fork();
  std::lock_guard lock(mutex_);
  if (!memory_stream_) {
    NativeStream* made = nullptr;
    check(table_.stream_create(index_, 0, &made), {"cudaStreamCreateWithPriority", index_});
    memory_stream_ = StreamHandle(index_, made);
  }
  return memory_stream_.get();
}

const std::shared_ptr<Pool>& CudaDevice::tensor_pool() {
  std::lock_guard lock(mutex_);
  if (!tensor_pool_) tensor_pool_ = Pool::make(*this);
  return tensor_pool_;
}

const std::shared_ptr<Pool>& CudaDevice::pinned_pool() {
  std::lock_guard lock(mutex_);
  if (!pinned_pool_) {
    pinned_ = std::make_unique<PinnedHost>(table_, index_);
    pinned_pool_ = Pool::make(*pinned_);
  }
  return pinned_pool_;
}

void CudaDevice::trim() {
  NativeStream* stream = memory_stream();
  tensor_pool()->trim();
  pinned_pool()->trim();
  // What was released is the pool's again when its stream gets there.
  check(table_.stream_synchronize(index_, stream), {"cudaStreamSynchronize", index_});
  pool().trim();
}

void* CudaDevice::allocate(size_t bytes) {
  NativeStream* stream = memory_stream();
  const size_t wanted = bytes == 0 ? kAlignment : bytes;
  void* data = nullptr;
  try {
    data = pool().take(wanted, stream);
  } catch (const Error& error) {
    if (error.code() != Code::kOutOfMemory) throw;
    // What was released a moment ago is the pool's again when its stream gets there.
    check(table_.stream_synchronize(index_, stream), {"cudaStreamSynchronize", index_});
    data = pool().take(wanted, stream);
  }
  // Any stream may use it from here on.
  check(table_.stream_synchronize(index_, stream), {"cudaStreamSynchronize", index_});
  return data;
}

void CudaDevice::release(void* data, size_t bytes) noexcept {
  if (data == nullptr || forked()) return;
  pool_->give_back(data, bytes == 0 ? kAlignment : bytes, memory_stream_.get());
}

void CudaDevice::copy(void* to, const void* from, size_t bytes) {
  if (bytes == 0) return;
  NativeStream* stream = memory_stream();
  check(table_.copy_async(index_, to, from, bytes, CopyKind::kInfer, stream),
        {"cudaMemcpyAsync", index_, bytes});
  check(table_.stream_synchronize(index_, stream), {"cudaStreamSynchronize", index_});
}

bool CudaDevice::is_pinned(const void* data) const {
  return data != nullptr && pointer_info(data).kind == MemoryKind::kPinned;
}

std::unique_ptr<zerolane::Stream> CudaDevice::make_stream() { return make_cuda_stream(); }

std::unique_ptr<CudaStream> CudaDevice::make_cuda_stream(int priority) {
  refuse_after_fork();
  NativeStream* made = nullptr;
  check(table_.stream_create(index_, priority, &made), {"cudaStreamCreateWithPriority", index_});
  return std::make_unique<CudaStream>(*this, StreamHandle(index_, made));
}

std::unique_ptr<CudaStream> CudaDevice::borrow_stream(NativeStream* native) {
  refuse_after_fork();
  return std::make_unique<CudaStream>(*this, native);
}

StreamPriorities CudaDevice::stream_priorities() const {
  refuse_after_fork();
  StreamPriorities found;
  check(table_.stream_priorities(index_, &found.least, &found.greatest),
        {"cudaDeviceGetStreamPriorityRange", index_});
  return found;
}

MemoryInfo CudaDevice::memory() const {
  refuse_after_fork();
  MemoryInfo found;
  check(table_.memory_info(index_, &found.free_bytes, &found.total_bytes),
        {"cudaMemGetInfo", index_});
  return found;
}

PointerInfo CudaDevice::pointer_info(const void* data) const {
  refuse_after_fork();
  PointerInfo found{};
  check(table_.pointer_info(index_, data, &found), {"cudaPointerGetAttributes", index_});
  return found;
}

int device_count() {
  const Table& table = open_library();
  refuse_after_fork();
  int32_t count = 0;
  int32_t status = table.device_count(&count);
  if (table.status_kind(status) == StatusKind::kNoDevice) return 0;
  check(status, {"cudaGetDeviceCount"});
  return count;
}

DeviceInfo device_info(int index) {
  const Table& table = open_library();
  refuse_after_fork();
  DeviceInfo info{};
  check(table.device_info(index, &info), {"cudaGetDeviceProperties", index});
  return info;
}

namespace {

struct Devices {
  std::mutex mutex;  // guards made
  std::map<int, std::unique_ptr<CudaDevice>> made;
};
Devices& devices() {
  static auto* devices = new Devices;  // never destroyed: memory and streams may outlive statics
  return *devices;
}

}  // namespace

CudaDevice& open_device(int index) {
  int count = device_count();
  if (index < 0 || index >= count) {
    throw make_error(Code::kUnavailable, "opening device 'cuda:" + std::to_string(index) + "'",
                     std::to_string(count) + " CUDA devices are visible to this process",
                     count == 0 ? "check nvidia-smi and CUDA_VISIBLE_DEVICES, or use device='cpu'"
                                : "use cuda:0 to cuda:" + std::to_string(count - 1),
                     "cuda:" + std::to_string(index));
  }
  std::lock_guard lock(devices().mutex);
  auto& device = devices().made[index];
  if (!device) device = std::make_unique<CudaDevice>(open_library(), index);
  return *device;
}

std::vector<CudaDevice*> opened_devices() {
  std::lock_guard lock(devices().mutex);
  std::vector<CudaDevice*> made;
  for (const auto& [index, device] : devices().made) {
    if (device) made.push_back(device.get());
  }
  return made;
}

}  // namespace zerolane::cuda
