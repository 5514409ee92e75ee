// SPDX-License-Identifier: Apache-2.0
// What the bodies of log_mel.h for the CPU and for GPUs share, and one frame as a GPU does it.
// Functions are static: a vector source that includes this must not hand its own to the linker.
#pragma once

#include <math.h>
#include <stdint.h>

#include "kernels/mel_tables.h"
#include "zerolane/cuda.h"

namespace zerolane::kernels {

enum class Padding { kNone, kZero, kReflect };

// Which sample stands at `index` of a padded signal, or -1 for a zero. Reflection leaves the edge
// out (3 2 1 | 0 1 2 3 | 2 1 0) and goes on for as long as it takes, as NumPy's; there is nothing
// to reflect in an empty signal.
ZL_HOST_DEVICE static inline int64_t padded_index(int64_t index, int64_t samples, Padding padding) {
  if (index >= 0 && index < samples) return index;
  if (padding != Padding::kReflect || samples == 0) return -1;
  if (samples == 1) return 0;
  const int64_t period = 2 * (samples - 1);
  int64_t place = index % period;
  if (place < 0) place += period;
  return place < samples ? place : period - place;
}

// Frames of a signal: 1 + (samples + 2 (n_fft / 2) - n_fft) / hop, where the middle term is there
// with padding only; 0 if the sum in brackets is negative.
static inline int64_t log_mel_frames(int64_t n_fft, int64_t hop, Padding padding, int64_t samples) {
  const int64_t padded = samples + (padding == Padding::kNone ? 0 : n_fft / 2 * 2);
  return padded < n_fft ? 0 : 1 + (padded - n_fft) / hop;
}

// From the sum of a band to the result, but for forms that need the greatest one of an item:
// factor * ln max(scale * sum, floor), or scale * sum if factor is 0; NaN if the sum is not finite.
struct MelFinish {
  float scale;
  float floor;
  float factor;
};

constexpr float kLargestFloat = 3.40282347e38F;

ZL_HOST_DEVICE static inline float finished(const MelFinish& finish, float sum) {
  if (!(sum <= kLargestFloat)) return nanf("");
  const float value = finish.scale * sum;
  if (finish.factor == 0) return value;
  return finish.factor * logf(value > finish.floor ? value : finish.floor);
}

// The limit of forms that need the greatest value of an item, see log_mel.h.
struct MelLimit {
  float below;  // nothing is less than the greatest minus this
  float add;    // then
  float multiply;
};

ZL_HOST_DEVICE static inline float limited(const MelLimit& limit, float greatest, float value) {
  const float least = greatest - limit.below;
  return ((value < least ? least : value) + limit.add) * limit.multiply;
}

struct MelPoint {
  float re;
  float im;
};

// One pass over `points` numbers, radix * stride * rest of them, as FftStage in fft.h. Any factor
// of the length is a radix.
struct GpuFftStage {
  int32_t radix;
  int32_t stride;
  int32_t rest;
};

// Number `index` of a stage's result. units[i] = exp(-2 pi i / (stage's points * units_step)).
ZL_HOST_DEVICE static inline MelPoint stage_result(const GpuFftStage& stage, const MelPoint* from,
                                                   int32_t index, const MelPoint* units,
                                                   int32_t units_step) {
  const int32_t q = index % stage.stride;
  const int32_t part = index / stage.stride;
  const int32_t k = part % stage.radix;
  const int32_t p = part / stage.radix;
  const int32_t whole = stage.radix * stage.rest;
  // The angle of term j is k (p + rest j), in turns of `whole`.
  const auto turn = static_cast<int32_t>(int64_t{k} * stage.rest % whole);
  auto angle = static_cast<int32_t>(int64_t{k} * p % whole);
  const MelPoint* x = from + q + int64_t{stage.stride} * p;
  MelPoint sum = {0, 0};
  for (int32_t j = 0; j < stage.radix; ++j) {
    const MelPoint unit = units[int64_t{angle} * stage.stride * units_step];
    sum.re += x->re * unit.re - x->im * unit.im;
    sum.im += x->re * unit.im + x->im * unit.re;
    x += int64_t{stage.stride} * stage.rest;
    angle += turn;
    if (angle >= whole) angle -= whole;
  }
  return sum;
}

// The power of bin k of an even length from its points, times 4; units[i] = exp(-2 pi i / length).
ZL_HOST_DEVICE static inline float split_bin(const MelPoint* points, int32_t count, int32_t k,
                                             const MelPoint* units) {
  const MelPoint z = points[k == count ? 0 : k];
  const MelPoint mirror = points[k == 0 ? 0 : count - k];
  const MelPoint even = {z.re + mirror.re, z.im - mirror.im};
  const MelPoint odd = {z.im + mirror.im, mirror.re - z.re};
  const MelPoint unit = units[k];
  const float re = even.re + (odd.re * unit.re - odd.im * unit.im);
  const float im = even.im + (odd.re * unit.im + odd.im * unit.re);
  return re * re + im * im;
}

// A plan for GPUs: sizes, and tables in the memory of one.
constexpr int kMostGpuStages = 16;
struct LogMelGpuPlan {
  int32_t n_fft;
  int32_t points;  // n_fft / 2, or n_fft if that is odd
  int32_t bins;
  int32_t bands;
  int32_t power;
  int32_t stage_count;
  GpuFftStage stages[kMostGpuStages];
  int64_t hop;
  Padding padding;
  bool frames_first;
  bool limits;
  MelFinish finish;
  MelLimit limit;
  const float* window;    // n_fft
  const MelPoint* units;  // n_fft of exp(-2 pi i k / n_fft)
  const MelBand* band_table;
  const float* weights;
};

// Signals of a batch: each a head, of `heads` samples, before a body. The first frame begins
// `before` samples earlier.
template <class Sample>
struct GpuSignals {
  const Sample* head;
  const Sample* body;
  int64_t heads;
  int64_t bodies;
  int64_t before;
  int64_t frames;
};

template <class Sample>
ZL_HOST_DEVICE static inline float sample_at(const GpuSignals<Sample>& signals, int64_t item,
                                             int64_t index, Padding padding) {
  const int64_t at = padded_index(index, signals.heads + signals.bodies, padding);
  if (at < 0) return 0;
  return static_cast<float>(at < signals.heads
                                ? signals.head[item * signals.heads + at]
                                : signals.body[item * signals.bodies + at - signals.heads]);
}

// One frame, by a team of threads: team.share(count, f) calls f(i) for 0 <= i < count, and returns
// to each of them when all are done. `a` and `b` have room for plan.points each and are the team's.
template <class Team, class Sample>
ZL_HOST_DEVICE void mel_frame(const Team& team, const LogMelGpuPlan& plan,
                              const GpuSignals<Sample>& signals, int64_t item, int64_t frame,
                              MelPoint* a, MelPoint* b, float* mel) {
  const int64_t start = frame * plan.hop - signals.before;
  const bool even = plan.n_fft % 2 == 0;
  const auto windowed = [&](int32_t i) {
    return sample_at(signals, item, start + i, plan.padding) * plan.window[i];
  };
  team.share(plan.points, [&](int32_t i) {
    a[i] = even ? MelPoint{windowed(2 * i), windowed(2 * i + 1)} : MelPoint{windowed(i), 0};
  });
  for (int32_t s = 0; s < plan.stage_count; ++s) {
    team.share(plan.points, [&](int32_t i) {
      b[i] = stage_result(plan.stages[s], a, i, plan.units, even ? 2 : 1);
    });
    MelPoint* const was = a;
    a = b;
    b = was;
  }
  auto* const power = reinterpret_cast<float*>(b);
  team.share(plan.bins, [&](int32_t k) {
    const float square =
        even ? split_bin(a, plan.points, k, plan.units) : a[k].re * a[k].re + a[k].im * a[k].im;
    power[k] = plan.power == 2 ? square : sqrtf(square);
  });
  float* const to = mel + item * signals.frames * plan.bands;
  team.share(plan.bands, [&](int32_t i) {
    const MelBand band = plan.band_table[i];
    float sum = 0;
    for (int32_t j = 0; j < band.count; ++j) {
      sum += power[band.first + j] * plan.weights[band.offset + j];
    }
    to[plan.frames_first ? frame * plan.bands + i : i * signals.frames + frame] =
        finished(plan.finish, sum);
  });
}

}  // namespace zerolane::kernels
