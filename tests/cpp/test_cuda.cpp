// SPDX-License-Identifier: Apache-2.0
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <numeric>
#include <string>
#include <thread>
#include <vector>

#include "core/error.h"
#include "cuda/memory.h"
#include "fake_cuda.h"

using namespace zerolane;
using namespace zerolane::cuda;
using fake::counts;
using fake::fresh_device;

namespace {

template <class Body>
Error error_of(Body body) {
  try {
    body();
  } catch (const Error& error) {
    return error;
  }
  FAIL("no error");
  return Error(Code::kInternal, "");
}

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

}  // namespace

TEST_CASE("cuda: a device tells its facts and is one object") {
  CudaDevice& device = fresh_device();
  CHECK(&device == &open_device(0));
  CHECK(device_count() == 1);
  CHECK(device.id().text() == "cuda:0");
  CHECK(std::string(device.info().name) == "stand-in 0");
  CHECK(device_info(0).memory_bytes == uint64_t{1} << 30);
  CHECK(device.memory().total_bytes == uint64_t{1} << 30);
  CHECK(device.stream_priorities().greatest < device.stream_priorities().least);
  for (int wrong : {1, -1}) {
    Error error = error_of([&] { open_device(wrong); });
    CHECK(error.code() == Code::kUnavailable);
    CHECK(contains(error.message(), "1 CUDA devices are visible"));
  }
}

TEST_CASE("cuda: a missing driver and no device are told apart") {
  fresh_device();
  fake::control().fail("device_count", fake::kInsufficientDriver, 0, 1);
  Error error = error_of([] { device_count(); });
  CHECK(error.code() == Code::kUnavailable);
  CHECK(contains(error.message(), "the NVIDIA driver is made for CUDA 13.0"));
  fake::control().fail("device_count", fake::kNoDevice, 0, 1);
  CHECK(device_count() == 0);
}

TEST_CASE("cuda: blocking memory and copies") {
  CudaDevice& device = fresh_device();
  std::vector<int> source(1000);
  std::iota(source.begin(), source.end(), 0);
  std::vector<int> back(1000);
  auto pool = Pool::make(device);
  {
    Buffer a = pool->allocate(4000);
    Buffer b = pool->allocate(4000);
    CHECK(a.device() == DeviceId{DeviceKind::kCuda, 0});
    CHECK(device.pointer_info(a.data()).kind == MemoryKind::kDevice);
    CHECK(device.pointer_info(source.data()).kind == MemoryKind::kHost);
    device.copy(a.data(), source.data(), 4000);
    device.copy(b.data(), a.data(), 4000);
    device.copy(back.data(), b.data(), 4000);
    CHECK(back == source);
    CHECK(counts().bytes_to_device == 4000);
    CHECK(counts().bytes_on_device == 4000);
    CHECK(counts().bytes_to_host == 4000);
    CHECK_THROWS_AS(device.copy(a.data(), source.data(), 5000), Error);  // past its end
  }
  pool.reset();
  device.make_stream()->synchronize();
  void* empty = device.allocate(0);
  CHECK(empty != nullptr);
  device.release(empty, 0);
  device.copy(nullptr, nullptr, 0);
}

TEST_CASE("cuda: work runs in the order of its stream and no earlier") {
  CudaDevice& device = fresh_device();
  auto stream = device.make_cuda_stream();
  int value = 0;
  {
    fake::Held held(*stream);
    for (int i = 1; i <= 100; ++i) {
      stream->enqueue([&value, i] { value = value == i - 1 ? i : -1000; });
    }
    CHECK_FALSE(stream->idle());
    CHECK(value == 0);
  }
  stream->synchronize();
  CHECK(value == 100);
  CHECK(stream->idle());
  CHECK(stream->native_handle() == stream->native());
  CHECK(stream->device_id() == device.id());
}

TEST_CASE("cuda: events order streams, and a waiting host") {
  CudaDevice& device = fresh_device();
  auto a = device.make_cuda_stream();
  auto b = device.make_cuda_stream(-5);
  std::atomic<int> seen{0};
  std::shared_ptr<zerolane::Event> event;
  {
    fake::Held held(*a);
    a->enqueue([&] { seen = 1; });
    event = a->record();
    b->wait_for(event);
    b->enqueue([&] { seen = seen == 1 ? 2 : -1; });
    CHECK_FALSE(event->reached());
    CHECK(seen == 0);
  }
  event->wait();
  CHECK(event->reached());
  b->synchronize();
  CHECK(seen == 2);
}

