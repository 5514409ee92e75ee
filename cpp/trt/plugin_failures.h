// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <exception>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace zerolane::trt {

// What callbacks of plugins failed with, until whoever called the library throws it on: no
// exception may pass through the library, and its own words say no more than that a callback
// failed. Any thread.
class PluginFailures {
 public:
  explicit PluginFailures(std::string log_source) : log_source_(std::move(log_source)) {}
  // Failures that the library got over are warnings in the log.
  ~PluginFailures();
  PluginFailures(const PluginFailures&) = delete;
  PluginFailures& operator=(const PluginFailures&) = delete;

  // Keeps the exception that is being handled.
  void keep() noexcept;
  // Throws the first that is kept, and forgets all: of all threads, or of the calling one.
  void rethrow();
  void rethrow_own();

 private:
  struct Kept {
    std::exception_ptr failure;
    std::thread::id thread;
  };
  static constexpr size_t kMost = 64;
  const std::string log_source_;
  std::mutex mutex_;  // guards kept_
  std::vector<Kept> kept_;
};

}  // namespace zerolane::trt
