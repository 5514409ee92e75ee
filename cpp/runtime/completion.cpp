// SPDX-License-Identifier: Apache-2.0
#include "runtime/completion.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include "core/error.h"

namespace zerolane {

CompletionQueue::CompletionQueue() : descriptor_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  if (descriptor_ < 0) {
    throw make_error(Code::kInternal, "making a completion queue", "the system gave no descriptor",
                     "raise the limit of open files (ulimit -n)");
  }
}

CompletionQueue::~CompletionQueue() { ::close(descriptor_); }

void CompletionQueue::push(uint64_t token) noexcept {
  bool first = false;
  try {
    std::lock_guard lock(mutex_);
    first = tokens_.empty();
    tokens_.push_back(token);
  } catch (...) {  // no memory for 8 bytes: nothing sensible is left to do
    return;
  }
  uint64_t one = 1;
  if (first && ::write(descriptor_, &one, sizeof(one)) < 0) {
  }  // full only after 2^64 wake-ups
}

void CompletionQueue::drain(std::vector<uint64_t>* tokens) {
  tokens->clear();
  uint64_t count = 0;
  if (::read(descriptor_, &count, sizeof(count)) < 0) {
  }  // nothing to read: a spurious look
  std::lock_guard lock(mutex_);
  tokens_.swap(*tokens);
}

}  // namespace zerolane
