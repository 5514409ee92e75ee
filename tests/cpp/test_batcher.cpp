// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <atomic>
#include <cmath>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "core/error.h"
#include "counted_new.h"
#include "rows_session.h"
#include "runtime/batch_copy.h"
#include "runtime/batcher.h"

using namespace zerolane;

namespace {

struct Request final : BatchRequest {
  Request(int64_t rows, int64_t width, float value, float shift_by = 0)
      : x(static_cast<size_t>(rows * width)),
        state(static_cast<size_t>(2 * rows)),
        shift(shift_by) {
    for (size_t i = 0; i < x.size(); ++i) x[i] = value + static_cast<float>(i);
    for (size_t i = 0; i < state.size(); ++i) state[i] = 10 * value + static_cast<float>(i);
    inputs = {{x.data(), DType::kFloat32, {}, Shape{rows, width}},
              {&shift, DType::kFloat32, {}, Shape{}},
              {state.data(), DType::kFloat32, {}, Shape{2, rows}}};
  }
  void complete() noexcept override {
    ++completions;
    done.set();
  }
  void wait() { done.wait(0, kForever); }
  Code code() const {
    try {
      if (error) std::rethrow_exception(error);
    } catch (const Error& known) {
      return known.code();
    }
    return Code::kInternal;
  }
  // Whether the result is that of this request alone. `width`: of the run, more than ours if
  // padded.
  bool right() const {
    if (error || outputs().size() != 2) return false;
    const auto n = static_cast<size_t>(rows());
    const auto width = x.size() / std::max<size_t>(n, 1);
    const auto wide = static_cast<size_t>(outputs()[0].shape()[1]);
    const auto all = static_cast<size_t>(outputs()[1].shape()[1]);
    const auto at = static_cast<size_t>(first);
    const auto* y = static_cast<const float*>(outputs()[0].data());
    const auto* next = static_cast<const float*>(outputs()[1].data());
    for (size_t r = 0; r < n; ++r) {
      for (size_t c = 0; c < width; ++c) {
        if (y[(at + r) * wide + c] != x[r * width + c] + shift) return false;
      }
      for (size_t k = 0; k < 2; ++k) {
        if (next[k * all + at + r] != state[k * n + r] + 1) return false;
      }
    }
    return true;
  }

  std::vector<float> x;
  std::vector<float> state;
  float shift;
  Flag done;
  std::atomic<int> completions{0};
};

BatchOptions options_of(size_t max_batch, size_t lanes = 1) {
  BatchOptions options;
  options.max_batch = max_batch;
  options.lanes.count = lanes;
  options.lanes.name = "test";
  return options;
}

void send(Batcher& batcher, Request& request) {
  batcher.prepare(request);
  batcher.submit(request);
}

// A run that lasts until open(), so that what is sent meanwhile waits.
struct Busy {
  Busy(RowsSession& model, Batcher& batcher, int64_t width = 3)
      : session(model), request(1, width, 0) {
    const int before = session.runs;
    session.gate = 1;
    send(batcher, request);
    while (session.runs == before) std::this_thread::yield();
  }
  void open() {
    session.gate = 0;
    session.gate.notify_all();
  }
  RowsSession& session;
  Request request;
};

// Lets a batcher believe that larger runs pay, so that what it does can be foretold.
void teach(BatchGroup& group) {
  for (size_t rows = 1; rows <= 64; rows *= 2) {
    for (int i = 0; i < 4; ++i) group.sizes.record(rows, 1000);
  }
}

}  // namespace

TEST_CASE("batcher: rows are joined and told apart, on any axis") {
  auto session = std::make_shared<RowsSession>();
  Batcher batcher(session, options_of(16));
  Request first(1, 3, 1);
  send(batcher, first);
  first.wait();
  CHECK(first.right());
  teach(*first.group());
  Busy busy(*session, batcher);
  std::vector<std::unique_ptr<Request>> requests;
  for (int64_t i = 0; i < 7; ++i) {
    requests.push_back(std::make_unique<Request>(1 + i % 3, 3, static_cast<float>(i)));
    send(batcher, *requests.back());
  }
  CHECK(batcher.waiting() == 7);
  busy.open();
  for (auto& request : requests) {
    request->wait();
    CHECK(request->right());
  }
  CHECK(session->most_rows == 1 + 2 + 3 + 1 + 2 + 3 + 1);
  CHECK(session->runs == 3);
}

