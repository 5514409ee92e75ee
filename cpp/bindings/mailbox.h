// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <pybind11/pybind11.h>

#include <memory>
#include <string>

#include "core/fork.h"
#include "core/session.h"
#include "runtime/mailbox.h"

namespace zerolane::bindings {

// A mailbox as one Python object sees it: it remembers which message it read last. Needs the GIL,
// which is kept while a message is copied.
class PyMailbox {
 public:
  explicit PyMailbox(std::shared_ptr<Mailbox> box);

  const std::shared_ptr<Mailbox>& box() const { return box_; }
  // What a tensor must be to fit; for messages and checks.
  const TensorSpec& spec() const { return spec_; }

  uint64_t write(const pybind11::object& array);
  // (array, age in ms, sequence number, new to this object, safe output), or None before the first
  // message.
  pybind11::object read(const pybind11::object& out);
  // Reads by this object that found the message of its last read.
  uint64_t stale_reads() const { return stale_reads_; }
  // Blocks without the GIL, waking often enough for Ctrl-C and for the interpreter's exit.
  bool wait(uint64_t after, double timeout_s) const;

 private:
  std::shared_ptr<Mailbox> box_;
  TensorSpec spec_;
  std::string subject_;  // "mailbox 'arm/x'"
  uint64_t seen_ = 0;
  uint64_t stale_reads_ = 0;
  bool claimed_ = false;
  unsigned generation_ = fork_generation.load();
};

void bind_mailbox(pybind11::module_& module);

}  // namespace zerolane::bindings
