// SPDX-License-Identifier: Apache-2.0
#include "runtime/contract.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "core/error.h"
#include "runtime/idle_guard.h"

using namespace zerolane;

namespace {

constexpr int64_t kMs = 1000000;

// A call that began `ms` ago, by the clock of the contract.
Contract::Call began(double ms, bool first = false) {
  return {now_ns() - static_cast<int64_t>(ms * kMs), first};
}

int64_t published(const std::string& family, const std::string& contract,
                  const std::string& kind = "") {
  for (const metrics::Series& series : metrics::read()) {
    if (series.family->name != family || series.labels[0].second != contract) continue;
    if (!kind.empty() && series.labels[1].second != kind) continue;
    return series.family->type == metrics::Type::kHistogram
               ? static_cast<int64_t>(series.histogram.count())
               : series.value;
  }
  return -1;
}

// A pulse that lasts until it is let go or cancelled.
class HeldPulse final : public Pulse {
 public:
  struct State {
    std::mutex mutex;
    std::condition_variable changed;
    int running = 0;
    int begun = 0;
    bool cancelled = false;
    int cancels = 0;
    bool hold = true;
    bool fail = false;
    bool rearming = false;
    int64_t rearm_ns = 0;  // how long rearm() looks out for a cancel, which it then forgets

    void wait_running() {
      std::unique_lock lock(mutex);
      changed.wait(lock, [&] { return running > 0; });
    }
    void wait_rearming() {
      std::unique_lock lock(mutex);
      changed.wait(lock, [&] { return rearming; });
    }
    void wait_begun(int count) {
      std::unique_lock lock(mutex);
      changed.wait(lock, [&] { return begun >= count && running == 0; });
    }
  };
  explicit HeldPulse(State& state) : state_(state) {}
  void run() override {
    std::unique_lock lock(state_.mutex);
    ++state_.running;
    ++state_.begun;
    state_.changed.notify_all();
    state_.changed.wait(lock, [&] { return !state_.hold || state_.cancelled; });
    --state_.running;
    state_.changed.notify_all();
    if (state_.fail) throw make_error(Code::kBackend, "pulsing", "it failed", "do something");
    if (state_.cancelled) throw make_error(Code::kCancelled, "pulsing", "cancelled", "nothing");
  }
  void rearm() override {
    std::unique_lock lock(state_.mutex);
    state_.rearming = true;
    state_.changed.notify_all();
    state_.changed.wait_for(lock, std::chrono::nanoseconds(state_.rearm_ns),
                            [&] { return state_.cancelled; });
    state_.cancelled = false;
  }
  void cancel() noexcept override {
    std::lock_guard lock(state_.mutex);
    state_.cancelled = true;
    ++state_.cancels;
    state_.changed.notify_all();
  }

 private:
  State& state_;
};

}  // namespace

TEST_CASE("a window knows how many of its calls are above the limit") {
  std::mt19937 random(7);
  for (size_t size : {size_t{1}, size_t{7}, size_t{100}, size_t{257}}) {
    LatencyWindow window(size, 50);
    CHECK(window.p99() == 0);
    CHECK(window.allowed() == static_cast<int64_t>(size / 100));
    std::deque<int64_t> last;
    for (int i = 0; i < 1500; ++i) {
      int64_t taken = std::uniform_int_distribution<int64_t>(-3, 100)(random);
      int64_t above = window.record(taken);
      last.push_back(std::max<int64_t>(taken, 0));
      if (last.size() > size) last.pop_front();
      CHECK(above == std::count_if(last.begin(), last.end(), [](int64_t t) { return t > 50; }));
      CHECK(window.full() == (i + 1 >= static_cast<int>(size)));
      std::vector<int64_t> sorted(last.begin(), last.end());
      std::sort(sorted.begin(), sorted.end());
      // The smallest value that at least 99 % do not exceed.
      size_t rank = 1;
      while (rank * 100 < 99 * sorted.size()) ++rank;
      CHECK(window.p99() == sorted[rank - 1]);
      if (last.size() == size) CHECK((window.p99() > 50) == (above > window.allowed()));
    }
  }
}

TEST_CASE("a window of many threads loses none") {
  LatencyWindow window(64, 10);
  std::vector<std::thread> threads;
  threads.reserve(4);
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 5003; ++i) window.record((i + t) % 3 == 0 ? 11 : 10);
    });
  }
  for (auto& thread : threads) thread.join();
  auto calls = window.read();
  CHECK(calls.size() == 64);
  CHECK(window.above() == std::count(calls.begin(), calls.end(), 11));
}

