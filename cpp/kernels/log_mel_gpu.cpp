// SPDX-License-Identifier: Apache-2.0
// The part of log_mel_cuda.h that runs on the host.
#include <cmath>

#include "kernels/log_mel_cuda.h"

namespace zerolane::kernels {
namespace {

// What a block may have without asking, on every GPU.
constexpr size_t kSharedBytes = 48 << 10;
// Blocks that work in scratch memory instead.
constexpr size_t kScratchBlocks = 64;

int32_t next_factor(int32_t rest) {
  if (rest % 4 == 0) return 4;
  for (int32_t factor = 2; factor * factor <= rest; ++factor) {
    if (rest % factor == 0) return factor;
  }
  return rest;
}

}  // namespace

void log_mel_units_into(int64_t n_fft, float* units) {
  for (int64_t i = 0; i < n_fft; ++i) {
    const double angle =
        2.0 * 3.14159265358979323846 * static_cast<double>(i) / static_cast<double>(n_fft);
    units[2 * i] = static_cast<float>(std::cos(angle));
    units[2 * i + 1] = static_cast<float>(-std::sin(angle));
  }
}

LogMelGpuPlan log_mel_gpu_plan(const LogMelPlan& plan, bool int16, const float* window,
                               const float* units, const MelBand* bands, const float* weights) {
  LogMelGpuPlan gpu{};
  gpu.n_fft = plan.fft.length;
  gpu.points = plan.fft.points;
  gpu.bins = plan.fft.bins;
  gpu.bands = static_cast<int32_t>(plan.setting.bank.bands);
  gpu.power = plan.setting.power;
  int32_t stride = 1;
  for (int32_t rest = gpu.points; rest > 1;) {
    const int32_t radix = next_factor(rest);
    rest /= radix;
    gpu.stages[gpu.stage_count++] = {radix, stride, rest};
    stride *= radix;
  }
  gpu.hop = plan.setting.hop;
  gpu.padding = plan.setting.padding;
  gpu.frames_first = plan.setting.frames_first;
  gpu.limits = has_limit(plan.setting);
  gpu.finish = mel_finish(plan.setting, int16);
  gpu.limit = mel_limit(plan.setting);
  gpu.window = window;
  gpu.units = reinterpret_cast<const MelPoint*>(units);
  gpu.band_table = bands;
  gpu.weights = weights;
  return gpu;
}

size_t log_mel_gpu_scratch(int64_t n_fft) {
  const auto points = static_cast<size_t>(n_fft % 2 == 0 ? n_fft / 2 : n_fft);
  const size_t block = 2 * sizeof(MelPoint) * points;
  return block <= kSharedBytes ? 0 : kScratchBlocks * block;
}

}  // namespace zerolane::kernels
