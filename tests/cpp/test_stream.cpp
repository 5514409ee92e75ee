// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <atomic>
#include <stdexcept>
#include <vector>

#include "core/error.h"
#include "core/stream.h"
#include "core/thread_pool.h"

using namespace zerolane;

TEST_CASE("a host stream runs work in order") {
  auto stream = make_host_stream();
  std::vector<int> seen;
  for (int i = 0; i < 100; ++i) stream->enqueue([&seen, i] { seen.push_back(i); });
  stream->synchronize();
  REQUIRE(seen.size() == 100);
  for (int i = 0; i < 100; ++i) CHECK(seen[static_cast<size_t>(i)] == i);
}

TEST_CASE("events order streams") {
  auto a = make_host_stream();
  auto b = make_host_stream();
  std::atomic<bool> gate{false};
  std::atomic<int> order{0};
  int first = 0;
  int second = 0;
  a->enqueue([&] {
    gate.wait(false);
    first = ++order;
  });
  auto event = a->record();
  b->wait_for(event);
  b->enqueue([&] { second = ++order; });
  CHECK_FALSE(event->reached());
  gate = true;
  gate.notify_all();
  b->synchronize();
  CHECK(event->reached());
  CHECK(first == 1);
  CHECK(second == 2);
}

TEST_CASE("a stream keeps the first error and goes on") {
  auto stream = make_host_stream();
  int ran = 0;
  stream->enqueue([] { throw std::runtime_error("first"); });
  stream->enqueue([] { throw std::runtime_error("second"); });
  stream->enqueue([&ran] { ++ran; });
  try {
    stream->synchronize();
    FAIL("no error");
  } catch (const std::runtime_error& error) {
    CHECK(std::string(error.what()) == "first");
  }
  CHECK(ran == 1);
  CHECK_NOTHROW(stream->synchronize());
}

TEST_CASE("closing a pool finishes what is queued") {
  std::atomic<int> ran{0};
  {
    ThreadPool pool(3);
    CHECK(pool.size() == 3);
    for (int i = 0; i < 1000; ++i) pool.submit([&ran] { ++ran; });
  }
  CHECK(ran == 1000);
}
