// SPDX-License-Identifier: Apache-2.0
#include <cuda_runtime_api.h>

#include "kernels/log_mel_cuda.h"
#include "kernels/log_mel_element.h"

namespace zerolane::kernels {
namespace {

constexpr int kThreads = 256;
constexpr int kLimitThreads = 1024;
constexpr int64_t kMostBlocks = 1 << 20;

struct BlockTeam {
  template <class Function>
  __device__ void share(int32_t count, const Function& function) const {
    for (int32_t i = static_cast<int32_t>(threadIdx.x); i < count;
         i += static_cast<int32_t>(blockDim.x)) {
      function(i);
    }
    __syncthreads();
  }
};

template <class Sample>
__global__ void frames(LogMelGpuPlan plan, GpuSignals<Sample> signals, int64_t all, float* mel,
                       MelPoint* scratch) {
  extern __shared__ MelPoint shared[];
  MelPoint* const a = scratch == nullptr ? shared : scratch + int64_t{2} * plan.points * blockIdx.x;
  for (int64_t i = blockIdx.x; i < all; i += gridDim.x) {
    mel_frame(BlockTeam{}, plan, signals, i / signals.frames, i % signals.frames, a,
              a + plan.points, mel);
  }
}

__global__ void limit_items(MelLimit limit, int64_t batch, int64_t count, float* mel) {
  __shared__ float most[kLimitThreads];
  for (int64_t item = blockIdx.x; item < batch; item += gridDim.x) {
    float* const values = mel + item * count;
    float greatest = -INFINITY;
    for (int64_t i = threadIdx.x; i < count; i += kLimitThreads) {
      greatest = fmaxf(greatest, values[i]);  // of a number and NaN the number
    }
    most[threadIdx.x] = greatest;
    __syncthreads();
    for (int half = kLimitThreads / 2; half > 0; half /= 2) {
      if (static_cast<int>(threadIdx.x) < half) {
        most[threadIdx.x] = fmaxf(most[threadIdx.x], most[threadIdx.x + half]);
      }
      __syncthreads();
    }
    greatest = most[0];
    for (int64_t i = threadIdx.x; i < count; i += kLimitThreads) {
      values[i] = limited(limit, greatest, values[i]);
    }
    __syncthreads();
  }
}

template <class Sample>
struct NextState {
  GpuSignals<Sample> signals;
  Sample* to;
  ZL_HOST_DEVICE void operator()(int64_t i) const {
    const int64_t item = i / signals.heads;
    const int64_t at = i % signals.heads + signals.bodies;
    to[i] = at < signals.heads ? signals.head[item * signals.heads + at]
                               : signals.body[item * signals.bodies + at - signals.heads];
  }
};

template <class Sample>
int run(const LogMelGpuPlan& plan, const GpuSignals<Sample>& signals, int64_t batch, float* mel,
        void* scratch, void* stream) {
  const int64_t all = batch * signals.frames;
  if (all == 0) return 0;
  const size_t wanted = log_mel_gpu_scratch(plan.n_fft);
  const bool in_shared = wanted == 0;
  const size_t block_bytes = 2 * sizeof(MelPoint) * static_cast<size_t>(plan.points);
  const int64_t most = in_shared ? kMostBlocks : static_cast<int64_t>(wanted / block_bytes);
  auto* const on = static_cast<cudaStream_t>(stream);
  frames<<<static_cast<unsigned>(all < most ? all : most), kThreads, in_shared ? block_bytes : 0,
           on>>>(plan, signals, all, mel, in_shared ? nullptr : static_cast<MelPoint*>(scratch));
  if (plan.limits) {
    limit_items<<<static_cast<unsigned>(batch < kMostBlocks ? batch : kMostBlocks), kLimitThreads,
                  0, on>>>(plan.limit, batch, signals.frames * plan.bands, mel);
  }
  return static_cast<int>(cudaGetLastError());
}

template <class Sample>
int whole(const LogMelGpuPlan& plan, const Sample* audio, int64_t batch, int64_t samples,
          float* mel, void* scratch, void* stream) {
  const int64_t before = plan.padding == Padding::kNone ? 0 : plan.n_fft / 2;
  const int64_t frames = log_mel_frames(plan.n_fft, plan.hop, plan.padding, samples);
  return run(plan, GpuSignals<Sample>{nullptr, audio, 0, samples, before, frames}, batch, mel,
             scratch, stream);
}

template <class Sample>
int piece(const LogMelGpuPlan& plan, const Sample* audio, const Sample* state, int64_t batch,
          int64_t hops, float* mel, Sample* next_state, void* scratch, void* stream) {
  const GpuSignals<Sample> signals = {state,           audio, plan.n_fft - plan.hop,
                                      hops * plan.hop, 0,     hops};
  const int status = run(plan, signals, batch, mel, scratch, stream);
  if (status != 0) return status;
  return for_each_on(stream, batch * signals.heads, NextState<Sample>{signals, next_state});
}

}  // namespace

int launch_log_mel(const LogMelGpuPlan& plan, const float* audio, int64_t batch, int64_t samples,
                   float* mel, void* scratch, void* stream) {
  return whole(plan, audio, batch, samples, mel, scratch, stream);
}

int launch_log_mel(const LogMelGpuPlan& plan, const int16_t* audio, int64_t batch, int64_t samples,
                   float* mel, void* scratch, void* stream) {
  return whole(plan, audio, batch, samples, mel, scratch, stream);
}

int launch_log_mel_stream(const LogMelGpuPlan& plan, const float* audio, const float* state,
                          int64_t batch, int64_t hops, float* mel, float* next_state, void* scratch,
                          void* stream) {
  return piece(plan, audio, state, batch, hops, mel, next_state, scratch, stream);
}

int launch_log_mel_stream(const LogMelGpuPlan& plan, const int16_t* audio, const int16_t* state,
                          int64_t batch, int64_t hops, float* mel, int16_t* next_state,
                          void* scratch, void* stream) {
  return piece(plan, audio, state, batch, hops, mel, next_state, scratch, stream);
}

}  // namespace zerolane::kernels
