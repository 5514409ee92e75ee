// SPDX-License-Identifier: Apache-2.0
#include "core/trace.h"

#include <sys/syscall.h>
#include <unistd.h>

#include <cstdio>
#include <mutex>
#include <utility>
#include <vector>

#include "core/error.h"
#include "core/metrics.h"

namespace zerolane::trace {
namespace {

constexpr size_t kMaxSpans = 1000000;

struct Record {
  const char* name;
  std::string subject;
  int64_t begin_ns;
  int64_t end_ns;
  int64_t bytes;
  long thread;
};

struct Log {
  std::mutex mutex;  // guards records and dropped
  std::vector<Record> records;
  size_t dropped = 0;
};

Log& the_log() {
  static auto* log = new Log;
  return *log;
}

void append_escaped(std::string* out, const std::string& text) {
  for (char c : text) {
    auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      *out += '\\';
      *out += c;
    } else if (byte < 0x20) {
      char escape[8];
      std::snprintf(escape, sizeof(escape), "\\u%04x", byte);
      *out += escape;
    } else {
      *out += c;
    }
  }
}

}  // namespace

void start() {
  Log& log = the_log();
  std::lock_guard lock(log.mutex);
  if (enabled.load()) {
    throw make_error(Code::kInvalidArgument, "starting a trace", "one is already running",
                     "leave the running trace first");
  }
  log.records.clear();
  log.dropped = 0;
  enabled.store(true);
}

void add(const char* name, std::string subject, int64_t begin_ns, int64_t end_ns, int64_t bytes) {
  static thread_local const long thread = ::syscall(SYS_gettid);
  Log& log = the_log();
  std::lock_guard lock(log.mutex);
  if (!enabled.load(std::memory_order_relaxed)) return;
  if (log.records.size() >= kMaxSpans) {
    ++log.dropped;
    return;
  }
  log.records.push_back({name, std::move(subject), begin_ns, end_ns, bytes, thread});
}

std::string stop() {
  Log& log = the_log();
  std::lock_guard lock(log.mutex);
  enabled.store(false);
  std::string json = "{\"displayTimeUnit\":\"ns\",\"otherData\":{\"dropped\":\"" +
                     std::to_string(log.dropped) + "\"},\"traceEvents\":[";
  const std::string pid = std::to_string(::getpid());
  bool first = true;
  for (const Record& r : log.records) {
    char times[96];
    std::snprintf(times, sizeof(times), "\"ts\":%.3f,\"dur\":%.3f",
                  static_cast<double>(r.begin_ns) / 1e3,
                  static_cast<double>(r.end_ns - r.begin_ns) / 1e3);
    json += first ? "\n" : ",\n";
    first = false;
    json += std::string("{\"ph\":\"X\",\"name\":\"") + r.name + "\",\"pid\":" + pid +
            ",\"tid\":" + std::to_string(r.thread) + "," + times + ",\"args\":{\"subject\":\"";
    append_escaped(&json, r.subject);
    json += "\"";
    if (r.bytes >= 0) json += ",\"bytes\":" + std::to_string(r.bytes);
    json += "}}";
  }
  log.records.clear();
  return json + "\n]}\n";
}

void Span::begin(const char* name, const std::string& subject, int64_t bytes) {
  name_ = name;
  subject_ = &subject;
  bytes_ = bytes;
  begin_ns_ = now_ns();
}

void Span::end() noexcept {
  try {
    add(name_, *subject_, begin_ns_, now_ns(), bytes_);
  } catch (...) {  // out of memory: a lost span is the least of it
  }
}

}  // namespace zerolane::trace
