// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <fcntl.h>
#include <unistd.h>

#include <atomic>
#include <cmath>
#include <cstring>
#include <limits>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "core/error.h"
#include "core/session.h"
#include "runtime/futex.h"
#include "runtime/loop.h"
#include "runtime/schedule.h"
#include "runtime/tick_gate.h"

using namespace zerolane;

namespace {

constexpr int64_t kMs = 1000000;
constexpr int64_t kSecond = 1000000000;

// y = x + state + 1, state' = state + 1; fails, or hangs until it is cancelled, when told to.
class StepContext final : public Context {
 public:
  void bind_input(size_t, const View&) override {}
  void bind_output(size_t, const View&) override {}
  void set_input(size_t, const View&) override {}
  void set_input(size_t, const Value&) override {}
  void clear_input(size_t) override {}
  void set_output(size_t, const View&) override {}
  void request_output(size_t) override {}
  void drop_output(size_t) override {}
  Value take_output(size_t) override { return {}; }
  void run() override {
    ++runs;
    if (fail) throw Error(Code::kBackend, "running a test: it was told to fail; do not tell it");
    while (hang && (deaf || !cancelled_)) futex::wait(word_, 0, now_ns() + kMs);
    if (cancelled_.exchange(false)) throw Error(Code::kCancelled, "cancelled");
    y = x + state + 1;
    next = state + 1;
  }
  void cancel() noexcept override { cancelled_ = true; }
  void rearm() override { cancelled_ = false; }

  std::atomic<int> runs{0};
  std::atomic<bool> fail{false};
  std::atomic<bool> hang{false};
  std::atomic<bool> deaf{false};  // hears no cancel
  double x = 0, state = 0, y = 0, next = 0;

 private:
  std::atomic<bool> cancelled_{false};
  std::atomic<uint32_t> word_{0};
};

struct Bench {
  StepContext context;
  std::shared_ptr<Mailbox> in = Mailbox::make("", DType::kFloat64, Shape{1});
  std::shared_ptr<Mailbox> out = Mailbox::make("", DType::kFloat64, Shape{1});
  std::shared_ptr<Loop> loop;

  explicit Bench(LoopOptions options, bool safe = false, bool feedback = false) {
    in->claim();
    out->claim();
    std::vector<std::byte> bytes;
    if (safe) {
      const double value = -7;
      bytes.resize(8);
      std::memcpy(bytes.data(), &value, 8);
    }
    std::vector<LoopFeedback> back;
    if (feedback) back.push_back({&context.next, &context.state, 8});
    loop = std::make_shared<Loop>(context, "a test", std::vector<LoopInput>{{&context.x, in}},
                                  std::vector<LoopOutput>{{&context.y, out, bytes}}, back, options);
  }
  ~Bench() {
    context.hang = false;
    loop->close(60 * kSecond);
  }
  void write(double value) { in->write(&value); }
  // The first output after number `after`; waits for it.
  double next(uint64_t after, Message* message) {
    const int64_t end = now_ns() + 60 * kSecond;
    while (!out->wait(after, now_ns() + kSecond)) REQUIRE(now_ns() < end);
    double value = 0;
    REQUIRE(out->read(&value, message));
    return value;
  }
  template <typename Condition>
  void until(Condition condition) {
    const int64_t end = now_ns() + 60 * kSecond;
    while (!condition()) {
      REQUIRE(now_ns() < end);
      out->wait(UINT64_MAX, now_ns() + kMs / 2);
    }
  }
  uint64_t missed(Miss miss) { return loop->counts().missed[static_cast<size_t>(miss)]; }
};

LoopOptions at_rate(double hz, int64_t deadline_ns = 0) {
  LoopOptions options;
  options.rate_hz = hz;
  options.deadline_ns = deadline_ns;
  return options;
}

LoopOptions on_trigger(int64_t deadline_ns = 0) {
  LoopOptions options;
  options.trigger = 0;
  options.deadline_ns = deadline_ns;
  return options;
}

Code code_of(const std::exception_ptr& error) {
  try {
    if (error) std::rethrow_exception(error);
  } catch (const Error& e) {
    return e.code();
  }
  return Code::kInternal;
}

}  // namespace

