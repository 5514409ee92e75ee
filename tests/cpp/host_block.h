// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <thread>
#include <vector>

// A block of GPU threads on threads of the CPU, for code that is written against `Block`: under the
// thread sanitizer a missing sync() is a reported race.
class HostBlock {
 public:
  // Sleeps at once: std::barrier spins first, which is slow where CPUs are few.
  class Barrier {
   public:
    explicit Barrier(uint32_t threads) : threads_(threads) {}
    void wait() {
      std::unique_lock lock(mutex_);
      const uint64_t round = round_;
      if (++arrived_ == threads_) {
        arrived_ = 0;
        ++round_;
        all_here_.notify_all();
        return;
      }
      all_here_.wait(lock, [&] { return round_ != round; });
    }

   private:
    const uint32_t threads_;
    std::mutex mutex_;  // of all below
    std::condition_variable all_here_;
    uint32_t arrived_ = 0;
    uint64_t round_ = 0;
  };

  HostBlock(uint32_t thread, uint32_t threads, Barrier& barrier)
      : thread_(thread), threads_(threads), barrier_(barrier) {}

  uint32_t thread() const { return thread_; }
  uint32_t threads() const { return threads_; }
  void sync() { barrier_.wait(); }
  uint32_t add(uint32_t* place, uint32_t value) {
    return std::atomic_ref<uint32_t>(*place).fetch_add(value, std::memory_order_relaxed);
  }
  void unite(uint32_t* place, uint32_t bits) {
    std::atomic_ref<uint32_t>(*place).fetch_or(bits, std::memory_order_relaxed);
  }

 private:
  uint32_t thread_;
  uint32_t threads_;
  Barrier& barrier_;
};

// Calls body(block) on each thread of a block.
template <class Body>
void run_block(uint32_t threads, const Body& body) {
  HostBlock::Barrier barrier(threads);
  if (threads == 1) {
    HostBlock block(0, 1, barrier);
    return body(block);
  }
  std::vector<std::thread> all;
  for (uint32_t i = 0; i < threads; ++i) {
    all.emplace_back([&, i] {
      HostBlock block(i, threads, barrier);
      body(block);
    });
  }
  for (std::thread& one : all) one.join();
}
