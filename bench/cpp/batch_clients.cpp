// SPDX-License-Identifier: Apache-2.0
// Clients in C++ that send requests of one row to a batcher, beside the ceiling: one thread that
// runs full batches of the same model on fixed memory. One line of JSON on stdout.
//
// batch_clients LIBRARY MODEL MAX_BATCH CLIENTS IN_FLIGHT SECONDS SPIN_US
#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "core/error.h"
#include "core/metrics.h"
#include "ort/session.h"
#include "runtime/batch_copy.h"
#include "runtime/batcher.h"

using namespace zerolane;

namespace {

Shape rows_of(const TensorSpec& spec, int64_t rows) {
  Shape shape;
  std::vector<int64_t> dims;
  for (const Dim& dim : spec.shape) dims.push_back(dim.value >= 0 ? dim.value : rows);
  return Shape(dims);
}

struct Request final : BatchRequest {
  explicit Request(const TensorSpec& spec) : x(Tensor::make_host(spec.dtype, rows_of(spec, 1))) {
    fill(x.view(), {});
    inputs = {x.view()};
  }
  void complete() noexcept override { done.set(); }
  Tensor x;
  Flag done;
  int64_t sent_ns = 0;
};

constexpr int64_t kSpin = 100'000;  // ns that a client looks before it sleeps

// Rows a second of one thread that runs full batches.
double ceiling(const std::shared_ptr<Session>& session, int64_t rows, double seconds) {
  const auto context = session->make_context();
  const Tensor x = Tensor::make_host(DType::kFloat32, rows_of(session->inputs()[0], rows));
  const Tensor y = Tensor::make_host(DType::kFloat32, rows_of(session->outputs()[0], rows));
  fill(x.view(), {});
  context->bind_input(0, x.view());
  context->bind_output(0, y.view());
  const int64_t begin = now_ns();
  const auto end = begin + static_cast<int64_t>(seconds * 1e9);
  int64_t done = 0;
  while (now_ns() < end) {
    for (int i = 0; i < 16; ++i) context->run();
    done += 16 * rows;
  }
  return static_cast<double>(done) * 1e9 / static_cast<double>(now_ns() - begin);
}

}  // namespace

int main(int count, char** values) {
  if (count != 8) return 2;
  const auto max_batch = static_cast<size_t>(std::atoll(values[3]));
  const auto clients = static_cast<size_t>(std::atoll(values[4]));
  const auto in_flight = static_cast<size_t>(std::atoll(values[5]));
  const double seconds = std::atof(values[6]);
  try {
    ort::Runtime& runtime = ort::open_runtime(values[1], 1, false);
    ort::Options options;
    options.threads = 1;
    const auto session = ort::load_file(runtime, values[2], options);
    (void)ceiling(session, static_cast<int64_t>(max_batch), seconds / 4);
    const double before = ceiling(session, static_cast<int64_t>(max_batch), seconds / 2);
    BatchOptions batching;
    batching.max_batch = max_batch;
    batching.lanes.spin_ns = static_cast<int64_t>(std::atof(values[7]) * 1e3);
    batching.lanes.name = "bench";
    Batcher batcher(session, batching);
    LatencyHistogram latency;
    std::atomic<int64_t> answered{0};
    std::atomic<bool> measuring{false};
    std::atomic<bool> stop{false};
    std::vector<std::thread> threads;
    for (size_t c = 0; c < clients; ++c) {
      threads.emplace_back([&] {
        std::vector<std::unique_ptr<Request>> requests;
        for (size_t i = 0; i < in_flight; ++i) {
          requests.push_back(std::make_unique<Request>(session->inputs()[0]));
        }
        const auto send = [&](Request& request) {
          request.done.reset();
          request.sent_ns = now_ns();
          batcher.prepare(request);
          batcher.submit(request);
        };
        for (auto& request : requests) send(*request);
        // Answers come in the order of the requests, so looking at the oldest is enough.
        for (size_t next = 0; !stop.load(std::memory_order_relaxed);) {
          Request& request = *requests[next];
          request.done.wait(kSpin, kForever);
          if (measuring.load(std::memory_order_relaxed)) {
            latency.record(now_ns() - request.sent_ns);
            answered.fetch_add(1, std::memory_order_relaxed);
          }
          send(request);
          next = next + 1 < requests.size() ? next + 1 : 0;
        }
        for (auto& request : requests) request->done.wait(0, kForever);
      });
    }
    const auto rest = [](double s) {
      std::this_thread::sleep_for(std::chrono::duration<double>(s));
    };
    rest(seconds / 4);
    measuring = true;
    const int64_t begin = now_ns();
    rest(seconds);
    const int64_t end = now_ns();
    const int64_t total = answered;
    stop = true;
    for (auto& thread : threads) thread.join();
    const BatchStats stats = batcher.stats();
    batcher.close(false);
    const double after = ceiling(session, static_cast<int64_t>(max_batch), seconds / 2);
    std::printf(
        "{\"ceiling\": %.0f, \"rate\": %.0f, \"rows_per_run\": %.2f, \"p50_us\": %.2f, "
        "\"p99_us\": %.2f}\n",
        (before + after) / 2, static_cast<double>(total) * 1e9 / static_cast<double>(end - begin),
        static_cast<double>(stats.rows) / static_cast<double>(std::max<uint64_t>(stats.runs, 1)),
        static_cast<double>(latency.percentile(0.5)) / 1e3,
        static_cast<double>(latency.percentile(0.99)) / 1e3);
  } catch (const Error& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
  return 0;
}
