// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/isa.h"

namespace zerolane::kernels {

// The plan of a real FFT of any length from 1 to 65536 in float32, laid out for the vectors of an
// instruction set; fft_run.h runs it. The method:
//
// - An even length n is done as a complex FFT of m = n / 2 points, z[i] = x[2i] + i x[2i+1], whose
//   result is split into that of x. An odd one is a complex FFT of m = n points.
// - Where m has no prime factor above 5, it is factored as rows * lanes: the points are rows of
//   `lanes` neighbours. Columns are transformed first, all of a row at once (Stockham's
//   self-sorting form, radices 4, 8, 2, 3, 5), then, after a multiplication and a transposition,
//   the rows (the "four-step" method of Gentleman and Sande). Lanes are those of a vector register
//   where they divide m, else fewer, in the worst case 1.
// - Other m go through Bluestein's chirp: a convolution of a power of two >= 2m - 1 points.

constexpr int64_t kLongestFft = 65536;
constexpr int kMostFftStages = 20;

// Splits columns of radix * rest points, `stride` of them interleaved, into `radix` parts.
struct FftStage {
  int32_t radix;
  int32_t stride;
  int32_t rest;
  // (cos, -sin) of 2 pi p k / (radix * rest) for 0 <= p < rest, 1 <= k < radix.
  const float* factors;
};

struct ComplexFft {
  int32_t length;
  int32_t lanes;  // 1, 4, 8 or 16
  int32_t rows;   // length / lanes, at least as many
  int32_t stage_count;
  FftStage stages[kMostFftStages];
  // For each row r: `lanes` cos, then `lanes` -sin, of 2 pi r lane / length.
  const float* lane_factors;
};

struct RealFft {
  int32_t length;
  int32_t points;      // m above
  int32_t bins;        // length / 2 + 1
  bool chirp;          // Bluestein: `complex` has another length than `points`
  ComplexFft complex;  // of `points`, or of the convolution
  // An even length: cos, then from split + split_stride on -sin, of 2 pi k / length, k <= points /
  // 2 and up to a whole vector more.
  const float* split;
  int32_t split_stride;
  // cos, then from chirp_factors + chirp_stride on -sin, of pi i^2 / points, and zeros up to a
  // whole vector.
  const float* chirp_factors;
  int32_t chirp_stride;
  // The FFT of their conjugate, over complex.length: that many real parts, then imaginary ones.
  const float* chirp_spectrum;
};

// Bytes of tables for a length, a multiple of 64.
size_t real_fft_bytes(int64_t length, Isa isa);
// Builds the plan and its tables in `memory`, aligned to 64 bytes, which the plan points into. May
// throw std::bad_alloc.
RealFft real_fft_plan(int64_t length, Isa isa, void* memory);

// Floats of scratch memory, a multiple of 16, for one transform at a time.
size_t real_fft_scratch(const RealFft& fft);

}  // namespace zerolane::kernels
