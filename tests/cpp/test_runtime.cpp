// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <poll.h>

#include <memory>
#include <thread>
#include <vector>

#include "core/error.h"
#include "fake_session.h"
#include "runtime/deadline.h"
#include "runtime/executor.h"

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

bool readable(int descriptor, int timeout_ms) {
  pollfd look{descriptor, POLLIN, 0};
  return ::poll(&look, 1, timeout_ms) == 1;
}

void drop(std::shared_ptr<Job>) noexcept {}

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

TEST_CASE("jobs: result, failure, cancel before and while running") {
  FakeContext context;
  auto good = std::make_shared<Job>([] {}, context);
  Executor::submit(good, drop);
  CHECK(good->wait(-1));
  CHECK_NOTHROW(good->rethrow());
  CHECK_FALSE(good->cancel());

  auto bad = std::make_shared<Job>([] { throw Error(Code::kBackend, "no"); }, context);
  Executor::submit(bad, drop);
  CHECK(bad->wait(-1));
  CHECK_THROWS_AS(bad->rethrow(), Error);
  CHECK_THROWS_AS(bad->rethrow(), Error);

  auto running = std::make_shared<Job>([&context] { context.run(); }, context);
  CHECK_FALSE(running->wait(0));
  Executor::submit(running, drop);
  context.running.wait(false);
  CHECK(running->cancel());
  CHECK(running->wait(-1));
  CHECK_THROWS_AS(running->rethrow(), Error);

  auto waiting = std::make_shared<Job>([] { FAIL("ran"); }, context);
  CHECK(waiting->cancel());
  Executor::submit(waiting, drop);
  CHECK(waiting->wait(-1));
  CHECK_THROWS_AS(waiting->rethrow(), Error);
}

TEST_CASE("a completion queue wakes once for many") {
  FakeContext context;
  auto queue = std::make_shared<CompletionQueue>();
  std::vector<std::shared_ptr<Job>> jobs;
  CHECK_FALSE(readable(queue->descriptor(), 0));
  for (uint64_t token = 0; token < 50; ++token) {
    jobs.push_back(std::make_shared<Job>([] {}, context));
    jobs.back()->notify(queue, token);
    Executor::submit(jobs.back(), drop);
  }
  std::vector<bool> seen(50);
  for (size_t count = 0; count < 50;) {
    REQUIRE(readable(queue->descriptor(), 10000));
    for (uint64_t token : queue->drain()) {
      CHECK_FALSE(seen[token]);
      seen[token] = true;
      ++count;
    }
  }
  CHECK_FALSE(readable(queue->descriptor(), 0));
  jobs[0]->notify(queue, 99);  // done already: told at once
  CHECK(readable(queue->descriptor(), 0));
}
