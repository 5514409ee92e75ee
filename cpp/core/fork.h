// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <string>

namespace zerolane {

// How often this process's memory has gone through fork() on the child's side. Threads of native
// libraries do not survive a fork, so what was made before it must be refused, and not freed, in
// the child.
inline std::atomic<unsigned> fork_generation{0};

// Starts counting; called once when the native module loads.
void watch_forks();

// Whether the process was forked after `generation` was read.
inline bool forked_since(unsigned generation) noexcept {
  return fork_generation.load(std::memory_order_relaxed) != generation;
}
[[noreturn]] void throw_forked(const std::string& what);

}  // namespace zerolane
