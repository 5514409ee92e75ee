// SPDX-License-Identifier: Apache-2.0
#include "core/log.h"

#include <atomic>
#include <mutex>
#include <utility>

namespace zerolane {
namespace {

constexpr size_t kMaxRecords = 4096;

struct Queue {
  std::mutex mutex;  // guards records and dropped
  std::vector<LogRecord> records;
  size_t dropped = 0;
  std::atomic<bool> waiting{false};
  std::atomic<void (*)()> notify{nullptr};
};

Queue& queue() {
  static auto* queue = new Queue;  // vendor threads may log while statics are destroyed
  return *queue;
}

}  // namespace

void log(LogLevel level, std::string source, std::string where, std::string message) noexcept {
  Queue& q = queue();
  try {
    std::lock_guard lock(q.mutex);
    if (q.records.size() >= kMaxRecords) {
      ++q.dropped;
      return;
    }
    q.records.push_back({level, std::move(source), std::move(where), std::move(message)});
    q.waiting.store(true, std::memory_order_release);
  } catch (...) {
    return;  // out of memory: a lost log line is the least of it
  }
  if (auto notify = q.notify.load(std::memory_order_acquire)) notify();
}

std::vector<LogRecord> take_log() {
  Queue& q = queue();
  std::lock_guard lock(q.mutex);
  std::vector<LogRecord> records = std::exchange(q.records, {});
  if (q.dropped > 0) {
    records.push_back({LogLevel::kWarning, "zerolane", "log",
                       std::to_string(q.dropped) + " log records were dropped: too many at once"});
    q.dropped = 0;
  }
  q.waiting.store(false, std::memory_order_release);
  return records;
}

bool log_waiting() noexcept { return queue().waiting.load(std::memory_order_relaxed); }

void set_log_notifier(void (*notify)()) noexcept {
  queue().notify.store(notify, std::memory_order_release);
}

}  // namespace zerolane
