// SPDX-License-Identifier: Apache-2.0
#include <memory>
#include <stdexcept>
#include <vector>

#include "core/error.h"
#include "cuda/graph.h"
#include "cuda/memory.h"
#include "fake_cuda.h"

using namespace zerolane;
using namespace zerolane::cuda;
using fake::counts;
using fake::fresh_device;

namespace {

Graph counting(CudaStream& stream, int& value) {
  return Graph::capture(stream, [&] { stream.enqueue([&value] { ++value; }); });
}

template <class Body>
Code code_of(Body body) {
  try {
    body();
  } catch (const Error& error) {
    return error.code();
  }
  FAIL("no error");
  return Code::kInternal;
}

}  // namespace

TEST_CASE("cuda: a graph records without running, and replays") {
  CudaDevice& device = fresh_device();
  auto stream = device.make_cuda_stream();
  DeviceBuffer memory = device.pool().allocate(16, *stream);
  std::vector<char> from(16, 1);
  std::vector<char> to(16, 0);
  int ran = 0;
  Graph graph = Graph::capture(*stream, [&] {
    stream->copy_async(memory.data(), from.data(), 16);
    stream->copy_async(to.data(), memory.data(), 16);
    stream->enqueue([&ran] { ++ran; });
  });
  CHECK(graph.nodes() == 3);
  stream->synchronize();
  CHECK(to[15] == 0);
  CHECK(ran == 0);
  for (int i = 1; i <= 3; ++i) {
    from.assign(16, static_cast<char>(i));
    graph.launch(*stream);
    stream->synchronize();
    CHECK(to[15] == i);
    CHECK(ran == i);
  }
  CHECK(counts().graph_launches == 3);
  CHECK(counts().copies_to_device == 3);
  CHECK(counts().live_graphs == 0);
}

TEST_CASE("cuda: a graph keeps its host work until the last run") {
  CudaDevice& device = fresh_device();
  auto stream = device.make_cuda_stream();
  auto kept = std::make_shared<int>(0);
  std::weak_ptr<int> watch = kept;
  Graph graph =
      Graph::capture(*stream, [&] { stream->enqueue([held = std::move(kept)] { ++*held; }); });
  CHECK_FALSE(watch.expired());
  {
    fake::Held held(*stream);
    graph.launch(*stream);
    graph = Graph();
    CHECK_FALSE(watch.expired());
  }
  stream->synchronize();
  stream.reset();
  CHECK(watch.expired());
  CHECK(counts().live_execs == 0);
}

TEST_CASE("cuda: a graph is changed in place, or made anew") {
  CudaDevice& device = fresh_device();
  auto stream = device.make_cuda_stream();
  int a = 0;
  int b = 0;
  Graph graph = counting(*stream, a);
  CHECK(graph.update(*stream, [&] { stream->enqueue([&b] { ++b; }); }));
  graph.launch(*stream);
  stream->synchronize();
  CHECK(a == 0);
  CHECK(b == 1);
  CHECK_FALSE(graph.update(*stream, [&] {
    stream->enqueue([&a] { ++a; });
    stream->enqueue([&a] { ++a; });
  }));
  CHECK(graph.nodes() == 2);
  graph.launch(*stream);
  stream->synchronize();
  CHECK(a == 2);
  CHECK(counts().graph_instantiations == 2);
  CHECK(counts().graph_updates == 1);
}

