// SPDX-License-Identifier: Apache-2.0
#include "runtime/idle_guard.h"

#include <algorithm>
#include <chrono>
#include <exception>
#include <utility>

#include "core/error.h"
#include "core/trace.h"

namespace zerolane {
namespace {

// How soon to look again while a call is in progress, at the least.
constexpr int64_t kLookAgainNs = 100000;

}  // namespace

IdleGuard::IdleGuard(Contract& contract, std::unique_ptr<Pulse> pulse, double duty)
    : contract_(contract), pulse_(std::move(pulse)), duty_(duty), started_ns_(now_ns()) {
  thread_.submit([this] { watch(); });
}

IdleGuard::~IdleGuard() {
  {
    std::lock_guard lock(mutex_);
    closing_ = true;
  }
  closed_.notify_all();
  pulse_->cancel();
}

int64_t IdleGuard::not_before(int64_t begun_ns, int64_t taken_ns, int64_t idle_ns, double duty) {
  // A pulse of t ns every t / duty ns takes `duty` of the time.
  auto spread = static_cast<int64_t>(static_cast<double>(taken_ns) / duty);
  return begun_ns + std::max(spread, taken_ns + idle_ns);
}

void IdleGuard::watch() noexcept {
  int64_t earliest = started_ns_ + contract_.terms().idle_ns;
  for (;;) {
    int64_t due = std::max(earliest, contract_.last_end_ns() + contract_.terms().idle_ns);
    {
      std::unique_lock lock(mutex_);
      int64_t wait = due - now_ns();
      if (wait > 0) {
        closed_.wait_for(lock, std::chrono::nanoseconds(wait), [&] { return closing_; });
      }
      if (closing_) return;
    }
    if (contract_.last_end_ns() + contract_.terms().idle_ns > now_ns()) continue;
    pulse_once(&earliest);
  }
}

void IdleGuard::pulse_once(int64_t* earliest_ns) noexcept {
  int64_t begun = now_ns();
  int64_t taken = 0;
  bool cancelled = false;
  std::string failure;
  try {
    {
      // Not after the destructor's cancel, which it would undo.
      std::lock_guard lock(mutex_);
      if (closing_) return;
      pulse_->rearm();
    }
    if (contract_.begin_pulse(*pulse_)) {
      trace::Span span("pulse", contract_.name());
      begun = now_ns();
      contract_.pulses.add();
      try {
        pulse_->run();
      } catch (const Error& error) {
        cancelled = error.code() == Code::kCancelled;
        if (!cancelled) failure = error.what();
      } catch (const std::exception& error) {
        failure = error.what();
      }
      contract_.end_pulse();
      taken = now_ns() - begun;
    }
  } catch (...) {  // out of memory: another pulse will come
  }
  *earliest_ns = not_before(begun, taken, contract_.terms().idle_ns, duty_);
  if (taken == 0) *earliest_ns = std::max(*earliest_ns, begun + kLookAgainNs);
  std::lock_guard lock(mutex_);
  figures_.busy_ns += taken;
  figures_.cancelled += cancelled ? 1 : 0;
  if (!failure.empty()) {
    ++figures_.failed;
    figures_.last_failure = std::move(failure);
  }
}

IdleGuard::Figures IdleGuard::figures() const {
  std::lock_guard lock(mutex_);
  Figures out = figures_;
  out.watched_ns = now_ns() - started_ns_;
  return out;
}

}  // namespace zerolane