TEST_CASE("batcher: what cannot share a run does not") {
  auto session = std::make_shared<RowsSession>();
  Batcher batcher(session, options_of(16));
  Busy busy(*session, batcher);
  Request a(1, 3, 1, 0.5F);
  Request b(1, 4, 2, 0.5F);   // another width
  Request c(1, 3, 3, 0.25F);  // another shared input
  Request d(2, 3, 4, 0.5F);
  for (Request* request : {&a, &b, &c, &d}) send(batcher, *request);
  teach(*a.group());
  CHECK(a.group() == d.group());
  CHECK(a.group() != b.group());
  busy.open();
  for (Request* request : {&busy.request, &a, &b, &c, &d}) {
    request->wait();
    CHECK(request->right());
  }
  CHECK(session->most_rows == 3);
  CHECK(session->runs == 4);
}

TEST_CASE("batcher: a bad request fails alone") {
  auto session = std::make_shared<RowsSession>();
  Batcher batcher(session, options_of(16));
  Busy busy(*session, batcher);
  teach(*busy.request.group());
  Request good(1, 3, 1);
  Request bad(1, 3, 2);
  bad.x[1] = NAN;
  Request fine(2, 3, 3);
  for (Request* request : {&good, &bad, &fine}) send(batcher, *request);
  busy.open();
  for (Request* request : {&good, &bad, &fine}) request->wait();
  CHECK(good.right());
  CHECK(fine.right());
  CHECK(bad.code() == Code::kBackend);
  CHECK(batcher.stats().failed == 1);
}

TEST_CASE("batcher: priority, deadlines, cancelling, a full queue") {
  auto session = std::make_shared<RowsSession>();
  BatchOptions options = options_of(1);
  options.max_queue = 4;
  Batcher batcher(session, options);
  Busy busy(*session, batcher);
  Request low(1, 3, 1);
  Request high(1, 3, 2);
  Request late(1, 3, 3);
  Request dropped(1, 3, 4);
  Request many(1, 3, 5);
  high.priority = 7;
  late.deadline_ns = now_ns() - 1;
  for (Request* request : {&low, &high, &late, &dropped}) send(batcher, *request);
  CHECK_THROWS_AS(send(batcher, many), Error);
  CHECK(batcher.cancel(dropped));
  CHECK_FALSE(batcher.cancel(dropped));
  CHECK(dropped.code() == Code::kCancelled);
  CHECK_FALSE(batcher.cancel(busy.request));
  busy.open();
  for (Request* request : {&busy.request, &low, &high, &late}) request->wait();
  CHECK(late.code() == Code::kDeadlineExceeded);
  CHECK(low.right());
  CHECK(high.right());
  const BatchStats stats = batcher.stats();
  CHECK(stats.late == 1);
  CHECK(stats.cancelled == 1);
  CHECK(stats.refused == 1);
  CHECK(stats.requests == 5);
  CHECK(stats.answered == 3);
}

TEST_CASE("batcher: no late request is run, however many there are") {
  auto session = std::make_shared<RowsSession>();
  Batcher batcher(session, options_of(2));
  Busy busy(*session, batcher);
  std::vector<std::unique_ptr<Request>> late;
  for (int i = 0; i < 9; ++i) {
    late.push_back(std::make_unique<Request>(1, 3, 1));
    late.back()->deadline_ns = now_ns() - 1;
    send(batcher, *late.back());
  }
  busy.open();
  for (auto& request : late) {
    request->wait();
    CHECK(request->code() == Code::kDeadlineExceeded);
  }
  CHECK(session->runs == 1);
}

TEST_CASE("batcher: padding to buckets") {
  auto session = std::make_shared<RowsSession>();
  BatchOptions options = options_of(16);
  options.buckets = {{"T", {4, 8}}};
  options.pads.resize(3);
  const float minus = -1;
  options.pads[0].assign(reinterpret_cast<const std::byte*>(&minus),
                         reinterpret_cast<const std::byte*>(&minus) + sizeof(minus));
  Batcher batcher(session, options);
  Busy busy(*session, batcher, 8);
  Request a(1, 3, 1);
  Request b(2, 4, 2);
  Request c(1, 5, 3);
  for (Request* request : {&a, &b, &c}) send(batcher, *request);
  teach(*a.group());
  teach(*c.group());
  CHECK(a.group() == b.group());
  CHECK(c.group() == busy.request.group());
  busy.open();
  for (Request* request : {&a, &b, &c}) {
    request->wait();
    CHECK(request->right());
  }
  CHECK(a.outputs()[0].shape() == Shape{3, 4});
  CHECK(static_cast<const float*>(a.outputs()[0].data())[3] == -1);
  CHECK(c.outputs()[0].shape() == Shape{1, 8});
  Request wide(1, 9, 0);
  CHECK_THROWS_AS(batcher.prepare(wide), Error);
}

