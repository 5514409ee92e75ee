// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

namespace zerolane::kernels {

enum class MelScale { kSlaney, kHtk };

// A window of Hann, w[i] = 1/2 - 1/2 cos(2 pi i / d) for 0 <= i < length, with d = length if
// `periodic` and length - 1 if not (a length of 1 is w = 1), in the middle of n_fft samples:
// (n_fft - length) / 2 zeros lie before it. Each value is multiplied by `scale`. length <= n_fft.
void hann_window_into(int64_t n_fft, int64_t length, bool periodic, double scale, float* window);

// Triangles on the mel scale, as librosa.filters.mel and torchaudio's melscale_fbanks have them:
// `bands` + 2 points lie evenly in mel from f_min to f_max; band b rises from point b to point
// b + 1 and falls to point b + 2, evaluated at the frequencies k * sample_rate / n_fft of the bins.
// kHtk is mel = 2595 log10(1 + f / 700) (Young et al., The HTK Book). kSlaney is Slaney's Auditory
// Toolbox: 3 f / 200 below 1000 Hz, 15 + 27 ln(f / 1000) / ln 6.4 above. With `slaney_norm` each
// triangle is divided by half its width in Hz, so that its area is one.
struct MelBank {
  double sample_rate;
  int64_t n_fft;
  int64_t bands;
  double f_min;
  double f_max;
  MelScale scale;
  bool slaney_norm;
};

// The part of a band that is not zero: weights[offset + i] belongs to bin first + i.
struct MelBand {
  int32_t first;
  int32_t count;
  int32_t offset;
};

// How many weights are not zero: at most 2 a bin, since triangles overlap only their neighbours.
int64_t mel_bank_weights(const MelBank& bank);

// Fills bank.bands bands and mel_bank_weights(bank) weights. Bands between two bins are empty.
void mel_bank_into(const MelBank& bank, MelBand* bands, float* weights);

}  // namespace zerolane::kernels
