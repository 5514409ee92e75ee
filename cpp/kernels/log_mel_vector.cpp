// SPDX-License-Identifier: Apache-2.0
#include "kernels/log_mel_vector.h"

#include "kernels/fft_run.h"

#if defined(__AVX2__)
#include <immintrin.h>
#endif

namespace zerolane::kernels::ZL_ISA {
namespace {

using Floats = Vec<kLanes>;

// ln of normal numbers > 0 to 1.5 units in the last place: x = m 2^e, sqrt(1/2) <= m < sqrt(2), and
// with f = m - 1 a polynomial for (ln(1 + f) - f + f^2 / 2) / f^3, fitted so that the greatest
// relative error of the logarithm is least (6e-9).
ZL_INLINE Floats natural_log(Floats x) {
  using Ints = Lanes<kLanes>::Ints;
  constexpr int32_t kRootHalf = 0x3f3504f3;  // the bits of sqrt(1/2)
  constexpr float kLn2High = 0.693359375F;   // so short that products with e are exact
  constexpr float kLn2Low = -2.12194440e-4F;
  const Ints bits = (Ints)x;
  const Ints exponent = (bits - kRootHalf) >> 23;
  const Floats e = __builtin_convertvector(exponent, Floats);
  const Floats f = (Floats)(bits - (exponent << 23)) - 1.0F;
  Floats p = f * -0.0763449743F + 0.127615824F;
  p = p * f - 0.13160184F;
  p = p * f + 0.142017573F;
  p = p * f - 0.166233569F;
  p = p * f + 0.200012267F;
  p = p * f - 0.250008196F;
  p = p * f + 0.333333313F;
  const Floats square = f * f;
  const Floats tail = p * (square * f) + (e * kLn2Low - 0.5F * square);
  return e * kLn2High + (f + tail);
}

// `finished` for a vector of sums.
ZL_INLINE Floats finished(const MelFinish& finish, Floats sum) {
  const Floats value = sum * finish.scale;
  const Floats nan = broadcast<kLanes>(__builtin_nanf(""));
  Floats result = value;
  if (finish.factor != 0) {
    const Floats floor = broadcast<kLanes>(finish.floor);
    result = natural_log(value > floor ? value : floor) * finish.factor;
  }
  return sum <= kLargestFloat ? result : nan;
}

// a * b + c, rounded once where the instruction set can, for one lane as for all: left to
// themselves, compilers fuse here and not there, and a stream would differ from the whole.
template <int W>
ZL_INLINE Vec<W> multiply_add(Vec<W> a, float b, Vec<W> c) {
#if defined(__FP_FAST_FMAF)
  if constexpr (W == 1) return __builtin_fmaf(a, b, c);
#endif
#if defined(__AVX512F__)
  if constexpr (W == 16) return _mm512_fmadd_ps(a, broadcast<W>(b), c);
#elif defined(__FMA__)
  if constexpr (W == 8) return _mm256_fmadd_ps(a, broadcast<W>(b), c);
#endif
  return a * b + c;
}

// Sums of one frame (W = 1) or of one a lane; `power` begins with bin first_bin.
template <int W>
ZL_INLINE void sum_bands(const LogMelPlan& plan, const float* power, float* sums) {
  for (int64_t b = 0; b < plan.setting.bank.bands; ++b) {
    const MelBand band = plan.bands[b];
    const float* weights = plan.weights + band.offset;
    const float* from = power + static_cast<int64_t>(band.first - plan.first_bin) * W;
    Vec<W> sum{};
    for (int32_t i = 0; i < band.count; ++i) {
      sum = multiply_add<W>(load<W>(from + int64_t{i} * W), weights[i], sum);
    }
    store<W>(sums + b * W, sum);
  }
}

// columns[c * kLanes + r] = row(r)[c] for 0 <= c < count, and up to a vector more on both sides.
template <class Row>
ZL_INLINE void transpose_into(const Row& row, int64_t count, float* columns) {
  for (int64_t c = 0; c < count; c += kLanes) {
    Floats block[kLanes];
#pragma GCC unroll 16
    for (int r = 0; r < kLanes; ++r) block[r] = load<kLanes>(row(r) + c);
    transpose<kLanes>(block);
#pragma GCC unroll 16
    for (int r = 0; r < kLanes; ++r) store<kLanes>(columns + (c + r) * kLanes, block[r]);
  }
}

ZL_INLINE void copy(float* to, const float* from, int64_t count) {
  if (count == kLanes) {
    store<kLanes>(to, load<kLanes>(from));
  } else {
    for (int64_t i = 0; i < count; ++i) to[i] = from[i];
  }
}

template <class Sample>
struct Runner {
  const LogMelPlan& plan;
  const FrameRun<Sample>& run;
  float* rows;       // the power of kLanes frames
  float* columns;    // the same, transposed
  float* sums;       // bands times kLanes
  float* transform;  // the FFT's
  float* frame;      // one that lies partly outside

