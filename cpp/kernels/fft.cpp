// SPDX-License-Identifier: Apache-2.0
#include "kernels/fft.h"

#include <algorithm>
#include <cmath>
#include <complex>
#include <vector>

namespace zerolane::kernels {
namespace {

constexpr double kPi = 3.14159265358979323846;

// Hands out aligned pieces of a block, or only counts them where there is no block.
class Tables {
 public:
  explicit Tables(void* memory) : memory_(static_cast<char*>(memory)) {}
  float* take(int64_t floats) {
    float* piece = memory_ == nullptr ? nullptr : reinterpret_cast<float*>(memory_ + bytes_);
    bytes_ += (static_cast<size_t>(floats) * sizeof(float) + 63) / 64 * 64;
    return piece;
  }
  bool counting() const { return memory_ == nullptr; }
  size_t bytes() const { return bytes_; }

 private:
  char* memory_;
  size_t bytes_ = 0;
};

// exp(-2 pi i index / length). The index is reduced first, which keeps the angle exact.
std::complex<double> unit(int64_t index, int64_t length) {
  const double angle =
      -2.0 * kPi * static_cast<double>(index % length) / static_cast<double>(length);
  return {std::cos(angle), std::sin(angle)};
}

bool has_only_small_factors(int64_t length) {
  for (const int64_t factor : {2, 3, 5}) {
    while (length % factor == 0) length /= factor;
  }
  return length == 1;
}

int32_t vector_lanes(Isa isa) {
  switch (isa) {
    case Isa::kAvx512:
    case Isa::kAmx:
      return 16;
    case Isa::kAvx2:
      return 8;
    default:
      return 4;
  }
}

int32_t lanes_for(int64_t length, Isa isa) {
  for (int32_t lanes = vector_lanes(isa); lanes >= 4; lanes /= 2) {
    if (length % lanes == 0 && length / lanes >= lanes) return lanes;
  }
  return 1;
}

int32_t next_radix(int64_t rest) {
  if (rest == 8 || rest == 32) return 8;
  for (const int32_t radix : {4, 2, 3, 5}) {
    if (rest % radix == 0) return radix;
  }
  return 1;
}

void plan_complex(int64_t length, Isa isa, Tables* tables, ComplexFft* fft) {
  fft->length = static_cast<int32_t>(length);
  fft->lanes = lanes_for(length, isa);
  fft->rows = fft->length / fft->lanes;
  fft->stage_count = 0;
  int32_t rest = fft->rows;
  int32_t stride = 1;
  while (rest > 1) {
    const int32_t radix = next_radix(rest);
    FftStage& stage = fft->stages[fft->stage_count++];
    const int32_t whole = rest;
    rest /= radix;
    float* factors = tables->take(2L * (radix - 1) * rest);
    stage = {radix, stride, rest, factors};
    stride *= radix;
    if (tables->counting()) continue;
    for (int64_t p = 0; p < rest; ++p) {
      for (int64_t k = 1; k < radix; ++k) {
        const std::complex<double> factor = unit(p * k, whole);
        *factors++ = static_cast<float>(factor.real());
        *factors++ = static_cast<float>(factor.imag());
      }
    }
  }
  float* factors = tables->take(2 * length);
  fft->lane_factors = factors;
  if (tables->counting()) return;
  for (int64_t row = 0; row < fft->rows; ++row) {
    for (int64_t lane = 0; lane < fft->lanes; ++lane) {
      const std::complex<double> factor = unit(row * lane, length);
      factors[2 * row * fft->lanes + lane] = static_cast<float>(factor.real());
      factors[(2 * row + 1) * fft->lanes + lane] = static_cast<float>(factor.imag());
    }
  }
}

// In double, for the chirp's spectrum. The length is a power of two; units[i] is
// exp(-2 pi i / (length * step)).
void transform(const std::vector<std::complex<double>>& units, size_t step,
               std::vector<std::complex<double>>* values) {
  const size_t length = values->size();
  if (length == 1) return;
  std::vector<std::complex<double>> even(length / 2);
  std::vector<std::complex<double>> odd(length / 2);
  for (size_t i = 0; i < length / 2; ++i) {
    even[i] = (*values)[2 * i];
    odd[i] = (*values)[2 * i + 1];
  }
  transform(units, 2 * step, &even);
  transform(units, 2 * step, &odd);
  for (size_t k = 0; k < length / 2; ++k) {
    const std::complex<double> turned = units[k * step] * odd[k];
    (*values)[k] = even[k] + turned;
    (*values)[k + length / 2] = even[k] - turned;
  }
}

void plan_chirp(int64_t points, int64_t length, Tables* tables, RealFft* fft) {
  const int64_t stride = (points + 15) / 16 * 16;
  float* factors = tables->take(2 * stride);
  float* spectrum = tables->take(2 * length);
  fft->chirp_factors = factors;
  fft->chirp_stride = static_cast<int32_t>(stride);
  fft->chirp_spectrum = spectrum;
  if (tables->counting()) return;
  std::vector<std::complex<double>> chirp(static_cast<size_t>(length));
  std::fill(factors, factors + 2 * stride, 0.0F);
  for (int64_t i = 0; i < points; ++i) {
    const std::complex<double> factor = unit(i * i, 2 * points);
    factors[i] = static_cast<float>(factor.real());
    factors[stride + i] = static_cast<float>(factor.imag());
    chirp[static_cast<size_t>(i)] = std::conj(factor);
    if (i > 0) chirp[static_cast<size_t>(length - i)] = std::conj(factor);
  }
  std::vector<std::complex<double>> units(static_cast<size_t>(length / 2));
  for (size_t i = 0; i < units.size(); ++i) units[i] = unit(static_cast<int64_t>(i), length);
  transform(units, 1, &chirp);
  for (int64_t k = 0; k < length; ++k) {
    const std::complex<double> value = chirp[static_cast<size_t>(k)] / static_cast<double>(length);
    spectrum[k] = static_cast<float>(value.real());
    spectrum[length + k] = static_cast<float>(value.imag());
  }
}

RealFft plan(int64_t length, Isa isa, Tables* tables) {
  RealFft fft{};
  const int64_t points = length % 2 == 0 ? length / 2 : length;
  fft.length = static_cast<int32_t>(length);
  fft.points = static_cast<int32_t>(points);
  fft.bins = static_cast<int32_t>(length / 2 + 1);
  fft.chirp = !has_only_small_factors(points);
  int64_t transformed = points;
  if (fft.chirp) {
    transformed = 1;
    while (transformed < 2 * points - 1) transformed *= 2;
    plan_chirp(points, transformed, tables, &fft);
  }
  plan_complex(transformed, isa, tables, &fft.complex);
  if (length % 2 == 0) {
    fft.split_stride = static_cast<int32_t>((points / 2 + 1 + 31) / 16 * 16);
    float* split = tables->take(2L * fft.split_stride);
    fft.split = split;
    if (!tables->counting()) {
      for (int32_t k = 0; k < fft.split_stride; ++k) {
        const std::complex<double> factor = unit(k, length);
        split[k] = static_cast<float>(factor.real());
        split[k + fft.split_stride] = static_cast<float>(factor.imag());
      }
    }
  }
  return fft;
}

}  // namespace

size_t real_fft_bytes(int64_t length, Isa isa) {
  Tables tables(nullptr);
  plan(length, isa, &tables);
  return tables.bytes();
}

RealFft real_fft_plan(int64_t length, Isa isa, void* memory) {
  Tables tables(memory);
  return plan(length, isa, &tables);
}

size_t real_fft_scratch(const RealFft& fft) {
  // Two buffers of rows for the stages, then the transformed points, real and imaginary apart, with
  // room for a vector beyond their end.
  const size_t rows = (2 * static_cast<size_t>(fft.complex.length) + 15) / 16 * 16;
  return 2 * rows + 2 * (rows / 2 + 32);
}

}  // namespace zerolane::kernels
