// SPDX-License-Identifier: Apache-2.0
#include "trt/plugin_failures.h"

#include <utility>

#include "core/log.h"

namespace zerolane::trt {

PluginFailures::~PluginFailures() {
  for (const Kept& kept : kept_) {
    try {
      std::rethrow_exception(kept.failure);
    } catch (const std::exception& error) {
      log(LogLevel::kWarning, log_source_, "plugin", error.what());
    } catch (...) {
      log(LogLevel::kWarning, log_source_, "plugin", "an exception that is no std::exception");
    }
  }
}

void PluginFailures::keep() noexcept {
  try {
    std::lock_guard lock(mutex_);
    if (kept_.size() < kMost)
      kept_.push_back({std::current_exception(), std::this_thread::get_id()});
  } catch (...) {  // out of memory: the library's own words have to do
  }
}

void PluginFailures::rethrow() {
  std::vector<Kept> kept;
  {
    std::lock_guard lock(mutex_);
    kept = std::exchange(kept_, {});
  }
  if (!kept.empty()) std::rethrow_exception(kept.front().failure);
}

void PluginFailures::rethrow_own() {
  std::exception_ptr first;
  {
    std::lock_guard lock(mutex_);
    std::erase_if(kept_, [&](const Kept& kept) {
      const bool own = kept.thread == std::this_thread::get_id();
      if (own && !first) first = kept.failure;
      return own;
    });
  }
  if (first) std::rethrow_exception(first);
}

}  // namespace zerolane::trt
