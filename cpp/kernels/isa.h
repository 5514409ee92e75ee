// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace zerolane::kernels {

// The instruction sets that vector sources are compiled for, each with all before it; and last the
// tiles of AMX for bytes, which single sources use (conv_tiles.h), where vector sources are those
// of AVX-512.
enum class Isa { kBaseline, kAvx2, kAvx512, kAmx };

// The best one that this CPU and its system offer; less where ZEROLANE_ISA names one ("baseline",
// "avx2", "avx512"), which is for tests and for comparing. Read once.
Isa isa() noexcept;

}  // namespace zerolane::kernels

// A vector source (x_vector.cpp) is compiled once for each instruction set, all of it inside
// namespace ZL_ISA (baseline, avx2 or avx512). It must hold no function that the linker could take
// for another's: nothing but functions of that namespace, no templates or inline functions of the
// standard library. tests/rules/test_vector_symbols.py looks.
//
//   namespace zerolane::kernels::ZL_ISA { void scale(const float* x, float* y, size_t n); }
//
// and the source that callers see chooses:
//
//   void scale(const float* x, float* y, size_t n) { ZL_CHOOSE_ISA(scale)(x, y, n); }
#define ZL_DECLARE_ISA(result, name, parameters) \
  namespace baseline {                           \
  result name parameters;                        \
  }                                              \
  namespace avx2 {                               \
  result name parameters;                        \
  }                                              \
  namespace avx512 {                             \
  result name parameters;                        \
  }
#define ZL_CHOOSE_ISA(name)                                                       \
  (::zerolane::kernels::isa() >= ::zerolane::kernels::Isa::kAvx512 ? avx512::name \
   : ::zerolane::kernels::isa() == ::zerolane::kernels::Isa::kAvx2 ? avx2::name   \
                                                                   : baseline::name)