TEST_CASE("cuda: a producer's and a consumer's stream are waited for without blocking") {
  CudaDevice& device = fresh_device();
  auto ours = device.make_cuda_stream();
  auto theirs = device.make_cuda_stream();
  std::atomic<int> step{0};
  {
    fake::Held held(*theirs);
    theirs->enqueue([&] { step = 1; });
    ours->wait_for_native(theirs->native());
    ours->enqueue([&] { step = step == 1 ? 2 : -1; });
    ours->release_to_native(theirs->native());
    theirs->enqueue([&] { step = step == 2 ? 3 : -2; });
    CHECK(step == 0);
  }
  theirs->synchronize();
  CHECK(step == 3);
  CHECK(counts().stream_synchronizes == 1);
  CHECK(counts().event_synchronizes == 0);
  // Null is the legacy default stream: a stream like another here.
  auto legacy = device.borrow_stream(nullptr);
  legacy->enqueue([&] { step = 4; });
  ours->wait_for_native(nullptr);
  ours->synchronize();
  CHECK(step == 4);
}

TEST_CASE("cuda: a host event holds a CUDA stream") {
  CudaDevice& device = fresh_device();
  auto host = make_host_stream();
  auto stream = device.make_cuda_stream();
  std::atomic<bool> gate{false};
  std::atomic<int> step{0};
  host->enqueue([&] {
    gate.wait(false);
    step = 1;
  });
  stream->wait_for(host->record());
  stream->enqueue([&] { step = step == 1 ? 2 : -1; });
  CHECK(step == 0);
  gate = true;
  gate.notify_all();
  stream->synchronize();
  CHECK(step == 2);
}

TEST_CASE("cuda: a stream keeps the first error of host work and goes on") {
  CudaDevice& device = fresh_device();
  auto stream = device.make_cuda_stream();
  int ran = 0;
  stream->enqueue([] { throw std::runtime_error("first"); });
  stream->enqueue([] { throw std::runtime_error("second"); });
  stream->enqueue([&ran] { ++ran; });
  CHECK_THROWS_WITH_AS(stream->synchronize(), "first", std::runtime_error);
  CHECK(ran == 1);
  CHECK_NOTHROW(stream->synchronize());
}

TEST_CASE("cuda: closing a stream finishes its work") {
  CudaDevice& device = fresh_device();
  std::atomic<int> ran{0};
  int64_t streams = counts().live_streams;
  int64_t events = counts().live_events;
  {
    auto stream = device.make_cuda_stream();
    for (int i = 0; i < 50; ++i) stream->enqueue([&ran] { ++ran; });
  }
  CHECK(ran == 50);
  CHECK(counts().live_streams == streams);
  CHECK(counts().live_events == events);
}

TEST_CASE("cuda: copies, fills and timing on a stream") {
  CudaDevice& device = fresh_device();
  auto stream = device.make_cuda_stream();
  Buffer pinned = device.pinned_pool()->allocate(64);
  CHECK(pinned.device() == DeviceId{});
  CHECK(device.pointer_info(pinned.data()).kind == MemoryKind::kPinned);
  DeviceBuffer memory = device.pool().allocate(64, *stream);
  CudaEvent from(device, {.timing = true});
  CudaEvent to(device, {.timing = true, .blocking = true});
  from.record(stream->native());
  stream->fill_async(memory.data(), 7, 64);
  stream->copy_async(pinned.data(), memory.data(), 64);
  to.record(stream->native());
  to.wait();
  CHECK(elapsed_ms(from, to) >= 0);
  CHECK(static_cast<char*>(pinned.data())[63] == 7);
  CHECK_THROWS_AS(stream->copy_async(pinned.data(), memory.data(), 64, CopyKind::kHostToDevice),
                  Error);
  CHECK(counts().fills == 1);
}

