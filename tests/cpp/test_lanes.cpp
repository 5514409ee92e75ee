// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <poll.h>
#include <sched.h>

#include <atomic>
#include <memory>
#include <thread>
#include <vector>

#include "core/error.h"
#include "runtime/completion.h"
#include "runtime/lanes.h"

using namespace zerolane;

namespace {

struct Task final : LaneTask {
  void run(size_t lane) noexcept override {
    ran_on = static_cast<int>(lane);
    cpu = ::sched_getcpu();
    begun.set();
    if (hold != nullptr) hold->wait(0, kForever);
    if (order != nullptr) *at++ = this;
  }
  void abort() noexcept override {
    aborted = true;
    if (hold != nullptr) hold->set();
  }
  void release() noexcept override { done.set(); }
  void wait() { CHECK(done.wait(0, kForever)); }

  Flag* hold = nullptr;
  std::vector<Task*>* order = nullptr;
  static inline std::atomic<Task**> at{nullptr};
  std::atomic<int> ran_on{-1};
  std::atomic<int> cpu{-1};
  std::atomic<bool> aborted{false};
  Flag begun;
  Flag done;
};

LaneOptions options_of(size_t count, int64_t spin_ns = 0) {
  LaneOptions options;
  options.count = count;
  options.spin_ns = spin_ns;
  options.name = "test";
  return options;
}

bool readable(int descriptor, int timeout_ms) {
  pollfd look{descriptor, POLLIN, 0};
  return ::poll(&look, 1, timeout_ms) == 1;
}

}  // namespace

TEST_CASE("lanes: every task of every thread runs once, asleep or spinning") {
  for (const int64_t spin_ns : {0, 50000}) {
    Lanes lanes(options_of(3, spin_ns));
    constexpr size_t kEach = 2000;
    std::vector<std::thread> clients;
    std::atomic<size_t> wrong{0};
    for (int c = 0; c < 4; ++c) {
      clients.emplace_back([&] {
        for (size_t i = 0; i < kEach; ++i) {
          Task task;
          if (!lanes.push(task)) ++wrong;
          task.done.wait(spin_ns, kForever);
          if (task.ran_on < 0 || task.ran_on > 2) ++wrong;
        }
      });
    }
    for (auto& client : clients) client.join();
    CHECK(wrong == 0);
    uint64_t done = 0;
    for (size_t i = 0; i < 3; ++i) done += lanes.stats(i).done;
    lanes.close(false);
    CHECK(lanes.waits().count() == 4 * kEach);
    CHECK(done <= 4 * kEach);
  }
}

TEST_CASE("lanes: one lane keeps the order") {
  Lanes lanes(options_of(1));
  std::vector<Task*> order(101, nullptr);
  Task::at = order.data();
  Flag gate;
  std::vector<std::unique_ptr<Task>> tasks;
  for (size_t i = 0; i < order.size(); ++i) {
    tasks.push_back(std::make_unique<Task>());
    tasks.back()->order = &order;
    if (i == 0) tasks.back()->hold = &gate;
    CHECK(lanes.push(*tasks.back()));
  }
  CHECK(lanes.queued() >= order.size() - 1);
  gate.set();
  lanes.close(false);
  for (size_t i = 0; i < order.size(); ++i) CHECK(order[i] == tasks[i].get());
}

TEST_CASE("lanes: a lane that is busy holds nobody up") {
  Lanes lanes(options_of(2));
  Flag gate;
  Task stuck;
  stuck.hold = &gate;
  CHECK(lanes.push(stuck));
  stuck.begun.wait(0, kForever);
  for (int i = 0; i < 50; ++i) {
    Task task;
    CHECK(lanes.push(task));
    task.wait();
    CHECK(task.ran_on != stuck.ran_on);
  }
  gate.set();
  stuck.wait();
}

TEST_CASE("lanes: closing finishes what is queued, or ends it; later work is refused") {
  for (const bool abort : {false, true}) {
    Lanes lanes(options_of(1));
    Flag gate;
    Task running;
    Task queued;
    running.hold = &gate;
    CHECK(lanes.push(running));
    CHECK(lanes.push(queued));
    running.begun.wait(0, kForever);
    if (!abort) gate.set();
    lanes.close(abort);
    CHECK(running.done.is_set());
    CHECK(queued.done.is_set());
    CHECK(running.aborted == abort);
    CHECK(queued.aborted == abort);
    Task late;
    CHECK_FALSE(lanes.push(late));
    lanes.close(abort);
  }
}

TEST_CASE("lanes: bound to CPUs") {
  cpu_set_t allowed;
  ::sched_getaffinity(0, sizeof(allowed), &allowed);
  int last = -1;
  for (int i = 0; i < CPU_SETSIZE; ++i) {
    if (CPU_ISSET(i, &allowed)) last = i;
  }
  LaneOptions options = options_of(2);
  options.cpus = {last};
  Lanes lanes(options);
  for (int i = 0; i < 10; ++i) {
    Task task;
    CHECK(lanes.push(task));
    task.wait();
    CHECK(task.cpu == last);
  }
  options.cpus = {0, 100000};
  CHECK_THROWS_AS(Lanes{options}, Error);
}

TEST_CASE("a flag: waiting with and without an end") {
  Flag flag;
  CHECK_FALSE(flag.wait(0, now_ns() + 1000000));
  CHECK_FALSE(flag.wait(100000, now_ns() + 1000000));
  std::thread setter([&] { flag.set(); });
  CHECK(flag.wait(0, kForever));
  setter.join();
  CHECK(flag.wait(0, 0));
  flag.reset();
  CHECK_FALSE(flag.is_set());
}

TEST_CASE("a completion queue wakes once for many") {
  CompletionQueue queue;
  CHECK_FALSE(readable(queue.descriptor(), 0));
  std::vector<std::thread> pushers;
  for (uint64_t base = 0; base < 50; base += 10) {
    pushers.emplace_back([&queue, base] {
      for (uint64_t i = 0; i < 10; ++i) queue.push(base + i);
    });
  }
  std::vector<bool> seen(50);
  std::vector<uint64_t> tokens;
  for (size_t count = 0; count < 50;) {
    REQUIRE(readable(queue.descriptor(), 10000));
    queue.drain(&tokens);
    for (const uint64_t token : tokens) {
      CHECK_FALSE(seen[token]);
      seen[token] = true;
      ++count;
    }
  }
  for (auto& pusher : pushers) pusher.join();
  queue.drain(&tokens);
  CHECK(tokens.empty());
  CHECK_FALSE(readable(queue.descriptor(), 0));
}
