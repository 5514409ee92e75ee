// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <string_view>

#include "core/metrics.h"

namespace zerolane {

// Events in time, written as a Chrome/Perfetto trace file ("Trace Event Format").
//
// While off, every call here is one predictable branch. While on, an event is 64 bytes written into
// memory that start() has reserved: no lock and no allocation after a thread's first event (and
// the first sight of each text). Any thread; nothing here throws but start(), stop(), intern() and
// the making of a Track.
//
// Names are literals or from intern(): their addresses are kept. The usual ones for spans: "queue"
// (waiting for a turn), "copy", "run", "post" (after the run), "load", "op".
//
//   trace::Track track_{"lane 0 of model.onnx"};              // a member, made once
//   uint64_t request = trace::next_request();                 // where the request comes in
//   trace::span(track_, "queue", since_ns, now_ns(), request) // known afterwards
//   trace::Scope scope(track_, request);                      // what is inside, on the lane's row
//   { trace::Span span("run", session.name()); ... }
//
// Spans of one track that overlap without one lying in the other are shown on rows of their own
// ("lane 0", "lane 0 (2)"), so a queue may be one track whatever waits in it.
namespace trace {

inline std::atomic<bool> enabled{false};
inline bool on() noexcept { return enabled.load(std::memory_order_relaxed); }

inline constexpr size_t kDefaultEvents = 1000000;

// Starts collecting. Address space for `max_events` is reserved now and becomes memory as it is
// used; later events are dropped and counted. Events that began before are not taken. Throws
// kInvalidArgument when a trace is already running or `max_events` is zero, kOutOfMemory.
void start(size_t max_events = kDefaultEvents);
// Stops, hands the trace to `sink` piece by piece as JSON, and returns how many events were
// dropped. Rethrows what `sink` throws; the events are gone then. Nothing is written, and zero
// returned, where no trace runs: a forked child does not go on with its parent's. `threads` are
// better names for threads than the system's.
using ThreadNames = std::map<int64_t, std::string>;  // by the system's id
size_t stop(const std::function<void(std::string_view)>& sink, const ThreadNames& threads = {});
std::string stop();

// The same text at an address that stays for the life of the process. 65,536 texts at most; further
// ones all become "(one of too many names)". No lock for texts that this thread has seen lately.
const char* intern(std::string_view text);

// A row of the trace: a lane, a batcher, a loop, a stage. Two of the same name are one row. Cheap
// to copy; making one takes a lock. Events on no named track are on a row of their thread, which
// has the thread's name.
class Track {
 public:
  Track() = default;  // the row of whatever thread
  explicit Track(std::string_view name);
  struct Entry;  // ours

 private:
  friend struct Access;
  const Entry* entry_ = nullptr;
};

// A number for a new request, never 0 while on; 0 while off. Spans, instants and steps with the
// same number are joined by arrows and carry it as "request".
inline uint64_t next_request() noexcept;

// A span whose times (of now_ns()) are known afterwards. `bytes` < 0: none.
inline void span(const Track& track, const char* name, int64_t begin_ns, int64_t end_ns,
                 uint64_t request = 0, const char* subject = nullptr, int64_t bytes = -1) noexcept;
// Something that happened at one moment: "miss", "drop", "deadline".
inline void instant(const Track& track, const char* name, uint64_t request = 0,
                    const char* subject = nullptr) noexcept;
// The value of a quantity from now on ("queued", "in flight"), drawn as a curve of the track.
inline void counter(const Track& track, const char* name, int64_t value) noexcept;
// The request passes through the span that is open here, which may serve many: a run of a batch.
// Of the current track (Scope), or of the given one.
inline void step(uint64_t request) noexcept;
inline void step(const Track& track, uint64_t request) noexcept;

// Until its end, this thread's events without a track of their own (those of Span, which sessions
// make) are on `track` and belong to `request`. Scopes nest.
class Scope {
 public:
  explicit Scope(const Track& track, uint64_t request = 0) noexcept {
    if (on()) [[unlikely]]
      enter(track, request);
  }
  ~Scope() {
    if (entered_) [[unlikely]]
      leave();
  }
  Scope(const Scope&) = delete;
  Scope& operator=(const Scope&) = delete;

 private:
  void enter(const Track& track, uint64_t request) noexcept;
  void leave() noexcept;
  bool entered_ = false;
  Track before_;
  uint64_t request_before_ = 0;
};

// One span from construction to destruction, on the current track. `subject` (what is run or
// copied) outlives it.
class Span {
 public:
  explicit Span(const char* name, const std::string& subject, int64_t bytes = -1) noexcept {
    if (on()) [[unlikely]]
      begin(name, subject, bytes);
  }
  ~Span() {
    if (name_ != nullptr) [[unlikely]]
      end();
  }
  Span(const Span&) = delete;
  Span& operator=(const Span&) = delete;

 private:
  void begin(const char* name, const std::string& subject, int64_t bytes) noexcept;
  void end() noexcept;
  const char* name_ = nullptr;
  const std::string* subject_ = nullptr;
  int64_t bytes_ = -1;
  int64_t begin_ns_ = 0;
};

// The halves of the inline functions that run while on.
namespace slow {
uint64_t next_request() noexcept;
void span(const Track& track, const char* name, int64_t begin_ns, int64_t end_ns, uint64_t request,
          const char* subject, int64_t bytes) noexcept;
void instant(const Track& track, const char* name, uint64_t request, const char* subject) noexcept;
void counter(const Track& track, const char* name, int64_t value) noexcept;
void step(const Track* track, uint64_t request) noexcept;
}  // namespace slow

inline uint64_t next_request() noexcept {
  if (on()) [[unlikely]]
    return slow::next_request();
  return 0;
}
inline void span(const Track& track, const char* name, int64_t begin_ns, int64_t end_ns,
                 uint64_t request, const char* subject, int64_t bytes) noexcept {
  if (on()) [[unlikely]]
    slow::span(track, name, begin_ns, end_ns, request, subject, bytes);
}
inline void instant(const Track& track, const char* name, uint64_t request,
                    const char* subject) noexcept {
  if (on()) [[unlikely]]
    slow::instant(track, name, request, subject);
}
inline void counter(const Track& track, const char* name, int64_t value) noexcept {
  if (on()) [[unlikely]]
    slow::counter(track, name, value);
}
inline void step(uint64_t request) noexcept {
  if (on()) [[unlikely]]
    slow::step(nullptr, request);
}
inline void step(const Track& track, uint64_t request) noexcept {
  if (on()) [[unlikely]]
    slow::step(&track, request);
}

}  // namespace trace
}  // namespace zerolane
