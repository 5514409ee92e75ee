// SPDX-License-Identifier: Apache-2.0
#include "kernels/conv_tiles.h"

#include <doctest/doctest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

using namespace zerolane::kernels;

namespace {

// Bytes whose last one lies before a page that may not be touched.
class Guarded {
 public:
  explicit Guarded(size_t bytes) : bytes_(bytes) {
    const auto page = static_cast<size_t>(::sysconf(_SC_PAGESIZE));
    mapped_ = (bytes + page - 1) / page * page + page;
    void* memory =
        ::mmap(nullptr, mapped_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    REQUIRE(memory != MAP_FAILED);
    base_ = static_cast<uint8_t*>(memory);
    REQUIRE(::mprotect(base_ + mapped_ - page, page, PROT_NONE) == 0);
    data_ = base_ + mapped_ - page - bytes;
  }
  ~Guarded() { ::munmap(base_, mapped_); }
  Guarded(const Guarded&) = delete;
  Guarded& operator=(const Guarded&) = delete;

  uint8_t* data() const { return data_; }
  size_t size() const { return bytes_; }
  std::vector<uint8_t> bytes() const { return {data_, data_ + bytes_}; }

 private:
  size_t bytes_, mapped_ = 0;
  uint8_t* base_ = nullptr;
  uint8_t* data_ = nullptr;
};

struct Free {
  void operator()(void* memory) const { ::operator delete(memory, std::align_val_t{64}); }
};
using Lines = std::unique_ptr<void, Free>;
Lines lines(size_t bytes) {
  return Lines(::operator new(std::max<size_t>(bytes, 64), std::align_val_t{64}));
}

// A node and an image.
struct Case {
  TileConv conv{};
  int64_t height = 0, width = 0;
  std::vector<int8_t> weights;
  std::vector<int32_t> bias;
  std::vector<float> scales;
  std::vector<uint8_t> image;

  std::string text() const {
    const auto pair = [](const int64_t (&two)[2]) {
      return std::to_string(two[0]) + "," + std::to_string(two[1]);
    };
    return std::to_string(height) + "x" + std::to_string(width) + " channels " +
           std::to_string(conv.channels) + " filters " + std::to_string(conv.filters) + " kernel " +
           pair(conv.kernel) + " stride " + pair(conv.stride) + " dilation " + pair(conv.dilation) +
           " before " + pair(conv.before) + " after " + pair(conv.after);
  }

  void fill(unsigned seed, float scale) {
    std::mt19937 random(seed);
    weights.resize(
        static_cast<size_t>(conv.filters * conv.channels * conv.kernel[0] * conv.kernel[1]));
    for (auto& each : weights) each = static_cast<int8_t>(random());
    bias.resize(static_cast<size_t>(conv.filters));
    for (auto& each : bias) each = static_cast<int32_t>(random() % 20001) - 10000;
    scales.resize(static_cast<size_t>(conv.filters));
    for (auto& each : scales) each = scale * static_cast<float>(1 + random() % 1000);
    image.resize(static_cast<size_t>(height * width * conv.channels));
    for (auto& each : image) each = static_cast<uint8_t>(random());
    conv.input_zero = static_cast<uint8_t>(random() % 3 == 0 ? 0 : random());
    conv.output_zero = static_cast<uint8_t>(random());
  }

  uint8_t finished(uint32_t sum, int64_t filter) const {
    const float low = -static_cast<float>(conv.output_zero);
    const float value =
        static_cast<float>(static_cast<int32_t>(sum)) * scales[static_cast<size_t>(filter)];
    return static_cast<uint8_t>(std::nearbyint(std::clamp(value, low, 255 + low)) - low);
  }

