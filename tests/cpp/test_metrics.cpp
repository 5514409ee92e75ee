// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "core/error.h"
#include "core/log.h"
#include "core/metric_registry.h"
#include "core/metrics.h"

using namespace zerolane;

TEST_CASE("a histogram reads back within its resolution") {
  auto histogram = std::make_unique<LatencyHistogram>();
  CHECK(histogram->percentile(0.5) == 0);
  for (int64_t i = 1; i <= 100000; ++i) histogram->record(i);
  CHECK(histogram->count() == 100000);
  for (double fraction : {0.01, 0.5, 0.9, 0.99, 0.999, 1.0}) {
    auto exact = fraction * 100000;
    auto read = static_cast<double>(histogram->percentile(fraction));
    CHECK(read >= exact);
    CHECK(read <= exact * 1.033 + 1);
  }
}

TEST_CASE("a histogram takes any value") {
  auto histogram = std::make_unique<LatencyHistogram>();
  for (int64_t value : {INT64_MIN, int64_t{-1}, int64_t{0}, int64_t{31}, int64_t{32}, INT64_MAX}) {
    histogram->record(value);
  }
  CHECK(histogram->count() == 6);
  CHECK(histogram->percentile(0) == 0);
  CHECK(histogram->percentile(1) > int64_t{1} << 45);
}

TEST_CASE("readings of histograms add up and tell what came between") {
  auto first = std::make_unique<LatencyHistogram>();
  auto second = std::make_unique<LatencyHistogram>();
  auto both = std::make_unique<LatencyHistogram>();
  CHECK(first->read().count() == 0);
  CHECK(first->read().buckets().empty());
  CHECK(HistogramCounts().percentile(0.5) == 0);
  for (int64_t i = 1; i <= 1009; ++i) {
    (i % 3 == 0 ? first : second)->record(i * i);
    both->record(i * i);
  }
  HistogramCounts sum = first->read();
  sum.add(second->read());
  CHECK(sum.count() == 1009);
  CHECK(sum.sum_ns() == 1009LL * 1010 * 2019 / 6);
  CHECK(sum.buckets() == both->read().buckets());
  for (double fraction : {0.0, 0.5, 0.99, 1.0}) {
    CHECK(sum.percentile(fraction) == both->percentile(fraction));
  }
  HistogramCounts empty;
  empty.add(HistogramCounts());
  CHECK(empty.count() == 0);
  empty.add(sum);
  CHECK(empty.count() == 1009);

  HistogramCounts before = both->read();
  for (int i = 0; i < 7; ++i) both->record(1000000000);
  HistogramCounts window = both->read();
  window.subtract(before);
  CHECK(window.count() == 7);
  CHECK(window.sum_ns() == 7000000000);
  CHECK(window.percentile(0.0) >= 1000000000);
  REQUIRE(window.buckets().size() == 1);
  CHECK(window.buckets()[0].second == 7);
  uint64_t seen = 0;
  int64_t last = -1;
  for (auto [most, count] : before.buckets()) {
    CHECK(most > last);
    last = most;
    seen += count;
  }
  CHECK(seen == 1009);
}

TEST_CASE("counters lose nothing between threads") {
  auto counter = std::make_unique<Counter>();
  Gauge gauge;
  std::vector<std::thread> threads;
  threads.reserve(5);
  for (int t = 0; t < 5; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 10007; ++i) counter->add();
      counter->add(3);
      gauge.add(2);
      gauge.add(-1);
    });
  }
  for (auto& thread : threads) thread.join();
  CHECK(counter->value() == 5 * 10010);
  CHECK(gauge.value() == 5);
  gauge.set(-4);
  CHECK(gauge.value() == -4);
}

namespace {

// The series of a model, by family; the value of a counter or the count of a histogram.
std::map<std::string, int64_t> series_of(const std::string& model) {
  std::map<std::string, int64_t> out;
  for (const metrics::Series& series : metrics::read()) {
    if (series.labels.empty() || series.labels[0].second != model) continue;
    bool histogram = series.family->type == metrics::Type::kHistogram;
    CHECK(out.emplace(series.family->name,
                      histogram ? static_cast<int64_t>(series.histogram.count()) : series.value)
              .second);
  }
  return out;
}

}  // namespace

TEST_CASE("what is published is read, summed by labels, and outlives its owner") {
  CHECK(series_of("a").empty());
  Counter one, two;
  LatencyHistogram latency;
  Gauge gauge;
  {
    auto first = metrics::publish("zerolane_runs_total", {{"model", "a"}}, one);
    auto times = metrics::publish("zerolane_run_seconds", {{"model", "a"}}, latency);
    auto ready = metrics::publish("zerolane_contract_ready", {{"contract", "a"}}, gauge);
    one.add(5);
    latency.record(1000);
    gauge.set(1);
    {
      auto second = metrics::publish("zerolane_runs_total", {{"model", "a"}}, two);
      two.add(2);
      CHECK(series_of("a")["zerolane_runs_total"] == 7);
      metrics::Registration moved = std::move(second);
      CHECK(series_of("a")["zerolane_runs_total"] == 7);
    }
    CHECK(series_of("a")["zerolane_runs_total"] == 7);
    two.add(100);  // nobody's any more
    one.add(1);
    auto held = series_of("a");
    CHECK(held["zerolane_runs_total"] == 8);
    CHECK(held["zerolane_run_seconds"] == 1);
    CHECK(held["zerolane_contract_ready"] == 1);
  }
  auto held = series_of("a");
  CHECK(held["zerolane_runs_total"] == 8);
  CHECK(held["zerolane_run_seconds"] == 1);
  CHECK_FALSE(held.contains("zerolane_contract_ready"));
  auto again = metrics::publish("zerolane_runs_total", {{"model", "a"}}, two);
  CHECK(series_of("a")["zerolane_runs_total"] == 8 + 102);
}