TEST_CASE("batcher: on the caller's thread") {
  auto session = std::make_shared<RowsSession>();
  Batcher batcher(session, options_of(8));
  CHECK(batcher.run_here());
  Request a(1, 3, 1);
  Request b(1, 3, 2);
  for (Request* request : {&a, &b}) {
    batcher.prepare(*request);
    batcher.enqueue(*request);
  }
  CHECK(batcher.run_here());
  CHECK(a.done.is_set());
  CHECK(b.done.is_set());
  CHECK(a.right());
  CHECK(b.right());
}

TEST_CASE("batcher and lanes: no memory is taken once they are warm") {
  auto session = std::make_shared<RowsSession>();
  for (const bool here : {true, false}) {
    Batcher batcher(session, options_of(8));
    std::vector<std::unique_ptr<Request>> requests;
    for (int i = 0; i < 20; ++i) {
      requests.push_back(std::make_unique<Request>(1 + i % 3, 3, static_cast<float>(i)));
    }
    const auto round = [&] {
      for (auto& request : requests) {
        request->done.reset();
        batcher.prepare(*request);
        batcher.enqueue(*request);
      }
      if (here) {
        batcher.run_here();
      } else {
        batcher.wake();
      }
      for (auto& request : requests) request->wait();
    };
    // Warm: as many results have been held at once as ever will be, each of a run of its own.
    for (auto& request : requests) {
      send(batcher, *request);
      request->wait();
    }
    for (int i = 0; i < 200; ++i) round();
    const uint64_t before = news();
    const uint64_t buffers = host_pool()->stats().allocations;
    for (int i = 0; i < 200; ++i) round();
    CHECK(news() == before);
    CHECK(host_pool()->stats().allocations == buffers);
  }
}

TEST_CASE("batcher: closing answers or cancels what waits") {
  for (const bool abort : {false, true}) {
    auto session = std::make_shared<RowsSession>();
    Batcher batcher(session, options_of(4));
    session->gate = 1;
    Request busy(1, 3, 0);
    send(batcher, busy);
    while (session->runs < 1) std::this_thread::yield();
    Request waiting(1, 3, 1);
    send(batcher, waiting);
    std::thread opener([&] {
      while (abort && !waiting.done.is_set()) std::this_thread::yield();
      session->gate = 0;
      session->gate.notify_all();
    });
    batcher.close(abort);
    opener.join();
    CHECK(busy.right());
    CHECK(waiting.done.is_set());
    CHECK((abort ? waiting.code() == Code::kCancelled : waiting.right()));
    Request late(1, 3, 2);
    CHECK_THROWS_AS(send(batcher, late), Error);
    CHECK_FALSE(late.done.is_set());
  }
}

TEST_CASE("batcher: every request of many threads is answered once") {
  for (const size_t lanes : {size_t{1}, size_t{3}}) {
    auto session = std::make_shared<RowsSession>();
    BatchOptions options = options_of(8, lanes);
    options.max_delay_ns = 100000;
    auto batcher = std::make_unique<Batcher>(session, options);
    std::atomic<int> wrong{0};
    std::atomic<uint64_t> refused{0};
    std::vector<std::thread> clients;
    for (unsigned c = 0; c < 6; ++c) {
      clients.emplace_back([&, c] {
        std::mt19937 random(c);
        for (int i = 0; i < 400; ++i) {
          const auto pick = static_cast<int>(random() % 16);
          Request request(1 + pick % 3, 3 + pick % 2, static_cast<float>(i),
                          static_cast<float>(pick % 2));
          const bool bad = pick == 7;
          if (bad) request.x[0] = NAN;
          request.priority = pick - 8;
          if (pick == 8) request.deadline_ns = now_ns() + 1000;
          try {
            batcher->prepare(request);
            if (pick % 4 == 0) {
              batcher->enqueue(request);
              if (!batcher->run_here()) batcher->wake();
            } else {
              batcher->submit(request);
            }
          } catch (const Error&) {
            ++refused;
            continue;
          }
          const bool cancelled = pick == 9 && batcher->cancel(request);
          request.wait();
          const Code code = request.code();
          const bool expected = cancelled   ? code == Code::kCancelled
                                : bad       ? code == Code::kBackend
                                : pick == 8 ? request.right() || code == Code::kDeadlineExceeded
                                            : request.right();
          if (!expected || request.completions != 1) ++wrong;
        }
      });
    }
    for (auto& client : clients) client.join();
    batcher->close(false);
    CHECK(wrong == 0);
    const BatchStats stats = batcher->stats();
    CHECK(stats.requests == stats.answered + stats.late + stats.cancelled);
    CHECK(stats.requests + refused == 6 * 400);
  }
}

