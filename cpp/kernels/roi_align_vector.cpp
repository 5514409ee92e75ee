// SPDX-License-Identifier: Apache-2.0
#include "kernels/roi_align_vector.h"

#include "kernels/half_vector.h"

#if defined(__AVX2__)
#include <immintrin.h>
#endif

namespace zerolane::kernels::ZL_ISA {
namespace {

// Vectors along a row of a map.
#if defined(__AVX512F__)
using Floats = __m512;
[[gnu::always_inline]] inline Floats load(const float* from) { return _mm512_loadu_ps(from); }
[[gnu::always_inline]] inline Floats load(const Half* from) {
  return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)));
}
[[gnu::always_inline]] inline void store(float* to, Floats values) { _mm512_storeu_ps(to, values); }
#elif defined(__AVX2__)
using Floats = __m256;
[[gnu::always_inline]] inline Floats load(const float* from) { return _mm256_loadu_ps(from); }
[[gnu::always_inline]] inline Floats load(const Half* from) {
  return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
}
[[gnu::always_inline]] inline void store(float* to, Floats values) { _mm256_storeu_ps(to, values); }
#else
using Floats = float;
template <class Element>
[[gnu::always_inline]] inline Floats load(const Element* from) {
  return static_cast<float>(*from);
}
[[gnu::always_inline]] inline void store(float* to, Floats values) { *to = values; }
#endif
constexpr int32_t kFloats =
    sizeof(Floats) / sizeof(float);  // NOLINT(bugprone-sizeof-expression): one, at baseline

// kRoiLanes output columns.
#if defined(__AVX2__)
using Lanes = __m256;
[[gnu::always_inline]] inline Lanes lanes(float value) { return _mm256_set1_ps(value); }
[[gnu::always_inline]] inline Lanes lanes(const float* from) { return _mm256_loadu_ps(from); }
[[gnu::always_inline]] inline void put(float* to, Lanes values) { _mm256_storeu_ps(to, values); }
[[gnu::always_inline]] inline Lanes gather(const float* from, const int32_t* index) {
  return _mm256_i32gather_ps(from, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(index)), 4);
}
// The greater ones; NaN where either is: the instruction gives its second operand then.
[[gnu::always_inline]] inline Lanes greater(Lanes a, Lanes b) {
  return _mm256_blendv_ps(_mm256_max_ps(a, b), a, _mm256_cmp_ps(a, a, _CMP_UNORD_Q));
}
#else
struct Lanes {
  float at[kRoiLanes];
};
template <class Body>
[[gnu::always_inline]] inline Lanes each(const Body& body) {
  Lanes result;
  for (int32_t i = 0; i < kRoiLanes; ++i) result.at[i] = body(i);
  return result;
}
[[gnu::always_inline]] inline Lanes lanes(float value) {
  return each([&](int32_t) { return value; });
}
[[gnu::always_inline]] inline Lanes lanes(const float* from) {
  return each([&](int32_t i) { return from[i]; });
}
[[gnu::always_inline]] inline void put(float* to, const Lanes& values) {
  for (int32_t i = 0; i < kRoiLanes; ++i) to[i] = values.at[i];
}
[[gnu::always_inline]] inline Lanes gather(const float* from, const int32_t* index) {
  return each([&](int32_t i) { return from[index[i]]; });
}
[[gnu::always_inline]] inline Lanes greater(const Lanes& a, const Lanes& b) {
  return each(
      [&](int32_t i) { return b.at[i] > a.at[i] || b.at[i] != b.at[i] ? b.at[i] : a.at[i]; });
}
[[gnu::always_inline]] inline Lanes operator*(const Lanes& a, const Lanes& b) {
  return each([&](int32_t i) { return a.at[i] * b.at[i]; });
}
[[gnu::always_inline]] inline Lanes operator+(const Lanes& a, const Lanes& b) {
  return each([&](int32_t i) { return a.at[i] + b.at[i]; });
}
#endif

// mixed = the rows of a map that the taps name, weighted; then the pixel that holds 0.
template <class Element>
void mix_rows(const RoiAlign& what, const RoiTables& tables, const Element* map, int32_t begin,
              int32_t end, float* mixed) {
  const int32_t columns = tables.columns;
  const Element* from = map + tables.first_column;
  mixed[columns] = 0;
  int32_t i = 0;
  while (i + kFloats <= columns) {
    Floats sum{};
    for (int32_t k = begin; k < end; ++k) {
      const int64_t row = static_cast<int64_t>(tables.row_index[k]) * what.width;
      sum += load(from + row + i) * tables.row_weight[k];
    }
    store(mixed + i, sum);
    i += kFloats;
    // The last vector overlaps the one before.
    if (i < columns && i + kFloats > columns) i = columns - kFloats;
  }
  for (; i < columns; ++i) {
    float sum = 0;
    for (int32_t k = begin; k < end; ++k) {
      const int64_t row = static_cast<int64_t>(tables.row_index[k]) * what.width;
      sum += static_cast<float>(from[row + i]) * tables.row_weight[k];
    }
    mixed[i] = sum;
  }
}

