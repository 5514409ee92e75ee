// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

namespace zerolane {

enum class LogLevel : int { kVerbose = 0, kInfo = 1, kWarning = 2, kError = 3, kFatal = 4 };

struct LogRecord {
  LogLevel level;
  std::string source;  // "onnxruntime", "zerolane"
  std::string where;   // code location or category, as the source gives it
  std::string message;
};

// Queues a record; never throws, never blocks on Python. Any thread. At most 4096 records wait;
// later ones are counted and dropped, and the count is reported by the next take.
void log(LogLevel level, std::string source, std::string where, std::string message) noexcept;

// Takes all waiting records. `log_waiting` is one relaxed load.
std::vector<LogRecord> take_log();
bool log_waiting() noexcept;

// Called after a record was queued, on the thread that logged; must be safe there (no GIL is held).
// Null for none.
void set_log_notifier(void (*notify)()) noexcept;

}  // namespace zerolane