TEST_CASE("schedule: due times add up to nothing, and ticks are passed over exactly") {
  Schedule odd(1000, 3.0);
  CHECK(odd.due_ns() == 1000);
  for (int i = 0; i < 3 * 86400; ++i) odd.advance();
  CHECK(odd.due_ns() == 1000 + int64_t{86400} * kSecond);
  for (double hz : {1e-3, 0.7, 3.0, 997.0, 1e5}) {
    Schedule s(50, hz);
    for (int64_t step : {int64_t{0}, int64_t{1}, int64_t{2}, int64_t{1000003}}) {
      const int64_t tick = s.tick();
      const auto when = s.due_ns() + static_cast<int64_t>(
                                         std::llround(static_cast<double>(step) * s.period_ns()));
      const int64_t passed = s.skip_to_newest(when);
      CHECK(passed == s.tick() - tick);
      CHECK(std::abs(passed - step) <= 1);  // `when` is rounded by itself
      CHECK(s.due_ns() <= when);
      s.advance();
      CHECK(s.due_ns() > when);
      CHECK(s.skip_past(when) == 0);
      CHECK(s.skip_to_newest(when) == 0);  // never back
      const int64_t due = s.due_ns();
      CHECK(s.skip_past(due) == 1);
      CHECK(s.due_ns() > due);
    }
  }
}

TEST_CASE("gate: either the loop or the watcher has a tick, never both") {
  TickGate gate;
  CHECK(gate.claim());  // nothing is open
  std::atomic<int> expired{0};
  std::atomic<int> writing{0};
  std::thread watcher([&] {
    while (gate.wait_expired()) {
      ++writing;
      ++expired;
      --writing;
      gate.settle();
    }
  });
  int lost = 0;
  for (int i = 0; i < 3000; ++i) {
    gate.open(now_ns() + 1000 * (i % 40));
    if (i % 3 == 0) std::this_thread::yield();
    if (!gate.claim()) ++lost;
    CHECK(writing == 0);
  }
  gate.open(now_ns() - 1);
  while (expired == lost) std::this_thread::yield();
  CHECK_FALSE(gate.claim());
  CHECK(expired == lost + 1);
  gate.open(INT64_MAX);
  gate.shut();
  watcher.join();
  CHECK(gate.claim());
}

TEST_CASE("loop: waits for its first input, then turns the newest into outputs") {
  Bench b(at_rate(2000));
  CHECK(b.loop->start().empty());
  b.until([&] { return b.loop->counts().waiting >= 3; });
  CHECK(b.context.runs == 0);
  CHECK(b.out->latest() == 0);
  const int64_t before = now_ns();
  b.write(41);
  Message message;
  CHECK(b.next(0, &message) == 42);
  CHECK(message.origin_ns >= before);
  CHECK(message.origin_ns <= message.written_ns);
  CHECK_FALSE(message.safe);
  b.write(9);
  b.until([&] {
    double y = 0;
    return b.out->read(&y, &message) && y == 10;
  });
  b.until([&] { return b.loop->counts().stale_reads >= 2; });
  CHECK(b.loop->running());
  CHECK(b.loop->close(60 * kSecond));
  CHECK_FALSE(b.loop->running());
  const LoopCounts counts = b.loop->counts();
  uint64_t missed = 0;
  for (uint64_t count : counts.missed) missed += count;
  CHECK(counts.ticks ==
        counts.waiting + counts.runs + missed);  // no deadline: late runs count no miss
  CHECK(b.loop->call.count() == counts.runs);
  CHECK(b.loop->age.count() == b.out->latest());
  CHECK(b.loop->error() == nullptr);
}

TEST_CASE("loop: state is fed back once a run") {
  Bench b(on_trigger(), false, true);
  b.loop->start();
  Message message;
  for (int i = 0; i < 25; ++i) {
    b.write(100);
    CHECK(b.next(static_cast<uint64_t>(i), &message) == 101 + i);
  }
  CHECK(b.context.runs == 25);
  CHECK(b.loop->counts().ticks == 25);
}

TEST_CASE("loop: a failed run is counted and kept, gives the safe output, and ends nothing") {
  Bench b(on_trigger(60 * kSecond), true, true);
  b.loop->start();
  Message message;
  b.write(1);
  CHECK(b.next(0, &message) == 2);
  b.context.fail = true;
  b.write(1);
  CHECK(b.next(1, &message) == -7);
  CHECK(message.safe);
  b.context.fail = false;
  b.write(1);
  CHECK(b.next(2, &message) == 3);  // the failed run has changed no state
  CHECK_FALSE(message.safe);
  b.until([&] { return b.loop->counts().ticks == 3; });
  CHECK(b.missed(Miss::kRunFailed) == 1);
  CHECK(b.loop->counts().safe_outputs == 1);
  CHECK(code_of(b.loop->error()) == Code::kBackend);
}

