// SPDX-License-Identifier: Apache-2.0
#include "core/cpus.h"

#include <sched.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <sstream>
#include <string>

namespace zerolane {
namespace {

// cgroup v2: "max 100000" or "150000 100000".
double quota_v2(const std::string& file) {
  std::ifstream in(file);
  std::string quota;
  double period = 0;
  if (!(in >> quota >> period) || quota == "max" || period <= 0) return 0;
  return std::strtod(quota.c_str(), nullptr) / period;
}

double quota_v1(const std::string& folder) {
  std::ifstream quota_in(folder + "/cpu.cfs_quota_us");
  std::ifstream period_in(folder + "/cpu.cfs_period_us");
  double quota = 0;
  double period = 0;
  if (!(quota_in >> quota) || !(period_in >> period) || quota <= 0 || period <= 0) return 0;
  return quota / period;
}

void keep_least(double* least, double quota) {
  if (quota > 0 && (*least == 0 || quota < *least)) *least = quota;
}

}  // namespace

double cgroup_cpu_quota(const std::string& root, const std::string& self) {
  double least = 0;
  std::ifstream in(self);
  for (std::string line; std::getline(in, line);) {
    // hierarchy:controllers:path ; v2 has "0::path"
    size_t first = line.find(':');
    size_t second = first == std::string::npos ? first : line.find(':', first + 1);
    if (second == std::string::npos) continue;
    std::string controllers = "," + line.substr(first + 1, second - first - 1) + ",";
    bool v2 = controllers == ",,";
    if (!v2 && controllers.find(",cpu,") == std::string::npos) continue;
    // A limit may sit on any ancestor. Inside a container the path may not exist below its own
    // mount.
    for (std::string path = line.substr(second + 1);; path.erase(path.find_last_of('/'))) {
      if (v2) {
        keep_least(&least, quota_v2(root + path + "/cpu.max"));
      } else {
        keep_least(&least, quota_v1(root + "/cpu" + path));
        keep_least(&least, quota_v1(root + "/cpu,cpuacct" + path));
      }
      if (path.find('/') == std::string::npos) break;
    }
  }
  return least;
}

int usable_cpus() {
  int count = 1;
  cpu_set_t mask;
  if (::sched_getaffinity(0, sizeof(mask), &mask) == 0) count = CPU_COUNT(&mask);
  double quota = cgroup_cpu_quota("/sys/fs/cgroup", "/proc/self/cgroup");
  if (quota > 0) count = std::min(count, static_cast<int>(std::ceil(quota)));
  return std::max(count, 1);
}

}  // namespace zerolane
