// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "core/metrics.h"

namespace zerolane::metrics {

enum class Type { kCounter, kGauge, kHistogram };

// What is measured, told apart by labels: all that there are stand in metric_families.cpp.
struct Family {
  const char* name;  // as Prometheus wants it: unit last, "_total" where it is a counter
  Type type;
  const char* unit;
  std::vector<const char*> labels;
  const char* meaning;
};
const std::vector<Family>& families();

// In the order of the family's labels.
using Labels = std::vector<std::pair<std::string, std::string>>;

// Keeps a counter, gauge or histogram among the metrics; what it refers to outlives it, so declare
// it behind that. What counters and histograms held stays under their labels when it ends, so that
// sums over a process do not fall; gauges disappear. Of series without a member the 512 that
// changed last are kept. Move-only; any thread.
class Registration {
 public:
  Registration() = default;
  Registration(Registration&& other) noexcept : id_(std::exchange(other.id_, 0)) {}
  Registration& operator=(Registration&& other) noexcept {
    std::swap(id_, other.id_);
    return *this;
  }
  ~Registration();

 private:
  friend struct Registrar;
  uint64_t id_ = 0;
};

// Several under the same labels are one series, their sum. Throw kInternal where `family` is not
// listed, of another type, or has other labels.
Registration publish(const char* family, Labels labels, const Counter& counter);
Registration publish(const char* family, Labels labels, const Gauge& gauge);
Registration publish(const char* family, Labels labels, const LatencyHistogram& histogram);

// Adds to a counter that has no owner. Takes a lock and may allocate: for rare events.
void count(const char* family, const Labels& labels, uint64_t count = 1);

struct Series {
  const Family* family;
  Labels labels;
  int64_t value = 0;  // of counters and gauges
  HistogramCounts histogram;
};

// Where gauges come from that are read when somebody asks: hands each to its argument. Called with
// the registry locked: it publishes nothing and waits for nothing that does. Stays for ever.
using Source = std::function<void(const std::function<void(const char* family, Labels, int64_t)>&)>;
void add_source(Source source);

// All series, sorted by family (in the order of families()), then labels.
std::vector<Series> read();

}  // namespace zerolane::metrics
