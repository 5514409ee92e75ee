// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <condition_variable>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <vector>

#include "core/session.h"

namespace zerolane {

// Tells an event loop which jobs are done: a file descriptor that turns readable, and the tokens
// behind it. Many completions between two looks cost one wake-up. Any thread may push.
class CompletionQueue {
 public:
  CompletionQueue();  // throws kInternal if the system gives no descriptor
  ~CompletionQueue();
  CompletionQueue(const CompletionQueue&) = delete;
  CompletionQueue& operator=(const CompletionQueue&) = delete;

  int descriptor() const noexcept { return descriptor_; }
  void push(uint64_t token) noexcept;
  std::vector<uint64_t> drain();  // makes the descriptor unreadable again

 private:
  int descriptor_;
  std::mutex mutex_;  // guards tokens_
  std::vector<uint64_t> tokens_;
};

// One run that a worker thread does. Failure is kept here and rethrown by every take of the result.
class Job {
 public:
  // `work` runs once, on a worker; `context` is what cancel() ends while it runs. Both outlive the
  // work.
  Job(std::function<void()> work, Context& context);
  virtual ~Job() = default;

  bool done() const;
  // Blocks up to `timeout_ns` (negative: for ever); false when the time is over.
  bool wait(int64_t timeout_ns) const;
  // Rethrows the failure, if any. Only once done.
  void rethrow() const;
  // Ends the job: at once if it has not started, between two operators if it runs. False if it is
  // done already.
  bool cancel();
  // `queue` receives `token` when the job is done (at once if it is).
  void notify(std::shared_ptr<CompletionQueue> queue, uint64_t token);

 private:
  friend class Executor;
  enum class State { kWaiting, kRunning, kDone };
  void execute() noexcept;
  void finish(std::unique_lock<std::mutex> lock, std::exception_ptr error) noexcept;

  std::function<void()> work_;
  Context& context_;
  mutable std::mutex mutex_;  // guards all below
  mutable std::condition_variable finished_;
  State state_ = State::kWaiting;
  std::exception_ptr error_;
  std::shared_ptr<CompletionQueue> queue_;
  uint64_t token_ = 0;
};

// Hands jobs to worker threads: as many as CPUs, started at first use.
class Executor {
 public:
  // Queues the job. `release` gets the last worker-side reference, so that what the job owns is let
  // go where it may be.
  static void submit(std::shared_ptr<Job> job, void (*release)(std::shared_ptr<Job>) noexcept);
  // Cancels what is queued or running and joins (without the GIL). Later submits throw
  // kUnavailable.
  static void shut_down();
};

}  // namespace zerolane