void average_row(const RoiTables& tables, const float* mixed, int32_t blocks) {
  for (int32_t block = 0; block < blocks; ++block) {
    Lanes sum = lanes(0.0F);
    for (int32_t k = tables.block_begin[block]; k < tables.block_begin[block + 1]; ++k) {
      const int64_t at = static_cast<int64_t>(k) * kRoiLanes;
      sum = sum + gather(mixed, tables.column_index + at) * lanes(tables.column_weight + at);
    }
    put(tables.pooled + block * kRoiLanes, sum);
  }
}

template <class Element>
[[gnu::always_inline]] inline void copy_row(const RoiTables& tables, const Element* row,
                                            float* to) {
  row += tables.first_column;
  int32_t i = 0;
  for (; i + kFloats <= tables.columns; i += kFloats) store(to + i, load(row + i));
  for (; i < tables.columns; ++i) to[i] = static_cast<float>(row[i]);
  to[tables.columns] = 0;
}

template <class Element>
void maximum_row(const RoiAlign& what, const RoiTables& tables, const Element* map, int32_t row,
                 int32_t blocks) {
  for (int32_t block = 0; block < blocks; ++block) {
    put(tables.pooled + block * kRoiLanes, tables.row_outside[row] != 0
                                               ? lanes(0.0F)
                                               : lanes(tables.column_least + block * kRoiLanes));
  }
  float* const low = tables.mixed;
  float* const high = tables.mixed + tables.columns + 1;
  for (int32_t i = tables.row_begin[row]; i < tables.row_begin[row + 1]; i += 2) {
    copy_row(tables, map + static_cast<int64_t>(tables.row_index[i]) * what.width, low);
    copy_row(tables, map + static_cast<int64_t>(tables.row_index[i + 1]) * what.width, high);
    const Lanes low_weight = lanes(tables.row_weight[i]);
    const Lanes high_weight = lanes(tables.row_weight[i + 1]);
    for (int32_t block = 0; block < blocks; ++block) {
      Lanes most = lanes(tables.pooled + block * kRoiLanes);
      for (int32_t k = tables.block_begin[block]; k < tables.block_begin[block + 1]; ++k) {
        const int64_t at = static_cast<int64_t>(k) * kRoiLanes;
        const int32_t* index = tables.column_index + at;
        const Lanes weight = lanes(tables.column_weight + at);
        most = greater(most, low_weight * weight * gather(low, index));
        most = greater(most, high_weight * weight * gather(high, index));
      }
      put(tables.pooled + block * kRoiLanes, most);
    }
  }
}

[[gnu::always_inline]] inline void finish(const float* row, float* to, int32_t count) {
  for (int32_t i = 0; i < count; ++i) to[i] = row[i];
}
[[gnu::always_inline]] inline void finish(const float* row, Half* to, int32_t count) {
  from_float(row, to, static_cast<size_t>(count));
}

template <class Element>
void average(const RoiAlign& what, const RoiTables& tables, const Element* map, int32_t blocks,
             Element* pooled) {
  const int64_t stride = tables.columns + 1;
  for (int32_t begin = 0; begin < what.out_height; begin += kRoiRows) {
    const int32_t rows = what.out_height - begin < kRoiRows ? what.out_height - begin : kRoiRows;
    // All rows are mixed before one is gathered from: a load that crosses stores in flight waits.
    for (int32_t i = 0; i < rows; ++i) {
      mix_rows(what, tables, map, tables.row_begin[begin + i], tables.row_begin[begin + i + 1],
               tables.mixed + i * stride);
    }
    for (int32_t i = 0; i < rows; ++i) {
      average_row(tables, tables.mixed + i * stride, blocks);
      finish(tables.pooled, pooled, what.out_width);
      pooled += what.out_width;
    }
  }
}

template <class Element>
void align(const RoiAlign& what, const RoiTables& tables, const Element* map, Element* pooled) {
  const int32_t blocks = (what.out_width + kRoiLanes - 1) / kRoiLanes;
  const int64_t map_size = static_cast<int64_t>(what.height) * what.width;
  const int64_t pooled_size = static_cast<int64_t>(what.out_height) * what.out_width;
  for (int64_t channel = 0; channel < what.channels; ++channel) {
    if (what.pooling == RoiPooling::kAverage) {
      average(what, tables, map, blocks, pooled);
    } else {
      for (int32_t row = 0; row < what.out_height; ++row) {
        maximum_row(what, tables, map, row, blocks);
        finish(tables.pooled, pooled + static_cast<int64_t>(row) * what.out_width, what.out_width);
      }
    }
    map += map_size;
    pooled += pooled_size;
  }
}

}  // namespace

void roi_align_float(const RoiAlign& what, const RoiTables& tables, const float* maps,
                     float* pooled) {
  align(what, tables, maps, pooled);
}

void roi_align_half(const RoiAlign& what, const RoiTables& tables, const Half* maps, Half* pooled) {
  align(what, tables, maps, pooled);
}

}  // namespace zerolane::kernels::ZL_ISA
