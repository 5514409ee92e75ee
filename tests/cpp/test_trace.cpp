// SPDX-License-Identifier: Apache-2.0
#include "core/trace.h"

#include <doctest/doctest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <map>
#include <random>
#include <set>
#include <stdexcept>
#include <string>
#include <thread>
#include <tuple>
#include <vector>

#include "core/error.h"
#include "json.h"

using namespace zerolane;
using test::Json;
using test::JsonReader;

namespace {

struct Read {
  Json::Array all;
  std::map<int64_t, std::string> rows;
  int64_t dropped = 0;

  std::vector<Json> of(const std::string& phase, const std::string& name = "") const {
    std::vector<Json> out;
    for (const Json& event : all) {
      if (event.at("ph").text() != phase) continue;
      if (name.empty() || event.at("name").text() == name) out.push_back(event);
    }
    return out;
  }
  const std::string& row(const Json& event) const { return rows.at(event.at("tid").integer()); }
};

struct Slice {
  int64_t begin, end;
};

// Stops the trace and holds it against the rules of the format: times in order, spans of a row lie
// in each other or apart, each arrow has one start and one end and lies in a span of its row, and
// every row has a name.
Read stop_and_check() {
  std::string json = trace::stop();
  Json parsed = JsonReader::read(json);
  Read read;
  read.dropped = std::stoll(parsed.at("otherData").at("dropped").text());
  read.all = parsed.at("traceEvents").array();
  int64_t last = INT64_MIN;
  std::map<int64_t, std::vector<Slice>> open;
  std::map<int64_t, std::string> flows;
  std::set<std::string> names;
  for (const Json& event : read.all) {
    CHECK(event.at("pid").integer() == ::getpid());
    const std::string& phase = event.at("ph").text();
    int64_t tid = event.at("tid").integer();
    if (phase == "M") {
      if (event.at("name").text() == "thread_name") {
        CHECK(read.rows.emplace(tid, event.at("args").at("name").text()).second);
      }
      continue;
    }
    int64_t ts = event.at("ts").thousandths();
    CHECK(ts >= last);
    last = ts;
    auto& row = open[tid];
    if (phase == "X") {
      int64_t end = ts + event.at("dur").thousandths();
      CHECK(end >= ts);
      while (!row.empty() && row.back().end <= ts) row.pop_back();
      if (!row.empty()) CHECK(end <= row.back().end);
      row.push_back({ts, end});
    } else if (phase == "s" || phase == "t" || phase == "f") {
      while (!row.empty() && row.back().end < ts) row.pop_back();
      CHECK_FALSE(row.empty());
      flows[event.at("id").integer()] += phase;
      if (phase == "f") CHECK(event.at("bp").text() == "e");
    } else {
      bool known = phase == "i" || phase == "C";
      CHECK(known);
    }
  }
  for (const auto& [id, phases] : flows) {
    CHECK(phases == "s" + std::string(phases.size() - 2, 't') + "f");
  }
  for (const auto& [tid, slices] : open) CHECK(read.rows.contains(tid));
  return read;
}

}  // namespace

TEST_CASE("a trace holds the spans between start and stop") {
  const std::string before = "before";
  {
    trace::Span ignored("run", before);
  }
  trace::start();
  CHECK_THROWS_AS(trace::start(), Error);
  const std::string subject = "quo\"te\n";
  {
    trace::Span span("copy", subject, 42);
  }
  Read read = stop_and_check();
  REQUIRE(read.of("X").size() == 1);
  Json span = read.of("X")[0];
  CHECK(span.at("name").text() == "copy");
  CHECK(span.at("args").at("subject").text() == subject);
  CHECK(span.at("args").at("bytes").integer() == 42);
  CHECK(span.at("tid").integer() == ::gettid());
  CHECK(read.dropped == 0);
  trace::start();
  CHECK(stop_and_check().all.empty());
}

