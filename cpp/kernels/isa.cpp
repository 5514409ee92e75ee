// SPDX-License-Identifier: Apache-2.0
#include "kernels/isa.h"

#include <cstdlib>
#include <cstring>

namespace zerolane::kernels {
namespace {

Isa found() noexcept {
#if defined(__x86_64__)
  // These also ask whether the system saves the registers.
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl")) {
    return Isa::kAvx512;
  }
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return Isa::kAvx2;
#endif
  return Isa::kBaseline;
}

Isa chosen() noexcept {
  const Isa best = found();
  const char* asked = std::getenv("ZEROLANE_ISA");
  if (asked == nullptr) return best;
  if (std::strcmp(asked, "baseline") == 0) return Isa::kBaseline;
  if (std::strcmp(asked, "avx2") == 0 && best == Isa::kAvx512) return Isa::kAvx2;
  return best;
}

}  // namespace

Isa isa() noexcept {
  static const Isa known = chosen();
  return known;
}

}  // namespace zerolane::kernels