  Runner(const LogMelPlan& a_plan, const FrameRun<Sample>& a_run, float* scratch)
      : plan(a_plan), run(a_run) {
    rows = scratch;
    columns = rows + kMostLanes * plan.scratch.row;
    sums = columns + kMostLanes * plan.scratch.row;
    transform = sums + kMostLanes * plan.scratch.bands;
    frame = transform + plan.scratch.transform;
  }

  const Sample* samples_of(int64_t index) {
    const int64_t length = plan.setting.bank.n_fft;
    const int64_t start = run.start + index * plan.setting.hop;
    if (start >= 0 && start + length <= run.samples) return run.signal + start;
    auto* const to = reinterpret_cast<Sample*>(frame);
    for (int64_t i = 0; i < length; ++i) {
      const int64_t at = padded_index(start + i, run.samples, plan.setting.padding);
      to[i] = at < 0 ? Sample(0) : run.signal[at];
    }
    return to;
  }

  void power_of(int64_t index, float* row) {
    run_power(plan.fft, samples_of(index), plan.window, row, transform);
    if (plan.setting.power == 1) {
      for (int32_t k = 0; k < plan.fft.bins; ++k) row[k] = __builtin_sqrtf(row[k]);
    }
  }

  void one(int64_t index) {
    const int64_t bands = plan.setting.bank.bands;
    power_of(index, rows);
    sum_bands<1>(plan, rows + plan.first_bin, sums);
    for (int64_t b = bands; b < plan.scratch.bands; ++b) sums[b] = 0;
    for (int64_t b = 0; b < bands; b += kLanes) {
      store<kLanes>(sums + b, finished(run.finish, load<kLanes>(sums + b)));
    }
    const int64_t at = run.first + index;
    float* const to = plan.setting.frames_first ? run.mel + at * bands : run.mel + at;
    const int64_t step = plan.setting.frames_first ? 1 : run.all;
    for (int64_t b = 0; b < bands; ++b) to[b * step] = sums[b];
  }

  void several(int64_t index, int count) {
    const int64_t bands = plan.setting.bank.bands;
    for (int i = 0; i < count; ++i) power_of(index + i, rows + i * plan.scratch.row);
    // Lanes that have no frame repeat the last one.
    transpose_into(
        [&](int r) {
          return rows + (r < count ? r : count - 1) * plan.scratch.row + plan.first_bin;
        },
        plan.end_bin - plan.first_bin, columns);
    sum_bands<kLanes>(plan, columns, sums);
    const int64_t at = run.first + index;
    if (!plan.setting.frames_first) {
      for (int64_t b = 0; b < bands; ++b) {
        const Floats done = finished(run.finish, load<kLanes>(sums + b * kLanes));
        float lanes[kLanes];
        store<kLanes>(lanes, done);
        copy(run.mel + b * run.all + at, lanes, count);
      }
      return;
    }
    for (int64_t b = 0; b < bands; b += kLanes) {
      const int64_t here = bands - b < kLanes ? bands - b : kLanes;
      Floats block[kLanes];
#pragma GCC unroll 16
      for (int i = 0; i < kLanes; ++i)
        block[i] = finished(run.finish, load<kLanes>(sums + (b + i) * kLanes));
      transpose<kLanes>(block);
      for (int r = 0; r < count; ++r) {
        float lanes[kLanes];
        store<kLanes>(lanes, block[r]);
        copy(run.mel + (at + r) * bands + b, lanes, here);
      }
    }
  }

  void all() {
    for (int64_t index = 0; index < run.frames; index += kLanes) {
      const int64_t left = run.frames - index;
      if (left == 1) {
        one(index);
      } else {
        several(index, static_cast<int>(left < kLanes ? left : kLanes));
      }
    }
  }
};

}  // namespace

void log_mel_floats(const LogMelPlan& plan, const FrameRun<float>& run, float* scratch) {
  Runner<float>(plan, run, scratch).all();
}

void log_mel_shorts(const LogMelPlan& plan, const FrameRun<int16_t>& run, float* scratch) {
  Runner<int16_t>(plan, run, scratch).all();
}

void apply_limit(const MelLimit& limit, float* mel, int64_t count) {
  float greatest = -__builtin_inff();
  Floats most = broadcast<kLanes>(greatest);
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    const Floats value = load<kLanes>(mel + i);
    most = value > most ? value : most;
  }
  for (int lane = 0; lane < kLanes; ++lane) {
    greatest = most[lane] > greatest ? most[lane] : greatest;
  }
  for (; i < count; ++i) greatest = mel[i] > greatest ? mel[i] : greatest;
  for (i = 0; i < count; ++i) mel[i] = limited(limit, greatest, mel[i]);
}

}  // namespace zerolane::kernels::ZL_ISA