TEST_CASE("what began before the trace is not in it") {
  const std::string model = "model";
  const trace::Track track("early");
  int64_t early = now_ns();
  CHECK(trace::next_request() == 0);
  auto span = std::make_unique<trace::Span>("run", model);
  auto scope = std::make_unique<trace::Scope>(track, 7);
  trace::start();
  trace::span(track, "queue", early, now_ns());
  span.reset();  // was off when it began
  scope.reset();
  {
    trace::Span inside("run", model);
  }
  Read read = stop_and_check();
  REQUIRE(read.of("X").size() == 1);
  CHECK(read.row(read.of("X")[0]) != "early");
  // A span that a trace's end cuts is in neither this trace nor the next.
  trace::start();
  span = std::make_unique<trace::Span>("run", model);
  CHECK(stop_and_check().all.empty());
  trace::start();
  span.reset();
  CHECK(stop_and_check().all.empty());
}

TEST_CASE("named tracks are rows, and a request is followed over them") {
  const trace::Track batcher("batcher of model.onnx");
  const trace::Track lane("lane 0 of model.onnx");
  const std::string model = "model.onnx";
  trace::start();
  uint64_t first = trace::next_request();
  uint64_t second = trace::next_request();
  CHECK(first != second);
  int64_t in = now_ns();
  trace::counter(batcher, "queued", 2);
  trace::instant(batcher, "deadline", second, trace::intern("late"));
  std::thread worker([&] {
    int64_t out = now_ns();
    trace::span(batcher, "queue", in, out, first);
    trace::span(batcher, "queue", in + 1, out + 1, second);
    trace::counter(batcher, "queued", -1);
    trace::Scope scope(lane);
    {
      trace::Span run("run", model);
      trace::step(first);
      trace::step(second);
      trace::Scope inner(lane, first);
      trace::Span copy("copy", model, 0);
    }
    trace::Span unrelated("post", model);
  });
  worker.join();
  Read read = stop_and_check();
  auto queues = read.of("X", "queue");
  REQUIRE(queues.size() == 2);
  CHECK(read.row(queues[0]) == "batcher of model.onnx");
  CHECK(read.row(queues[1]) == "batcher of model.onnx (2)");  // they overlap
  CHECK(queues[1].at("args").at("request").integer() == static_cast<int64_t>(second));
  for (const char* name : {"run", "copy", "post"}) {
    REQUIRE(read.of("X", name).size() == 1);
    CHECK(read.row(read.of("X", name)[0]) == "lane 0 of model.onnx");
  }
  CHECK(read.of("X", "copy")[0].at("args").at("request").integer() == static_cast<int64_t>(first));
  CHECK_FALSE(read.of("X", "post")[0].at("args").has("request"));
  CHECK(read.of("s").size() == 2);
  CHECK(read.of("t").size() == 1);  // the first request goes on into the copy
  CHECK(read.of("f").size() == 2);
  CHECK(read.row(read.of("f")[0]) == "lane 0 of model.onnx");
  auto queued = read.of("C", "batcher of model.onnx: queued");
  REQUIRE(queued.size() == 2);
  CHECK(queued[1].at("args").at("value").integer() == -1);
  Json deadline = read.of("i", "deadline").at(0);
  CHECK(deadline.at("s").text() == "t");
  CHECK(deadline.at("args").at("subject").text() == "late");
  CHECK(deadline.at("args").at("request").integer() == static_cast<int64_t>(second));
}

TEST_CASE("a scope ends with its block, also through an exception") {
  const trace::Track outer("outer");
  const trace::Track inner("inner");
  const std::string model = "m";
  trace::start();
  {
    trace::Scope a(outer, 5);
    try {
      trace::Scope b(inner, 6);
      trace::Span span("one", model);
      throw std::runtime_error("on purpose");
    } catch (const std::runtime_error&) {
    }
    trace::Span span("two", model);
  }
  {
    trace::Span span("three", model);
  }
  Read read = stop_and_check();
  CHECK(read.row(read.of("X", "one").at(0)) == "inner");
  CHECK(read.row(read.of("X", "two").at(0)) == "outer");
  CHECK(read.of("X", "two").at(0).at("args").at("request").integer() == 5);
  CHECK(read.of("X", "three").at(0).at("tid").integer() == ::gettid());
  CHECK_FALSE(read.of("X", "three").at(0).at("args").has("request"));
  CHECK(read.of("s").empty());  // each request is seen once: nothing to join
}

