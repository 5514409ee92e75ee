// SPDX-License-Identifier: Apache-2.0
// Parts of the run path of TensorRT that need no library of the vendor's.
#include <atomic>
#include <string>
#include <thread>
#include <vector>

#include "core/error.h"
#include "fake_cuda.h"
#include "trt/activation.h"
#include "trt/layer_profile.h"
#include "trt/output_memory.h"
#include "trt/profiles.h"

using namespace zerolane;
using namespace zerolane::trt;
using cuda::fake::fresh_device;

namespace {

InputRange range(std::vector<int64_t> min, std::vector<int64_t> opt, std::vector<int64_t> max) {
  InputRange out;
  out.min = std::move(min);
  out.opt = std::move(opt);
  out.max = std::move(max);
  return out;
}

Profiles::Given given(Shape shape) { return {shape, {}}; }

}  // namespace

TEST_CASE("trt: the profile whose best shape is nearest is chosen") {
  Profiles profiles({"x"}, {{range({1, 3}, {1, 3}, {64, 3})},
                            {range({1, 3}, {32, 3}, {64, 3})},
                            {range({65, 3}, {99, 3}, {99, 3})}});
  CHECK(profiles.choose({given({1, 3})}, "m") == 0);
  CHECK(profiles.choose({given({3, 3})}, "m") == 0);
  CHECK(profiles.choose({given({40, 3})}, "m") == 1);
  CHECK(profiles.choose({given({65, 3})}, "m") == 2);
}

TEST_CASE("trt: shapes that no profile takes are told with every range") {
  InputRange values = range({2}, {2}, {2});
  values.min_values = {1, 1};
  values.opt_values = {2, 2};
  values.max_values = {4, 4};
  Profiles profiles({"x", "size"}, {{range({1}, {2}, {4}), values}});
  auto fails = [&](Profiles::Given x, Profiles::Given size, const std::string& part,
                   const std::string& subject) {
    try {
      profiles.choose({x, size}, "m.engine");
      FAIL("no error");
    } catch (const Error& error) {
      CHECK(error.code() == Code::kShapeMismatch);
      CHECK(error.message().find(part) != std::string::npos);
      CHECK(error.message().find("x [1]..[4], best [2]; size [2] with values {1, 1}..{4, 4}") !=
            std::string::npos);
      CHECK(error.subject() == subject);
    }
  };
  CHECK(profiles.choose({given({4}), {Shape{2}, {4, 1}}}, "m") == 0);
  fails(given({5}), {Shape{2}, {2, 2}}, "'x' is [5]", "x");
  fails(given({1, 1}), {Shape{2}, {2, 2}}, "'x' is [1, 1]", "x");
  fails(given({4}), {Shape{2}, {5, 1}}, "'size' is [2] with values {5, 1}", "size");
}

TEST_CASE("trt: where every input fits somewhere, the combination is told") {
  Profiles profiles({"x", "y"}, {{range({1}, {1}, {2}), range({1}, {1}, {2})},
                                 {range({3}, {3}, {4}), range({3}, {3}, {4})}});
  try {
    profiles.choose({given({1}), given({3})}, "m.engine");
    FAIL("no error");
  } catch (const Error& error) {
    CHECK(error.subject() == "m.engine");
    CHECK(error.message().find("'x' is [1], 'y' is [3]") != std::string::npos);
  }
}

TEST_CASE("trt: runs one after the other share a block, runs at once do not") {
  auto pool = std::make_shared<ActivationPool>(fresh_device());
  CHECK(pool->borrow(0, nullptr) == nullptr);
  ActivationPool::Block* first = pool->borrow(1000, nullptr);
  ActivationPool::Block* second = pool->borrow(1000, nullptr);
  CHECK(first->data() != second->data());
  pool->give_back(first);
  pool->give_back(second);
  CHECK(pool->borrow(900, second) == second);  // its own again
  CHECK(pool->borrow(900, second) == first);   // which is taken
  CHECK(pool->blocks() == 2);
  pool->give_back(first);
  // A larger one takes the place of the idle one.
  CHECK(pool->borrow(1 << 20, nullptr) == first);
  CHECK(first->bytes() >= size_t{1} << 20);
  CHECK(pool->blocks() == 2);
}

