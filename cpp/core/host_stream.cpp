// SPDX-License-Identifier: Apache-2.0
#include <atomic>
#include <cstring>
#include <exception>
#include <utility>

#include "core/stream.h"
#include "core/thread_pool.h"

namespace zerolane {
namespace {

class HostEvent final : public Event {
 public:
  bool reached() const override { return reached_.load(std::memory_order_acquire); }
  void wait() const override { reached_.wait(false, std::memory_order_acquire); }
  void reach() {
    reached_.store(true, std::memory_order_release);
    reached_.notify_all();
  }

 private:
  std::atomic<bool> reached_{false};
};

class HostStream final : public Stream {
 public:
  void enqueue(std::function<void()> work) override {
    worker_.submit([this, work = std::move(work)] {
      try {
        work();
      } catch (...) {
        std::lock_guard lock(mutex_);
        if (!error_) error_ = std::current_exception();
      }
    });
  }

  std::shared_ptr<Event> record() override {
    auto event = std::make_shared<HostEvent>();
    worker_.submit([event] { event->reach(); });
    return event;
  }

  void wait_for(std::shared_ptr<Event> event) override {
    worker_.submit([event = std::move(event)] { event->wait(); });
  }

  void synchronize() override {
    record()->wait();
    std::exception_ptr error;
    {
      std::lock_guard lock(mutex_);
      std::swap(error, error_);
    }
    if (error) std::rethrow_exception(error);
  }

  void copy_async(void* to, const void* from, size_t bytes) override {
    if (bytes == 0) return;
    worker_.submit([to, from, bytes] { std::memcpy(to, from, bytes); });
  }

  DeviceId device_id() const noexcept override { return {}; }
  void* native_handle() const noexcept override { return nullptr; }

 private:
  std::mutex mutex_;  // guards error_
  std::exception_ptr error_;
  ThreadPool worker_{1};  // last: its thread uses the members above
};

}  // namespace

std::unique_ptr<Stream> make_host_stream() { return std::make_unique<HostStream>(); }

}  // namespace zerolane