TEST_CASE("a step outside of every span joins nothing") {
  const trace::Track track("steps");
  trace::start();
  int64_t now = now_ns();
  trace::step(track, 9);
  trace::step(track, 9);
  trace::step(track, 0);
  trace::span(track, "later", now_ns() + 5, now_ns() + 10, 9);
  (void)now;
  Read read = stop_and_check();
  CHECK(read.of("X").size() == 1);
  CHECK(read.of("s").empty());
  CHECK(read.of("f").empty());
}

TEST_CASE("memory is bounded and what is lost is counted") {
  CHECK_THROWS_AS(trace::start(0), Error);
  CHECK_THROWS_AS(trace::start(SIZE_MAX), Error);
  CHECK_THROWS_AS(trace::start(SIZE_MAX / 64), Error);
  trace::start(1);  // rounded up to a chunk
  const trace::Track track("many");
  constexpr int kAll = 1013;
  for (int i = 0; i < kAll; ++i) trace::counter(track, "i", i);
  Read read = stop_and_check();
  CHECK(read.of("C").size() == 256);
  CHECK(read.dropped == kAll - 256);
  trace::start(257);
  for (int i = 0; i < kAll; ++i) trace::counter(track, "i", i);
  read = stop_and_check();
  CHECK(read.of("C").size() == 512);
  CHECK(read.dropped == kAll - 512);
}

TEST_CASE("odd texts become valid JSON") {
  std::string odd("ok \xff\xc0\xaf\xed\xa0\x80 \xe2\x82\xac \xf0\x9f\x98\x80 \xf5\x80 \xe2\x82",
                  24);
  odd += '\0';
  odd += "\x1f\\\"";
  const trace::Track track(odd);
  trace::start();
  trace::instant(track, trace::intern(odd), 1, "subject");
  Read read = stop_and_check();
  const std::string bad = "<fffd>";
  std::string seen = "ok " + bad + bad + bad + bad + bad + bad + " \xe2\x82\xac \xf0\x9f\x98\x80 " +
                     bad + bad + " " + bad + bad;
  CHECK(read.row(read.of("i").at(0)) == seen + std::string("\0\x1f\\\"", 4));
  // A name ends at a zero byte, as it is handed on as a C string.
  CHECK(read.of("i").at(0).at("name").text() == seen);
}

TEST_CASE("texts are kept once, and not without end") {
  std::string text = "a text of its own";
  const char* kept = trace::intern(text);
  std::string same = text;
  CHECK(trace::intern(same) == kept);
  CHECK(kept != text.c_str());
  std::thread([&] { CHECK(trace::intern(same) == kept); }).join();
  for (int i = 0; i < 70000; ++i) trace::intern("text " + std::to_string(i));
  CHECK(std::string(trace::intern("text 1")) == "text 1");
  CHECK(std::string(trace::intern("text 69999")) == "(one of too many names)");
  CHECK(trace::intern(same) == kept);
}

TEST_CASE("random spans of one track nest on each row") {
  std::mt19937 random(20261130);
  const trace::Track track("any");
  constexpr int kSpans = 4001;
  for (int64_t longest : {int64_t{3}, int64_t{50}, int64_t{4000}}) {
    trace::start();
    int64_t base = now_ns();
    std::uniform_int_distribution<int64_t> begins(0, 1000), lengths(0, longest);
    for (int i = 0; i < kSpans; ++i) {
      int64_t begin = base + begins(random);
      trace::span(track, "x", begin, begin + lengths(random), 1 + i % 97);
    }
    trace::span(track, "backwards", base + 10, base);  // a clock read on another thread: no length
    Read read = stop_and_check();
    CHECK(read.of("X").size() == kSpans + 1);
    CHECK(read.of("X", "backwards").at(0).at("dur").thousandths() == 0);
    CHECK(read.of("s").size() == 97);
    CHECK(read.of("f").size() == 97);
    CHECK(read.of("t").size() == kSpans - 2 * 97);
  }
}

