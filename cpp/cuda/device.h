// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <mutex>
#include <vector>

#include "core/buffer.h"
#include "core/device.h"
#include "cuda/handles.h"
#include "cuda/table.h"

namespace zerolane::cuda {

class CudaStream;
class DevicePool;

struct MemoryInfo {
  uint64_t free_bytes = 0;
  uint64_t total_bytes = 0;
};

// The greater priority is the smaller number.
struct StreamPriorities {
  int32_t least = 0;
  int32_t greatest = 0;
};

// One GPU. Thread-safe, lives as long as the process. Blocking memory of the Device interface comes
// from the same stream-ordered pool as `pool()`; releasing it expects that no work uses it any
// more.
class CudaDevice final : public zerolane::Device {
 public:
  CudaDevice(const Table& table, int index);  // use open_device()
  ~CudaDevice() override;

  DeviceId id() const override { return {DeviceKind::kCuda, index_}; }
  void* allocate(size_t bytes) override;
  void release(void* data, size_t bytes) noexcept override;
  void copy(void* to, const void* from, size_t bytes) override;
  bool is_pinned(const void* data) const override;
  std::unique_ptr<zerolane::Stream> make_stream() override;

  // Clamped to stream_priorities().
  std::unique_ptr<CudaStream> make_cuda_stream(int priority = 0);
  // A stream of others (an address from DLPack, torch, ...), which must outlive the result. Null is
  // the legacy default stream.
  std::unique_ptr<CudaStream> borrow_stream(NativeStream* native);

  // Stream-ordered memory, of which all else on the device is a part; made at first use.
  DevicePool& pool();
  // Cache of that memory for who does not work in one stream's order: usable by any stream at once,
  // let go of after the work that uses it. Made at first use.
  const std::shared_ptr<Pool>& tensor_pool();
  // Cache of pinned host memory: copies to and from it are asynchronous. Its device().id() is the
  // host. Made at first use; any GPU may use the memory.
  const std::shared_ptr<Pool>& pinned_pool();
  // Gives what the three pools keep for reuse back to the driver. Blocks for the work of release().
  void trim();

  int index() const noexcept { return index_; }
  const DeviceInfo& info() const noexcept { return info_; }
  StreamPriorities stream_priorities() const;
  MemoryInfo memory() const;
  // Where memory lies. Host memory that the runtime does not know is kHost.
  PointerInfo pointer_info(const void* data) const;
  const Table& table() const noexcept { return table_; }

 private:
  NativeStream* memory_stream();

  const Table& table_;
  const int index_;
  DeviceInfo info_{};
  std::mutex mutex_;  // guards making those below
  std::unique_ptr<DevicePool> pool_;
  std::shared_ptr<Pool> tensor_pool_;
  StreamHandle memory_stream_;  // orders allocate() and release()
  std::unique_ptr<zerolane::Device> pinned_;
  std::shared_ptr<Pool> pinned_pool_;
};

// Number of GPUs; 0 where the driver finds none. Throws kUnavailable without module or driver.
int device_count();
// Facts about a GPU; makes no context.
DeviceInfo device_info(int index);
// The device, made at the first call. Throws kUnavailable without module, driver or such a GPU.
CudaDevice& open_device(int index);
// The devices that were made so far.
std::vector<CudaDevice*> opened_devices();

}  // namespace zerolane::cuda
