// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <memory>
#include <string>

#include "core/log.h"
#include "core/metrics.h"

using namespace zerolane;

TEST_CASE("a histogram reads back within its resolution") {
  auto histogram = std::make_unique<LatencyHistogram>();
  CHECK(histogram->percentile(0.5) == 0);
  for (int64_t i = 1; i <= 100000; ++i) histogram->record(i);
  CHECK(histogram->count() == 100000);
  for (double fraction : {0.01, 0.5, 0.9, 0.99, 0.999, 1.0}) {
    auto exact = fraction * 100000;
    auto read = static_cast<double>(histogram->percentile(fraction));
    CHECK(read >= exact);
    CHECK(read <= exact * 1.033 + 1);
  }
}

TEST_CASE("a histogram takes any value") {
  auto histogram = std::make_unique<LatencyHistogram>();
  for (int64_t value : {INT64_MIN, int64_t{-1}, int64_t{0}, int64_t{31}, int64_t{32}, INT64_MAX}) {
    histogram->record(value);
  }
  CHECK(histogram->count() == 6);
  CHECK(histogram->percentile(0) == 0);
  CHECK(histogram->percentile(1) > int64_t{1} << 45);
}

TEST_CASE("the log queue is bounded and says what it lost") {
  (void)take_log();
  CHECK_FALSE(log_waiting());
  for (int i = 0; i < 5000; ++i) log(LogLevel::kInfo, "test", "here", std::to_string(i));
  CHECK(log_waiting());
  auto records = take_log();
  CHECK(records.size() == 4097);
  CHECK(records.front().message == "0");
  CHECK(records.back().message.find("904") != std::string::npos);
  CHECK(take_log().empty());
}

TEST_CASE("live objects are counted") {
  int64_t before = LiveCount::of(LiveKind::kFuture);
  {
    LiveCount one(LiveKind::kFuture);
    LiveCount copy(one);
    CHECK(LiveCount::of(LiveKind::kFuture) == before + 2);
  }
  CHECK(LiveCount::of(LiveKind::kFuture) == before);
}