TEST_CASE("cuda: one call gives back what the pools of a device keep") {
  CudaDevice& device = fresh_device();
  auto devices = opened_devices();
  CHECK(std::find(devices.begin(), devices.end(), &device) != devices.end());
  device.trim();
  const uint64_t reserved = device.memory().total_bytes - device.memory().free_bytes;
  Buffer kept = device.tensor_pool()->allocate(1 << 20);
  {
    Buffer tensor = device.tensor_pool()->allocate(1 << 20);
    Buffer pinned = device.pinned_pool()->allocate(1 << 20);
    CHECK(device.is_pinned(pinned.data()));
    CHECK(device.is_pinned(static_cast<char*>(pinned.data()) + 1000));
    CHECK_FALSE(device.is_pinned(&device));
    CHECK_FALSE(device.is_pinned(nullptr));
  }
  CHECK(device.tensor_pool()->stats().bytes_cached == 1 << 20);
  device.trim();
  CHECK(device.tensor_pool()->stats().bytes_cached == 0);
  CHECK(device.pinned_pool()->stats().bytes_cached == 0);
  CHECK(counts().live_pinned_blocks == 0);
  CHECK(device.pool().stats().bytes_cached == 0);
  CHECK(device.memory().total_bytes - device.memory().free_bytes == reserved + (1 << 20));
}

TEST_CASE("cuda: memory released a moment ago serves an allocation that needs it") {
  CudaDevice& device = fresh_device();
  device.trim();
  const uint64_t used = device.memory().total_bytes - device.memory().free_bytes;
  fake::control().set_memory(used + (1 << 20));
  for (int i = 0; i < 20; ++i) {  // sizes that no block of the round before fits
    const size_t bytes = (i % 2 == 0 ? 900 : 600) << 10;
    void* data = device.allocate(bytes);
    device.release(data, bytes);
  }
  fresh_device();
}

TEST_CASE("cuda: pinned memory is cached and counted") {
  CudaDevice& device = fresh_device();
  const auto& pool = device.pinned_pool();
  pool->trim();
  PoolStats before = pool->stats();
  void* first = nullptr;
  for (int i = 0; i < 10; ++i) {
    Buffer buffer = pool->allocate(5000);
    if (first == nullptr) first = buffer.data();
    CHECK(buffer.data() == first);
  }
  CHECK(pool->stats().reuses == before.reuses + 9);
  CHECK(counts().pinned_allocations == 1);
  CHECK(pool->stats().bytes_cached > 0);
  pool->trim();
  CHECK(pool->stats().bytes_cached == 0);
  CHECK(counts().live_pinned_blocks == 0);
}

TEST_CASE("cuda: device memory lives until its stream is done with it") {
  CudaDevice& device = fresh_device();
  auto stream = device.make_cuda_stream();
  std::vector<char> back(256);
  PoolStats before = device.pool().stats();
  {
    fake::Held held(*stream);
    {
      DeviceBuffer memory = device.pool().allocate(256, *stream);
      CHECK(device.pool().stats().bytes_in_use == before.bytes_in_use + 256);
      stream->fill_async(memory.data(), 9, 256);
      stream->copy_async(back.data(), memory.data(), 256);
      DeviceBuffer moved = std::move(memory);
      CHECK(memory.data() == nullptr);
    }
    CHECK(counts().live_device_blocks >= 1);  // given back, and the work has yet to run
  }
  stream->synchronize();
  CHECK(back[255] == 9);
  PoolStats after = device.pool().stats();
  CHECK(after.bytes_in_use == before.bytes_in_use);
  CHECK(after.buffers == before.buffers);
  CHECK(after.bytes_cached >= 256);
  device.pool().trim();
  CHECK(device.pool().stats().bytes_cached < after.bytes_cached);
  CHECK(device.pool().allocate(0, *stream).data() == nullptr);
}

TEST_CASE("cuda: out of memory tells the numbers, and the device stays usable") {
  CudaDevice& device = fresh_device();
  auto stream = device.make_cuda_stream();
  device.trim();  // waits for what tests before released
  fake::control().set_memory(10000);
  DeviceBuffer first = device.pool().allocate(6000, *stream);
  uint64_t free = device.memory().free_bytes;
  Error error = error_of([&] { device.pool().allocate(6000, *stream); });
  CHECK(error.code() == Code::kOutOfMemory);
  CHECK(error.subject() == "cuda:0");
  for (const std::string& part :
       {std::string("cudaMallocFromPoolAsync"), std::string("asked for 6000 bytes"),
        "free on the device " + std::to_string(free) + " of 10000 bytes"}) {
    CHECK_MESSAGE(contains(error.message(), part), error.message());
  }
  first = {};
  stream->synchronize();
  CHECK_NOTHROW(device.pool().allocate(6000, *stream));
  stream->synchronize();
  // What the pool caches for one size is given back before another is refused.
  uint64_t cached = device.pool().stats().bytes_cached;
  CHECK(cached >= 6000);
  CHECK_NOTHROW(device.pool().allocate(9000, *stream));
  stream->synchronize();
  CHECK(error_of([&] { device.allocate(20000); }).code() == Code::kOutOfMemory);
  fake::control().fail("host_allocate", fake::kOutOfMemory, 0, 2);
  Error pinned = error_of([&] { device.pinned_pool()->allocate(1 << 20); });
  CHECK(pinned.code() == Code::kOutOfMemory);
  CHECK(contains(pinned.message(), "cudaHostAlloc"));
}

