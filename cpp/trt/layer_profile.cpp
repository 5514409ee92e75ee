// SPDX-License-Identifier: Apache-2.0
#include "trt/layer_profile.h"

#include <cstdio>
#include <exception>
#include <string_view>

namespace zerolane::trt {
namespace {

std::string quoted(const std::string& text) {
  std::string out = "\"";
  for (char c : text) {
    if (c == '"' || c == '\\') out += '\\';
    if (static_cast<unsigned char>(c) < 0x20) {
      char escape[8];
      std::snprintf(escape, sizeof(escape), "\\u%04x", c);
      out += escape;
    } else {
      out += c;
    }
  }
  return out + '"';
}

}  // namespace

void LayerProfile::layer_time(const char* layer, float milliseconds) noexcept {
  try {
    std::lock_guard lock(mutex_);
    std::string_view name = layer != nullptr ? layer : "";
    auto found = index_.find(name);
    if (found == index_.end()) {
      found = index_.emplace(std::string(name), layers_.size()).first;
      layers_.push_back({std::string(name)});
    }
    Layer& entry = layers_[found->second];
    ++entry.runs;
    entry.total_ms += milliseconds;
  } catch (const std::exception&) {  // out of memory: the profile stays incomplete
  }
}

std::string LayerProfile::json() const {
  std::lock_guard lock(mutex_);
  std::string text = "[";
  for (const Layer& layer : layers_) {
    char numbers[128];
    std::snprintf(numbers, sizeof(numbers),
                  ", \"runs\": %lld, \"total_ms\": %.6f, \"mean_ms\": %.6f}",
                  static_cast<long long>(layer.runs), layer.total_ms,
                  layer.total_ms / static_cast<double>(layer.runs));
    text += (text.size() > 1 ? ",\n {\"name\": " : "\n {\"name\": ") + quoted(layer.name) + numbers;
  }
  return text + "\n]\n";
}

}  // namespace zerolane::trt
