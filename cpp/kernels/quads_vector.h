// SPDX-License-Identifier: Apache-2.0
// For vector sources: rows of four floats to four vectors, a column each, and back.
#pragma once

#include "kernels/lanes.h"

namespace zerolane::kernels::ZL_ISA {

#if defined(__AVX512F__)
ZL_ELEMENT Floats four_rows(const float* x, size_t stride) {
  const __m512 one = _mm512_castps128_ps512(_mm_loadu_ps(x));
  const __m512 two = _mm512_insertf32x4(one, _mm_loadu_ps(x + stride), 1);
  const __m512 three = _mm512_insertf32x4(two, _mm_loadu_ps(x + 2 * stride), 2);
  return _mm512_insertf32x4(three, _mm_loadu_ps(x + 3 * stride), 3);
}
#endif

// kLanes rows, the first at `x`, `stride` floats apart.
ZL_ELEMENT void load_quads(const float* x, size_t stride, Floats* a, Floats* b, Floats* c,
                           Floats* d) {
#if defined(__AVX512F__)
  const __m512i low = _mm512_setr_epi32(0, 4, 8, 12, 16, 20, 24, 28, 1, 5, 9, 13, 17, 21, 25, 29);
  const __m512i high = _mm512_add_epi32(low, _mm512_set1_epi32(2));
  const bool dense = stride == 4;
  const Floats rows_0 = dense ? load(x) : four_rows(x, stride);
  const Floats rows_4 = dense ? load(x + 16) : four_rows(x + 4 * stride, stride);
  const Floats rows_8 = dense ? load(x + 32) : four_rows(x + 8 * stride, stride);
  const Floats rows_12 = dense ? load(x + 48) : four_rows(x + 12 * stride, stride);
  // Eight of one column, then eight of the next.
  const __m512 ab_0 = _mm512_permutex2var_ps(rows_0, low, rows_4);
  const __m512 ab_8 = _mm512_permutex2var_ps(rows_8, low, rows_12);
  const __m512 cd_0 = _mm512_permutex2var_ps(rows_0, high, rows_4);
  const __m512 cd_8 = _mm512_permutex2var_ps(rows_8, high, rows_12);
  *a = _mm512_shuffle_f32x4(ab_0, ab_8, 0x44);
  *b = _mm512_shuffle_f32x4(ab_0, ab_8, 0xee);
  *c = _mm512_shuffle_f32x4(cd_0, cd_8, 0x44);
  *d = _mm512_shuffle_f32x4(cd_0, cd_8, 0xee);
#elif defined(__AVX2__)
  const auto row_and_fourth_next = [=](size_t row) {
    return _mm256_insertf128_ps(_mm256_castps128_ps256(_mm_loadu_ps(x + row * stride)),
                                _mm_loadu_ps(x + (row + 4) * stride), 1);
  };
  const __m256 row_0_4 = row_and_fourth_next(0);
  const __m256 row_1_5 = row_and_fourth_next(1);
  const __m256 row_2_6 = row_and_fourth_next(2);
  const __m256 row_3_7 = row_and_fourth_next(3);
  const __m256 ab_01 = _mm256_unpacklo_ps(row_0_4, row_1_5);
  const __m256 cd_01 = _mm256_unpackhi_ps(row_0_4, row_1_5);
  const __m256 ab_23 = _mm256_unpacklo_ps(row_2_6, row_3_7);
  const __m256 cd_23 = _mm256_unpackhi_ps(row_2_6, row_3_7);
  *a = _mm256_shuffle_ps(ab_01, ab_23, 0x44);
  *b = _mm256_shuffle_ps(ab_01, ab_23, 0xee);
  *c = _mm256_shuffle_ps(cd_01, cd_23, 0x44);
  *d = _mm256_shuffle_ps(cd_01, cd_23, 0xee);
#else
  for (size_t i = 0; i < kLanes; ++i) {
    (*a)[i] = x[stride * i];
    (*b)[i] = x[stride * i + 1];
    (*c)[i] = x[stride * i + 2];
    (*d)[i] = x[stride * i + 3];
  }
#endif
}

ZL_ELEMENT void store_quads(float* y, Floats a, Floats b, Floats c, Floats d) {
#if defined(__AVX512F__)
  const __m512i first = _mm512_setr_epi32(0, 8, 16, 24, 1, 9, 17, 25, 2, 10, 18, 26, 3, 11, 19, 27);
  const __m512i second = _mm512_add_epi32(first, _mm512_set1_epi32(4));
  const __m512 ab_0 = _mm512_shuffle_f32x4(a, b, 0x44);
  const __m512 ab_8 = _mm512_shuffle_f32x4(a, b, 0xee);
  const __m512 cd_0 = _mm512_shuffle_f32x4(c, d, 0x44);
  const __m512 cd_8 = _mm512_shuffle_f32x4(c, d, 0xee);
  store(y, _mm512_permutex2var_ps(ab_0, first, cd_0));
  store(y + 16, _mm512_permutex2var_ps(ab_0, second, cd_0));
  store(y + 32, _mm512_permutex2var_ps(ab_8, first, cd_8));
  store(y + 48, _mm512_permutex2var_ps(ab_8, second, cd_8));
#elif defined(__AVX2__)
  const __m256 ab_01 = _mm256_unpacklo_ps(a, b);
  const __m256 ab_23 = _mm256_unpackhi_ps(a, b);
  const __m256 cd_01 = _mm256_unpacklo_ps(c, d);
  const __m256 cd_23 = _mm256_unpackhi_ps(c, d);
  const __m256 row_0_4 = _mm256_shuffle_ps(ab_01, cd_01, 0x44);
  const __m256 row_1_5 = _mm256_shuffle_ps(ab_01, cd_01, 0xee);
  const __m256 row_2_6 = _mm256_shuffle_ps(ab_23, cd_23, 0x44);
  const __m256 row_3_7 = _mm256_shuffle_ps(ab_23, cd_23, 0xee);
  store(y, _mm256_permute2f128_ps(row_0_4, row_1_5, 0x20));
  store(y + 8, _mm256_permute2f128_ps(row_2_6, row_3_7, 0x20));
  store(y + 16, _mm256_permute2f128_ps(row_0_4, row_1_5, 0x31));
  store(y + 24, _mm256_permute2f128_ps(row_2_6, row_3_7, 0x31));
#else
  for (size_t i = 0; i < kLanes; ++i) {
    y[4 * i] = a[i];
    y[4 * i + 1] = b[i];
    y[4 * i + 2] = c[i];
    y[4 * i + 3] = d[i];
  }
#endif
}

}  // namespace zerolane::kernels::ZL_ISA