TEST_CASE("calls before ready count for nothing else") {
  Contract contract("early", {1 * kMs, 1 * kMs, 100, 1000 * kMs});
  for (int i = 0; i < 3; ++i) {
    contract.begin();
    contract.end(began(5), i == 1);
  }
  CHECK(contract.early_calls.value() == 3);
  CHECK(contract.calls.value() == 0);
  CHECK(contract.failures.value() == 0);
  CHECK(contract.deadline_misses.value() == 0);
  CHECK(published("zerolane_contract_ready", "early") == 0);
  contract.set_ready();
  CHECK(contract.ready());
  CHECK(published("zerolane_contract_ready", "early") == 1);
  contract.begin();
  contract.end(began(0), false);
  CHECK(contract.calls.value() == 1);
}

TEST_CASE("breaches are counted: each late call, and each time the p99 rises above the promise") {
  Contract contract("breaches", {2 * kMs, 50 * kMs, 200, 1000 * kMs});
  contract.set_ready();
  auto call = [&](double ms, bool failed = false) {
    contract.begin();
    contract.end(began(ms), failed);
  };
  for (int i = 0; i < 200; ++i) call(0);
  call(10);
  call(10);
  CHECK_FALSE(contract.broken());  // one in a hundred may
  call(10);
  CHECK(contract.broken());
  call(10);
  CHECK(contract.p99_breaches.value() == 1);
  for (int i = 0; i < 200; ++i) call(0);
  CHECK_FALSE(contract.broken());
  for (int i = 0; i < 3; ++i) call(10);
  CHECK(contract.p99_breaches.value() == 2);
  CHECK(contract.deadline_misses.value() == 0);
  call(60);
  call(70, /*failed=*/true);
  call(0, /*failed=*/true);
  CHECK(contract.deadline_misses.value() == 2);
  CHECK(contract.failures.value() == 2);
  CHECK(contract.latency.count() == contract.calls.value() - 2);  // failed ones are not in it
  CHECK(published("zerolane_contract_breaches_total", "breaches", "deadline") == 2);
  CHECK(published("zerolane_contract_breaches_total", "breaches", "p99") == 2);
  CHECK(published("zerolane_contract_call_seconds", "breaches") ==
        static_cast<int64_t>(contract.latency.count()));
}

TEST_CASE("a contract without a p99 breaks none") {
  Contract contract("deadline only", {0, 5 * kMs, 100, 1000 * kMs});
  contract.set_ready();
  for (int i = 0; i < 50; ++i) {
    contract.begin();
    contract.end(began(6), false);
  }
  CHECK(contract.deadline_misses.value() == 50);
  CHECK_FALSE(contract.broken());
}

TEST_CASE("the first call after idling is apart") {
  Contract contract("first", {0, 1000 * kMs, 100, 1});  // idle after a nanosecond
  contract.set_ready();
  auto one = contract.begin();
  CHECK(one.first);
  auto beside = contract.begin();  // another is in progress: nothing is idle
  CHECK_FALSE(beside.first);
  contract.end(beside, false);
  contract.end(one, false);
  CHECK(contract.first_latency.count() == 1);
  CHECK(contract.latency.count() == 1);
  Contract busy("busy", {0, 1000 * kMs, 100, INT64_MAX / 2});
  CHECK_FALSE(busy.begin().first);
}

TEST_CASE("breaches are marked in a trace") {
  Contract contract("traced", {1 * kMs, 1 * kMs, 100, 1000 * kMs});
  contract.set_ready();
  trace::start();
  contract.begin();
  contract.end(began(3), false);
  contract.begin();
  contract.end(began(3), false);
  std::string json = trace::stop();
  CHECK(json.find("\"deadline\"") != std::string::npos);
  CHECK(json.find("\"p99 broken\"") != std::string::npos);
  CHECK(json.find("\"traced\"") != std::string::npos);
}

