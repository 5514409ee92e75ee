// SPDX-License-Identifier: Apache-2.0
#include "kernels/isa.h"

#if defined(__x86_64__)
#include <cpuid.h>
#endif

#include <cstdlib>
#include <cstring>

namespace zerolane::kernels {
namespace {

#if defined(__x86_64__)
// __builtin_cpu_supports knows no f16c in clang before 18.
bool has_f16c() noexcept {
  unsigned a = 0, b = 0, c = 0, d = 0;
  return __get_cpuid(1, &a, &b, &c, &d) != 0 && (c & bit_F16C) != 0;
}

// Whether there are tiles of at least the extents that AMX began with, products of bytes on them,
// and a system that saves them. What follows is from Intel's Software Developer's Manual, volume 1,
// chapter 18, and CPUID leaves 7, 0DH and 1DH.
bool has_amx() noexcept {
  unsigned a = 0, b = 0, c = 0, d = 0;
  constexpr unsigned kOsXsave = 1U << 27, kTile = 1U << 24, kInt8 = 1U << 25;
  if (__get_cpuid(1, &a, &b, &c, &d) == 0 || (c & kOsXsave) == 0) return false;
  if (__get_cpuid_count(7, 0, &a, &b, &c, &d) == 0) return false;
  if ((d & kTile) == 0 || (d & kInt8) == 0) return false;
  unsigned saved = 0, saved_high = 0;
  asm volatile("xgetbv" : "=a"(saved), "=d"(saved_high) : "c"(0));
  constexpr unsigned kTileStates = 3U << 17;
  if ((saved & kTileStates) != kTileStates) return false;
  if (__get_cpuid_count(0x1D, 1, &a, &b, &c, &d) == 0) return false;
  return (a >> 16) >= 1024 && (b & 0xFFFF) >= 64 && (b >> 16) >= 8 && (c & 0xFFFF) >= 16;
}
#endif

Isa found() noexcept {
#if defined(__x86_64__)
  // What CMakeLists.txt compiles a vector source with. These also ask whether the system saves the
  // registers.
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c() &&
                    __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2");
  if (avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl")) {
    return has_amx() ? Isa::kAmx : Isa::kAvx512;
  }
  if (avx2) return Isa::kAvx2;
#endif
  return Isa::kBaseline;
}

Isa chosen() noexcept {
  const Isa best = found();
  const char* asked = std::getenv("ZEROLANE_ISA");
  if (asked == nullptr) return best;
  if (std::strcmp(asked, "baseline") == 0) return Isa::kBaseline;
  if (std::strcmp(asked, "avx2") == 0 && best > Isa::kAvx2) return Isa::kAvx2;
  if (std::strcmp(asked, "avx512") == 0 && best > Isa::kAvx512) return Isa::kAvx512;
  return best;
}

}  // namespace

Isa isa() noexcept {
  static const Isa known = chosen();
  return known;
}

}  // namespace zerolane::kernels