  // The words of conv_tiles.h, loop by loop.
  std::vector<uint8_t> expected(int64_t out_height, int64_t out_width) const {
    std::vector<uint8_t> out;
    for (int64_t y = 0; y < out_height; ++y)
      for (int64_t x = 0; x < out_width; ++x)
        for (int64_t f = 0; f < conv.filters; ++f) {
          auto sum = static_cast<uint32_t>(bias[static_cast<size_t>(f)]);
          for (int64_t i = 0; i < conv.kernel[0]; ++i)
            for (int64_t j = 0; j < conv.kernel[1]; ++j) {
              const int64_t row = y * conv.stride[0] + i * conv.dilation[0] - conv.before[0];
              const int64_t column = x * conv.stride[1] + j * conv.dilation[1] - conv.before[1];
              if (row < 0 || row >= height || column < 0 || column >= width) continue;
              for (int64_t c = 0; c < conv.channels; ++c) {
                const int pixel =
                    image[static_cast<size_t>((row * width + column) * conv.channels + c)];
                const int weight = weights[static_cast<size_t>(
                    ((f * conv.channels + c) * conv.kernel[0] + i) * conv.kernel[1] + j)];
                sum += static_cast<uint32_t>((pixel - conv.input_zero) * weight);
              }
            }
          out.push_back(finished(sum, f));
        }
    return out;
  }
};

std::vector<Case> cases() {
  std::vector<Case> all;
  std::mt19937 random(7);
  const auto below = [&](int64_t count) { return static_cast<int64_t>(random() % count); };
  const auto add = [&](Case one, float scale = 2e-6F) {
    one.fill(static_cast<unsigned>(all.size()), scale);
    all.push_back(std::move(one));
  };
  for (int i = 0; i < 160; ++i) {
    Case one;
    one.conv.channels = 1 + below(i % 3 == 0 ? 150 : 40);
    one.conv.filters = 1 + below(80);
    int64_t extent[2];
    for (int axis = 0; axis < 2; ++axis) {
      const bool plain = i % 5 == 0;
      one.conv.kernel[axis] = plain ? 1 : 1 + below(4);
      one.conv.stride[axis] = plain ? 1 : 1 + below(3);
      one.conv.dilation[axis] = plain ? 1 : 1 + below(3);
      one.conv.before[axis] = plain ? 0 : below(4);
      one.conv.after[axis] = plain ? 0 : below(4);
      const int64_t window = (one.conv.kernel[axis] - 1) * one.conv.dilation[axis] + 1;
      const int64_t least = window - one.conv.before[axis] - one.conv.after[axis];
      extent[axis] = std::max(int64_t{1}, least) + below(14);
    }
    one.height = extent[0];
    one.width = extent[1];
    add(std::move(one), i % 7 == 3 ? 1e4F : 2e-6F);
  }
  // Weights beyond what is kept in a cache, so that filters are the outer loop.
  add({{600, 1900, {1, 1}, {1, 1}, {1, 1}, {0, 0}, {0, 0}, 0, 0}, 7, 7, {}, {}, {}, {}});
  // The first convolution of a network, after SpaceToDepth.
  add({{12, 64, {4, 4}, {1, 1}, {1, 1}, {2, 2}, {1, 1}, 0, 0}, 20, 37, {}, {}, {}, {}});
  return all;
}

struct Planned {
  explicit Planned(const Case& given)
      : one(given),
        tables(lines(tile_conv_bytes(given.conv))),
        plan(tile_conv_plan(given.conv, given.weights.data(), given.bias.data(),
                            given.scales.data(), tables.get())),
        sizes(tile_conv_sizes(plan, given.height, given.width)),
        scratch(lines(static_cast<size_t>(sizes.scratch))) {
    std::memset(scratch.get(), 0x5A, static_cast<size_t>(sizes.scratch));
    tile_conv_start(plan, sizes, scratch.get());
    // In two parts, as threads do.
    if (plan.in_place) return;
    const int64_t half = sizes.plane_rows / 2;
    tile_conv_copy(plan, sizes, given.image.data(), half, sizes.plane_rows, scratch.get());
    tile_conv_copy(plan, sizes, given.image.data(), 0, half, scratch.get());
  }
  size_t out_bytes() const {
    return static_cast<size_t>(sizes.out_height * sizes.out_width * one.conv.filters);
  }
  int64_t blocks() const { return (one.conv.filters + 31) / 32; }

