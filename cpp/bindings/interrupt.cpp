// SPDX-License-Identifier: Apache-2.0
#include "bindings/interrupt.h"

#include <sys/syscall.h>
#include <unistd.h>

#include "runtime/deadline.h"

namespace zerolane::bindings {
namespace {

// Written on the main thread only, before the handler is installed.
struct sigaction g_previous;
Watchdog* g_watchdog = nullptr;

void on_interrupt(int number, siginfo_t* info, void* context) {
  g_watchdog->interrupt();
  if ((g_previous.sa_flags & SA_SIGINFO) != 0) {
    g_previous.sa_sigaction(number, info, context);
  } else {
    g_previous.sa_handler(number);
  }
}

}  // namespace

InterruptScope::InterruptScope() {
  if (::syscall(SYS_gettid) != ::getpid()) return;
  struct sigaction current{};
  if (::sigaction(SIGINT, nullptr, &current) != 0) return;
  bool plain = (current.sa_flags & SA_SIGINFO) == 0;
  if (plain && (current.sa_handler == SIG_DFL || current.sa_handler == SIG_IGN)) return;
  if (!plain && current.sa_sigaction == on_interrupt) return;
  g_watchdog = &Watchdog::instance();
  g_previous = current;
  struct sigaction ours = current;
  ours.sa_flags |= SA_SIGINFO;
  ours.sa_sigaction = on_interrupt;
  active_ = ::sigaction(SIGINT, &ours, nullptr) == 0;
}

InterruptScope::~InterruptScope() {
  if (!active_) return;
  struct sigaction current{};
  // Somebody else's handler, installed meanwhile, stays.
  if (::sigaction(SIGINT, nullptr, &current) == 0 && (current.sa_flags & SA_SIGINFO) != 0 &&
      current.sa_sigaction == on_interrupt) {
    ::sigaction(SIGINT, &g_previous, nullptr);
  }
}

}  // namespace zerolane::bindings
