// SPDX-License-Identifier: Apache-2.0
// For vector sources: runs of 16-bit numbers to float and back, inlined. Good for whole arrays and
// for blocks that stay in the first-level cache between two steps of a kernel.
#pragma once

#include <cstddef>

#include "zerolane/half.h"

#if defined(__F16C__)
#include <immintrin.h>
#endif

namespace zerolane::kernels::ZL_ISA {

[[gnu::always_inline]] inline void to_float(const Half* x, float* y, size_t n) {
  size_t i = 0;
#if defined(__AVX512F__)
  for (; i + 16 <= n; i += 16) {
    const __m256i half = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(x + i));
    _mm512_storeu_ps(y + i, _mm512_cvtph_ps(half));
  }
#endif
#if defined(__F16C__)
  for (; i + 8 <= n; i += 8) {
    const __m128i half = _mm_loadu_si128(reinterpret_cast<const __m128i*>(x + i));
    _mm256_storeu_ps(y + i, _mm256_cvtph_ps(half));
  }
#endif
  for (; i < n; ++i) y[i] = static_cast<float>(x[i]);
}

[[gnu::always_inline]] inline void from_float(const float* x, Half* y, size_t n) {
  size_t i = 0;
#if defined(__AVX512F__)
  for (; i + 16 <= n; i += 16) {
    const __m256i half = _mm512_cvtps_ph(_mm512_loadu_ps(x + i), _MM_FROUND_TO_NEAREST_INT);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(y + i), half);
  }
#endif
#if defined(__F16C__)
  for (; i + 8 <= n; i += 8) {
    const __m128i half = _mm256_cvtps_ph(_mm256_loadu_ps(x + i), _MM_FROUND_TO_NEAREST_INT);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(y + i), half);
  }
#endif
  for (; i < n; ++i) y[i] = static_cast<Half>(x[i]);
}

// No instructions for these: those of AVX512_BF16 take subnormal numbers for zero. The compiler
// makes vectors of the integer arithmetic.
[[gnu::always_inline]] inline void to_float(const BFloat16* x, float* y, size_t n) {
  for (size_t i = 0; i < n; ++i) y[i] = static_cast<float>(x[i]);
}

[[gnu::always_inline]] inline void from_float(const float* x, BFloat16* y, size_t n) {
  for (size_t i = 0; i < n; ++i) y[i] = static_cast<BFloat16>(x[i]);
}

}  // namespace zerolane::kernels::ZL_ISA
