// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cstdint>
#include <string>

namespace zerolane {

// Spans of time written as a Chrome/Perfetto trace file. When off, a span costs one predictable
// branch.
namespace trace {

inline std::atomic<bool> enabled{false};

// Starts collecting (at most one million spans; later ones are dropped and counted). Throws
// kInvalidArgument when a trace is already running.
void start();
// Stops and returns the trace as JSON ("Trace Event Format", complete events, microseconds).
std::string stop();

void add(const char* name, std::string subject, int64_t begin_ns, int64_t end_ns, int64_t bytes);

// One span from construction to destruction. `name` is a literal: "run", "copy", "load".
class Span {
 public:
  explicit Span(const char* name, const std::string& subject, int64_t bytes = -1) {
    if (enabled.load(std::memory_order_relaxed)) [[unlikely]]
      begin(name, subject, bytes);
  }
  ~Span() {
    if (name_ != nullptr) [[unlikely]]
      end();
  }
  Span(const Span&) = delete;
  Span& operator=(const Span&) = delete;

 private:
  void begin(const char* name, const std::string& subject, int64_t bytes);
  void end() noexcept;
  const char* name_ = nullptr;
  const std::string* subject_ = nullptr;
  int64_t bytes_ = -1;
  int64_t begin_ns_ = 0;
};

}  // namespace trace
}  // namespace zerolane
