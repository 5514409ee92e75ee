// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include "core/error.h"
#include "fake_session.h"
#include "runtime/deadline.h"

using namespace zerolane;

namespace {

Code run_to_error(FakeContext& context) {
  try {
    context.run();
  } catch (const Error& error) {
    return error.code();
  }
  return Code::kInternal;
}

}  // namespace

TEST_CASE("a deadline ends a run, the nearest first") {
  FakeContext slow;
  FakeContext fast;
  Watchdog::Guard far_guard(slow, now_ns() + int64_t{3600} * 1000000000, false);
  {
    Watchdog::Guard guard(fast, now_ns() + 5000000, false);
    CHECK(run_to_error(fast) == Code::kCancelled);
    CHECK(guard.fired() == Watchdog::Fired::kDeadline);
  }
  CHECK(far_guard.fired() == Watchdog::Fired::kNo);
  CHECK(slow.state == 0);
}

TEST_CASE("a deadline that has passed fires at once") {
  FakeContext context;
  Watchdog::Guard guard(context, now_ns() - 1, false);
  CHECK(run_to_error(context) == Code::kCancelled);
}

TEST_CASE("an interrupt ends only the runs that allow it") {
  FakeContext stubborn;
  FakeContext willing;
  Watchdog::Guard first(stubborn, Watchdog::Guard::kNever, false);
  Watchdog::Guard second(willing, Watchdog::Guard::kNever, true);
  Watchdog::instance().interrupt();
  CHECK(run_to_error(willing) == Code::kCancelled);
  CHECK(second.fired() == Watchdog::Fired::kInterrupt);
  CHECK(first.fired() == Watchdog::Fired::kNo);
}

TEST_CASE("a finished guard is never fired") {
  FakeContext context;
  for (int i = 0; i < 200; ++i) {
    Watchdog::Guard guard(context, now_ns() + 1000 * i, false);
  }
  context.rearm();
  CHECK(context.state == 0);
}
