// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <vector>

#include "core/dtype.h"
#include "core/error.h"
#include "core/shape.h"

using namespace zerolane;

TEST_CASE("shapes count, print and compare") {
  CHECK(Shape{}.count() == 1);
  CHECK(Shape{2, 0, 5}.count() == 0);
  CHECK(Shape{2, 3}.count() == 6);
  CHECK(Shape{2, 3}.text() == "[2, 3]");
  CHECK(Shape{2, 3} == Shape{2, 3});
  CHECK_FALSE(Shape{2, 3} == Shape{2, 3, 1});
}

TEST_CASE("shapes refuse what they cannot hold") {
  CHECK_THROWS_AS(Shape({1, -1}), Error);
  CHECK_THROWS_AS(Shape(std::vector<int64_t>(kMaxRank + 1, 1)), Error);
  CHECK_NOTHROW(Shape(std::vector<int64_t>(kMaxRank, 1)));
  try {
    (void)Shape{int64_t{1} << 40, int64_t{1} << 40}.count();
    FAIL("no error");
  } catch (const Error& error) {
    CHECK(error.code() == Code::kOutOfMemory);
  }
  CHECK(Shape{int64_t{1} << 40, int64_t{1} << 40, 0}.count() == 0);
}

TEST_CASE("packed types round their bytes up") {
  CHECK(dtype_bytes(DType::kInt4, 3) == 2);
  CHECK(dtype_bytes(DType::kInt2, 5) == 2);
  CHECK(dtype_bytes(DType::kFloat16, 3) == 6);
  CHECK(dtype_bytes(DType::kComplex128, 2) == 32);
  CHECK_FALSE(is_plain(DType::kInt4));
  CHECK(is_plain(DType::kFloat8E8M0));
}
