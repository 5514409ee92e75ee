// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <csignal>

namespace zerolane::bindings {

// While it lives on the main thread, SIGINT also wakes the watchdog, which ends the interruptible
// run; then Python's own handler runs as always. Elsewhere, and where SIGINT is ignored or left to
// the system, it does nothing.
class InterruptScope {
 public:
  InterruptScope();
  ~InterruptScope();
  InterruptScope(const InterruptScope&) = delete;
  InterruptScope& operator=(const InterruptScope&) = delete;
  bool active() const noexcept { return active_; }

 private:
  bool active_ = false;
};

}  // namespace zerolane::bindings
