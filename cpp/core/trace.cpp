// SPDX-License-Identifier: Apache-2.0
#include "core/trace.h"

#include <pthread.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <map>
#include <memory>
#include <mutex>
#include <unordered_set>
#include <utility>

#include "core/error.h"
#include "core/trace_events.h"

namespace zerolane::trace {

struct Access {
  static const Track::Entry* entry(const Track& track) { return track.entry_; }
  static Track track(const Track::Entry* entry) {
    Track made;
    made.entry_ = entry;
    return made;
  }
};

namespace {

// Threads take memory in chunks, so that they share no counter but that of the chunks.
constexpr size_t kChunk = 256;
constexpr size_t kMaxNames = 65536;

// What a thread writes with; passed on to a new thread when it ends.
struct alignas(64) Slot {
  // Whether the thread may be writing. It is set before the thread looks whether a trace runs, and
  // stop() looks at it after saying that none does, both sequentially consistent: so either the
  // thread sees the end, or stop() sees the thread and waits.
  std::atomic<bool> busy{false};
  uint64_t generation = 0;  // of the trace that `next` and `end` are of
  Event* next = nullptr;
  Event* end = nullptr;
};

// Of one trace; zeroes until written, so an event without a track is none.
struct Unmap {
  size_t bytes = 0;
  void operator()(Event* memory) const noexcept { ::munmap(memory, bytes); }
};
using Memory = std::unique_ptr<Event, Unmap>;

struct Log {
  std::mutex mutex;  // guards starting, stopping, `slots`, `idle`, `tracks` and `names`
  std::vector<std::unique_ptr<Slot>> slots;
  std::vector<Slot*> idle;
  std::map<std::pair<std::string, int64_t>, Track::Entry, std::less<>> tracks;
  std::unordered_set<std::string> names;
  const Track::Entry too_many{"(one of too many tracks)", 0};

  // Changed only while no trace runs and no slot is busy.
  Memory memory;
  size_t chunks = 0;
  uint64_t generation = 0;
  int64_t started_ns = 0;

  alignas(64) std::atomic<size_t> taken{0};  // chunks
  std::atomic<size_t> dropped{0};
  std::atomic<uint64_t> requests{0};
};

void watch_forks_of_traces();

Log& the_log() {
  static auto* log = new Log;  // outlives every thread
  static const int watched = (watch_forks_of_traces(), 0);
  (void)watched;
  return *log;
}

// A child does not go on with its parent's trace, and the parent's threads are not there to become
// idle.
void start_anew_in_child() noexcept {
  Log& log = the_log();
  enabled.store(false);
  log.memory.reset();
  for (auto& slot : log.slots) slot->busy.store(false);
  log.mutex.unlock();
}

// The process forks with the lock held, so that it is free in the child.
void watch_forks_of_traces() {
  ::pthread_atfork([] { the_log().mutex.lock(); }, [] { the_log().mutex.unlock(); },
                   start_anew_in_child);
}

// Made at load: a child that is forked while another thread makes it would wait for that for ever.
[[maybe_unused]] const Log* const g_made_at_load = &the_log();

const Track::Entry* find_track(std::string_view name, int64_t thread) {
  Log& log = the_log();
  std::lock_guard lock(log.mutex);
  std::pair<std::string, int64_t> key(name, thread);
  auto found = log.tracks.find(key);
  if (found != log.tracks.end()) return &found->second;
  if (log.tracks.size() >= kMaxNames) return &log.too_many;
  Track::Entry entry{key.first, thread};
  return &log.tracks.emplace(std::move(key), std::move(entry)).first->second;
}

const Track::Entry* track_of_this_thread() {
  char name[17] = {};
  ::prctl(PR_GET_NAME, name);
  return find_track(name[0] != '\0' ? name : "thread", ::syscall(SYS_gettid));
}

struct SeenName {
  size_t hash = 0;
  const std::string* text = nullptr;
};

// What a thread has of its own. Taken at its first event.
class ThisThread {
 public:
  ThisThread() {
    row_ = track_of_this_thread();
    Log& log = the_log();
    std::lock_guard lock(log.mutex);
    log.idle.reserve(log.slots.size() + 1);  // giving back must not throw
    if (!log.idle.empty()) {
      slot_ = log.idle.back();
      log.idle.pop_back();
    } else {
      slot_ = log.slots.emplace_back(std::make_unique<Slot>()).get();
    }
  }
  ~ThisThread() {
    gone = true;
    Log& log = the_log();
    std::lock_guard lock(log.mutex);
    log.idle.push_back(slot_);
  }
  ThisThread(const ThisThread&) = delete;
  ThisThread& operator=(const ThisThread&) = delete;

