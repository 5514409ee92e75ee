// SPDX-License-Identifier: Apache-2.0
#pragma once

// What the stand-in is made of: streams with a thread each, events, captures, memory blocks,
// planned failures. fake_cuda.cpp has the table over it.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "control.h"
#include "cuda/table.h"

namespace zerolane::cuda::fake {

struct Node {
  const char* kind;
  std::function<void()> run;
};
using Nodes = std::vector<Node>;

// What graph_retain() gave, destroyed with the last graph, executable or run that holds it.
struct Retained {
  std::vector<std::pair<void*, HostFunction>> objects;
  ~Retained() {
    for (auto [object, destroy] : objects) destroy(object);
  }
};

struct Graph {
  std::shared_ptr<Nodes> nodes = std::make_shared<Nodes>();
  std::shared_ptr<Retained> retained = std::make_shared<Retained>();
};
using Exec = Graph;

struct Stream;

// A capture in progress: where it began, who joined it by an event, what was recorded.
struct Capture {
  Stream* origin = nullptr;
  std::thread::id thread;
  std::set<Stream*> members;
  std::set<Stream*> unjoined;  // members that the origin has not waited for
  bool broken = false;
  std::shared_ptr<Nodes> nodes = std::make_shared<Nodes>();
};

struct Stream {
  Stream(int device, bool is_default) : device(device), is_default(is_default) {}
  ~Stream() {  // runs what is queued
    {
      std::lock_guard lock(mutex_);
      closing_ = true;
    }
    changed_.notify_all();
    thread_.join();
  }

  void push(std::function<void()> work) {
    std::lock_guard lock(mutex_);
    queue_.push_back(std::move(work));
    changed_.notify_all();
  }
  bool idle() {
    std::lock_guard lock(mutex_);
    return queue_.empty() && !busy_;
  }
  void drain() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return queue_.empty() && !busy_; });
  }

  const int device;
  const bool is_default;
  std::shared_ptr<Capture> capture;  // guarded by State::mutex

 private:
  void loop() {
    std::unique_lock lock(mutex_);
    for (;;) {
      changed_.wait(lock, [&] { return closing_ || !queue_.empty(); });
      if (queue_.empty()) return;
      auto work = std::move(queue_.front());
      queue_.pop_front();
      busy_ = true;
      lock.unlock();
      work();
      work = nullptr;  // what it held may lock in its destructor
      lock.lock();
      busy_ = false;
      changed_.notify_all();
    }
  }

  std::mutex mutex_;  // guards the three below
  std::condition_variable changed_;
  std::deque<std::function<void()>> queue_;
  bool busy_ = false;
  bool closing_ = false;
  std::thread thread_{[this] { loop(); }};  // last: uses those above
};

// Points in a stream's order: the n-th recording is reached when `completed` is n or more.
struct Points {
  std::mutex mutex;
  std::condition_variable changed;
  uint64_t recorded = 0;
  uint64_t completed = 0;
  double at_ms = 0;

  void wait(uint64_t point) {
    std::unique_lock lock(mutex);
    changed.wait(lock, [&] { return completed >= point; });
  }
};

struct Event {
  bool timing = false;
  std::shared_ptr<Points> points = std::make_shared<Points>();
  std::shared_ptr<Capture> capture;  // recorded while captured, on `recorder`
  Stream* recorder = nullptr;
};

struct Pool {
  int device = 0;
  uint64_t threshold = 0;
  PoolUsage usage{};
};

struct Block {
  MemoryKind kind = MemoryKind::kDevice;
  int device = 0;
  uint64_t bytes = 0;
  Pool* pool = nullptr;
  bool foreign = false;  // registered, not ours to free
  bool freed = false;    // its free is queued on a stream
};

struct Failure {
  int32_t status = 0;
  int64_t skip = 0;
  int64_t times = 0;
};

struct Gate {
  std::mutex mutex;
  std::condition_variable changed;
  bool open = false;
};

struct State {
  std::mutex mutex;  // guards all but the atomics and what is set once
  int devices = 1;
  int driver = 13000;
  int memory_pools = 1;
  uint64_t memory = uint64_t{1} << 30;
  std::map<int, uint64_t> reserved;   // by device
  std::map<uintptr_t, Block> blocks;  // by address
  std::set<Stream*> streams;
  std::set<Event*> events;
  std::set<Graph*> graphs;
  std::set<Exec*> execs;
  std::set<Pool*> pools;
  std::map<std::pair<int, uintptr_t>, Stream*> defaults;
  std::map<Stream*, std::shared_ptr<Gate>> gates;
  std::map<std::string, Failure, std::less<>> failures;
  Counts counts{};
  std::map<const void*, uint64_t> host_copies;  // by the address on the host
  std::atomic<int32_t> lost{0};                 // the error that ended the context