TEST_CASE("traces start and stop while threads record, begin and end") {
  const trace::Track shared("shared");
  const std::string model = "model";
  std::atomic<bool> over{false};
  std::atomic<uint64_t> recorded{0};
  auto work = [&] {
    while (!over.load()) {
      uint64_t request = trace::next_request();
      trace::Scope scope(shared, request);
      trace::Span run("run", model);
      trace::counter(shared, "depth", 1);
      std::thread([&] { trace::span(shared, "queue", now_ns(), now_ns(), request); }).join();
      recorded.fetch_add(1);
    }
  };
  std::vector<std::thread> threads;
  threads.reserve(3);
  for (int i = 0; i < 3; ++i) threads.emplace_back(work);
  size_t events = 0;
  for (int round = 0; round < 30; ++round) {
    uint64_t before = recorded.load();
    trace::start(round % 3 == 0 ? 300 : 100000);
    while (recorded.load() < before + 20) std::this_thread::yield();
    Read read = stop_and_check();
    events += read.all.size();
  }
  over.store(true);
  for (auto& thread : threads) thread.join();
  CHECK(events > 30 * 20);
}

TEST_CASE("nothing is lost or doubled between threads") {
  constexpr int kThreads = 5, kEach = 3001;
  const trace::Track track("numbers");
  trace::start();
  std::vector<std::thread> threads;
  threads.reserve(kThreads);
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < kEach; ++i) trace::counter(track, "n", t * kEach + i);
    });
  }
  for (auto& thread : threads) thread.join();
  Read read = stop_and_check();
  std::set<int64_t> seen;
  for (const Json& event : read.of("C")) seen.insert(event.at("args").at("value").integer());
  CHECK(seen.size() == kThreads * kEach);
  CHECK(read.all.size() == kThreads * kEach + 2);
  CHECK(read.dropped == 0);
}

TEST_CASE("a failing sink ends the trace all the same") {
  trace::start();
  trace::instant(trace::Track(), "x");
  CHECK_THROWS_AS(trace::stop([](std::string_view) { throw std::runtime_error("disk full"); }),
                  std::runtime_error);
  CHECK_FALSE(trace::on());
  CHECK(trace::stop().empty());
  trace::start();
  CHECK(stop_and_check().all.empty());
}

// The thread sanitizer does not follow a child of a process with threads.
#ifndef __SANITIZE_THREAD__
TEST_CASE("a forked child is not in its parent's trace, and may have its own") {
  const trace::Track track("fork");
  const std::string model = "model";
  std::atomic<bool> over{false};
  trace::start();
  std::thread busy([&] {
    while (!over.load()) trace::counter(track, "n", 1);
  });
  for (int round = 0; round < 20; ++round) {
    pid_t child = ::fork();
    if (child == 0) {
      bool good = !trace::on() && trace::stop().empty();
      trace::start();
      {
        trace::Span span("run", model);
      }
      good = good && trace::stop().find("\"run\"") != std::string::npos;
      ::_exit(good ? 0 : 1);
    }
    int status = -1;
    REQUIRE(::waitpid(child, &status, 0) == child);
    CHECK(status == 0);
  }
  over.store(true);
  busy.join();
  CHECK(stop_and_check().all.size() > 0);
}

TEST_CASE("a process forks while threads name tracks, and its child names more") {
  std::atomic<bool> over{false};
  std::atomic<int> made{0};
  std::thread busy([&] {
    while (!over.load()) (void)trace::Track("track " + std::to_string(made.fetch_add(1) % 500));
  });
  for (int round = 0; round < 50; ++round) {
    int before = made.load();
    while (made.load() == before) std::this_thread::yield();
    pid_t child = ::fork();
    if (child == 0) {
      ::alarm(60);  // instead of waiting for a lock that nobody holds
      (void)trace::Track("of the child");
      (void)trace::intern("by the child");
      ::_exit(0);
    }
    int status = -1;
    REQUIRE(::waitpid(child, &status, 0) == child);
    CHECK(status == 0);
  }
  over.store(true);
  busy.join();
}
#endif
