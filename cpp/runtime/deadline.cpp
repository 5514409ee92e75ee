// SPDX-License-Identifier: Apache-2.0
#include "runtime/deadline.h"

#include <pthread.h>

#include <algorithm>
#include <csignal>
#include <ctime>

#include "core/fork.h"

namespace zerolane {

Watchdog& Watchdog::instance() {
  static std::mutex mutex;  // guards dog
  static Watchdog* dog = nullptr;
  std::lock_guard lock(mutex);
  // A fork leaves the old object's thread behind; the object is abandoned with it.
  if (dog == nullptr || forked_since(dog->generation_)) dog = new Watchdog;
  return *dog;
}

Watchdog::Watchdog() : generation_(fork_generation.load()) {
  ::sem_init(&wake_, 0, 0);
  // Signals belong to the program's threads, not to this one.
  sigset_t all;
  sigset_t before;
  ::sigfillset(&all);
  ::pthread_sigmask(SIG_SETMASK, &all, &before);
  std::thread thread([this] { watch(); });
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
  ::pthread_setname_np(thread.native_handle(), "zl-watchdog");
  thread.detach();  // it sleeps until the process ends, and touches nothing but this object, which
                    // is never freed
}

Watchdog::Guard::Guard(Context& context, int64_t deadline_ns, bool interruptible)
    : dog_(Watchdog::instance()),
      context_(context),
      deadline_ns_(deadline_ns),
      interruptible_(interruptible) {
  bool earliest = deadline_ns != kNever;
  {
    std::lock_guard lock(dog_.mutex_);
    for (const Guard* other : dog_.guards_) {
      if (other->deadline_ns_ <= deadline_ns) earliest = false;
    }
    dog_.guards_.push_back(this);
  }
  if (earliest) ::sem_post(&dog_.wake_);
}

Watchdog::Guard::~Guard() {
  std::lock_guard lock(dog_.mutex_);
  std::erase(dog_.guards_, this);
}

void Watchdog::interrupt() noexcept {
  interrupted_.store(true);
  ::sem_post(&wake_);
}

int64_t Watchdog::fire_due() {
  std::lock_guard lock(mutex_);
  bool interrupted = interrupted_.exchange(false);
  int64_t now = now_ns();
  int64_t next = Guard::kNever;
  for (Guard* guard : guards_) {
    if (guard->fired_.load() != Fired::kNo) continue;
    if (guard->deadline_ns_ <= now) {
      guard->fired_ = Fired::kDeadline;
      guard->context_.cancel();
    } else if (interrupted && guard->interruptible_) {
      guard->fired_ = Fired::kInterrupt;
      guard->context_.cancel();
    } else {
      next = std::min(next, guard->deadline_ns_);
    }
  }
  return next;
}

void Watchdog::watch() {
  for (;;) {
    int64_t next = fire_due();
    if (next == Guard::kNever) {
      ::sem_wait(&wake_);
    } else {
      timespec until{next / 1000000000, next % 1000000000};
      ::sem_clockwait(&wake_, CLOCK_MONOTONIC, &until);
    }
  }
}

}  // namespace zerolane