TEST_CASE("trt: the smallest idle block that is large enough is lent") {
  auto pool = std::make_shared<ActivationPool>(fresh_device());
  std::vector<ActivationPool::Block*> blocks;
  for (size_t bytes : {8192, 1024, 4096}) blocks.push_back(pool->borrow(bytes, nullptr));
  for (auto* block : blocks) pool->give_back(block);
  CHECK(pool->borrow(2048, nullptr) == blocks[2]);
  CHECK(pool->borrow(2048, nullptr) == blocks[0]);
}

TEST_CASE("trt: idle blocks are given up when memory runs out") {
  auto& device = fresh_device();
  auto pool = std::make_shared<ActivationPool>(device);
  cuda::fake::control().set_memory(uint64_t{1} << 20);
  std::vector<ActivationPool::Block*> blocks;
  for (int i = 0; i < 3; ++i) blocks.push_back(pool->borrow(200 << 10, nullptr));
  for (auto* block : blocks) pool->give_back(block);
  ActivationPool::Block* large = pool->borrow(700 << 10, nullptr);
  REQUIRE(large != nullptr);
  CHECK(pool->bytes() <= size_t{1} << 20);
  pool->give_back(large);
  try {
    pool->borrow(4 << 20, nullptr);
    FAIL("no error");
  } catch (const Error& error) {
    CHECK(error.code() == Code::kOutOfMemory);
  }
  ActivationPool::Block* after = pool->borrow(100 << 10, nullptr);
  CHECK(after != nullptr);
  pool->give_back(after);
  fresh_device();
}

TEST_CASE("trt: many threads borrow, and none gets another's block") {
  auto pool = std::make_shared<ActivationPool>(fresh_device());
  std::atomic<int> wrong{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      ActivationPool::Block* last = nullptr;
      for (int i = 0; i < 2000; ++i) {
        size_t bytes = static_cast<size_t>(256) << ((i + t) % 5);
        BorrowedBlock block(*pool, bytes, last);
        last = block.get();
        // Memory of the stand-in is the host's: two holders of one block are a race.
        auto* cell = static_cast<volatile int*>(last->data());
        *cell = t;
        if (last->bytes() < bytes || *cell != t) ++wrong;
      }
    });
  }
  for (auto& thread : threads) thread.join();
  CHECK(wrong == 0);
  CHECK(pool->blocks() <= 4);
}

TEST_CASE("trt: memory of an output grows and stays") {
  auto memory = Pool::make(fresh_device());
  OutputMemory output(memory);
  output.begin();
  void* empty = output.reallocateOutput("y", nullptr, 0, 256);
  CHECK(empty != nullptr);
  void* large = output.reallocateOutput("y", empty, 1 << 16, 256);
  CHECK(output.reallocateOutput("y", large, 1 << 10, 256) == large);
  CHECK_FALSE(output.shape().has_value());
  Dims dims;
  dims.nbDims = 2;
  dims.d[0] = 3;
  dims.d[1] = 0;
  output.notifyShape("y", dims);
  CHECK(*output.shape() == Shape{3, 0});
  cuda::fake::control().set_memory(1 << 17);
  CHECK(output.reallocateOutput("y", large, 1 << 20, 256) == nullptr);
  CHECK(output.failed_bytes() == size_t{1} << 20);
  output.begin();
  CHECK(output.failed_bytes() == 0);
  CHECK(output.data() == large);
  fresh_device();
}

TEST_CASE("trt: times of layers add up by name") {
  LayerProfile profile;
  CHECK(profile.json() == "[\n]\n");
  for (int i = 0; i < 2; ++i) {
    profile.layer_time("conv \"1\"", 1.5F);
    profile.layer_time(nullptr, 0.5F);
  }
  std::string json = profile.json();
  CHECK(json.find(
            R"({"name": "conv \"1\"", "runs": 2, "total_ms": 3.000000, "mean_ms": 1.500000})") !=
        std::string::npos);
  CHECK(json.find(R"({"name": "", "runs": 2, "total_ms": 1.0)") != std::string::npos);
}
