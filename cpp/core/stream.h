// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <functional>
#include <memory>

#include "core/device.h"

namespace zerolane {

// A point in a stream's order: reached once all work enqueued before it is done. Copies share the
// same point.
class Event {
 public:
  virtual ~Event() = default;
  virtual bool reached() const = 0;
  virtual void wait() const = 0;  // blocks
};

// An ordered queue of work on one device. Work runs in order, each piece after the one before; the
// thread that enqueues does not wait. Enqueue from one thread at a time.
class Stream {
 public:
  virtual ~Stream() = default;  // finishes the work, then joins
  // Host work in stream order. If it throws, the error is kept and rethrown by the next
  // synchronize(); work behind it still runs.
  virtual void enqueue(std::function<void()> work) = 0;
  virtual std::shared_ptr<Event> record() = 0;
  // Work enqueued from now on waits for the event, which may belong to another stream.
  virtual void wait_for(std::shared_ptr<Event> event) = 0;
  // Work enqueued from now on waits for all that is on `producer` now.
  virtual void wait_for_stream(Stream& producer) { wait_for(producer.record()); }
  virtual void synchronize() = 0;  // blocks; rethrows the first error since the last call

  // Copies in stream order, between memory of the host and of the stream's device in any direction.
  // Both memories stay valid until it is done.
  virtual void copy_async(void* to, const void* from, size_t bytes) = 0;

  virtual DeviceId device_id() const noexcept = 0;
  // The stream as other libraries know it (a cudaStream_t); null on the host, and for CUDA's legacy
  // default stream.
  virtual void* native_handle() const noexcept = 0;
};

// One worker thread with an ordered queue.
std::unique_ptr<Stream> make_host_stream();

}  // namespace zerolane
