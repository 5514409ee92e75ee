// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <vector>

#include "core/stream.h"
#include "cuda/device.h"
#include "cuda/handles.h"

namespace zerolane::cuda {

// A point in a CUDA stream's order. wait() sleeps instead of spinning only if `blocking`.
class CudaEvent final : public zerolane::Event {
 public:
  struct Options {
    bool timing = false;
    bool blocking = false;
  };
  explicit CudaEvent(CudaDevice& device) : CudaEvent(device, Options{}) {}
  CudaEvent(CudaDevice& device, Options options);

  bool reached() const override;
  void wait() const override;
  // Records (again) on a stream; whoever waited for the earlier point is not affected.
  void record(NativeStream* stream);
  NativeEvent* native() const noexcept { return event_.get(); }
  CudaDevice& device() const noexcept { return device_; }

 private:
  CudaDevice& device_;
  EventHandle event_;
};

// Milliseconds between two events with timing, both reached.
float elapsed_ms(const CudaEvent& from, const CudaEvent& to);

// A CUDA stream, owned or borrowed. Enqueue from one thread at a time. Destroying an owned stream
// blocks until its work is done.
class CudaStream final : public zerolane::Stream {
 public:
  CudaStream(CudaDevice& device, StreamHandle stream);   // owns
  CudaStream(CudaDevice& device, NativeStream* native);  // borrows
  ~CudaStream() override;

  // Host work in stream order, on a thread of the runtime; it may call nothing of CUDA. While the
  // stream is captured the work becomes part of the graph and runs at every replay; on a stream
  // that joined the capture of another it is refused (kUnsupported).
  void enqueue(std::function<void()> work) override;
  std::shared_ptr<zerolane::Event> record() override;
  void wait_for(std::shared_ptr<zerolane::Event> event) override;
  void wait_for_stream(zerolane::Stream& producer) override;
  void synchronize() override;
  void copy_async(void* to, const void* from, size_t bytes) override;
  void* native_handle() const noexcept override { return native_; }
  DeviceId device_id() const noexcept override { return device_.id(); }

  void copy_async(void* to, const void* from, size_t bytes, CopyKind kind);
  void copy_strided_async(const StridedCopy& copy);
  void fill_async(void* data, uint8_t byte, size_t bytes);
  bool idle() const;  // all work is done

  // Work enqueued here from now on runs after all that is on `producer` now; nobody blocks. With
  // the stream of DLPack: 1 (legacy default) and 2 (per-thread default) are addresses too.
  void wait_for_native(NativeStream* producer);
  // Work enqueued on `consumer` from now on runs after all that is here now.
  void release_to_native(NativeStream* consumer);

  NativeStream* native() const noexcept { return native_; }
  CudaDevice& device() const noexcept { return device_; }

 private:
  friend class Graph;
  // The first error of host work; shared, because work may outlive a stream object that borrows.
  struct Errors {
    std::mutex mutex;  // guards first
    std::exception_ptr first;
  };
  struct Work {
    std::function<void()> body;
    std::shared_ptr<Errors> errors;
    void run() noexcept;
  };

  CudaDevice& device_;
  StreamHandle owned_;
  NativeStream* native_;
  std::shared_ptr<Errors> errors_;
  CudaEvent order_;  // for the two calls above; recorded anew each time
  bool capturing_ = false;
  std::vector<std::unique_ptr<Work>> captured_;  // host work of the graph being captured
};

}  // namespace zerolane::cuda