TEST_CASE("loop: a run that hangs is noticed, answered for and ended") {
  Bench b(on_trigger(20 * kMs), true);
  b.loop->start();
  b.context.hang = true;
  b.write(1);
  Message message;
  CHECK(b.next(0, &message) == -7);
  CHECK(message.safe);
  b.until([&] { return b.loop->counts().running_ns == 0; });
  b.context.hang = false;
  b.until([&] { return b.loop->counts().ticks == 1; });
  CHECK(b.missed(Miss::kRanLong) + b.missed(Miss::kWokeLate) == 1);
  // The cancel of that run reaches no other. The machine may be late again, so more than one try.
  b.until([&] {
    double y = 0;
    b.write(1);
    return b.out->read(&y, &message) && y == 2;
  });
  CHECK(b.loop->error() == nullptr);
}

TEST_CASE("loop: the safe output comes also while a run hears no cancel") {
  Bench b(at_rate(100, 10 * kMs), true);
  b.loop->start();
  b.context.deaf = true;
  b.context.hang = true;
  b.write(1);
  Message message;
  b.until([&] {
    double y = 0;
    return b.out->read(&y, &message) && y == -7 && b.loop->counts().running_ns > 0;
  });
  CHECK(message.safe);
  // Nothing more is written while it hangs, and its late result is dropped.
  const uint64_t after = b.out->latest();
  b.context.deaf = false;
  b.context.hang = false;
  b.next(after, &message);
  CHECK(b.loop->counts().ticks > 1);
}

TEST_CASE("loop: closing returns although a run never ends") {
  Bench b(on_trigger());
  b.loop->start();
  b.context.deaf = true;
  b.context.hang = true;
  b.write(1);
  b.until([&] { return b.context.runs == 1; });
  CHECK_FALSE(b.loop->close(5 * kMs));
  CHECK(b.loop->running());
  b.context.hang = false;  // ends the thread that was left behind
  b.until([&] { return !b.loop->running(); });
}

TEST_CASE("loop: closing ends a run that hears cancel, and sleeps of any length") {
  Bench hung(on_trigger());
  hung.loop->start();
  hung.context.hang = true;
  hung.write(1);
  hung.until([&] { return hung.context.runs == 1; });
  CHECK(hung.loop->close(60 * kSecond));
  CHECK(hung.loop->error() == nullptr);
  CHECK_NOTHROW([&] {
    hung.context.hang = false;
    hung.context.run();  // the context is of use again
  }());
  Bench slow(at_rate(0.01));
  slow.loop->start();
  CHECK(slow.loop->close(60 * kSecond));
  Bench never(at_rate(1000));
  CHECK(never.loop->close(0));  // not started
}

TEST_CASE("loop: old inputs are not used") {
  LoopOptions options = at_rate(1000);
  options.max_age_ns = 1;
  Bench b(options, true);
  b.loop->start();
  b.write(1);
  Message message;
  CHECK(b.next(0, &message) == -7);
  b.until([&] { return b.missed(Miss::kInputStale) >= 2; });
  CHECK(b.context.runs == 0);
}

TEST_CASE("loop: overrun policies, with a run that is longer than its period") {
  for (Overrun overrun : {Overrun::kSkip, Overrun::kCatchUp, Overrun::kStop}) {
    LoopOptions options = at_rate(1e5, 1);  // no tick can be in time
    options.overrun = overrun;
    Bench b(options);
    b.loop->start();
    b.write(1);
    if (overrun == Overrun::kStop) {
      b.until([&] { return !b.loop->running(); });
      CHECK(code_of(b.loop->error()) == Code::kDeadlineExceeded);
      CHECK(b.context.runs <= 1);
      continue;
    }
    b.until([&] { return b.loop->counts().ticks > 300; });
    CHECK(b.loop->close(60 * kSecond));
    const LoopCounts counts = b.loop->counts();
    uint64_t missed = 0;
    for (uint64_t count : counts.missed) missed += count;
    CHECK(missed + counts.waiting >= counts.ticks - 1);  // but one that close() has ended
    if (overrun == Overrun::kCatchUp) CHECK(counts.runs + counts.waiting >= counts.ticks - 1);
  }
}

