// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string>

#include "core/dtype.h"
#include "core/shape.h"

namespace zerolane {

// The memory of a mailbox: its layout, and how it is made, found and locked. Little-endian, as both
// machines we run on are; every field has its natural alignment.

// At the start of the memory. All above `latest` is written once, before anyone else can see it.
struct SegmentHeader {
  static constexpr uint64_t kMagic = 0x786f626c69616d7aU;  // "zmailbox"
  static constexpr uint32_t kVersion = 1;
  static constexpr uint32_t kSlots = 4;

  uint64_t magic;
  uint32_t version;
  uint32_t slots;
  uint64_t total_bytes;
  uint64_t slot_bytes;  // from one slot to the next
  uint64_t payload_bytes;
  uint32_t dtype;  // numbered as in core/dtype.h
  uint32_t rank;
  int32_t maker;  // process id, for messages
  uint32_t unused;
  int64_t dims[kMaxRank];
  alignas(64) std::atomic<uint64_t> latest;  // sequence number of the newest whole message
  std::atomic<uint32_t> signal;              // changes with every message: what waiters sleep on
};

// One message; the payload follows, in whole words of eight bytes.
struct alignas(64) SegmentSlot {
  std::atomic<uint64_t> sequence;  // 0 while it is being written
  std::atomic<int64_t> written_ns;
  std::atomic<int64_t> origin_ns;
  std::atomic<uint64_t> safe;
  std::atomic<uint64_t> reserved[4];
  std::atomic<uint64_t>* words() noexcept {
    return reinterpret_cast<std::atomic<uint64_t>*>(this + 1);
  }
};

// Where everything is, from element type and shape: computed here, never believed.
struct SegmentLayout {
  DType dtype = DType::kNone;
  Shape shape;
  size_t payload_bytes = 0;
  size_t slot_bytes = 0;
  size_t total_bytes = 0;

  // Throws kUnsupported for elements without whole bytes, kOutOfMemory above 2^40 bytes.
  static SegmentLayout of(DType dtype, const Shape& shape);
};

// A mapping, and the file behind it where it has a name. Move-only.
class Segment {
 public:
  // Anonymous, shared with children by fork.
  static Segment make_unnamed(const SegmentLayout& layout);
  // Under `name`, where no living process has it; one left behind by a dead maker is replaced.
  static Segment make_named(const std::string& name, const SegmentLayout& layout);
  // Readable. Checks all of the header and returns what it says.
  static Segment open(const std::string& name, SegmentLayout* layout);

  Segment(Segment&& other) noexcept;
  Segment& operator=(Segment&&) = delete;
  ~Segment();

  void* data() const noexcept { return data_; }
  bool named() const noexcept { return file_ >= 0; }
  // Makes the mapping writable and takes the writer's lock; false where another holds it. The
  // system gives locks back when their holder dies.
  bool lock_writer(const std::string& name);
  // Whether some process holds the maker's lock.
  bool has_maker() const noexcept;
  // Takes the name away. The maker's only.
  void unlink(const std::string& name) const noexcept;

 private:
  Segment(int file, void* data, size_t bytes) : file_(file), data_(data), bytes_(bytes) {}
  int file_;
  void* data_;
  size_t bytes_;
};

}  // namespace zerolane
