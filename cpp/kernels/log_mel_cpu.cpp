// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cstring>

#include "kernels/log_mel.h"
#include "kernels/log_mel_vector.h"

namespace zerolane::kernels {
namespace {

int64_t whole_vectors(int64_t count) { return (count + kMostLanes - 1) / kMostLanes * kMostLanes; }

// Of the scratch memory, in floats: what `LogMelScratch` names, then the beginning of a stream.
int64_t before_joined(const LogMelScratch& parts) {
  return kMostLanes * (2 * parts.row + parts.bands) + parts.transform + parts.frame;
}

size_t rounded(size_t bytes) { return (bytes + 63) / 64 * 64; }

void run_frames(const LogMelPlan& plan, const FrameRun<float>& run, float* scratch) {
  const auto chosen = plan.isa >= Isa::kAvx512 ? avx512::log_mel_floats
                      : plan.isa == Isa::kAvx2 ? avx2::log_mel_floats
                                               : baseline::log_mel_floats;
  chosen(plan, run, scratch);
}
void run_frames(const LogMelPlan& plan, const FrameRun<int16_t>& run, float* scratch) {
  const auto chosen = plan.isa >= Isa::kAvx512 ? avx512::log_mel_shorts
                      : plan.isa == Isa::kAvx2 ? avx2::log_mel_shorts
                                               : baseline::log_mel_shorts;
  chosen(plan, run, scratch);
}

template <class Sample>
void whole(const LogMelPlan& plan, const Sample* audio, int64_t batch, int64_t samples, float* mel,
           void* scratch) {
  const LogMelSetting& setting = plan.setting;
  const int64_t n_fft = setting.bank.n_fft;
  const int64_t frames = log_mel_frames(n_fft, setting.hop, setting.padding, samples);
  const int64_t before = setting.padding == Padding::kNone ? 0 : n_fft / 2;
  const MelFinish finish = mel_finish(setting, sizeof(Sample) == sizeof(int16_t));
  const MelLimit limit = mel_limit(setting);
  for (int64_t item = 0; item < batch; ++item) {
    float* const to = mel + item * frames * setting.bank.bands;
    const FrameRun<Sample> run = {
        audio + item * samples, samples, -before, frames, 0, frames, to, finish};
    run_frames(plan, run, static_cast<float*>(scratch));
    if (has_limit(setting)) ZL_CHOOSE_ISA(apply_limit)(limit, to, frames * setting.bank.bands);
  }
}

template <class Sample>
void stream(const LogMelPlan& plan, const Sample* audio, const Sample* state, int64_t batch,
            int64_t hops, float* mel, Sample* next_state, void* scratch) {
  const LogMelSetting& setting = plan.setting;
  const int64_t hop = setting.hop;
  const int64_t carried = setting.bank.n_fft - hop;
  const int64_t samples = hops * hop;
  // Frames that begin in the state are made from a copy of it and of what follows.
  const int64_t early = std::min(hops, (carried + hop - 1) / hop);
  const MelFinish finish = mel_finish(setting, sizeof(Sample) == sizeof(int16_t));
  auto* const floats = static_cast<float*>(scratch);
  auto* const joined = reinterpret_cast<Sample*>(floats + before_joined(plan.scratch));
  const auto bytes = [](int64_t count) { return static_cast<size_t>(count) * sizeof(Sample); };
  for (int64_t item = 0; item < batch; ++item) {
    const Sample* const from = audio + item * samples;
    float* const to = mel + item * hops * setting.bank.bands;
    const int64_t length = carried + early * hop;
    if (carried > 0) std::memcpy(joined, state + item * carried, bytes(carried));
    if (early > 0) std::memcpy(joined + carried, from, bytes(early * hop));
    run_frames(plan, FrameRun<Sample>{joined, length, 0, early, 0, hops, to, finish}, floats);
    run_frames(plan,
               FrameRun<Sample>{from, samples, early * hop - carried, hops - early, early, hops, to,
                                finish},
               floats);
    if (carried == 0) continue;
    // `joined` holds everything if the new samples are fewer than the state's.
    const Sample* const rest = samples < carried ? joined + samples : from + (samples - carried);
    std::memcpy(next_state + item * carried, rest, bytes(carried));
  }
}

}  // namespace

MelFinish mel_finish(const LogMelSetting& setting, bool int16) {
  constexpr float kTenth = 0.434294481903251828F;  // 1 / ln 10
  const bool square = setting.power == 2;
  MelFinish finish = {1, setting.floor, 0};
  if (int16) finish.scale = square ? 1.0F / (32768.0F * 32768.0F) : 1.0F / 32768.0F;
  switch (setting.log) {
    case LogForm::kNone:
      break;
    case LogForm::kNatural:
      finish.factor = 1;
      break;
    case LogForm::kLog10:
    case LogForm::kWhisper:
      finish.factor = kTenth;
      break;
    case LogForm::kDecibel:
      finish.factor = (square ? 10 : 20) * kTenth;
      break;
  }
  return finish;
}

bool has_limit(const LogMelSetting& setting) {
  return setting.log == LogForm::kWhisper ||
         (setting.log == LogForm::kDecibel && setting.range > 0);
}

MelLimit mel_limit(const LogMelSetting& setting) {
  if (setting.log == LogForm::kWhisper) return {8, 4, 0.25F};
  return {setting.range, 0, 1};
}

size_t log_mel_bytes(const LogMelSetting& setting, Isa isa) {
  return real_fft_bytes(setting.bank.n_fft, isa) +
         rounded(static_cast<size_t>(setting.bank.n_fft) * sizeof(float)) +
         rounded(static_cast<size_t>(setting.bank.bands) * sizeof(MelBand)) +
         rounded(static_cast<size_t>(mel_bank_weights(setting.bank)) * sizeof(float));
}

LogMelPlan log_mel_plan(const LogMelSetting& setting, Isa isa, void* memory) {
  const int64_t n_fft = setting.bank.n_fft;
  auto* at = static_cast<char*>(memory);
  LogMelPlan plan{};
  plan.setting = setting;
  plan.isa = isa;
  plan.fft = real_fft_plan(n_fft, isa, at);
  at += real_fft_bytes(n_fft, isa);
  auto* const window = reinterpret_cast<float*>(at);
  at += rounded(static_cast<size_t>(n_fft) * sizeof(float));
  auto* const bands = reinterpret_cast<MelBand*>(at);
  at += rounded(static_cast<size_t>(setting.bank.bands) * sizeof(MelBand));
  auto* const weights = reinterpret_cast<float*>(at);
  // The transform of an even length comes out twice as large.
  hann_window_into(n_fft, setting.window_length, setting.periodic, n_fft % 2 == 0 ? 0.5 : 1.0,
                   window);
  mel_bank_into(setting.bank, bands, weights);
  plan.scratch.row = whole_vectors(plan.fft.bins + kMostLanes);
  plan.scratch.bands = whole_vectors(setting.bank.bands);
  plan.scratch.transform = static_cast<int64_t>(real_fft_scratch(plan.fft));
  plan.scratch.frame = whole_vectors(n_fft);
  plan.window = window;
  plan.bands = bands;
  plan.weights = weights;
  plan.first_bin = plan.fft.bins;
  for (int64_t b = 0; b < setting.bank.bands; ++b) {
    if (bands[b].count == 0) continue;
    plan.first_bin = std::min(plan.first_bin, bands[b].first);
    plan.end_bin = std::max(plan.end_bin, bands[b].first + bands[b].count);
  }
  plan.first_bin = std::min(plan.first_bin, plan.end_bin);
  for (int64_t b = 0; b < setting.bank.bands; ++b) {
    if (bands[b].count == 0) bands[b].first = plan.first_bin;
  }
  return plan;
}

size_t log_mel_scratch(const LogMelPlan& plan) {
  const int64_t floats = before_joined(plan.scratch) + 2 * plan.scratch.frame;
  return static_cast<size_t>(floats) * sizeof(float);
}

void log_mel(const LogMelPlan& plan, const float* audio, int64_t batch, int64_t samples, float* mel,
             void* scratch) {
  whole(plan, audio, batch, samples, mel, scratch);
}

void log_mel(const LogMelPlan& plan, const int16_t* audio, int64_t batch, int64_t samples,
             float* mel, void* scratch) {
  whole(plan, audio, batch, samples, mel, scratch);
}

void log_mel_stream(const LogMelPlan& plan, const float* audio, const float* state, int64_t batch,
                    int64_t hops, float* mel, float* next_state, void* scratch) {
  stream(plan, audio, state, batch, hops, mel, next_state, scratch);
}

void log_mel_stream(const LogMelPlan& plan, const int16_t* audio, const int16_t* state,
                    int64_t batch, int64_t hops, float* mel, int16_t* next_state, void* scratch) {
  stream(plan, audio, state, batch, hops, mel, next_state, scratch);
}

}  // namespace zerolane::kernels
