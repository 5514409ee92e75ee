// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

namespace zerolane {

// What makes a thread run when it is due. Everything is off by default.
struct RealtimeOptions {
  std::vector<int> cpus;     // where the thread may run; empty: as it is
  int priority = 0;          // 1 to 99 under SCHED_FIFO; 0: as it is
  bool lock_memory = false;  // of the whole process, now and in future
};

// One wish that the system did not grant.
struct Refusal {
  std::string option;  // "cpus", "priority", "lock_memory"
  std::string reason;  // the system's words and the limit that stands in the way
};

// Applies the options to the calling thread, and touches the next 256 KiB of its stack, so that no
// page of it is missing later. What the process has no right to do is returned, and the rest done.
// Throws kInvalidArgument for CPUs that the machine does not have or the process may not use, and
// for priorities outside 0..99.
std::vector<Refusal> make_realtime(const RealtimeOptions& options);

// The same checks alone.
void check_realtime(const RealtimeOptions& options);

}  // namespace zerolane
