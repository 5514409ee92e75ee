// SPDX-License-Identifier: Apache-2.0
// For vector sources: vectors as wide as the instruction set has them, on which the templates of
// element.h work as they do on numbers.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/element.h"
#include "zerolane/half.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace zerolane::kernels::ZL_ISA {

#if defined(__AVX512F__)
inline constexpr int kVectorBytes = 64;
#elif defined(__AVX2__)
inline constexpr int kVectorBytes = 32;
#else
inline constexpr int kVectorBytes = 16;
#endif

using Floats [[gnu::vector_size(kVectorBytes)]] = float;
using Doubles [[gnu::vector_size(kVectorBytes)]] = double;
using Words [[gnu::vector_size(kVectorBytes)]] = uint32_t;
using LongWords [[gnu::vector_size(kVectorBytes)]] = uint64_t;
using Shorts [[gnu::vector_size(kVectorBytes / 2)]] = uint16_t;

// Lanes of a vector of floats.
inline constexpr size_t kLanes = kVectorBytes / sizeof(float);

}  // namespace zerolane::kernels::ZL_ISA

namespace zerolane::kernels {

template <>
struct Lane<ZL_ISA::Floats> {
  using Bits = ZL_ISA::Words;
#if defined(__AVX512F__)
  ZL_ELEMENT static ZL_ISA::Floats fused(ZL_ISA::Floats a, ZL_ISA::Floats b, ZL_ISA::Floats c) {
    return _mm512_fmadd_ps(a, b, c);
  }
#elif defined(__FMA__)
  ZL_ELEMENT static ZL_ISA::Floats fused(ZL_ISA::Floats a, ZL_ISA::Floats b, ZL_ISA::Floats c) {
    return _mm256_fmadd_ps(a, b, c);
  }
#endif
};

template <>
struct Lane<ZL_ISA::Doubles> {
  using Bits = ZL_ISA::LongWords;
#if defined(__AVX512F__)
  ZL_ELEMENT static ZL_ISA::Doubles fused(ZL_ISA::Doubles a, ZL_ISA::Doubles b, ZL_ISA::Doubles c) {
    return _mm512_fmadd_pd(a, b, c);
  }
#elif defined(__FMA__)
  ZL_ELEMENT static ZL_ISA::Doubles fused(ZL_ISA::Doubles a, ZL_ISA::Doubles b, ZL_ISA::Doubles c) {
    return _mm256_fmadd_pd(a, b, c);
  }
#endif
};

}  // namespace zerolane::kernels

namespace zerolane::kernels::ZL_ISA {

// A vector of kLanes elements from any address as floats (doubles as doubles, half as many), and
// back, rounded as half.h says.
ZL_ELEMENT Floats load(const float* x) {
  Floats lanes;
  __builtin_memcpy(&lanes, x, sizeof lanes);
  return lanes;
}

ZL_ELEMENT Doubles load(const double* x) {
  Doubles lanes;
  __builtin_memcpy(&lanes, x, sizeof lanes);
  return lanes;
}

ZL_ELEMENT void store(float* y, Floats lanes) { __builtin_memcpy(y, &lanes, sizeof lanes); }

ZL_ELEMENT void store(double* y, Doubles lanes) { __builtin_memcpy(y, &lanes, sizeof lanes); }

ZL_ELEMENT Floats load(const Half* x) {
#if defined(__AVX512F__)
  return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(x)));
#elif defined(__F16C__)
  return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(x)));
#else
  Floats lanes{};
  for (size_t i = 0; i < kLanes; ++i) lanes[i] = static_cast<float>(x[i]);
  return lanes;
#endif
}

ZL_ELEMENT void store(Half* y, Floats lanes) {
#if defined(__AVX512F__)
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(y),
                      _mm512_cvtps_ph(lanes, _MM_FROUND_TO_NEAREST_INT));
#elif defined(__F16C__)
  _mm_storeu_si128(reinterpret_cast<__m128i*>(y),
                   _mm256_cvtps_ph(lanes, _MM_FROUND_TO_NEAREST_INT));
