// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "trt/objects.h"

namespace zerolane::trt {

// Adds up what the library says each layer took. Any thread.
class LayerProfile final : public LayerTimes {
 public:
  void layer_time(const char* layer, float milliseconds) noexcept override;
  // The layers in the order in which they were first reported, as JSON: [{"name", "runs",
  // "total_ms", "mean_ms"}, ...].
  std::string json() const;

 private:
  struct Layer {
    std::string name;
    int64_t runs = 0;
    double total_ms = 0;
  };
  mutable std::mutex mutex_;  // guards all below
  std::vector<Layer> layers_;
  std::map<std::string, size_t, std::less<>> index_;
};

}  // namespace zerolane::trt
