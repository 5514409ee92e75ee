// SPDX-License-Identifier: Apache-2.0
#include <cstring>
#include <numeric>
#include <random>
#include <vector>

#include "core/error.h"
#include "cuda/memory.h"
#include "cuda/strided.h"
#include "fake_cuda.h"

using namespace zerolane;
using namespace zerolane::cuda;

namespace {

StridedCopy make(int32_t element, std::vector<int64_t> shape, std::vector<int64_t> to,
                 std::vector<int64_t> from) {
  StridedCopy copy{};
  copy.element_bytes = element;
  copy.rank = static_cast<int32_t>(shape.size());
  std::copy(shape.begin(), shape.end(), copy.shape);
  std::copy(to.begin(), to.end(), copy.to_strides);
  std::copy(from.begin(), from.end(), copy.from_strides);
  return copy;
}

// The plain definition, element by element.
void reference(const StridedCopy& copy, char* to, const char* from) {
  int64_t count = 1;
  for (int d = 0; d < copy.rank; ++d) count *= copy.shape[d];
  for (int64_t i = 0; i < count; ++i) {
    int64_t rest = i;
    int64_t to_at = 0;
    int64_t from_at = 0;
    for (int d = copy.rank - 1; d >= 0; --d) {
      to_at += rest % copy.shape[d] * copy.to_strides[d];
      from_at += rest % copy.shape[d] * copy.from_strides[d];
      rest /= copy.shape[d];
    }
    std::memcpy(to + to_at, from + from_at, static_cast<size_t>(copy.element_bytes));
  }
}

}  // namespace

TEST_CASE("cuda: a strided copy loses the dimensions it does not need") {
  // Dense on both sides, with extents of one whose strides mean nothing.
  StridedCopy dense = simplify(make(4, {2, 1, 3, 4}, {48, 5, 16, 4}, {48, 3, 16, 4}));
  CHECK(is_block(dense));
  CHECK(copied_bytes(dense) == 96);
  // Rows of a wider array: one dimension of rows, elements widened to 16 bytes.
  StridedCopy rows = simplify(make(4, {2, 3, 8}, {96, 32, 4}, {192, 64, 4}));
  CHECK(rows.rank == 2);
  CHECK(rows.element_bytes == 16);
  CHECK(rows.shape[0] == 6);
  CHECK(rows.shape[1] == 2);
  // A transpose stays one; the destination's order leads.
  StridedCopy turned = simplify(make(4, {3, 5}, {4, 12}, {20, 4}));
  CHECK(turned.rank == 2);
  CHECK(turned.to_strides[1] == 4);
  CHECK(turned.shape[1] == 3);
  CHECK(turned.element_bytes == 4);
  // Empty and scalar.
  CHECK(copied_bytes(simplify(make(8, {3, 0, 2}, {16, 16, 8}, {1, 1, 1}))) == 0);
  CHECK(is_block(simplify(make(8, {}, {}, {}))));
}

TEST_CASE("cuda: strided copies that no kernel takes are refused") {
  CHECK_THROWS_AS(simplify(make(3, {2}, {3}, {3})), Error);
  CHECK_THROWS_AS(simplify(make(4, {2}, {0}, {4})), Error);
  CHECK_THROWS_AS(simplify(make(4, {2}, {4}, {6})), Error);
  CHECK_THROWS_AS(simplify(make(4, {-1}, {4}, {4})), Error);
  StridedCopy odd = make(4, {2}, {4}, {4});
  odd.from = reinterpret_cast<const void*>(uintptr_t{2});
  CHECK_THROWS_AS(simplify(odd), Error);
  odd.rank = 9;
  CHECK_THROWS_AS(simplify(odd), Error);
}

TEST_CASE("cuda: strided copies equal the plain definition") {
  CudaDevice& device = fake::fresh_device();
  auto stream = device.make_cuda_stream();
  std::mt19937 random(7);
  auto pick = [&](int low, int high) {
    return std::uniform_int_distribution<int>(low, high)(random);
  };
  for (int round = 0; round < 300; ++round) {
    int rank = pick(0, kMaxStridedRank);
    int64_t element = int64_t{1} << pick(0, 4);
    StridedCopy copy{};
    copy.rank = rank;
    copy.element_bytes = static_cast<int32_t>(element);
    // Dense destinations in a random order of dimensions, with gaps; the source likewise, and
    // sometimes broadcast or backwards.
    auto place = [&](int64_t* strides) {
      std::vector<int> order(static_cast<size_t>(rank));
      std::iota(order.begin(), order.end(), 0);
      if (pick(0, 1) == 1) std::shuffle(order.begin(), order.end(), random);
      int64_t extent = element;
      for (auto d = order.rbegin(); d != order.rend(); ++d) {
        strides[*d] = extent;
        extent *= copy.shape[*d];
        if (pick(0, 3) == 0) extent += element * pick(0, 3);
      }
      return std::max(extent, element);
    };
    for (int d = 0; d < rank; ++d) copy.shape[d] = pick(round % 10 == 0 ? 0 : 1, 4);
    int64_t to_bytes = place(copy.to_strides);
    int64_t from_bytes = place(copy.from_strides);
    int64_t from_offset = 0;
    for (int d = 0; d < rank; ++d) {
      int kind = pick(0, 5);
      if (kind == 0) copy.from_strides[d] = 0;
      if (kind == 1 && copy.shape[d] > 0) {
        from_offset += (copy.shape[d] - 1) * copy.from_strides[d];
        copy.from_strides[d] = -copy.from_strides[d];
      }
    }
    std::vector<char> source(static_cast<size_t>(from_bytes));
    for (char& byte : source) byte = static_cast<char>(pick(-128, 127));
    std::vector<char> wanted(static_cast<size_t>(to_bytes), 0x11);
    std::vector<char> got(wanted.size());
    reference(copy, wanted.data(), source.data() + from_offset);
    DeviceBuffer to = device.pool().allocate(wanted.size(), *stream);
    DeviceBuffer from = device.pool().allocate(source.size(), *stream);
    stream->copy_async(from.data(), source.data(), source.size());
    stream->fill_async(to.data(), 0x11, wanted.size());
    copy.to = to.data();
    copy.from = static_cast<char*>(from.data()) + from_offset;
    stream->copy_strided_async(copy);
    stream->copy_async(got.data(), to.data(), got.size());
    stream->synchronize();
    REQUIRE(got == wanted);
  }
  CHECK(fake::counts().strided_copies > 100);
}