TEST_CASE("cuda: an empty or broken capture gives no graph, and the stream goes on") {
  CudaDevice& device = fresh_device();
  auto stream = device.make_cuda_stream();
  CHECK(code_of([&] { Graph::capture(*stream, [] {}); }) == Code::kInternal);
  CHECK(code_of([&] { Graph().launch(*stream); }) == Code::kInternal);
  // Waiting inside a capture breaks it, whatever becomes of that error.
  CHECK(code_of([&] {
          Graph::capture(*stream, [&] {
            stream->enqueue([] {});
            try {
              stream->synchronize();
            } catch (const Error&) {
            }
          });
        }) == Code::kDevice);
  CHECK_THROWS_WITH_AS(Graph::capture(*stream,
                                      [&] {
                                        stream->enqueue([] {});
                                        throw std::runtime_error("mine");
                                      }),
                       "mine", std::runtime_error);
  // Work of another stream that was never joined, and waiting for work outside.
  auto other = device.make_cuda_stream();
  char bytes[2] = {};
  CHECK(code_of([&] {
          Graph::capture(*stream, [&] {
            stream->enqueue([] {});
            other->wait_for(stream->record());
            other->copy_async(&bytes[0], &bytes[1], 1);
          });
        }) == Code::kDevice);
  // Host work there has no graph that could own it.
  CHECK(code_of([&] {
          Graph::capture(*stream, [&] {
            stream->enqueue([] {});
            other->wait_for(stream->record());
            other->enqueue([] {});
          });
        }) == Code::kUnsupported);
  auto outside = other->record();
  CHECK(code_of([&] { Graph::capture(*stream, [&] { stream->wait_for(outside); }); }) ==
        Code::kDevice);
  for (const char* call : {"capture_begin", "capture_end", "graph_instantiate", "graph_nodes"}) {
    fake::control().fail(call, fake::kCaptureInvalidated, 0, 1);
    int value = 0;
    CHECK(code_of([&] { counting(*stream, value); }) == Code::kDevice);
    fake::control().heal();
  }
  int value = 0;
  Graph graph = counting(*stream, value);
  graph.launch(*stream);
  stream->synchronize();
  CHECK(value == 1);
  CHECK(counts().live_graphs == 0);
  CHECK(counts().live_execs == 1);
}

TEST_CASE("cuda: a capture spans streams that are joined") {
  CudaDevice& device = fresh_device();
  auto stream = device.make_cuda_stream();
  auto other = device.make_cuda_stream();
  int order = 0;
  Graph graph = Graph::capture(*stream, [&] {
    stream->enqueue([&] { order = 1; });
    other->wait_for(stream->record());
    other->copy_async(&order, &order, 0);
    other->wait_for_native(stream->native());
    stream->wait_for(other->record());
    stream->enqueue([&] { order = order == 1 ? 2 : -1; });
  });
  graph.launch(*stream);
  stream->synchronize();
  CHECK(order == 2);
}

TEST_CASE("cuda: a failing launch is an error, and the graph can be launched again") {
  CudaDevice& device = fresh_device();
  auto stream = device.make_cuda_stream();
  int value = 0;
  Graph graph = counting(*stream, value);
  fake::control().fail("graph_launch", fake::kLaunchFailure, 0, 1);
  CHECK(code_of([&] { graph.launch(*stream); }) == Code::kDevice);
  graph.launch(*stream);
  stream->synchronize();
  CHECK(value == 1);
}

TEST_CASE("cuda: the graph cache drops what was not used for longest") {
  CudaDevice& device = fresh_device();
  auto stream = device.make_cuda_stream();
  int value = 0;
  GraphCache cache(2);
  CHECK(cache.find({1, 3}) == nullptr);
  cache.insert({1, 3}, counting(*stream, value));
  cache.insert({2, 3}, counting(*stream, value));
  REQUIRE(cache.find({1, 3}) != nullptr);  // now used last
  cache.insert({4, 3}, counting(*stream, value));
  CHECK(cache.find({2, 3}) == nullptr);
  CHECK(cache.find({1, 3}) != nullptr);
  CHECK(cache.find({4, 3}) != nullptr);
  GraphCacheStats stats = cache.stats();
  CHECK(stats.graphs == 2);
  CHECK(stats.hits == 3);
  CHECK(stats.misses == 2);
  CHECK(stats.evictions == 1);
  CHECK(counts().live_execs == 2);
  cache.insert({4, 3}, counting(*stream, value)).launch(*stream);  // replaces
  CHECK(cache.stats().graphs == 2);
  stream->synchronize();
  CHECK(value == 1);
  cache.clear();
  CHECK(counts().live_execs == 0);
  CHECK(GraphCache(0).cap() == 1);
}