TEST_CASE("counters without an owner, and what is not listed") {
  metrics::count("zerolane_run_failures_total", {{"model", "b"}, {"code", "backend"}});
  metrics::count("zerolane_run_failures_total", {{"model", "b"}, {"code", "backend"}}, 2);
  CHECK(series_of("b")["zerolane_run_failures_total"] == 3);
  Counter counter;
  Gauge gauge;
  CHECK_THROWS_AS((void)metrics::publish("zerolane_nothing", {}, counter), Error);
  CHECK_THROWS_AS((void)metrics::publish("zerolane_runs_total", {}, counter), Error);
  CHECK_THROWS_AS((void)metrics::publish("zerolane_runs_total", {{"code", "x"}}, counter), Error);
  CHECK_THROWS_AS((void)metrics::publish("zerolane_runs_total", {{"model", "x"}}, gauge), Error);
  CHECK(series_of("x").empty());
}

TEST_CASE("the past that is kept is bounded") {
  Counter counter;
  counter.add();
  for (int i = 0; i < 3000; ++i) {
    (void)metrics::publish("zerolane_runs_total", {{"model", "m" + std::to_string(i)}}, counter);
    metrics::count("zerolane_run_failures_total",
                   {{"model", "m" + std::to_string(i)}, {"code", "c"}});
  }
  CHECK(metrics::read().size() < 1000);
  CHECK(series_of("m17").empty());
  auto living = metrics::publish("zerolane_runs_total", {{"model", "m2999"}}, counter);
  CHECK(series_of("m2999")["zerolane_runs_total"] == 2);  // what is past, and its own
}

TEST_CASE("gauges of sources are asked for, and series come in order") {
  metrics::add_source([](const auto& emit) {
    emit("zerolane_live_objects", {{"kind", "z"}}, 2);
    emit("zerolane_live_objects", {{"kind", "y"}}, 40);
    emit("zerolane_live_objects", {{"kind", "y"}}, 2);
  });
  auto all = metrics::read();
  CHECK(series_of("y")["zerolane_live_objects"] == 42);
  for (size_t i = 1; i < all.size(); ++i) {
    CHECK(std::pair(all[i - 1].family, all[i - 1].labels) <
          std::pair(all[i].family, all[i].labels));
  }
}

TEST_CASE("metrics are read while members come, count and go") {
  std::atomic<bool> over{false};
  std::atomic<int> made{0};
  std::vector<std::thread> threads;
  threads.reserve(3);
  for (int t = 0; t < 3; ++t) {
    threads.emplace_back([&] {
      while (!over.load()) {
        Counter counter;
        auto latency = std::make_unique<LatencyHistogram>();
        auto a = metrics::publish("zerolane_runs_total", {{"model", "busy"}}, counter);
        auto b = metrics::publish("zerolane_run_seconds", {{"model", "busy"}}, *latency);
        counter.add();
        latency->record(5);
        metrics::count("zerolane_run_failures_total", {{"model", "busy"}, {"code", "x"}});
        made.fetch_add(1);
      }
    });
  }
  int64_t last = 0;
  while (made.load() < 200) {
    int64_t now = series_of("busy")["zerolane_runs_total"];
    CHECK(now >= last);  // a sum never falls
    last = now;
    std::this_thread::yield();
  }
  over.store(true);
  for (auto& thread : threads) thread.join();
  CHECK(series_of("busy")["zerolane_runs_total"] == made.load());
  CHECK(series_of("busy")["zerolane_run_seconds"] == made.load());
  CHECK(series_of("busy")["zerolane_run_failures_total"] == made.load());
}

// The thread sanitizer does not follow a child of a process with threads.
#ifndef __SANITIZE_THREAD__
TEST_CASE("a process forks while threads publish, and its child reads") {
  std::atomic<bool> over{false};
  std::atomic<int> made{0};
  std::thread busy([&] {
    Counter counter;
    while (!over.load()) {
      (void)metrics::publish("zerolane_runs_total", {{"model", "forks"}}, counter);
      made.fetch_add(1);
    }
  });
  for (int round = 0; round < 30; ++round) {
    int before = made.load();
    while (made.load() == before) std::this_thread::yield();
    pid_t child = ::fork();
    if (child == 0) {
      ::alarm(60);  // instead of waiting for a lock that nobody holds
      metrics::count("zerolane_run_failures_total", {{"model", "forks"}, {"code", "x"}});
      ::_exit(metrics::read().empty() ? 1 : 0);
    }
    int status = -1;
    REQUIRE(::waitpid(child, &status, 0) == child);
    CHECK(status == 0);
  }
  over.store(true);
  busy.join();
}
#endif

TEST_CASE("the log queue is bounded and says what it lost") {
  (void)take_log();
  CHECK_FALSE(log_waiting());
  for (int i = 0; i < 5000; ++i) log(LogLevel::kInfo, "test", "here", std::to_string(i));
  CHECK(log_waiting());
  auto records = take_log();
  CHECK(records.size() == 4097);
  CHECK(records.front().message == "0");
  CHECK(records.back().message.find("904") != std::string::npos);
  CHECK(take_log().empty());
}

TEST_CASE("live objects are counted") {
  int64_t before = LiveCount::of(LiveKind::kFuture);
  {
    LiveCount one(LiveKind::kFuture);
    LiveCount copy(one);
    CHECK(LiveCount::of(LiveKind::kFuture) == before + 2);
  }
  CHECK(LiveCount::of(LiveKind::kFuture) == before);
}
