// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "core/trace.h"

// Between the two halves of trace: trace.cpp records, trace_json.cpp writes.
namespace zerolane::trace {

struct Track::Entry {
  std::string name;
  int64_t thread;  // its id in the system; 0 for a named track
};

enum class EventKind : uint8_t { kSpan, kInstant, kCounter, kStep };

// One cache line, so that threads do not share any.
struct alignas(64) Event {
  int64_t begin_ns;
  int64_t end_ns;  // the value of a counter
  int64_t bytes;   // < 0: none
  uint64_t request;
  const char* name;
  const char* subject;  // null: none
  const Track::Entry* track;
  EventKind kind;
};
static_assert(sizeof(Event) == 64);

// Orders the events and writes them as JSON. `events` point into memory that stays.
void write_json(std::vector<const Event*> events, size_t dropped, const ThreadNames& threads,
                const std::function<void(std::string_view)>& sink);

}  // namespace zerolane::trace
