// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <barrier>
#include <cstdint>
#include <thread>
#include <vector>

// A block of GPU threads on threads of the CPU, for code that is written against `Block`: under the
// thread sanitizer a missing sync() is a reported race.
class HostBlock {
 public:
  HostBlock(uint32_t thread, uint32_t threads, std::barrier<>& barrier)
      : thread_(thread), threads_(threads), barrier_(barrier) {}

  uint32_t thread() const { return thread_; }
  uint32_t threads() const { return threads_; }
  void sync() { barrier_.arrive_and_wait(); }
  uint32_t add(uint32_t* place, uint32_t value) {
    return std::atomic_ref<uint32_t>(*place).fetch_add(value, std::memory_order_relaxed);
  }
  void unite(uint32_t* place, uint32_t bits) {
    std::atomic_ref<uint32_t>(*place).fetch_or(bits, std::memory_order_relaxed);
  }

 private:
  uint32_t thread_;
  uint32_t threads_;
  std::barrier<>& barrier_;
};

// Calls body(block) on each thread of a block.
template <class Body>
void run_block(uint32_t threads, const Body& body) {
  std::barrier barrier(threads);
  std::vector<std::thread> all;
  for (uint32_t i = 0; i < threads; ++i) {
    all.emplace_back([&, i] {
      HostBlock block(i, threads, barrier);
      body(block);
    });
  }
  for (std::thread& one : all) one.join();
}
