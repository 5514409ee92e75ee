// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <mutex>
#include <vector>

namespace zerolane {

// Tells an event loop what is done: a file descriptor that turns readable, and the tokens behind
// it. Many completions between two looks cost one wake-up. Any thread may push.
class CompletionQueue {
 public:
  CompletionQueue();  // throws kInternal if the system gives no descriptor
  ~CompletionQueue();
  CompletionQueue(const CompletionQueue&) = delete;
  CompletionQueue& operator=(const CompletionQueue&) = delete;

  int descriptor() const noexcept { return descriptor_; }
  void push(uint64_t token) noexcept;
  // Swaps the tokens into `tokens`, which it clears first; makes the descriptor unreadable again.
  void drain(std::vector<uint64_t>* tokens);

 private:
  int descriptor_;
  std::mutex mutex_;  // guards tokens_
  std::vector<uint64_t> tokens_;
};

}  // namespace zerolane