TEST_CASE("batcher: models that cannot be joined are refused with the reason") {
  const auto refused = [](auto change) {
    auto session = std::make_shared<RowsSession>();
    change(*session);
    try {
      Batcher batcher(session, options_of(4));
    } catch (const Error& error) {
      CHECK(error.code() == Code::kUnsupported);
      return error.message();
    }
    return std::string();
  };
  CHECK(refused([](RowsSession& s) { s.inputs_[0].shape[0] = {1, ""}; }).find("[1, T]") !=
        std::string::npos);
  CHECK(refused([](RowsSession& s) { s.outputs_[1].shape[1] = {1, ""}; }).find("'next'") !=
        std::string::npos);
  CHECK(refused([](RowsSession& s) { s.inputs_[1].dtype = DType::kString; }).find("'shift'") !=
        std::string::npos);
  CHECK(refused([](RowsSession& s) { s.outputs_[0].kind = ValueKind::kSequence; }).find("'y'") !=
        std::string::npos);
  CHECK(refused([](RowsSession& s) { s.outputs_[0].shape[0] = {-1, ""}; }).empty());
}

TEST_CASE("batch sizes: the fewest rows that cost about the least each") {
  const auto learnt = [](auto cost) {
    BatchSizes sizes;
    for (int i = 0; i < 200; ++i) {
      const size_t rows = sizes.choose(32, 32);
      REQUIRE(rows <= 32);
      sizes.record(rows, static_cast<int64_t>(cost(static_cast<double>(rows))));
    }
    return sizes.choose(32, 32);
  };
  CHECK(learnt([](double rows) { return 1000 * rows; }) == 1);
  CHECK(learnt([](double rows) { return 10000 + 10 * rows; }) == 32);
  CHECK(learnt([](double rows) { return rows <= 4 ? 10000.0 : 2500 * rows; }) == 4);
  // A run that the system held up does not put its size off; one after another size, which costs
  // more, neither. Where runs wait already, a smaller gain will do.
  const auto steady = [](double rows) { return 1000 + 900 * rows; };
  for (const size_t waiting : {size_t{16}, size_t{48}}) {
    BatchSizes sizes;
    size_t before = 0;
    size_t full = 0;
    for (int i = 0; i < 5000; ++i) {
      const size_t rows = sizes.choose(waiting, 16);
      const double change = rows == before ? 1 : 3;
      const double held_up = i % 100 == 99 ? 1e6 : 0;
      sizes.record(rows,
                   static_cast<int64_t>(change * steady(static_cast<double>(rows)) + held_up));
      before = rows;
      full += rows == 16 ? 1 : 0;
    }
    // 1: 1900, 2: 1400, 4: 1150, 8: 1025, 16: 963 ns a row
    CHECK((full > 4000) == (waiting > 32));
  }
  BatchSizes sizes;
  CHECK(sizes.choose(0, 16) == 1);
  CHECK(sizes.choose(1, 16) == 1);
  CHECK(sizes.choose(100, 3) <= 3);
}

TEST_CASE("blocks are copied on any axis") {
  std::vector<float> from(2 * 3 * 4);
  for (size_t i = 0; i < from.size(); ++i) from[i] = static_cast<float>(i);
  std::vector<float> to(2 * 7 * 5, -1);
  const View source{from.data(), DType::kFloat32, {}, Shape{2, 3, 4}};
  const View target{to.data(), DType::kFloat32, {}, Shape{2, 7, 5}};
  copy_block(target, 2, source, 1, 1, Shape{2, 2, 4});
  for (size_t a = 0; a < 2; ++a) {
    for (size_t b = 0; b < 7; ++b) {
      for (size_t c = 0; c < 5; ++c) {
        const bool inside = b >= 2 && b < 4 && c < 4;
        const float expected = inside ? from[(a * 3 + b - 1) * 4 + c] : -1;
        CHECK(to[(a * 7 + b) * 5 + c] == expected);
      }
    }
  }
  copy_block(target, 0, source, 0, 0, Shape{0, 3, 4});
  float scalar = 3;
  float other = 0;
  copy_block({&other, DType::kFloat32, {}, Shape{}}, 0, {&scalar, DType::kFloat32, {}, Shape{}}, 0,
             0, Shape{});
  CHECK(other == 3);
}