  // Null when the thread's own things are destroyed already, or cannot be made for want of memory.
  static ThisThread* get() noexcept {
    if (gone) return nullptr;
    try {
      static thread_local ThisThread self;
      return &self;
    } catch (...) {
      return nullptr;
    }
  }

  const Track::Entry* row() const { return row_; }
  Slot& slot() { return *slot_; }
  SeenName& seen(size_t hash) { return seen_[hash % seen_.size()]; }

 private:
  static thread_local bool gone;
  const Track::Entry* row_ = nullptr;
  Slot* slot_ = nullptr;
  std::array<SeenName, 64> seen_;
};
thread_local bool ThisThread::gone = false;

thread_local const Track::Entry* current_track = nullptr;
thread_local uint64_t current_request = 0;

// Whether there is room for one more at slot.next.
bool make_room(Log& log, Slot& slot) noexcept {
  if (slot.generation == log.generation && slot.next != slot.end) [[likely]]
    return true;
  size_t chunk = log.taken.load(std::memory_order_relaxed);
  do {
    if (chunk >= log.chunks) {
      log.dropped.fetch_add(1, std::memory_order_relaxed);
      return false;
    }
  } while (!log.taken.compare_exchange_weak(chunk, chunk + 1, std::memory_order_relaxed));
  slot.generation = log.generation;
  slot.next = log.memory.get() + chunk * kChunk;
  slot.end = slot.next + kChunk;
  return true;
}

void write(const Event& given) noexcept {
  ThisThread* self = ThisThread::get();
  if (self == nullptr) return;
  Log& log = the_log();
  Slot& slot = self->slot();
  slot.busy.store(true, std::memory_order_seq_cst);
  if (enabled.load(std::memory_order_seq_cst) && given.begin_ns >= log.started_ns &&
      make_room(log, slot)) {
    *slot.next = given;
    if (given.track == nullptr) slot.next->track = self->row();
    ++slot.next;
  }
  slot.busy.store(false, std::memory_order_release);
}

}  // namespace

Track::Track(std::string_view name) : entry_(find_track(name, 0)) {}

const char* intern(std::string_view text) {
  size_t hash = std::hash<std::string_view>{}(text);
  ThisThread* self = ThisThread::get();
  if (self != nullptr) {
    const SeenName& seen = self->seen(hash);
    if (seen.text != nullptr && seen.hash == hash && *seen.text == text) [[likely]]
      return seen.text->c_str();
  }
  Log& log = the_log();
  std::lock_guard lock(log.mutex);
  std::string key(text);
  auto found = log.names.find(key);
  if (found == log.names.end()) {
    if (log.names.size() >= kMaxNames) return "(one of too many names)";
    found = log.names.insert(std::move(key)).first;
  }
  if (self != nullptr) self->seen(hash) = {hash, &*found};
  return found->c_str();
}

void start(size_t max_events) {
  Log& log = the_log();
  std::lock_guard lock(log.mutex);
  if (enabled.load()) {
    throw make_error(Code::kInvalidArgument, "starting a trace", "one is already running",
                     "leave the running trace first");
  }
  if (max_events == 0) {
    throw make_error(Code::kInvalidArgument, "starting a trace", "max_events is 0",
                     "give room for one event at least", "max_events");
  }
  size_t chunks = (max_events - 1) / kChunk + 1;
  size_t bytes = 0;
  void* memory = MAP_FAILED;
  if (!__builtin_mul_overflow(chunks, kChunk * sizeof(Event), &bytes)) {
    memory = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  }
  if (memory == MAP_FAILED) {
    throw make_error(Code::kOutOfMemory, "starting a trace",
                     "the system gives no address space for " + std::to_string(max_events) +
                         " events of 64 bytes",
                     "give a smaller max_events", "max_events");
  }
  log.memory = Memory(static_cast<Event*>(memory), Unmap{bytes});
  log.chunks = chunks;
  ++log.generation;
  log.taken.store(0);
  log.dropped.store(0);
  log.started_ns = now_ns();
  enabled.store(true);
}

size_t stop(const std::function<void(std::string_view)>& sink, const ThreadNames& threads) {
  Log& log = the_log();
  Memory memory;
  size_t used = 0;
  size_t dropped = 0;
  {
    std::lock_guard lock(log.mutex);
    if (!enabled.load()) return 0;
    enabled.store(false, std::memory_order_seq_cst);
    for (const auto& slot : log.slots) {
      while (slot->busy.load(std::memory_order_seq_cst)) ::sched_yield();
    }
    memory = std::move(log.memory);
    used = log.taken.load() * kChunk;
    dropped = log.dropped.load();
  }
  std::vector<const Event*> events;
  events.reserve(used);
  for (size_t i = 0; i < used; ++i) {
    const Event* event = memory.get() + i;
    if (event->track != nullptr) events.push_back(event);
  }
  write_json(std::move(events), dropped, threads, sink);
  return dropped;
}

std::string stop() {
  std::string json;
  stop([&](std::string_view piece) { json += piece; });
  return json;
}

void Scope::enter(const Track& track, uint64_t request) noexcept {
  entered_ = true;
  before_ = Access::track(current_track);
  request_before_ = current_request;
  current_track = Access::entry(track);
  current_request = request;
}

void Scope::leave() noexcept {
  current_track = Access::entry(before_);
  current_request = request_before_;
}

void Span::begin(const char* name, const std::string& subject, int64_t bytes) noexcept {
  name_ = name;
  subject_ = &subject;
  bytes_ = bytes;
  begin_ns_ = now_ns();
}

void Span::end() noexcept {
  int64_t end_ns = now_ns();
  try {
    write({begin_ns_, end_ns, bytes_, current_request, name_, intern(*subject_), current_track,
           EventKind::kSpan});
  } catch (...) {  // out of memory: a lost span is the least of it
  }
}

namespace slow {

uint64_t next_request() noexcept {
  return the_log().requests.fetch_add(1, std::memory_order_relaxed) + 1;
}

void span(const Track& track, const char* name, int64_t begin_ns, int64_t end_ns, uint64_t request,
          const char* subject, int64_t bytes) noexcept {
  write({begin_ns, std::max(begin_ns, end_ns), bytes, request, name, subject, Access::entry(track),
         EventKind::kSpan});
}

void instant(const Track& track, const char* name, uint64_t request, const char* subject) noexcept {
  int64_t now = now_ns();
  write({now, now, -1, request, name, subject, Access::entry(track), EventKind::kInstant});
}

void counter(const Track& track, const char* name, int64_t value) noexcept {
  write({now_ns(), value, -1, 0, name, nullptr, Access::entry(track), EventKind::kCounter});
}

void step(const Track* track, uint64_t request) noexcept {
  if (request == 0) return;
  int64_t now = now_ns();
  write({now, now, -1, request, "", nullptr,
         track != nullptr ? Access::entry(*track) : current_track, EventKind::kStep});
}

}  // namespace slow
}  // namespace zerolane::trace
