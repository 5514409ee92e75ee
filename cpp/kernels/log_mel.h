// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/fft.h"
#include "kernels/isa.h"
#include "kernels/log_mel_element.h"
#include "kernels/mel_tables.h"

namespace zerolane::kernels {

// Log-mel spectrograms: frames of n_fft samples, `hop` apart, times a window; the magnitudes of
// their Fourier transforms to the power 1 or 2; sums of them weighted by a bank of mel triangles;
// and the logarithm of these, in one of the forms in use:
enum class LogForm {
  kNone,     // the sums themselves
  kNatural,  // ln max(x, floor)
  kLog10,    // log10 max(x, floor)
  kDecibel,  // 20 / power * log10 max(x, floor)
  kWhisper,  // (max(y, greatest - 8) + 4) / 4, y = log10 max(x, floor), greatest: y's of the item
};

struct LogMelSetting {
  MelBank bank;  // its n_fft is the frame's length
  int64_t hop;
  int64_t window_length;  // <= n_fft
  bool periodic;          // of the window
  Padding padding;  // but for kNone, n_fft / 2 samples before the signal and as many behind it
  int power;        // 1 or 2
  LogForm log;
  float floor;  // a normal number > 0
  float range;  // kDecibel: nothing is less than the item's greatest value minus this; 0: no limit
  bool frames_first;  // results as [frames, bands], else [bands, frames]
};

// Parts of the scratch memory, in floats.
struct LogMelScratch {
  int64_t row;        // the power of one frame
  int64_t bands;      // its bands
  int64_t transform;  // for the FFT
  int64_t frame;      // one frame
};

struct LogMelPlan {
  LogMelSetting setting;
  Isa isa;
  RealFft fft;
  LogMelScratch scratch;
  const float* window;  // n_fft
  const MelBand* bands;
  const float* weights;
  int32_t first_bin;  // the bins that any band uses
  int32_t end_bin;
};

// What follows the sums, for samples of float or of int16_t, and the limit if there is one.
MelFinish mel_finish(const LogMelSetting& setting, bool int16);
bool has_limit(const LogMelSetting& setting);
MelLimit mel_limit(const LogMelSetting& setting);

// Bytes of the tables, and the plan on them, built in `memory`, which is aligned to 64 bytes and
// outlives it; `isa` is one that this CPU has. These two take milliseconds and may throw
// std::bad_alloc.
size_t log_mel_bytes(const LogMelSetting& setting, Isa isa);
LogMelPlan log_mel_plan(const LogMelSetting& setting, Isa isa, void* memory);

// Bytes of scratch memory, aligned to 64, for one call at a time.
size_t log_mel_scratch(const LogMelPlan& plan);

// audio [batch, samples] to mel [batch, bands, frames], or with the last two exchanged. Samples of
// int16_t count as parts of 32768. A sum that is not finite (the frame holds NaN or infinity, or
// its square is too large for float) gives NaN, in every form, and is no item's greatest value.
void log_mel(const LogMelPlan& plan, const float* audio, int64_t batch, int64_t samples, float* mel,
             void* scratch);
void log_mel(const LogMelPlan& plan, const int16_t* audio, int64_t batch, int64_t samples,
             float* mel, void* scratch);

// The same piece by piece: audio [batch, hops * hop] behind the samples in state
// [batch, n_fft - hop] gives `hops` frames, and next_state (may be `state`) the samples to go on
// with. Equal, bit for bit, to log_mel without padding on the whole signal, whose beginning is the
// first state. hop <= n_fft; forms that need the item's greatest value are not possible.
void log_mel_stream(const LogMelPlan& plan, const float* audio, const float* state, int64_t batch,
                    int64_t hops, float* mel, float* next_state, void* scratch);
void log_mel_stream(const LogMelPlan& plan, const int16_t* audio, const int16_t* state,
                    int64_t batch, int64_t hops, float* mel, int16_t* next_state, void* scratch);

}  // namespace zerolane::kernels
