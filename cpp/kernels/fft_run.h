// SPDX-License-Identifier: Apache-2.0
// Runs the plans of fft.h. For vector sources (isa.h).
#pragma once

#include "kernels/fft.h"
#include "kernels/vectors.h"

namespace zerolane::kernels::ZL_ISA {
namespace {

template <int W>
struct Complex {
  Vec<W> re;
  Vec<W> im;
};

template <int W>
ZL_INLINE Complex<W> operator+(Complex<W> a, Complex<W> b) {
  return {a.re + b.re, a.im + b.im};
}
template <int W>
ZL_INLINE Complex<W> operator-(Complex<W> a, Complex<W> b) {
  return {a.re - b.re, a.im - b.im};
}
template <int W>
ZL_INLINE Complex<W> minus_i_times(Complex<W> a) {
  return {a.im, -a.re};
}
template <int W, class Factor>
ZL_INLINE Complex<W> times(Complex<W> a, Factor re, Factor im) {
  return {a.re * re - a.im * im, a.re * im + a.im * re};
}
template <int W>
ZL_INLINE Complex<W> scaled(Complex<W> a, float factor) {
  return {a.re * factor, a.im * factor};
}

// In place: v[k] = sum over j of v[j] exp(-2 pi i j k / Radix).
template <int Radix, int W>
struct Butterfly;

template <int W>
struct Butterfly<1, W> {
  static ZL_INLINE void run(Complex<W>*) {}
};

template <int W>
struct Butterfly<2, W> {
  static ZL_INLINE void run(Complex<W>* v) {
    const Complex<W> difference = v[0] - v[1];
    v[0] = v[0] + v[1];
    v[1] = difference;
  }
};

template <int W>
struct Butterfly<3, W> {
  static ZL_INLINE void run(Complex<W>* v) {
    constexpr float kSine = 0.866025403784438647F;
    const Complex<W> sum = v[1] + v[2];
    const Complex<W> turned = minus_i_times(scaled(v[1] - v[2], kSine));
    const Complex<W> middle = v[0] - scaled(sum, 0.5F);
    v[0] = v[0] + sum;
    v[1] = middle + turned;
    v[2] = middle - turned;
  }
};

template <int W>
struct Butterfly<4, W> {
  static ZL_INLINE void run(Complex<W>* v) {
    const Complex<W> sum02 = v[0] + v[2];
    const Complex<W> difference02 = v[0] - v[2];
    const Complex<W> sum13 = v[1] + v[3];
    const Complex<W> turned13 = minus_i_times(v[1] - v[3]);
    v[0] = sum02 + sum13;
    v[1] = difference02 + turned13;
    v[2] = sum02 - sum13;
    v[3] = difference02 - turned13;
  }
};

template <int W>
struct Butterfly<5, W> {
  static ZL_INLINE void run(Complex<W>* v) {
    constexpr float kCos1 = 0.309016994374947424F;   // of 2 pi / 5
    constexpr float kCos2 = -0.809016994374947424F;  // of 4 pi / 5
    constexpr float kSin1 = 0.951056516295153572F;
    constexpr float kSin2 = 0.587785252292473129F;
    const Complex<W> sum14 = v[1] + v[4];
    const Complex<W> sum23 = v[2] + v[3];
    const Complex<W> turned14 = minus_i_times(v[1] - v[4]);
    const Complex<W> turned23 = minus_i_times(v[2] - v[3]);
    const Complex<W> even1 = v[0] + scaled(sum14, kCos1) + scaled(sum23, kCos2);
    const Complex<W> even2 = v[0] + scaled(sum14, kCos2) + scaled(sum23, kCos1);
    const Complex<W> odd1 = scaled(turned14, kSin1) + scaled(turned23, kSin2);
    const Complex<W> odd2 = scaled(turned14, kSin2) - scaled(turned23, kSin1);
    v[0] = v[0] + sum14 + sum23;
    v[1] = even1 + odd1;
    v[2] = even2 + odd2;
    v[3] = even2 - odd2;
    v[4] = even1 - odd1;
  }
};

template <int W>
struct Butterfly<8, W> {
  static ZL_INLINE void run(Complex<W>* v) {
    constexpr float kHalfRoot = 0.707106781186547524F;
    Complex<W> even[4] = {v[0] + v[4], v[1] + v[5], v[2] + v[6], v[3] + v[7]};
    const Complex<W> d1 = v[1] - v[5];
    const Complex<W> d3 = v[3] - v[7];
    // (1 - i) / sqrt 2 and (-1 - i) / sqrt 2.
    Complex<W> odd[4] = {v[0] - v[4],
                         {(d1.re + d1.im) * kHalfRoot, (d1.im - d1.re) * kHalfRoot},
                         minus_i_times(v[2] - v[6]),
                         {(d3.im - d3.re) * kHalfRoot, -(d3.re + d3.im) * kHalfRoot}};
    Butterfly<4, W>::run(even);
    Butterfly<4, W>::run(odd);
#pragma GCC unroll 4
    for (int k = 0; k < 4; ++k) {
      v[2 * k] = even[k];
      v[2 * k + 1] = odd[k];
    }
  }
};

template <int W>
struct Butterfly<16, W> {
  static ZL_INLINE void run(Complex<W>* v) {
    // cos and -sin of 2 pi j / 16, j = 0 to 9.
    constexpr float kCos[10] = {
        1,  0.923879532511286756F,  0.707106781186547524F,  0.382683432365089772F,
        0,  -0.382683432365089772F, -0.707106781186547524F, -0.923879532511286756F,
        -1, -0.923879532511286756F};
    constexpr float kSin[10] = {
        0,  -0.382683432365089772F, -0.707106781186547524F, -0.923879532511286756F,
        -1, -0.923879532511286756F, -0.707106781186547524F, -0.382683432365089772F,
        0,  0.382683432365089772F};
    Complex<W> part[4][4];
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j) {
      Complex<W> column[4] = {v[j], v[j + 4], v[j + 8], v[j + 12]};
      Butterfly<4, W>::run(column);
#pragma GCC unroll 4
      for (int k = 0; k < 4; ++k) {
        part[k][j] = j * k == 0   ? column[k]
                     : j * k == 4 ? minus_i_times(column[k])
                                  : times(column[k], kCos[j * k], kSin[j * k]);
      }
    }
#pragma GCC unroll 4
    for (int k = 0; k < 4; ++k) {
      Butterfly<4, W>::run(part[k]);
#pragma GCC unroll 4
      for (int l = 0; l < 4; ++l) v[k + 4 * l] = part[k][l];
    }
  }
};

// Rows of vectors: the real part of row r at 2 r W, the imaginary one W later.
template <int W>
ZL_INLINE Complex<W> load_row(const float* rows, int row) {
  return {load<W>(rows + 2L * row * W), load<W>(rows + (2L * row + 1) * W)};
}
template <int W>
ZL_INLINE void store_row(float* rows, int row, Complex<W> value) {
  store<W>(rows + 2L * row * W, value.re);
  store<W>(rows + (2L * row + 1) * W, value.im);
}

template <int Radix, int W>
void run_stage(const FftStage& stage, const float* from, float* to) {
  const int stride = stage.stride;
  const int apart = stride * stage.rest;
  for (int q = 0; q < stride; ++q) {
    Complex<W> v[Radix];
#pragma GCC unroll 8
    for (int j = 0; j < Radix; ++j) v[j] = load_row<W>(from, q + j * apart);
    Butterfly<Radix, W>::run(v);
#pragma GCC unroll 8
    for (int k = 0; k < Radix; ++k) store_row<W>(to, q + k * stride, v[k]);
  }
  const float* factors = stage.factors;
  for (int p = 1; p < stage.rest; ++p) {
    factors += 2 * (Radix - 1);
    for (int q = 0; q < stride; ++q) {
      Complex<W> v[Radix];
#pragma GCC unroll 8
      for (int j = 0; j < Radix; ++j) v[j] = load_row<W>(from, q + stride * p + j * apart);
      Butterfly<Radix, W>::run(v);
      const int row = q + stride * Radix * p;
      store_row<W>(to, row, v[0]);
#pragma GCC unroll 8
      for (int k = 1; k < Radix; ++k) {
        store_row<W>(to, row + k * stride, times(v[k], factors[2 * k - 2], factors[2 * k - 1]));
      }
    }
  }
}

// Transforms the columns of `from`, in place or into `other`; returns where they are.
template <int W>
float* run_stages(const ComplexFft& fft, float* from, float* other) {
  for (int i = 0; i < fft.stage_count; ++i) {
    const FftStage& stage = fft.stages[i];
    switch (stage.radix) {
      case 2:
        run_stage<2, W>(stage, from, other);
        break;
      case 3:
        run_stage<3, W>(stage, from, other);
        break;
      case 4:
        run_stage<4, W>(stage, from, other);
        break;
      case 5:
        run_stage<5, W>(stage, from, other);
        break;
      default:
        run_stage<8, W>(stage, from, other);
        break;
    }
    float* const was = from;
    from = other;
    other = was;
  }
  return from;
}

// Rows `first` to first + W - 1 of the transformed columns: their own transforms. Point k of row r
// is that of index r + rows * k. Writes W numbers to each of W places, in that order.
template <int W>
ZL_INLINE void run_rows(const ComplexFft& fft, const float* rows, int first, float* re, float* im) {
  Vec<W> real[W];
  Vec<W> imaginary[W];
#pragma GCC unroll 16
  for (int i = 0; i < W; ++i) {
    const float* factors = fft.lane_factors + 2L * (first + i) * W;
    const Complex<W> value =
        times(load_row<W>(rows, first + i), load<W>(factors), load<W>(factors + W));
    real[i] = value.re;
    imaginary[i] = value.im;
  }
  transpose<W>(real);
  transpose<W>(imaginary);
  Complex<W> v[W];
#pragma GCC unroll 16
  for (int i = 0; i < W; ++i) v[i] = {real[i], imaginary[i]};
  Butterfly<W, W>::run(v);
#pragma GCC unroll 16
  for (int k = 0; k < W; ++k) {
    store<W>(re + first + k * fft.rows, v[k].re);
    store<W>(im + first + k * fft.rows, v[k].im);
  }
}

// The transform of the points in `rows` (2 * length floats), in order, to re and im.
// `other`: as large as `rows`. Both are overwritten.
template <int W>
void run_complex(const ComplexFft& fft, float* rows, float* other, float* re, float* im) {
  const float* done = run_stages<W>(fft, rows, other);
  if constexpr (W == 1) {
    for (int i = 0; i < fft.length; ++i) {
      re[i] = done[2 * i];
      im[i] = done[2 * i + 1];
    }
  } else {
    // The last block repeats some of the one before it if rows are not a multiple of W.
    const int last = fft.rows - W;
    for (int first = 0; first < fft.rows; first += W) {
      run_rows<W>(fft, done, first < last ? first : last, re, im);
    }
  }
}

// |X|^2 of an even length from its points z: X[k] = E + F O, X[m - k] = conj(E - F O) with
// E = z[k] + conj z[m - k], O = (z[k] - conj z[m - k]) / i, F = exp(-2 pi i k / length), which is
// twice the transform. At least 2 W points, or W = 1.
template <int W>
void split_power(const RealFft& fft, float* re, float* im, float* power) {
  const int m = fft.points;
  re[m] = re[0];
  im[m] = im[0];
  for (int k = 0; 2 * k < m; k += W) {
    const int mirror = m - k - W + 1;
    const Vec<W> a = load<W>(re + k);
    const Vec<W> b = load<W>(im + k);
    Vec<W> c = load<W>(re + mirror);
    Vec<W> d = load<W>(im + mirror);
    if constexpr (W > 1) {
      c = shuffle<W, Reversed>(c, c);
      d = shuffle<W, Reversed>(d, d);
    }
    const Complex<W> even = {a + c, b - d};
    const Complex<W> odd = {b + d, c - a};
    const Complex<W> turned =
        times(odd, load<W>(fft.split + k), load<W>(fft.split + fft.split_stride + k));
    const Complex<W> low = even + turned;
    const Complex<W> high = even - turned;
    store<W>(power + k, low.re * low.re + low.im * low.im);
    Vec<W> high_power = high.re * high.re + high.im * high.im;
    if constexpr (W > 1) high_power = shuffle<W, Reversed>(high_power, high_power);
    store<W>(power + mirror, high_power);
  }
  // Its own mirror image.
  if (m % 2 == 0) power[m / 2] = 4 * (re[m / 2] * re[m / 2] + im[m / 2] * im[m / 2]);
}

// Windowed samples as the points that fft.h names, point i in row i / W, lane i % W; for the chirp
// with zeros behind them.
template <int W, class Sample>
void put_points(const RealFft& fft, const Sample* samples, const float* window, float* rows) {
  const bool even = fft.length % 2 == 0;
  int done = 0;
  if constexpr (W > 1) {
    for (; done + W <= fft.points; done += W) {
      if (even) {
        const int at = 2 * done;
        const Vec<W> low = load<W>(samples + at) * load<W>(window + at);
        const Vec<W> high = load<W>(samples + at + W) * load<W>(window + at + W);
        store_row<W>(rows, done / W,
                     {shuffle<W, EvenLanes>(low, high), shuffle<W, OddLanes>(low, high)});
      } else {
        store_row<W>(rows, done / W, {load<W>(samples + done) * load<W>(window + done), Vec<W>{}});
      }
    }
  }
  for (int i = 2 * done; i < 2 * fft.complex.length; ++i) rows[i] = 0;
  const auto windowed = [&](int i) { return static_cast<float>(samples[i]) * window[i]; };
  for (; done < fft.points; ++done) {
    float* const at = rows + done / W * 2 * W + done % W;
    at[0] = windowed(even ? 2 * done : done);
    if (even) at[W] = windowed(2 * done + 1);
  }
}

// Bluestein: X[k] = c[k] sum over i of (x[i] c[i]) conj c[k - i], c[i] = exp(-pi i^2 / points).
template <int W>
void run_chirp(const RealFft& fft, float* rows, float* other, float* re, float* im) {
  const ComplexFft& complex = fft.complex;
  const float* const chirp_re = fft.chirp_factors;
  const float* const chirp_im = chirp_re + fft.chirp_stride;
  for (int i = 0; i < fft.points; i += W) {
    store_row<W>(rows, i / W,
                 times(load_row<W>(rows, i / W), load<W>(chirp_re + i), load<W>(chirp_im + i)));
  }
  run_complex<W>(complex, rows, other, re, im);
  // The way back is the same transform with the parts exchanged.
  for (int i = 0; i < complex.length; i += W) {
    const Complex<W> product =
        times(Complex<W>{load<W>(re + i), load<W>(im + i)}, load<W>(fft.chirp_spectrum + i),
              load<W>(fft.chirp_spectrum + complex.length + i));
    store_row<W>(rows, i / W, {product.im, product.re});
  }
  run_complex<W>(complex, rows, other, im, re);
  for (int i = 0; i < fft.points; i += W) {
    const Complex<W> value = times(Complex<W>{load<W>(re + i), load<W>(im + i)},
                                   load<W>(chirp_re + i), load<W>(chirp_im + i));
    store<W>(re + i, value.re);
    store<W>(im + i, value.im);
  }
}

// |X[k]|^2, fft.bins numbers, from the points in rows, which are overwritten, as `other` is.
template <int W>
void points_to_power(const RealFft& fft, float* rows, float* other, float* re, float* im,
                     float* power) {
  if (fft.chirp) {
    run_chirp<W>(fft, rows, other, re, im);
  } else {
    run_complex<W>(fft.complex, rows, other, re, im);
  }
  if (fft.length % 2 != 0) {
    for (int k = 0; k < fft.bins; ++k) power[k] = re[k] * re[k] + im[k] * im[k];
  } else if (fft.points < 2 * W) {  // NOLINT(bugprone-branch-clone): W may be 1
    split_power<1>(fft, re, im, power);
  } else {
    split_power<W>(fft, re, im, power);
  }
}

template <int W, class Sample>
void run_power(const RealFft& fft, const Sample* samples, const float* window, float* power,
               float* scratch) {
  const long half = (2L * fft.complex.length + 15) / 16 * 16;
  float* const other = scratch + half;
  float* const re = other + half;
  float* const im = re + half / 2 + 32;
  put_points<W>(fft, samples, window, scratch);
  points_to_power<W>(fft, scratch, other, re, im, power);
}

// The power of one windowed frame, fft.bins numbers, times 4 for an even length. `scratch`:
// real_fft_scratch(fft) floats.
template <class Sample>
void run_power(const RealFft& fft, const Sample* samples, const float* window, float* power,
               float* scratch) {
  switch (fft.complex.lanes) {
#if defined(__AVX512F__)
    case 16:
      return run_power<16>(fft, samples, window, power, scratch);
#endif
#if defined(__AVX2__)
    case 8:
      return run_power<8>(fft, samples, window, power, scratch);
#endif
    case 4:
      return run_power<4>(fft, samples, window, power, scratch);
    default:
      return run_power<1>(fft, samples, window, power, scratch);
  }
}

}  // namespace
}  // namespace zerolane::kernels::ZL_ISA