  State() {
    const char* text = std::getenv("ZEROLANE_FAKE_CUDA");
    std::string_view rest = text != nullptr ? text : "";
    while (!rest.empty()) {
      std::string item(rest.substr(0, rest.find(',')));
      rest.remove_prefix(std::min(item.size() + 1, rest.size()));
      unsigned long long value = 0;
      char name[64] = "";
      Failure failure;
      long long skip = 0;
      long long times = 1;
      if (std::sscanf(item.c_str(), "devices=%llu", &value) == 1) devices = static_cast<int>(value);
      if (std::sscanf(item.c_str(), "memory=%llu", &value) == 1) memory = value;
      if (std::sscanf(item.c_str(), "driver=%llu", &value) == 1) driver = static_cast<int>(value);
      if (std::sscanf(item.c_str(), "pools=%llu", &value) == 1) memory_pools = value != 0 ? 1 : 0;
      if (std::sscanf(item.c_str(), "fail=%63[a-z_]:%d:%lld:%lld", name, &failure.status, &skip,
                      &times) >= 2) {
        failure.skip = skip;
        failure.times = times;
        failures[name] = failure;
      }
    }
  }
};

inline State& state() {
  static auto* made = new State;  // threads may use it until the process ends
  return *made;
}

using Lock = std::unique_lock<std::mutex>;

// What fail() planned for this function. The lock is held.
inline int32_t planned(std::string_view function) {
  State& s = state();
  auto found = s.failures.find(function);
  if (found == s.failures.end()) return 0;
  Failure& failure = found->second;
  if (failure.skip > 0) {
    --failure.skip;
    return 0;
  }
  if (failure.times <= 0) return 0;
  --failure.times;
  return failure.status;
}

// The beginning of every function that takes a device.
inline int32_t enter(const char* function, int32_t device) {
  State& s = state();
  ++s.counts.calls;
  if (s.driver == 0) return kInsufficientDriver;
  if (device < 0 || device >= s.devices) return kInvalidDevice;
  if (int32_t status = planned(function)) return status;
  return s.lost.load();
}

inline Stream* resolve(int32_t device, NativeStream* native) {
  State& s = state();
  auto address = reinterpret_cast<uintptr_t>(native);
  if (address <= 2) {  // legacy default (twice) and per-thread default
    Stream*& stream = s.defaults[{device, address == 2 ? 2 : 0}];
    if (stream == nullptr) stream = new Stream(device, /*is_default=*/true);
    return stream;
  }
  auto* stream = reinterpret_cast<Stream*>(native);
  return s.streams.contains(stream) ? stream : nullptr;
}

inline void run_guarded(const std::function<void()>& work) {
  State& s = state();
  {
    Lock lock(s.mutex);
    if (s.lost != 0) return;
    if (int32_t status = planned("execution")) {
      s.lost = status;
      return;
    }
  }
  work();
}

// Enqueues a piece of work, or records it. The lock is held.
inline int32_t put(int32_t device, NativeStream* native, const char* kind,
                   std::function<void()> work) {
  Stream* stream = resolve(device, native);
  if (stream == nullptr) return kInvalidHandle;
  if (!stream->capture) {
    stream->push([work = std::move(work)] { run_guarded(work); });
    return 0;
  }
  Capture& capture = *stream->capture;
  if (capture.broken) return kCaptureInvalidated;
  if (stream != capture.origin) capture.unjoined.insert(stream);
  capture.nodes->push_back({kind, std::move(work)});
  return 0;
}

// Calls that a capturing thread must not make. The lock is held.
inline int32_t unsafe_in_capture() {
  for (Stream* stream : state().streams) {
    if (stream->capture && stream->capture->thread == std::this_thread::get_id()) {
      stream->capture->broken = true;
      return kCaptureUnsupported;
    }
  }
  return 0;
}

inline void tally(uint64_t Counts::* what, uint64_t by = 1) {
  Lock lock(state().mutex);
  state().counts.*what += by;
}

// The block that `data` lies in, or null. The lock is held.
inline std::pair<uintptr_t, Block*> find_block(const void* data) {
  auto& blocks = state().blocks;
  auto address = reinterpret_cast<uintptr_t>(data);
  auto next = blocks.upper_bound(address);
  if (next == blocks.begin()) return {0, nullptr};
  auto& [begin, block] = *std::prev(next);
  if (address >= begin + block.bytes) return {0, nullptr};
  return {begin, &block};
}

// Whether [data, data + bytes) is device memory; *ok false where it sticks out of its block or is
// given back already.
inline bool on_device(const void* data, uint64_t bytes, bool* ok) {
  auto [begin, block] = find_block(data);
  if (block == nullptr) return false;
  if (reinterpret_cast<uintptr_t>(data) + bytes > begin + block->bytes || block->freed) *ok = false;
  return block->kind == MemoryKind::kDevice;
}

constexpr uint64_t kGrain = 512;

inline void* make_block(Block block) {
  void* data = std::aligned_alloc(kGrain, (block.bytes + kGrain - 1) / kGrain * kGrain);
  if (data == nullptr) return nullptr;
  // Memory that is read before it is written shows.
  std::memset(data, 0xA5, std::min<uint64_t>(block.bytes, 1 << 20));
  state().blocks[reinterpret_cast<uintptr_t>(data)] = block;
  return data;
}

inline double now_ms() {
  auto now = std::chrono::steady_clock::now().time_since_epoch();
  return std::chrono::duration<double, std::milli>(now).count();
}

}  // namespace zerolane::cuda::fake