TEST_CASE("cuda: a cap on device memory") {
  CudaDevice& device = fresh_device();
  auto stream = device.make_cuda_stream();
  DevicePool& pool = device.pool();
  uint64_t used = pool.stats().bytes_in_use;
  pool.set_limit(used + 1000);
  DeviceBuffer kept = pool.allocate(800, *stream);
  Error error = error_of([&] { pool.allocate(300, *stream); });
  CHECK(error.code() == Code::kOutOfMemory);
  CHECK(contains(error.message(), "cap of " + std::to_string(used + 1000) + " bytes"));
  kept = {};
  CHECK_NOTHROW(pool.allocate(300, *stream));
  pool.set_limit(0);
}

TEST_CASE("cuda: failures keep the name of the call") {
  CudaDevice& device = fresh_device();
  auto stream = device.make_cuda_stream();
  std::vector<char> host(8);
  fake::control().fail("copy_async", fake::kInvalidValue, 1, 1);
  CHECK_NOTHROW(stream->copy_async(host.data(), host.data() + 4, 4));
  Error error = error_of([&] { stream->copy_async(host.data(), host.data() + 4, 4); });
  CHECK(contains(error.message(), "cudaMemcpyAsync on cuda:0: cudaErrorInvalidValue (1)"));
  CHECK_NOTHROW(stream->copy_async(host.data(), host.data() + 4, 4));
  stream->synchronize();
}

TEST_CASE("cuda: work that fails on the device fails the next wait, and all after it") {
  CudaDevice& device = fresh_device();
  auto stream = device.make_cuda_stream();
  std::vector<char> host(8);
  fake::control().fail("execution", fake::kIllegalAddress, 0, 1);
  stream->copy_async(host.data(), host.data() + 4, 4);
  Error error = error_of([&] { stream->synchronize(); });
  CHECK(error.code() == Code::kDevice);
  CHECK(contains(error.message(), "cudaErrorIllegalAddress"));
  CHECK(contains(error.message(), "start the process again"));
  CHECK(error_of([&] { device.memory(); }).code() == Code::kDevice);
  fake::control().heal();
}

TEST_CASE("cuda: many threads, each with a stream of one device") {
  CudaDevice& device = fresh_device();
  std::atomic<int> wrong{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      auto stream = device.make_cuda_stream();
      std::vector<unsigned char> back(512);
      for (int i = 0; i < 20; ++i) {
        DeviceBuffer memory = device.pool().allocate(512, *stream);
        stream->fill_async(memory.data(), static_cast<uint8_t>(t * 20 + i), 512);
        stream->copy_async(back.data(), memory.data(), 512);
        stream->synchronize();
        if (back[0] != t * 20 + i || back[511] != t * 20 + i) ++wrong;
      }
    });
  }
  for (auto& thread : threads) thread.join();
  CHECK(wrong == 0);
}

TEST_CASE("cuda: a forked child refuses, and frees nothing") {
  CudaDevice& device = fresh_device();
  auto stream = device.make_cuda_stream();
  DeviceBuffer memory = device.pool().allocate(64, *stream);
  uint64_t before = counts().calls;
  pid_t child = ::fork();
  if (child == 0) {
    // No doctest here: only the exit code leaves.
    int refused = 0;
    auto expect = [&](auto body) {
      try {
        body();
      } catch (const Error& error) {
        if (error.code() == Code::kUnavailable && contains(error.message(), "forked")) ++refused;
      }
    };
    expect([&] { device.make_cuda_stream(); });
    expect([&] { device.allocate(8); });
    expect([&] { device.pool().allocate(8, *stream); });
    expect([&] { stream->synchronize(); });
    expect([&] { stream->enqueue([] {}); });
    expect([&] { stream->record(); });
    expect([&] { device.pinned_pool()->allocate(1 << 22); });
    expect([&] { open_device(0); });
    memory = {};
    stream.reset();
    ::_exit(refused == 8 && counts().calls == before ? 0 : 10 + refused);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  CHECK(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 0);
  CHECK_NOTHROW(stream->synchronize());
}