#else
  for (size_t i = 0; i < kLanes; ++i) y[i] = static_cast<Half>(lanes[i]);
#endif
}

ZL_ELEMENT Floats load(const BFloat16* x) {
#if defined(__AVX512F__)
  const __m512i bits =
      _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(x)));
#elif defined(__AVX2__)
  const __m256i bits = _mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(x)));
#else
  Shorts shorts;
  __builtin_memcpy(&shorts, x, sizeof shorts);
  const Words bits = __builtin_convertvector(shorts, Words);
#endif
  return from_bits<Floats>(reinterpret_cast<Words>(bits) << 16);
}

// The instructions of AVX512_BF16 take subnormal numbers for zero, so they are of no use here.
ZL_ELEMENT void store(BFloat16* y, Floats lanes) {
  const Words bits = to_bits(lanes);
  const Words rounded = bits + 0x7fffU + ((bits >> 16) & 1U);
  const Words upper = (lanes != lanes ? bits | 0x00400000U : rounded) >> 16;
#if defined(__AVX512F__)
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(y),
                      _mm512_cvtepi32_epi16(reinterpret_cast<__m512i>(upper)));
#elif defined(__AVX2__)
  const auto words = reinterpret_cast<__m256i>(upper);
  // Packing works within halves: the quarters 0 and 2 hold what is wanted.
  const __m256i packed = _mm256_permute4x64_epi64(_mm256_packus_epi32(words, words), 0x08);
  _mm_storeu_si128(reinterpret_cast<__m128i*>(y), _mm256_castsi256_si128(packed));
#else
  const Shorts shorts = __builtin_convertvector(upper, Shorts);
  __builtin_memcpy(y, &shorts, sizeof shorts);
#endif
}

// What `Element` is computed as.
template <typename Element>
struct VectorOf {
  using Type = Floats;
  static constexpr size_t kLanes = kVectorBytes / sizeof(float);
};
template <>
struct VectorOf<double> {
  using Type = Doubles;
  static constexpr size_t kLanes = kVectorBytes / sizeof(double);
};

// y[i] = body(x[i]) for i < n, where `body` takes and returns a vector; for the odd elements at the
// end as well.
template <typename Element, typename Body>
ZL_ELEMENT void map_lanes(const Element* x, Element* y, size_t n, const Body& body) {
  constexpr size_t kStep = VectorOf<Element>::kLanes;
  size_t i = 0;
  for (; i + kStep <= n; i += kStep) store(y + i, body(load(x + i)));
  if (i < n) {
    Element odd[kStep] = {};
    __builtin_memcpy(static_cast<void*>(odd), x + i, (n - i) * sizeof(Element));
    store(odd, body(load(odd)));
    __builtin_memcpy(static_cast<void*>(y + i), odd, (n - i) * sizeof(Element));
  }
}

// The first `count` lanes from x, which has no more; `rest` in the others.
template <typename Element>
ZL_ELEMENT Floats load_some(const Element* x, size_t count, float rest) {
  Element some[kLanes];
  for (size_t i = 0; i < kLanes; ++i) some[i] = static_cast<Element>(rest);
  __builtin_memcpy(static_cast<void*>(some), x, count * sizeof(Element));
  return load(some);
}

// A bit for each lane: whether the comparison held there.
using Held [[gnu::vector_size(kVectorBytes)]] = int32_t;

ZL_ELEMENT unsigned lanes_where(Held held) {
#if defined(__AVX512DQ__)
  return _mm512_movepi32_mask(reinterpret_cast<__m512i>(held));
#elif defined(__AVX2__)
  return static_cast<unsigned>(_mm256_movemask_ps(reinterpret_cast<__m256>(held)));
#elif defined(__SSE2__)
  return static_cast<unsigned>(_mm_movemask_ps(reinterpret_cast<__m128>(held)));
#else
  unsigned bits = 0;
  for (size_t i = 0; i < kLanes; ++i) bits |= (held[i] != 0 ? 1U : 0U) << i;
  return bits;
#endif
}

