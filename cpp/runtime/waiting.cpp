// SPDX-License-Identifier: Apache-2.0
#include "runtime/waiting.h"

#include "core/metrics.h"

namespace zerolane {

int64_t spin_clock() noexcept { return now_ns(); }

bool Flag::wait(int64_t spin_ns, int64_t until_ns) noexcept {
  if (spin(spin_ns, [this] { return is_set(); })) return true;
  for (;;) {
    uint32_t seen = kUnset;
    word_.compare_exchange_strong(seen, kSleepers, std::memory_order_acq_rel);
    if (seen == kSet) return true;
    futex::wait(word_, kSleepers, until_ns);
    if (is_set()) return true;
    if (until_ns != kForever && now_ns() >= until_ns) return false;
  }
}

}  // namespace zerolane