  const Case& one;
  Lines tables;
  TileConvPlan plan;
  TileConvSizes sizes;
  Lines scratch;
};

// What tiles do with the tables, one product at a time.
std::vector<uint8_t> by_tables(const Planned& planned) {
  const Case& one = planned.one;
  const TileConvPlan& plan = planned.plan;
  const auto* copy = static_cast<const uint8_t*>(planned.scratch.get());
  const uint8_t* source = plan.in_place ? one.image.data() : copy;
  const auto* offsets = plan.in_place
                            ? plan.offsets
                            : reinterpret_cast<const int64_t*>(copy + planned.sizes.image_bytes);
  const int64_t filled = (one.conv.filters + 15) / 16 * 16;
  std::vector<uint8_t> out;
  for (int64_t y = 0; y < planned.sizes.out_height; ++y)
    for (int64_t x = 0; x < planned.sizes.out_width; ++x)
      for (int64_t f = 0; f < one.conv.filters; ++f) {
        const uint8_t* pixel = source + (y * planned.sizes.row_pixels + x) * one.conv.channels;
        auto sum = static_cast<uint32_t>(plan.bias[f]);
        const int64_t in_block = std::min<int64_t>(32, filled - f / 32 * 32);
        for (int64_t chunk = 0; chunk < plan.chunk_count; ++chunk) {
          const int8_t* tile = plan.weights + f / 32 * 32 * plan.chunk_count * plan.chunk_bytes +
                               (chunk * in_block + f % 32 / 16 * 16) * plan.chunk_bytes;
          for (int64_t k = 0; k < plan.chunk_bytes; ++k) {
            const int weight = tile[k / 4 * 64 + f % 16 * 4 + k % 4];
            if (weight != 0) sum += static_cast<uint32_t>(pixel[offsets[chunk] + k] * weight);
          }
        }
        out.push_back(one.finished(sum, f));
      }
  return out;
}

}  // namespace

TEST_CASE("conv_tiles: tables and copies hold each product once") {
  for (const Case& one : cases()) {
    CAPTURE(one.text());
    const Planned planned(one);
    const auto wanted = one.expected(planned.sizes.out_height, planned.sizes.out_width);
    REQUIRE(by_tables(planned) == wanted);
  }
}

TEST_CASE("conv_tiles: tiles compute the bits of plain loops and touch nothing else") {
  if (!has_tile_conv()) {
    MESSAGE("skipped: no AMX here, or ZEROLANE_ISA goes without");
    return;
  }
  for (const Case& one : cases()) {
    CAPTURE(one.text());
    const Planned planned(one);
    const Guarded image(one.image.size()), out(planned.out_bytes());
    std::memcpy(image.data(), one.image.data(), one.image.size());
    tile_conv_run(planned.plan, planned.sizes, image.data(), 0, planned.sizes.positions, 0,
                  planned.blocks(), out.data(), planned.scratch.get());
    REQUIRE(out.bytes() == one.expected(planned.sizes.out_height, planned.sizes.out_width));
  }
}

TEST_CASE("conv_tiles: parts of several threads make one result") {
  if (!has_tile_conv()) {
    MESSAGE("skipped: no AMX here, or ZEROLANE_ISA goes without");
    return;
  }
  std::vector<Case> all = cases();
  for (size_t i = 0; i < all.size(); i += 9) {
    const Case& one = all[i];
    CAPTURE(one.text());
    const Planned planned(one);
    const Guarded out(planned.out_bytes());
    const int64_t middle = planned.sizes.positions / 64 * 32, block = planned.blocks() / 2;
    const auto part = [&](int64_t begin, int64_t end, int64_t first, int64_t last) {
      if (begin < end && first < last) {
        tile_conv_run(planned.plan, planned.sizes, one.image.data(), begin, end, first, last,
                      out.data(), planned.scratch.get());
      }
    };
    const int64_t end = planned.sizes.positions, blocks = planned.blocks();
    std::thread threads[] = {
        std::thread(part, 0, middle, 0, block), std::thread(part, middle, end, 0, block),
        std::thread(part, 0, middle, block, blocks), std::thread(part, middle, end, block, blocks)};
    for (std::thread& each : threads) each.join();
    REQUIRE(out.bytes() == one.expected(planned.sizes.out_height, planned.sizes.out_width));
  }
}

TEST_CASE("conv_tiles: sums wrap and results saturate") {
  Case one{{64, 20, {1, 1}, {1, 1}, {1, 1}, {0, 0}, {0, 0}, 0, 0}, 1, 3, {}, {}, {}, {}};
  one.fill(1, 1e-3F);
  for (size_t i = 0; i < one.bias.size(); ++i) one.bias[i] = i % 2 == 0 ? INT32_MAX : INT32_MIN;
  for (const float scale : {1e-9F, 0.4F, 3.0F, 1e30F}) {
    for (float& each : one.scales) each = scale;
    const Planned planned(one);
    const auto wanted = one.expected(1, 3);
    CHECK(by_tables(planned) == wanted);
    if (!has_tile_conv()) continue;
    std::vector<uint8_t> out(planned.out_bytes());
    tile_conv_run(planned.plan, planned.sizes, one.image.data(), 0, 3, 0, 1, out.data(), nullptr);
    CHECK(out == wanted);
  }
}
