// SPDX-License-Identifier: Apache-2.0
#include "runtime/mailbox.h"

#include <unistd.h>

#include <cstring>
#include <mutex>
#include <set>
#include <utility>

#include "core/error.h"
#include "core/metrics.h"
#include "runtime/futex.h"

namespace zerolane {
namespace {

// A reader that is overtaken so often has a writer that does nothing else, or a damaged segment.
constexpr int kMostTries = 1000;

// Payloads go word by word through atomics: the reader may look while the writer writes, and finds
// out afterwards. Every store of a payload is a release and every load an acquire (plain moves on
// x86), which orders them with the sequence number on both sides without fences.
void store_words(std::atomic<uint64_t>* words, const void* data, size_t bytes) noexcept {
  const auto* from = static_cast<const std::byte*>(data);
  uint64_t word = 0;
  size_t whole = bytes / sizeof word;
  for (size_t i = 0; i < whole; ++i) {
    std::memcpy(&word, from + i * sizeof word, sizeof word);
    words[i].store(word, std::memory_order_release);
  }
  if (const size_t rest = bytes % sizeof word; rest != 0) {
    word = 0;
    std::memcpy(&word, from + whole * sizeof word, rest);
    words[whole].store(word, std::memory_order_release);
  }
}

void load_words(void* into, const std::atomic<uint64_t>* words, size_t bytes) noexcept {
  auto* to = static_cast<std::byte*>(into);
  uint64_t word = 0;
  size_t whole = bytes / sizeof word;
  for (size_t i = 0; i < whole; ++i) {
    word = words[i].load(std::memory_order_acquire);
    std::memcpy(to + i * sizeof word, &word, sizeof word);
  }
  if (const size_t rest = bytes % sizeof word; rest != 0) {
    word = words[whole].load(std::memory_order_acquire);
    std::memcpy(to + whole * sizeof word, &word, rest);
  }
}

// Mailboxes whose name this process has made.
struct Linked {
  std::mutex mutex;  // guards boxes
  std::set<Mailbox*> boxes;
};
Linked& linked() {
  static auto* linked = new Linked;  // objects may outlive statics
  return *linked;
}

}  // namespace

std::shared_ptr<Mailbox> Mailbox::make(const std::string& name, DType dtype, const Shape& shape) {
  SegmentLayout layout = SegmentLayout::of(dtype, shape);
  Segment segment =
      name.empty() ? Segment::make_unnamed(layout) : Segment::make_named(name, layout);
  return std::shared_ptr<Mailbox>(new Mailbox(name, std::move(segment), layout, /*maker=*/true));
}

std::shared_ptr<Mailbox> Mailbox::open(const std::string& name) {
  SegmentLayout layout;
  Segment segment = Segment::open(name, &layout);
  return std::shared_ptr<Mailbox>(new Mailbox(name, std::move(segment), layout, /*maker=*/false));
}

Mailbox::Mailbox(std::string name, Segment segment, SegmentLayout layout, bool maker)
    : name_(std::move(name)),
      segment_(std::move(segment)),
      layout_(layout),
      maker_(maker),
      linked_(maker && segment_.named()) {
  if (!linked_) return;
  std::lock_guard lock(linked().mutex);
  linked().boxes.insert(this);
}

Mailbox::~Mailbox() {
  // A forked child that drops the object must not take the name from its parent, nor wait for a
  // lock that a thread of the parent held.
  if (!maker_ || !segment_.named() || header().maker != ::getpid()) return;
  unlink();
  std::lock_guard lock(linked().mutex);
  linked().boxes.erase(this);
}

void Mailbox::unlink() noexcept {
  if (linked_.exchange(false)) segment_.unlink(name_);
}

void Mailbox::unlink_all() noexcept {
  std::lock_guard lock(linked().mutex);
  for (Mailbox* box : linked().boxes) {
    if (box->header().maker == ::getpid()) box->unlink();
  }
}

SegmentHeader& Mailbox::header() const noexcept {
  return *static_cast<SegmentHeader*>(segment_.data());
}

SegmentSlot& Mailbox::slot(uint64_t sequence) const noexcept {
  auto* bytes = static_cast<std::byte*>(segment_.data()) + sizeof(SegmentHeader) +
                (sequence % SegmentHeader::kSlots) * layout_.slot_bytes;
  return *reinterpret_cast<SegmentSlot*>(bytes);
}

std::string Mailbox::subject() const {
  return name_.empty() ? "a mailbox" : "mailbox '" + name_ + "'";
}

void Mailbox::claim() {
  bool taken = claimed_.exchange(true);
  if (!taken) {
    taken = !segment_.lock_writer(name_);
    claimed_ = !taken;
  }
  if (taken) {
    throw make_error(Code::kInvalidArgument, "writing to " + subject(),
                     "it has a writer already, in this process or another, and takes one",
                     "write through the object that wrote first, or end its process", name_);
  }
}

uint64_t Mailbox::write(const void* data, int64_t origin_ns, bool safe) noexcept {
  SegmentHeader& head = header();
  const uint64_t sequence = head.latest.load(std::memory_order_relaxed) + 1;
  SegmentSlot& to = slot(sequence);
  to.sequence.store(0, std::memory_order_relaxed);  // the releases below keep it in front of them
  const int64_t now = now_ns();
  to.written_ns.store(now, std::memory_order_release);
  to.origin_ns.store(origin_ns == 0 ? now : origin_ns, std::memory_order_release);
  to.safe.store(safe ? 1 : 0, std::memory_order_release);
  store_words(to.words(), data, layout_.payload_bytes);
  to.sequence.store(sequence, std::memory_order_release);
  head.latest.store(sequence, std::memory_order_release);
  head.signal.fetch_add(1, std::memory_order_release);
  wake();
  return sequence;
}

bool Mailbox::read(void* into, Message* message) const {
  for (int i = 0; i < kMostTries; ++i) {
    const uint64_t newest = latest();
    if (newest == 0) return false;
    SegmentSlot& from = slot(newest);
    if (from.sequence.load(std::memory_order_acquire) != newest) continue;
    message->sequence = newest;
    message->written_ns = from.written_ns.load(std::memory_order_acquire);
    message->origin_ns = from.origin_ns.load(std::memory_order_acquire);
    message->safe = from.safe.load(std::memory_order_acquire) != 0;
    load_words(into, from.words(), layout_.payload_bytes);
    if (from.sequence.load(std::memory_order_relaxed) == newest) return true;
  }
  throw make_error(Code::kUnavailable, "reading " + subject(),
                   "its newest message was not whole in " + std::to_string(kMostTries) + " tries",
                   "read again; if that fails too, the memory is damaged: make it anew", name_);
}

uint64_t Mailbox::latest() const noexcept {
  return header().latest.load(std::memory_order_acquire);
}

bool Mailbox::wait(uint64_t after, int64_t until_ns) const noexcept {
  const uint32_t seen = header().signal.load(std::memory_order_acquire);
  if (latest() <= after && now_ns() < until_ns) futex::wait(header().signal, seen, until_ns);
  return latest() > after;
}

void Mailbox::wake() const noexcept { futex::wake_all(header().signal); }

bool Mailbox::orphaned() const noexcept { return !maker_ && !segment_.has_maker(); }

}  // namespace zerolane
