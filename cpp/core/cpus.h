// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

namespace zerolane {

// How many CPUs this process may keep busy: the least of the affinity mask and the cgroup quota (v1
// or v2, rounded up), at least 1. Read anew at every call.
int usable_cpus();

// The cgroup quota in CPUs under `root` ("/sys/fs/cgroup" on a real machine) for the process whose
// cgroup file is `self` ("/proc/self/cgroup"); 0 when there is none. Exposed for tests.
double cgroup_cpu_quota(const std::string& root, const std::string& self);

}  // namespace zerolane
