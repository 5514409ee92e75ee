// SPDX-License-Identifier: Apache-2.0
#include "cuda/tensor.h"

#include <mutex>
#include <new>
#include <utility>
#include <vector>

#include "core/error.h"
#include "cuda/library.h"
#include "cuda/stream.h"

namespace zerolane::cuda {
namespace {

// Memory that its consumer let go while work was in flight.
struct InFlight {
  std::unique_ptr<CudaEvent> event;
  std::shared_ptr<Storage> storage;
};
struct Waiting {
  std::mutex mutex;  // guards list
  std::vector<InFlight> list;
};
Waiting& waiting() {
  static auto* waiting = new Waiting;  // never destroyed: deleters may run while the process ends
  return *waiting;
}

struct Lease {
  CudaDevice& device;
  std::shared_ptr<Storage> storage;
  NativeStream* consumer;

  ~Lease() {
    if (forked()) {  // the memory is the parent's
      (void)new (std::nothrow) std::shared_ptr<Storage>(std::move(storage));
      return;
    }
    try {
      auto event = std::make_unique<CudaEvent>(device);
      event->record(consumer);
      std::lock_guard lock(waiting().mutex);
      waiting().list.push_back({std::move(event), std::move(storage)});
    } catch (...) {
      // The stream is refused, so there is no work on it that could still use the memory.
    }
    sweep_lent();
  }
};

}  // namespace

Tensor make_tensor(CudaDevice& device, DType dtype, const Shape& shape) {
  sweep_lent();
  Buffer buffer = device.tensor_pool()->allocate(dtype_bytes(dtype, shape.count()));
  return Tensor(std::make_shared<Storage>(std::move(buffer)), dtype, shape);
}

Tensor lend(CudaDevice& device, const Tensor& tensor, NativeStream* consumer) {
  sweep_lent();
  // "Per thread" would be another stream on the thread that lets go; the legacy default stream
  // waits for those of all threads.
  auto number = reinterpret_cast<uintptr_t>(consumer);
  if (number <= 2) consumer = nullptr;
  const std::shared_ptr<Storage>& storage = tensor.storage();
  std::shared_ptr<void> lease(new Lease{device, storage, consumer},
                              [](void* object) { delete static_cast<Lease*>(object); });
  return Tensor(std::make_shared<Storage>(storage->data(), storage->device(), std::move(lease),
                                          storage->read_only()),
                tensor.dtype(), tensor.shape());
}

void sweep_lent() noexcept {
  if (forked()) return;
  std::vector<InFlight> done;  // let go outside the lock
  try {
    std::lock_guard lock(waiting().mutex);
    std::vector<InFlight>& list = waiting().list;
    for (size_t i = 0; i < list.size();) {
      if (!list[i].event->reached()) {
        ++i;
        continue;
      }
      done.push_back(std::move(list[i]));
      list[i] = std::move(list.back());
      list.pop_back();
    }
  } catch (...) {  // the device is lost, or there is no memory: the rest stays
  }
}

size_t lent_in_flight() {
  std::lock_guard lock(waiting().mutex);
  return waiting().list.size();
}

}  // namespace zerolane::cuda
