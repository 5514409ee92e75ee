// SPDX-License-Identifier: Apache-2.0
// What log_mel_cpu.cpp takes from log_mel_vector.cpp.
#pragma once

#include "kernels/isa.h"
#include "kernels/log_mel.h"

namespace zerolane::kernels {

// The widest vector there is. Parts of the scratch memory are multiples of it.
constexpr int64_t kMostLanes = 16;

// Frames of one signal, and where they go.
template <class Sample>
struct FrameRun {
  const Sample* signal;
  int64_t samples;
  int64_t start;  // where in the signal the first frame begins; may be negative
  int64_t frames;
  int64_t first;  // the first frame's place in `mel`
  int64_t all;    // frames of `mel`
  float* mel;
  MelFinish finish;
};

ZL_DECLARE_ISA(void, log_mel_floats, (const LogMelPlan&, const FrameRun<float>&, float* scratch))
ZL_DECLARE_ISA(void, log_mel_shorts, (const LogMelPlan&, const FrameRun<int16_t>&, float* scratch))
// Of the `count` results of one item, in place.
ZL_DECLARE_ISA(void, apply_limit, (const MelLimit&, float* mel, int64_t count))

}  // namespace zerolane::kernels
