// SPDX-License-Identifier: Apache-2.0
#include "runtime/lanes.h"

#include <pthread.h>
#include <sched.h>

#include <csignal>
#include <utility>

#include "core/error.h"
#include "core/fork.h"

namespace zerolane {
namespace {

void check_cpus(const LaneOptions& options) {
  cpu_set_t allowed;
  CPU_ZERO(&allowed);
  ::sched_getaffinity(0, sizeof(allowed), &allowed);
  for (const int cpu : options.cpus) {
    if (cpu >= 0 && cpu < CPU_SETSIZE && CPU_ISSET(cpu, &allowed)) continue;
    std::string usable;
    for (int i = 0; i < CPU_SETSIZE; ++i) {
      if (CPU_ISSET(i, &allowed)) usable += (usable.empty() ? "" : ", ") + std::to_string(i);
    }
    throw make_error(
        Code::kInvalidArgument, "binding lanes of " + options.name + " to CPUs",
        "this process may not run on CPU " + std::to_string(cpu) + ", but on " + usable,
        "give CPUs of that list", "cpus");
  }
}

}  // namespace

Lanes::Lanes(LaneOptions options)
    : options_(std::move(options)),
      generation_(fork_generation.load()),
      queue_track_("queue of " + options_.name) {
  check_cpus(options_);
  lanes_ = std::make_unique<Lane[]>(options_.count);
  for (size_t i = 0; i < options_.count; ++i) {
    lanes_[i].track = trace::Track("lane " + std::to_string(i) + " of " + options_.name);
  }
  const metrics::Labels labels{{"name", options_.name}};
  published_.push_back(metrics::publish("zerolane_lanes_queue_seconds", labels, waits_));
  published_.push_back(metrics::publish("zerolane_lanes_queued", labels, depth_));
  // Signals belong to the program's threads, not to these.
  sigset_t all;
  sigset_t before;
  ::sigfillset(&all);
  ::pthread_sigmask(SIG_SETMASK, &all, &before);
  try {
    for (size_t i = 0; i < options_.count; ++i) {
      lanes_[i].thread = std::thread([this, i] { work(i); });
      const std::string name = "zl-lane-" + std::to_string(i);
      ::pthread_setname_np(lanes_[i].thread.native_handle(), name.substr(0, 15).c_str());
    }
  } catch (...) {
    ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
    close(false);
    throw make_error(Code::kUnavailable, "starting lanes for " + options_.name,
                     "the system gave no thread", "raise the limit of threads (ulimit -u)");
  }
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

Lanes::~Lanes() {
  close(false);
  // The threads stayed behind in the parent; their handles must not be destroyed.
  if (forked_since(generation_)) (void)lanes_.release();
}

bool Lanes::push(LaneTask& task) noexcept {
  task.next_ = nullptr;
  task.queued_ns_ = now_ns();
  task.request_ = trace::next_request();
  {
    std::lock_guard lock(mutex_);
    if (closing_) return false;
    (tail_ == nullptr ? head_ : tail_->next_) = &task;
    tail_ = &task;
    depth_.set(static_cast<int64_t>(queued_.fetch_add(1)) + 1);
  }
  trace::counter(queue_track_, "queued", depth_.value());
  epoch_.fetch_add(1);
  // A lane counts itself as sleeping before it looks at the queue for the last time.
  if (sleepers_.load() > 0) futex::wake(epoch_, 1);
  return true;
}

LaneTask* Lanes::take(Lane& lane) {
  std::lock_guard lock(mutex_);
  LaneTask* task = head_;
  if (task == nullptr) return nullptr;
  head_ = task->next_;
  if (head_ == nullptr) tail_ = nullptr;
  depth_.set(static_cast<int64_t>(queued_.fetch_sub(1)) - 1);
  lane.running = task;
  return task;
}

void Lanes::work(size_t index) noexcept {
  Lane& lane = lanes_[index];
  if (!options_.cpus.empty()) {
    cpu_set_t mine;
    CPU_ZERO(&mine);
    CPU_SET(options_.cpus[index % options_.cpus.size()], &mine);
    ::pthread_setaffinity_np(::pthread_self(), sizeof(mine), &mine);
  }
  for (;;) {
    if (LaneTask* task = take(lane); task != nullptr) {
      const int64_t begin = now_ns();
      waits_.record(begin - task->queued_ns_);
      trace::span(queue_track_, "queue", task->queued_ns_, begin, task->request_);
      {
        const trace::Scope scope(lane.track, task->request_);
        task->run(index);
      }
      {
        std::lock_guard lock(mutex_);
        lane.running = nullptr;
      }
      lane.busy_ns.fetch_add(now_ns() - begin, std::memory_order_relaxed);
      lane.done.fetch_add(1, std::memory_order_relaxed);
      task->release();
      continue;
    }
    {
      std::lock_guard lock(mutex_);
      if (closing_ && head_ == nullptr) return;
    }
    auto any = [this] { return queued_.load(std::memory_order_relaxed) > 0; };
    if (spin(options_.spin_ns, any)) continue;
    const uint32_t epoch = epoch_.load();
    sleepers_.fetch_add(1);
    bool closing = false;
    {
      std::lock_guard lock(mutex_);
      closing = closing_;
    }
    if (queued_.load() == 0 && !closing) futex::wait(epoch_, epoch, kForever);
    sleepers_.fetch_sub(1);
  }
}

void Lanes::close(bool abort) {
  if (forked_since(generation_)) return;
  {
    std::lock_guard lock(mutex_);
    closing_ = true;
    if (abort) {
      for (LaneTask* task = head_; task != nullptr; task = task->next_) task->abort();
      for (size_t i = 0; i < options_.count; ++i) {
        if (lanes_[i].running != nullptr) lanes_[i].running->abort();
      }
    }
  }
  epoch_.fetch_add(1);
  futex::wake_all(epoch_);
  std::lock_guard lock(join_mutex_);
  for (size_t i = 0; i < options_.count; ++i) {
    if (lanes_[i].thread.joinable()) lanes_[i].thread.join();
  }
}

LaneStats Lanes::stats(size_t lane) const noexcept {
  return {lanes_[lane].done.load(std::memory_order_relaxed),
          lanes_[lane].busy_ns.load(std::memory_order_relaxed)};
}

}  // namespace zerolane