TEST_CASE("no pulse begins beside a call, and a call cancels the pulse it finds") {
  Contract contract("pulses", {0, 1000 * kMs, 100, 1});
  HeldPulse::State state;
  HeldPulse pulse(state);
  auto call = contract.begin();
  CHECK_FALSE(contract.begin_pulse(pulse));
  contract.end(call, false);
  CHECK(contract.begin_pulse(pulse));
  CHECK(state.cancels == 0);
  call = contract.begin();
  CHECK(state.cancels == 1);
  auto second = contract.begin();  // one cancel is enough
  CHECK(state.cancels == 1);
  contract.end_pulse();
  contract.end(call, false);
  contract.end(second, false);
  CHECK(contract.begin_pulse(pulse));
  contract.end_pulse();
  CHECK(state.cancels == 1);
}

TEST_CASE("a guard pulses while idle, and calls go before it") {
  Contract contract("guarded", {0, 1000 * kMs, 100, 1});
  HeldPulse::State state;
  {
    IdleGuard guard(contract, std::make_unique<HeldPulse>(state), 1.0);
    state.wait_running();
    auto call = contract.begin();  // does not wait for the pulse
    state.wait_begun(1);
    CHECK(state.cancels == 1);
    int begun = 0;
    {
      std::lock_guard lock(state.mutex);
      begun = state.begun;
      state.hold = false;
    }
    contract.end(call, false);
    state.wait_begun(begun + 3);
    while (guard.figures().cancelled < 1) std::this_thread::yield();
    CHECK(guard.figures().failed == 0);
    {
      std::lock_guard lock(state.mutex);
      state.fail = true;
    }
    while (guard.figures().failed < 2) std::this_thread::yield();
    CHECK(guard.figures().last_failure.find("it failed") != std::string::npos);
    CHECK(guard.figures().busy_ns > 0);
    CHECK(guard.figures().watched_ns >= guard.figures().busy_ns);
    std::lock_guard lock(state.mutex);
    state.fail = false;
    state.hold = true;
  }  // a held pulse is cancelled, or this would not return
  CHECK(contract.pulses.value() >= 6);
}

TEST_CASE("a guard that ends while a pulse is made ready cancels that pulse") {
  Contract contract("closing", {0, 1000 * kMs, 100, 1});
  HeldPulse::State state;
  state.rearm_ns = 30 * kMs;
  {
    IdleGuard guard(contract, std::make_unique<HeldPulse>(state), 1.0);
    state.wait_rearming();
  }  // a cancel that was forgotten would leave the pulse held
  CHECK(state.running == 0);
}

TEST_CASE("a guard of a contract that is never idle makes no pulse, and ends at once") {
  Contract contract("never", {0, 1000 * kMs, 100, INT64_MAX / 4});
  HeldPulse::State state;
  {
    IdleGuard guard(contract, std::make_unique<HeldPulse>(state), 0.01);
  }
  CHECK(state.begun == 0);
}

TEST_CASE("pulses keep to their share of the time") {
  // 2 ms every 200 ms is one hundredth; short pulses are as far apart as idling asks for.
  CHECK(IdleGuard::not_before(1000, 2 * kMs, 10 * kMs, 0.01) == 1000 + 200 * kMs);
  CHECK(IdleGuard::not_before(0, 1000, 10 * kMs, 0.01) == 10 * kMs + 1000);
  CHECK(IdleGuard::not_before(0, 10 * kMs, 10 * kMs, 1.0) == 20 * kMs);
  for (double duty : {0.01, 0.1, 1.0}) {
    for (int64_t taken : {int64_t{0}, kMs, 17 * kMs}) {
      int64_t period = IdleGuard::not_before(0, taken, 5 * kMs, duty);
      CHECK(static_cast<double>(taken) <= duty * static_cast<double>(period) + 1);
    }
  }
}

TEST_CASE("calls of many threads and pulses meet without harm") {
  Contract contract("storm", {1000 * kMs, 1000 * kMs, 97, 1});
  contract.set_ready();
  HeldPulse::State state;
  state.hold = false;
  {
    IdleGuard guard(contract, std::make_unique<HeldPulse>(state), 1.0);
    std::vector<std::thread> threads;
    threads.reserve(4);
    for (int t = 0; t < 4; ++t) {
      threads.emplace_back([&] {
        for (int i = 0; i < 3001; ++i) {
          auto call = contract.begin();
          contract.end(call, i % 5 == 0);
          if (i % 64 == 0) std::this_thread::yield();
        }
      });
    }
    for (auto& thread : threads) thread.join();
    state.wait_begun(1);
  }
  CHECK(contract.calls.value() == 4 * 3001);
  CHECK(contract.failures.value() == 4 * 601);
  CHECK(contract.latency.count() + contract.first_latency.count() == 4 * 2400);
}
