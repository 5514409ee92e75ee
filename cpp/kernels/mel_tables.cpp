// SPDX-License-Identifier: Apache-2.0
#include "kernels/mel_tables.h"

#include <algorithm>
#include <cmath>

namespace zerolane::kernels {
namespace {

constexpr double kPi = 3.14159265358979323846;

// Slaney's scale: linear to the knee, then logarithmic.
constexpr double kHzPerMel = 200.0 / 3.0;
constexpr double kKneeHz = 1000.0;
constexpr double kKneeMel = kKneeHz / kHzPerMel;
const double kLogStep = std::log(6.4) / 27.0;

double to_mel(double hz, MelScale scale) {
  if (scale == MelScale::kHtk) return 2595.0 * std::log10(1.0 + hz / 700.0);
  return hz < kKneeHz ? hz / kHzPerMel : kKneeMel + std::log(hz / kKneeHz) / kLogStep;
}

double to_hz(double mel, MelScale scale) {
  if (scale == MelScale::kHtk) return 700.0 * (std::pow(10.0, mel / 2595.0) - 1.0);
  return mel < kKneeMel ? mel * kHzPerMel : kKneeHz * std::exp(kLogStep * (mel - kKneeMel));
}

double point_hz(const MelBank& bank, int64_t index) {
  const double low = to_mel(bank.f_min, bank.scale);
  const double high = to_mel(bank.f_max, bank.scale);
  return to_hz(
      low + (high - low) * static_cast<double>(index) / static_cast<double>(bank.bands + 1),
      bank.scale);
}

// Calls found(band, bin, weight) for all weights above zero, in order.
template <class Found>
void for_each_weight(const MelBank& bank, const Found& found) {
  const int64_t last_bin = bank.n_fft / 2;
  const double bin_hz = bank.sample_rate / static_cast<double>(bank.n_fft);
  double low = point_hz(bank, 0);
  double middle = point_hz(bank, 1);
  for (int64_t band = 0; band < bank.bands; ++band) {
    const double high = point_hz(bank, band + 2);
    const double factor = bank.slaney_norm ? 2.0 / (high - low) : 1.0;
    // One bin early: the product of rounded numbers must not miss the edge.
    const double from = std::floor(low / bin_hz);
    for (auto bin = static_cast<int64_t>(std::min(from, static_cast<double>(last_bin) + 1));
         bin <= last_bin; ++bin) {
      const double hz = static_cast<double>(bin) * bin_hz;
      if (hz >= high) break;
      const double rising = (hz - low) / (middle - low);
      const double falling = (high - hz) / (high - middle);
      const auto weight = static_cast<float>(std::min(rising, falling) * factor);
      if (weight > 0) found(band, bin, weight);
    }
    low = middle;
    middle = high;
  }
}

}  // namespace

void hann_window_into(int64_t n_fft, int64_t length, bool periodic, double scale, float* window) {
  const int64_t before = (n_fft - length) / 2;
  const int64_t period = periodic ? length : length - 1;
  std::fill(window, window + n_fft, 0.0F);
  for (int64_t i = 0; i < length; ++i) {
    const double turn = static_cast<double>(i) / static_cast<double>(std::max<int64_t>(period, 1));
    const double value = length == 1 ? 1.0 : 0.5 - 0.5 * std::cos(2.0 * kPi * turn);
    window[before + i] = static_cast<float>(value * scale);
  }
}

int64_t mel_bank_weights(const MelBank& bank) {
  int64_t count = 0;
  for_each_weight(bank, [&](int64_t, int64_t, float) { ++count; });
  return count;
}

void mel_bank_into(const MelBank& bank, MelBand* bands, float* weights) {
  std::fill(bands, bands + bank.bands, MelBand{0, 0, 0});
  int32_t used = 0;
  for_each_weight(bank, [&](int64_t band, int64_t bin, float weight) {
    MelBand& row = bands[band];
    if (row.count == 0) row = {static_cast<int32_t>(bin), 0, used};
    ++row.count;
    weights[used++] = weight;
  });
}

}  // namespace zerolane::kernels
