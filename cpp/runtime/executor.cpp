// SPDX-License-Identifier: Apache-2.0
#include "runtime/executor.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <chrono>
#include <unordered_set>
#include <utility>

#include "core/cpus.h"
#include "core/error.h"
#include "core/fork.h"
#include "core/thread_pool.h"

namespace zerolane {

CompletionQueue::CompletionQueue() : descriptor_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  if (descriptor_ < 0) {
    throw make_error(Code::kInternal, "making a completion queue", "the system gave no descriptor",
                     "raise the limit of open files (ulimit -n)");
  }
}

CompletionQueue::~CompletionQueue() { ::close(descriptor_); }

void CompletionQueue::push(uint64_t token) noexcept {
  bool first = false;
  try {
    std::lock_guard lock(mutex_);
    first = tokens_.empty();
    tokens_.push_back(token);
  } catch (...) {  // no memory for 8 bytes: nothing sensible is left to do
    return;
  }
  uint64_t one = 1;
  if (first && ::write(descriptor_, &one, sizeof(one)) < 0) {
  }  // full only after 2^64 wake-ups
}

std::vector<uint64_t> CompletionQueue::drain() {
  uint64_t count = 0;
  if (::read(descriptor_, &count, sizeof(count)) < 0) {
  }  // nothing to read: a spurious look
  std::lock_guard lock(mutex_);
  return std::exchange(tokens_, {});
}

Job::Job(std::function<void()> work, Context& context)
    : work_(std::move(work)), context_(context) {}

bool Job::done() const {
  std::lock_guard lock(mutex_);
  return state_ == State::kDone;
}

bool Job::wait(int64_t timeout_ns) const {
  std::unique_lock lock(mutex_);
  auto is_done = [this] { return state_ == State::kDone; };
  if (timeout_ns < 0) {
    finished_.wait(lock, is_done);
    return true;
  }
  return finished_.wait_for(lock, std::chrono::nanoseconds(timeout_ns), is_done);
}

void Job::rethrow() const {
  std::lock_guard lock(mutex_);
  if (error_) std::rethrow_exception(error_);
}

bool Job::cancel() {
  std::unique_lock lock(mutex_);
  if (state_ == State::kDone) return false;
  if (state_ == State::kRunning) {
    context_.cancel();
    return true;
  }
  finish(std::move(lock),
         std::make_exception_ptr(make_error(Code::kCancelled, "running a submitted call",
                                            "it was cancelled before it started",
                                            "submit it again if the result is still wanted")));
  return true;
}

void Job::notify(std::shared_ptr<CompletionQueue> queue, uint64_t token) {
  std::unique_lock lock(mutex_);
  if (state_ == State::kDone) {
    lock.unlock();
    queue->push(token);
    return;
  }
  queue_ = std::move(queue);
  token_ = token;
}

void Job::execute() noexcept {
  {
    std::lock_guard lock(mutex_);
    if (state_ != State::kWaiting) return;  // cancelled meanwhile
    state_ = State::kRunning;
  }
  std::exception_ptr error;
  try {
    work_();
  } catch (...) {
    error = std::current_exception();
  }
  finish(std::unique_lock(mutex_), std::move(error));
}

void Job::finish(std::unique_lock<std::mutex> lock, std::exception_ptr error) noexcept {
  state_ = State::kDone;
  error_ = std::move(error);
  std::shared_ptr<CompletionQueue> queue = std::move(queue_);
  uint64_t token = token_;
  finished_.notify_all();
  lock.unlock();
  if (queue) queue->push(token);
}

namespace {

struct Workers {
  std::mutex mutex;  // guards all below
  ThreadPool* pool = nullptr;
  unsigned generation = 0;
  bool closed = false;
  std::unordered_set<std::shared_ptr<Job>> jobs;  // queued or running
};

Workers& workers() {
  static auto* workers = new Workers;
  return *workers;
}

}  // namespace

void Executor::submit(std::shared_ptr<Job> job, void (*release)(std::shared_ptr<Job>) noexcept) {
  Workers& w = workers();
  std::lock_guard lock(w.mutex);
  if (w.closed) {
    throw make_error(Code::kUnavailable, "submitting a call", "the interpreter is shutting down",
                     "submit earlier");
  }
  // The threads of a pool from before a fork do not exist here; the old object is abandoned.
  if (w.pool == nullptr || forked_since(w.generation)) {
    w.pool = new ThreadPool(usable_cpus());
    for (auto& job : w.jobs)
      (void)new std::shared_ptr<Job>(job);  // what they hold is not ours here
    w.jobs.clear();
    w.generation = fork_generation.load();
  }
  w.jobs.insert(job);
  w.pool->submit([job = std::move(job), release]() mutable {
    job->execute();
    {
      std::lock_guard done(workers().mutex);
      workers().jobs.erase(job);
    }
    release(std::move(job));
  });
}

void Executor::shut_down() {
  Workers& w = workers();
  ThreadPool* pool = nullptr;
  std::vector<std::shared_ptr<Job>> jobs;
  {
    std::lock_guard lock(w.mutex);
    w.closed = true;
    if (forked_since(w.generation)) return;
    pool = std::exchange(w.pool, nullptr);
    jobs.assign(w.jobs.begin(), w.jobs.end());
  }
  for (auto& job : jobs) job->cancel();
  delete pool;
}

}  // namespace zerolane
