// SPDX-License-Identifier: Apache-2.0
#include "core/fork.h"

#include <pthread.h>

#include "core/error.h"

namespace zerolane {

void watch_forks() {
  static const int once = ::pthread_atfork(nullptr, nullptr, [] { ++fork_generation; });
  (void)once;
}

void throw_forked(const std::string& what) {
  throw make_error(
      Code::kUnavailable, "using " + what,
      "this process was forked after it was made, and its native threads stayed behind",
      "load the model in the child, or start workers with the 'spawn' method", what);
}

}  // namespace zerolane
