// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>

#include "core/dtype.h"
#include "core/shape.h"
#include "runtime/segment.h"

namespace zerolane {

// What is known of the message that a read returned. Times are of CLOCK_MONOTONIC, which all
// processes of a machine share.
struct Message {
  uint64_t sequence = 0;  // 1 for the first one ever written
  int64_t written_ns = 0;
  int64_t origin_ns = 0;  // when the data it was made from was written; written_ns for raw data
  bool safe = false;      // a safe output, not a result
};

// The newest value of one tensor, in shared memory: one writer, any number of readers, in this
// process or another, and nobody ever waits for anybody. A writer that dies in the middle of a
// message leaves the one before it in place.
//
// The memory is a ring of four messages, each a seqlock: a reader copies the newest and looks
// whether it was overwritten meanwhile, for which the writer must lap it three times.
class Mailbox {
 public:
  // A new one. Readable by name from other processes of the same user, or, where `name` is empty,
  // in this process and those forked from it alone. Throws kInvalidArgument for a name that is in
  // use, kUnsupported for elements without whole bytes, kOutOfMemory.
  static std::shared_ptr<Mailbox> make(const std::string& name, DType dtype, const Shape& shape);
  // One that a process has made. Throws kNotFound; kInvalidArgument where what lies under the name
  // is no mailbox of this layout. Whoever may write to the memory is trusted not to cut the file
  // short later.
  static std::shared_ptr<Mailbox> open(const std::string& name);
  // The maker's end takes the name away; who has it open still reads the last message.
  ~Mailbox();
  Mailbox(const Mailbox&) = delete;
  Mailbox& operator=(const Mailbox&) = delete;

  // Takes away the names of all that this process has made, for its exit, where objects that are
  // still held are not destroyed. Called once nobody makes more.
  static void unlink_all() noexcept;

  const std::string& name() const noexcept { return name_; }
  DType dtype() const noexcept { return layout_.dtype; }
  const Shape& shape() const noexcept { return layout_.shape; }
  size_t bytes() const noexcept { return layout_.payload_bytes; }

  // Makes this object the writer, or throws kInvalidArgument where a living one exists: another
  // object for this memory, or in this process a loop. Stays the writer until it is destroyed.
  void claim();
  // Copies bytes() from `data` and returns the sequence number. Only after claim(), one thread at a
  // time. `origin_ns`: 0 for now.
  uint64_t write(const void* data, int64_t origin_ns = 0, bool safe = false) noexcept;

  // Copies the newest message into bytes() of memory. False, and nothing copied, where none was
  // ever written. Throws kUnavailable where none can be read whole, as in a damaged segment. Any
  // thread.
  bool read(void* into, Message* message) const;
  // Sequence number of the newest message, 0 before the first.
  uint64_t latest() const noexcept;
  // Blocks until a message after number `after` is there, until `until_ns` of CLOCK_MONOTONIC at
  // the latest, and returns whether one is; false also after wake(), or for no reason: look at the
  // clock and wait again. Any thread.
  bool wait(uint64_t after, int64_t until_ns) const noexcept;
  // Ends the waits of all processes. Any thread.
  void wake() const noexcept;

  // Whether its maker is gone, so that nothing more will come. Asks the system.
  bool orphaned() const noexcept;

 private:
  Mailbox(std::string name, Segment segment, SegmentLayout layout, bool maker);
  SegmentHeader& header() const noexcept;
  void unlink() noexcept;
  SegmentSlot& slot(uint64_t sequence) const noexcept;
  std::string subject() const;

  std::string name_;
  Segment segment_;
  SegmentLayout layout_;
  bool maker_;
  std::atomic<bool> linked_;  // the name is ours to take away
  std::atomic<bool> claimed_{false};
};

}  // namespace zerolane
