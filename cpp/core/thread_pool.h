// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace zerolane {

// Worker threads over one first-in-first-out queue. The destructor finishes queued work and joins
// (call it without the GIL). In a forked child the workers do not exist, so a pool from before the
// fork must not be destroyed there.
class ThreadPool {
 public:
  explicit ThreadPool(int threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  // Queues work; it must not throw. Any thread. Throws kUnavailable once the pool is closing.
  void submit(std::function<void()> work);
  int size() const { return static_cast<int>(threads_.size()); }

 private:
  void work();

  std::mutex mutex_;  // guards queue_ and closing_
  std::condition_variable ready_;
  std::deque<std::function<void()>> queue_;
  bool closing_ = false;
  std::vector<std::thread> threads_;  // last: they use all of the above
};

}  // namespace zerolane