TEST_CASE("loop: stopped by its policy it leaves the safe output") {
  LoopOptions options = on_trigger();
  options.overrun = Overrun::kStop;
  Bench b(options, true);
  b.context.fail = true;
  b.loop->start();
  b.write(1);
  b.until([&] { return !b.loop->running(); });
  Message message;
  CHECK(b.next(0, &message) == -7);
  CHECK(message.safe);
  CHECK(code_of(b.loop->error()) == Code::kBackend);  // the first cause
}

TEST_CASE("loop: a damaged input is a failed run, not the end") {
  const std::string name = "test-loop-" + std::to_string(::getpid());
  Bench b(on_trigger());
  auto box = Mailbox::make(name, DType::kFloat64, Shape{1});
  box->claim();
  b.loop = std::make_shared<Loop>(b.context, "a test", std::vector<LoopInput>{{&b.context.x, box}},
                                  std::vector<LoopOutput>{{&b.context.y, b.out, {}}},
                                  std::vector<LoopFeedback>{}, on_trigger());
  b.loop->start();
  double value = 1;
  box->write(&value);
  Message message;
  CHECK(b.next(0, &message) == 2);
  // A newest message that is not there.
  const std::string path = "/dev/shm/zerolane-" + std::to_string(::geteuid()) + "-" + name;
  int file = ::open(path.c_str(), O_RDWR);
  REQUIRE(file >= 0);
  const uint64_t latest = 900;
  REQUIRE(::pwrite(file, &latest, 8, offsetof(SegmentHeader, latest)) == 8);
  ::close(file);
  b.until([&] { return b.missed(Miss::kRunFailed) == 1; });
  CHECK(code_of(b.loop->error()) == Code::kUnavailable);
  value = 4;
  box->write(&value);
  CHECK(b.next(1, &message) == 5);
}

TEST_CASE("loop: numbers that make no sense are refused") {
  for (double hz : {0.0, -1.0, 1e9, std::nan(""), std::numeric_limits<double>::infinity(), 1e-9}) {
    CHECK_THROWS_AS(Bench{at_rate(hz)}, Error);
  }
  LoopOptions catch_up = on_trigger();
  catch_up.overrun = Overrun::kCatchUp;
  CHECK_THROWS_AS(Bench{catch_up}, Error);
  for (int64_t spin : {int64_t{-1}, 11 * kMs}) {
    LoopOptions spinning = at_rate(10);
    spinning.spin_ns = spin;
    CHECK_THROWS_AS(Bench{spinning}, Error);
  }
  LoopOptions priority = at_rate(10);
  priority.realtime.priority = 100;
  CHECK_THROWS_AS(Bench{priority}, Error);
  LoopOptions cpus = at_rate(10);
  for (int cpu : {-1, 8191, 1 << 30}) {
    cpus.realtime.cpus = {cpu};
    CHECK_THROWS_AS(Bench{cpus}, Error);
  }
}

TEST_CASE("loop: a thread that spins does the same") {
  for (LoopOptions options : {at_rate(1000), on_trigger()}) {
    options.spin_ns = kMs / 5;
    Bench b(options);
    b.loop->start();
    for (int i = 1; i < 5; ++i) {
      b.write(i);
      b.until([&] {
        Message message;
        double y = 0;
        return b.out->read(&y, &message) && y == i + 1;
      });
    }
  }
}

TEST_CASE("loop: many at once, chained, each the other's input") {
  constexpr int kLoops = 9;
  std::vector<std::unique_ptr<Bench>> loops;
  for (int i = 0; i < kLoops; ++i) {
    loops.push_back(std::make_unique<Bench>(on_trigger()));
    if (i == 0) continue;
    Bench& last = *loops.back();
    last.loop = std::make_shared<Loop>(last.context, "a link",
                                       std::vector<LoopInput>{{&last.context.x, loops[i - 1]->out}},
                                       std::vector<LoopOutput>{{&last.context.y, last.out, {}}},
                                       std::vector<LoopFeedback>{}, on_trigger());
  }
  for (auto& b : loops) b->loop->start();
  Message message;
  Message first;
  for (uint64_t round = 0; round < 30; ++round) {
    loops[0]->write(static_cast<double>(round));
    CHECK(loops.back()->next(round, &message) == static_cast<double>(round) + kLoops);
    double x = 0;
    REQUIRE(loops[0]->in->read(&x, &first));
    CHECK(message.origin_ns == first.written_ns);  // the age goes through all of them
  }
}
