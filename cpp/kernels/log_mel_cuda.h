// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/log_mel.h"

namespace zerolane::kernels {

// The bodies of log_mel.h for GPUs: the same results but for rounding (logarithms, the order of
// sums). They write on the stream and wait for nothing; status 0 is success. One block a frame, its
// transform in shared memory; every prime factor of n_fft is a radix, so lengths with large ones
// are right and slow.

// n_fft pairs that `units` of a GPU's plan reads, besides the window, bands and weights of
// LogMelPlan. Host memory, to be copied.
void log_mel_units_into(int64_t n_fft, float* units);

// Sizes from a plan for the CPU, and tables from a GPU's memory: plan.window, the units above,
// plan.bands and plan.weights. `int16`: whether the samples are.
LogMelGpuPlan log_mel_gpu_plan(const LogMelPlan& plan, bool int16, const float* window,
                               const float* units, const MelBand* bands, const float* weights);

// Bytes of scratch memory on the GPU: none unless n_fft is large.
size_t log_mel_gpu_scratch(int64_t n_fft);

int launch_log_mel(const LogMelGpuPlan& plan, const float* audio, int64_t batch, int64_t samples,
                   float* mel, void* scratch, void* stream);
int launch_log_mel(const LogMelGpuPlan& plan, const int16_t* audio, int64_t batch, int64_t samples,
                   float* mel, void* scratch, void* stream);

// next_state does not overlap state.
int launch_log_mel_stream(const LogMelGpuPlan& plan, const float* audio, const float* state,
                          int64_t batch, int64_t hops, float* mel, float* next_state, void* scratch,
                          void* stream);
int launch_log_mel_stream(const LogMelGpuPlan& plan, const int16_t* audio, const int16_t* state,
                          int64_t batch, int64_t hops, float* mel, int16_t* next_state,
                          void* scratch, void* stream);

}  // namespace zerolane::kernels
