// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <cstdint>
#include <thread>
#include <utility>
#include <vector>

#include "core/buffer.h"
#include "core/error.h"

using namespace zerolane;

TEST_CASE("a pool reuses memory of one size class and counts it") {
  auto pool = Pool::make(host_device());
  void* first = nullptr;
  {
    Buffer a = pool->allocate(1000);
    first = a.data();
    CHECK(a.bytes() == 1000);
    CHECK(reinterpret_cast<uintptr_t>(first) % kAlignment == 0);
    CHECK(pool->stats().buffers == 1);
    CHECK(pool->stats().bytes_in_use == Pool::capacity_for(1000));
  }
  CHECK(pool->stats().buffers == 0);
  CHECK(pool->stats().bytes_cached == Pool::capacity_for(1000));
  Buffer b = pool->allocate(Pool::capacity_for(1000));
  CHECK(b.data() == first);
  CHECK(pool->stats().reuses == 1);
  CHECK(pool->stats().bytes_cached == 0);
}

TEST_CASE("capacity classes lose at most a quarter and never shrink") {
  for (size_t bytes = 0; bytes < 100000; ++bytes) {
    size_t capacity = Pool::capacity_for(bytes);
    REQUIRE(capacity >= bytes);
    REQUIRE(capacity >= kAlignment);
    if (bytes > kAlignment) REQUIRE(capacity <= bytes + bytes / 4);
    REQUIRE(Pool::capacity_for(capacity) == capacity);
  }
}

TEST_CASE("buffers move, outlive their pool's owner, and may be empty") {
  auto pool = Pool::make(host_device());
  Buffer a = pool->allocate(0);
  CHECK(a.data() != nullptr);
  Buffer b = std::move(a);
  CHECK(a.data() == nullptr);
  pool.reset();
  b = Buffer();
  CHECK(b.data() == nullptr);
}

TEST_CASE("the cache keeps to its limit and trims") {
  auto pool = Pool::make(host_device(), 4096);
  {
    Buffer big = pool->allocate(100000);
  }
  CHECK(pool->stats().bytes_cached == 0);
  {
    Buffer small = pool->allocate(4096);
  }
  CHECK(pool->stats().bytes_cached == 4096);
  pool->trim();
  CHECK(pool->stats().bytes_cached == 0);
}

TEST_CASE("an absurd size is out of memory, not a crash") {
  auto pool = Pool::make(host_device());
  for (size_t bytes : {SIZE_MAX, SIZE_MAX / 2, size_t{1} << 62}) {
    try {
      pool->allocate(bytes);
      FAIL("no error");
    } catch (const Error& error) {
      CHECK(error.code() == Code::kOutOfMemory);
    }
  }
  CHECK(pool->stats().buffers == 0);
}

TEST_CASE("a pool serves many threads") {
  auto pool = Pool::make(host_device());
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&pool, t] {
      for (size_t i = 0; i < 2000; ++i) {
        Buffer buffer = pool->allocate(64 + (i * 37 + static_cast<size_t>(t)) % 5000);
        *static_cast<char*>(buffer.data()) = 1;
      }
    });
  }
  for (auto& thread : threads) thread.join();
  CHECK(pool->stats().buffers == 0);
  CHECK(pool->stats().bytes_in_use == 0);
  CHECK(pool->stats().allocations == 8000);
}