// Lane by lane; NaN in `a` loses.
ZL_ELEMENT Floats larger_lanes(Floats a, Floats b) { return a > b ? a : b; }

// Of lanes without NaN.
ZL_ELEMENT float largest_lane(Floats lanes) {
#if defined(__AVX512F__)
  return _mm512_reduce_max_ps(lanes);
#elif defined(__SSE2__)
#if defined(__AVX2__)
  const __m128 four = _mm_max_ps(_mm256_castps256_ps128(lanes), _mm256_extractf128_ps(lanes, 1));
#else
  const __m128 four = lanes;
#endif
  const __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_max_ss(two, _mm_shuffle_ps(two, two, 1)));
#else
  float most = lanes[0];
  for (size_t i = 1; i < kLanes; ++i) most = lanes[i] > most ? lanes[i] : most;
  return most;
#endif
}

// Four vectors of integers to the bytes that are their last eight bits, which hold all of them: as
// signed numbers, or as unsigned ones where `Integer` is uint8_t. And one vector from bytes.
template <typename Integer>
ZL_ELEMENT void store_bytes(Integer* y, const Words (&lanes)[4]) {
  [[maybe_unused]] constexpr bool kSigned = Integer(-1) < 0;
#if defined(__AVX512BW__)
  const auto a =
      _mm512_packs_epi32(reinterpret_cast<__m512i>(lanes[0]), reinterpret_cast<__m512i>(lanes[1]));
  const auto b =
      _mm512_packs_epi32(reinterpret_cast<__m512i>(lanes[2]), reinterpret_cast<__m512i>(lanes[3]));
  const auto packed = kSigned ? _mm512_packs_epi16(a, b) : _mm512_packus_epi16(a, b);
  // Packing works within quarters: each holds four bytes of every vector.
  const auto order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
  _mm512_storeu_si512(y, _mm512_permutexvar_epi32(order, packed));
#elif defined(__AVX2__)
  const auto a =
      _mm256_packs_epi32(reinterpret_cast<__m256i>(lanes[0]), reinterpret_cast<__m256i>(lanes[1]));
  const auto b =
      _mm256_packs_epi32(reinterpret_cast<__m256i>(lanes[2]), reinterpret_cast<__m256i>(lanes[3]));
  const auto packed = kSigned ? _mm256_packs_epi16(a, b) : _mm256_packus_epi16(a, b);
  const auto order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(y), _mm256_permutevar8x32_epi32(packed, order));
#elif defined(__SSE2__)
  const auto a =
      _mm_packs_epi32(reinterpret_cast<__m128i>(lanes[0]), reinterpret_cast<__m128i>(lanes[1]));
  const auto b =
      _mm_packs_epi32(reinterpret_cast<__m128i>(lanes[2]), reinterpret_cast<__m128i>(lanes[3]));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(y),
                   kSigned ? _mm_packs_epi16(a, b) : _mm_packus_epi16(a, b));
#else
  for (size_t i = 0; i < 4 * kLanes; ++i)
    y[i] = static_cast<Integer>(lanes[i / kLanes][i % kLanes]);
#endif
}

ZL_ELEMENT Floats load(const int8_t* x) {
#if defined(__AVX512F__)
  return _mm512_cvtepi32_ps(
      _mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(x))));
#elif defined(__AVX2__)
  return _mm256_cvtepi32_ps(
      _mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(x))));
#else
  Floats lanes{};
  for (size_t i = 0; i < kLanes; ++i) lanes[i] = static_cast<float>(x[i]);
  return lanes;
#endif
}

ZL_ELEMENT Floats load(const uint8_t* x) {
#if defined(__AVX512F__)
  return _mm512_cvtepi32_ps(
      _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(x))));
#elif defined(__AVX2__)
  return _mm256_cvtepi32_ps(
      _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(x))));
#else
  Floats lanes{};
  for (size_t i = 0; i < kLanes; ++i) lanes[i] = static_cast<float>(x[i]);
  return lanes;
#endif
}

}  // namespace zerolane::kernels::ZL_ISA
