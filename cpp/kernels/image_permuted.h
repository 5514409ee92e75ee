// SPDX-License-Identifier: Apache-2.0
// For image_vector.cpp, with AVX-512: rows of three channels, mixed to one row a channel, from
// which one instruction picks sixteen pixels out of 32 neighbours. Serves spans of at most two
// pixels where 16 of them lie that near: every enlarging, and reducing to a half at most.
#pragma once

#if defined(__AVX512F__)

#include <cstdint>

#include <immintrin.h>

#include "kernels/image_element.h"
#include "kernels/image_vector.h"

namespace zerolane::kernels::ZL_ISA {
namespace {

constexpr int32_t kPermutedChannels = 3;

// Columns in groups of 16; the last group repeats its last column.
struct PermutedColumns {
  int32_t* first;  // first pixel of each
  float* tail;     // weight of the next
};

// Whether the spans can be served; if so fills `columns` in, which have room for whole groups.
inline bool permute_columns(const Span* spans, int32_t width, const PermutedColumns& columns) {
  for (int32_t x = 0; x < width; x += 16) {
    for (int32_t lane = 0; lane < 16; ++lane) {
      const Span& span = spans[x + lane < width ? x + lane : width - 1];
      if (span.count > 2 || span.first + 1 - spans[x].first > 31) return false;
      columns.first[x + lane] = span.first;
      columns.tail[x + lane] = span.tail;
    }
  }
  return true;
}

[[gnu::always_inline]] inline __m512 load_sixteen(const uint8_t* from) {
  const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from));
  return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(bytes));
}

// How 48 values in three vectors fall apart into channels: the value of `channel` for pixel `lane`
// is number 3 lane + channel. The first 32 are picked from two vectors, the rest from the third.
struct Apart {
  __m512i early[kPermutedChannels];
  __m512i late[kPermutedChannels];

  Apart() {
    for (int32_t channel = 0; channel < kPermutedChannels; ++channel) {
      alignas(64) int32_t picks[2][16];
      for (int32_t lane = 0; lane < 16; ++lane) {
        const int32_t number = kPermutedChannels * lane + channel;
        picks[0][lane] = number % 32;
        picks[1][lane] = number < 32 ? lane : number - 16;
      }
      early[channel] = _mm512_load_si512(picks[0]);
      late[channel] = _mm512_load_si512(picks[1]);
    }
  }
};

// mixed[c] = the rows that the span names, weighted, channel c alone.
inline void mix_rows_apart(const uint8_t* image, int32_t in_width, const Span& rows, float middle,
                           float* const* mixed) {
  const Apart apart;
  const int32_t elements = in_width * kPermutedChannels;
  const uint8_t* const first = image + static_cast<int64_t>(rows.first) * elements;
  const uint8_t* const last = first + static_cast<int64_t>(rows.count - 1) * elements;
  const float head = rows.head;
  const float tail = rows.tail;
  float* const to[kPermutedChannels] = {mixed[0], mixed[1], mixed[2]};
  int32_t x = 0;
  for (; x + 16 <= in_width; x += 16) {
    const int32_t at = x * kPermutedChannels;
    __m512 values[3];
    for (int32_t i = 0; i < 3; ++i) {
      values[i] =
          load_sixteen(first + at + 16 * i) * head + load_sixteen(last + at + 16 * i) * tail;
    }
    for (const uint8_t* row = first + elements; row < last; row += elements) {
      for (int32_t i = 0; i < 3; ++i) values[i] += load_sixteen(row + at + 16 * i) * middle;
    }
    for (int32_t channel = 0; channel < kPermutedChannels; ++channel) {
      const __m512 early = _mm512_permutex2var_ps(values[0], apart.early[channel], values[1]);
      _mm512_storeu_ps(to[channel] + x,
                       _mm512_permutex2var_ps(early, apart.late[channel], values[2]));
    }
  }
  for (; x < in_width; ++x) {
    for (int32_t channel = 0; channel < kPermutedChannels; ++channel) {
      const int32_t at = x * kPermutedChannels + channel;
      float sum = static_cast<float>(first[at]) * head + static_cast<float>(last[at]) * tail;
      for (const uint8_t* row = first + elements; row < last; row += elements) {
        sum += static_cast<float>(row[at]) * middle;
      }
      to[channel][x] = sum;
    }
  }
}

// One row of the place, from rows that end in kImageRowSlack zeros.
inline void mix_columns_apart(const ImageToPlanes& what, const PermutedColumns& columns,
                              const float* const* mixed, float* const* planes) {
  for (int32_t x = 0; x < what.width; x += 16) {
    const int32_t rest = what.width - x;
    const auto present = static_cast<__mmask16>(rest >= 16 ? 0xffff : (1 << rest) - 1);
    const int32_t base = columns.first[x];
    const __m512i low =
        _mm512_sub_epi32(_mm512_loadu_si512(columns.first + x), _mm512_set1_epi32(base));
    const __m512i high = _mm512_add_epi32(low, _mm512_set1_epi32(1));
    const __m512 tail = _mm512_loadu_ps(columns.tail + x);
    for (int32_t channel = 0; channel < kPermutedChannels; ++channel) {
      const __m512 near = _mm512_loadu_ps(mixed[channel] + base);
      const __m512 far = _mm512_loadu_ps(mixed[channel] + base + 16);
      const __m512 first = _mm512_permutex2var_ps(near, low, far);
      const __m512 second = _mm512_permutex2var_ps(near, high, far);
      const __m512 value = first + tail * (second - first);
      _mm512_mask_storeu_ps(planes[channel] + x, present,
                            value * what.scale[channel] + what.offset[channel]);
    }
  }
}

}  // namespace
}  // namespace zerolane::kernels::ZL_ISA

#endif
