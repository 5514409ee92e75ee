// SPDX-License-Identifier: Apache-2.0
#include "runtime/realtime.h"

#include <linux/capability.h>
#include <pthread.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <new>

#include "core/error.h"

namespace zerolane {
namespace {

constexpr int kMostCpus = 8192;  // the kernel's own limit
constexpr size_t kStackBytes = size_t{256} << 10;

// A set of CPUs as large as the kernel may want it.
class CpuSet {
 public:
  CpuSet() : set_(CPU_ALLOC(kMostCpus)), bytes_(CPU_ALLOC_SIZE(kMostCpus)) {
    if (set_ == nullptr) throw std::bad_alloc();
    CPU_ZERO_S(bytes_, set_);
  }
  ~CpuSet() { CPU_FREE(set_); }
  CpuSet(const CpuSet&) = delete;
  CpuSet& operator=(const CpuSet&) = delete;
  void add(int cpu) { CPU_SET_S(static_cast<size_t>(cpu), bytes_, set_); }
  bool has(int cpu) const { return CPU_ISSET_S(static_cast<size_t>(cpu), bytes_, set_) != 0; }
  cpu_set_t* get() const { return set_; }
  size_t bytes() const { return bytes_; }

 private:
  cpu_set_t* set_;
  size_t bytes_;
};

// CPUs that the process's main thread may use: a thread pinned by an earlier call may be moved.
std::string allowed_cpus(CpuSet* allowed) {
  if (::sched_getaffinity(::getpid(), allowed->bytes(), allowed->get()) != 0) return "unknown";
  std::string text;
  for (int cpu = 0; cpu < kMostCpus; ++cpu) {
    if (!allowed->has(cpu)) continue;
    int last = cpu;
    while (last + 1 < kMostCpus && allowed->has(last + 1)) ++last;
    text += (text.empty() ? "" : ",") + std::to_string(cpu);
    if (last > cpu) text += "-" + std::to_string(last);
    cpu = last;
  }
  return text;
}

bool has_capability(int number) {
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct data[2] = {};
  if (::syscall(SYS_capget, &header, data) != 0) return false;
  return (data[number / 32].effective >> (number % 32) & 1) != 0;
}

std::string limit_text(int resource) {
  rlimit limit{};
  if (::getrlimit(static_cast<__rlimit_resource_t>(resource), &limit) != 0) return "unknown";
  return limit.rlim_cur == RLIM_INFINITY ? "unlimited" : std::to_string(limit.rlim_cur);
}

std::string words(int error) { return std::strerror(error); }

void lock_memory(std::vector<Refusal>* refused) {
  rlimit limit{};
  ::getrlimit(RLIMIT_MEMLOCK, &limit);
  // With a limit, memory taken later could not be had at all once it is used up: malloc would fail.
  if (limit.rlim_cur != RLIM_INFINITY && !has_capability(CAP_IPC_LOCK)) {
    refused->push_back({"lock_memory", "the process may lock " + limit_text(RLIMIT_MEMLOCK) +
                                           " bytes (RLIMIT_MEMLOCK) and has no CAP_IPC_LOCK"});
    return;
  }
  if (::mlockall(MCL_CURRENT | MCL_FUTURE) != 0) {
    refused->push_back({"lock_memory", "mlockall: " + words(errno)});
  }
}

void touch_stack() {
  volatile unsigned char pages[kStackBytes];
  for (size_t i = 0; i < sizeof pages; i += 4096) pages[i] = 0;
}

}  // namespace

void check_realtime(const RealtimeOptions& options) {
  if (options.priority < 0 || options.priority > 99) {
    throw make_error(Code::kInvalidArgument, "setting a real-time priority",
                     "it is " + std::to_string(options.priority) + ", expected 1 to 99",
                     "start with 80, or leave it out", "priority");
  }
  CpuSet allowed;
  const std::string text = options.cpus.empty() ? "" : allowed_cpus(&allowed);
  for (const int cpu : options.cpus) {
    if (cpu >= 0 && cpu < kMostCpus && allowed.has(cpu)) continue;
    throw make_error(
        Code::kInvalidArgument, "choosing CPUs",
        "CPU " + std::to_string(cpu) + " is none of those that this process may use (" + text + ")",
        "choose among them, or start the process with others (taskset, cpuset)", "cpus");
  }
}

std::vector<Refusal> make_realtime(const RealtimeOptions& options) {
  check_realtime(options);
  std::vector<Refusal> refused;
  if (!options.cpus.empty()) {
    CpuSet wanted;
    for (const int cpu : options.cpus) wanted.add(cpu);
    if (::sched_setaffinity(0, wanted.bytes(), wanted.get()) != 0) {
      refused.push_back({"cpus", "sched_setaffinity: " + words(errno)});
    }
  }
  if (options.priority > 0) {
    sched_param parameters{};
    parameters.sched_priority = options.priority;
    // Threads and processes that it starts are ordinary: nobody wants a thread pool or a shell
    // command at this priority.
    if (::sched_setscheduler(0, SCHED_FIFO | SCHED_RESET_ON_FORK, &parameters) != 0) {
      refused.push_back({"priority", "SCHED_FIFO " + std::to_string(options.priority) + ": " +
                                         words(errno) + " (RLIMIT_RTPRIO is " +
                                         limit_text(RLIMIT_RTPRIO) + ")"});
    }
  }
  if (options.lock_memory) lock_memory(&refused);
  touch_stack();
  return refused;
}

}  // namespace zerolane
