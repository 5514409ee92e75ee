// SPDX-License-Identifier: Apache-2.0
// Vectors of float for vector sources (isa.h), in GCC's and clang's notation, which both compile to
// whatever the instruction set has. Include inside no namespace, after defining ZL_ISA.
#pragma once

#include <stdint.h>

namespace zerolane::kernels::ZL_ISA {
namespace {

#define ZL_INLINE inline __attribute__((always_inline))

#if defined(__AVX512F__)
constexpr int kLanes = 16;
#elif defined(__AVX2__)
constexpr int kLanes = 8;
#else
constexpr int kLanes = 4;
#endif

// Vec<W>: W floats; Vec<1> is float itself. Ints<W>: as many int32_t.
template <int W>
struct Lanes;
template <>
struct Lanes<1> {
  using Floats = float;
  using Ints = int32_t;
};
#define ZL_LANES(W)                                               \
  template <>                                                     \
  struct Lanes<W> {                                               \
    typedef float Floats __attribute__((vector_size((W) * 4)));   \
    typedef int32_t Ints __attribute__((vector_size((W) * 4)));   \
    typedef int16_t Shorts __attribute__((vector_size((W) * 2))); \
  };
ZL_LANES(4)
#if defined(__AVX2__)
ZL_LANES(8)
#endif
#if defined(__AVX512F__)
ZL_LANES(16)
#endif
#undef ZL_LANES
template <int W>
using Vec = typename Lanes<W>::Floats;

// Loads and stores need no alignment.
template <int W>
ZL_INLINE Vec<W> load(const float* from) {
  Vec<W> value;
  __builtin_memcpy(&value, from, sizeof(value));
  return value;
}
template <int W>
ZL_INLINE Vec<W> load(const int16_t* from) {
  if constexpr (W == 1) {
    return *from;
  } else {
    typename Lanes<W>::Shorts value;
    __builtin_memcpy(&value, from, sizeof(value));
    return __builtin_convertvector(value, Vec<W>);
  }
}
template <int W>
ZL_INLINE void store(float* to, Vec<W> value) {
  __builtin_memcpy(to, &value, sizeof(value));
}
template <int W>
ZL_INLINE Vec<W> broadcast(float value) {
  return value - Vec<W>{};
}

template <int... I>
struct Indices {};
template <int N, int... I>
struct Count : Count<N - 1, N - 1, I...> {};
template <int... I>
struct Count<0, I...> {
  using Type = Indices<I...>;
};

template <int W, class Order, int... I>
ZL_INLINE Vec<W> shuffle(Vec<W> a, Vec<W> b, Indices<I...>) {
  return __builtin_shufflevector(a, b, Order::at(I, W)...);
}
// Lane i of the result is lane Order::at(i, W) of a and b, one behind the other.
template <int W, class Order>
ZL_INLINE Vec<W> shuffle(Vec<W> a, Vec<W> b) {
  return shuffle<W, Order>(a, b, typename Count<W>::Type{});
}

struct EvenLanes {
  static constexpr int at(int i, int) { return 2 * i; }
};
struct OddLanes {
  static constexpr int at(int i, int) { return 2 * i + 1; }
};
struct Reversed {
  static constexpr int at(int i, int width) { return width - 1 - i; }
};

// What one instruction does, within each four lanes or with whole fours.
struct InterleaveLow {
  static constexpr int at(int i, int w) { return (i & ~3) + ((i & 3) >> 1) + ((i & 1) ? w : 0); }
};
struct InterleaveHigh {
  static constexpr int at(int i, int w) { return InterleaveLow::at(i, w) + 2; }
};
struct PairsLow {
  static constexpr int at(int i, int w) { return (i & ~3) + (i & 1) + ((i & 2) ? w : 0); }
};
struct PairsHigh {
  static constexpr int at(int i, int w) { return PairsLow::at(i, w) + 2; }
};
// Fours 0, 2, ... of a, then of b; and 1, 3, ...
struct EvenFours {
  static constexpr int at(int i, int) { return i / 4 * 8 + (i & 3); }
};
struct OddFours {
  static constexpr int at(int i, int) { return i / 4 * 8 + 4 + (i & 3); }
};

// rows[i] lane j becomes rows[j] lane i.
template <int W>
ZL_INLINE void transpose(Vec<W>* rows) {
  Vec<W> fours[W];
#pragma GCC unroll 4
  for (int i = 0; i < W; i += 4) {
    const Vec<W> a = shuffle<W, InterleaveLow>(rows[i], rows[i + 1]);
    const Vec<W> b = shuffle<W, InterleaveHigh>(rows[i], rows[i + 1]);
    const Vec<W> c = shuffle<W, InterleaveLow>(rows[i + 2], rows[i + 3]);
    const Vec<W> d = shuffle<W, InterleaveHigh>(rows[i + 2], rows[i + 3]);
    fours[i] = shuffle<W, PairsLow>(a, c);
    fours[i + 1] = shuffle<W, PairsHigh>(a, c);
    fours[i + 2] = shuffle<W, PairsLow>(b, d);
    fours[i + 3] = shuffle<W, PairsHigh>(b, d);
  }
  // fours[4 r + l] four c now holds column 4 c + l of rows 4 r to 4 r + 3.
#pragma GCC unroll 4
  for (int l = 0; l < 4; ++l) {
    if constexpr (W == 4) {
      rows[l] = fours[l];
    } else if constexpr (W == 8) {
      rows[l] = shuffle<W, EvenFours>(fours[l], fours[4 + l]);
      rows[4 + l] = shuffle<W, OddFours>(fours[l], fours[4 + l]);
    } else {
      const Vec<W> even_low = shuffle<W, EvenFours>(fours[l], fours[4 + l]);
      const Vec<W> odd_low = shuffle<W, OddFours>(fours[l], fours[4 + l]);
      const Vec<W> even_high = shuffle<W, EvenFours>(fours[8 + l], fours[12 + l]);
      const Vec<W> odd_high = shuffle<W, OddFours>(fours[8 + l], fours[12 + l]);
      rows[l] = shuffle<W, EvenFours>(even_low, even_high);
      rows[4 + l] = shuffle<W, EvenFours>(odd_low, odd_high);
      rows[8 + l] = shuffle<W, OddFours>(even_low, even_high);
      rows[12 + l] = shuffle<W, OddFours>(odd_low, odd_high);
    }
  }
}

}  // namespace
}  // namespace zerolane::kernels::ZL_ISA
