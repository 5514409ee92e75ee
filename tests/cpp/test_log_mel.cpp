// SPDX-License-Identifier: Apache-2.0
// The transforms and spectrograms of kernels/log_mel.h beside their definitions, and the frame of
// a GPU beside the CPU's. What ops add is tested in tests/ops.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <complex>
#include <cstring>
#include <limits>
#include <memory>
#include <new>
#include <numbers>
#include <random>
#include <vector>

#include "kernel_isas.h"
#include "kernels/log_mel.h"
#include "kernels/log_mel_cuda.h"
#include "kernels/log_mel_vector.h"

using namespace zerolane::kernels;

namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInf = std::numeric_limits<float>::infinity();

// Those that this CPU runs, best first.
std::vector<Isa> isas() {
  std::vector<Isa> all;
  for (const Isa each : {Isa::kAvx512, Isa::kAvx2, Isa::kBaseline}) {
    if (each <= isa()) all.push_back(each);
  }
  return all;
}

struct Free {
  void operator()(void* memory) const { ::operator delete(memory, std::align_val_t{64}); }
};
std::unique_ptr<void, Free> memory(size_t bytes) {
  return std::unique_ptr<void, Free>(::operator new(bytes, std::align_val_t{64}));
}

LogMelSetting setting(int64_t n_fft) {
  return {{16000, n_fft, 13, 60, 7600, MelScale::kSlaney, true},
          std::max<int64_t>(1, n_fft / 3),
          std::max<int64_t>(1, n_fft - n_fft / 5),
          true,
          Padding::kReflect,
          2,
          LogForm::kNatural,
          1e-10F,
          0,
          false};
}

struct Made {
  explicit Made(const LogMelSetting& of, Isa with = isa())
      : tables(memory(log_mel_bytes(of, with))),
        plan(log_mel_plan(of, with, tables.get())),
        scratch(memory(log_mel_scratch(plan))) {}

  int64_t frames(int64_t samples) const {
    const LogMelSetting& s = plan.setting;
    return log_mel_frames(s.bank.n_fft, s.hop, s.padding, samples);
  }
  template <class Sample>
  std::vector<float> operator()(const std::vector<Sample>& audio, int64_t batch = 1) const {
    const int64_t samples = static_cast<int64_t>(audio.size()) / batch;
    const int64_t count = batch * frames(samples) * plan.setting.bank.bands;
    std::vector<float> mel(static_cast<size_t>(count), -77);
    log_mel(plan, audio.data(), batch, samples, mel.data(), scratch.get());
    return mel;
  }

  std::unique_ptr<void, Free> tables;
  LogMelPlan plan;
  std::unique_ptr<void, Free> scratch;
};

std::vector<float> noise(size_t count, unsigned seed) {
  std::mt19937 engine(seed);
  std::normal_distribution<float> normal;
  std::vector<float> values(count);
  for (float& value : values) value = normal(engine);
  return values;
}

// By the definition, in double, as [bands, frames]; without the logarithm.
std::vector<double> defined(const Made& made, const std::vector<float>& audio) {
  const LogMelSetting& s = made.plan.setting;
  const auto samples = static_cast<int64_t>(audio.size());
  const int64_t n = s.bank.n_fft;
  const int64_t frames = made.frames(samples);
  const int64_t bins = n / 2 + 1;
  std::vector<double> sums(static_cast<size_t>(s.bank.bands * frames));
  std::vector<std::complex<double>> units(static_cast<size_t>(n));
  for (int64_t i = 0; i < n; ++i) {
    units[static_cast<size_t>(i)] =
        std::polar(1.0, -2 * std::numbers::pi * static_cast<double>(i) / static_cast<double>(n));
  }
  std::vector<float> window(static_cast<size_t>(n));
  hann_window_into(n, s.window_length, s.periodic, 1, window.data());
  for (int64_t f = 0; f < frames; ++f) {
    std::vector<double> power(static_cast<size_t>(bins));
    for (int64_t k = 0; k < bins; ++k) {
      std::complex<double> sum = 0;
      for (int64_t i = 0; i < n; ++i) {
        const int64_t start = f * s.hop - (s.padding == Padding::kNone ? 0 : n / 2);
        const int64_t at = padded_index(start + i, samples, s.padding);
        const double sample = at < 0 ? 0 : audio[static_cast<size_t>(at)];
        sum += sample * window[static_cast<size_t>(i)] * units[static_cast<size_t>(i * k % n)];
      }
      power[static_cast<size_t>(k)] = s.power == 2 ? std::norm(sum) : std::abs(sum);
    }
    for (int64_t b = 0; b < s.bank.bands; ++b) {
      const MelBand& band = made.plan.bands[b];
      double sum = 0;
      for (int32_t i = 0; i < band.count; ++i) {
        sum += power[static_cast<size_t>(band.first + i)] * made.plan.weights[band.offset + i];
      }
      sums[static_cast<size_t>(b * frames + f)] = sum;
    }
  }
  return sums;
}

double difference(const std::vector<float>& found, const std::vector<double>& expected) {
  REQUIRE(found.size() == expected.size());
  double worst = 0;
  for (size_t i = 0; i < found.size(); ++i) {
    worst = std::max(worst, std::abs(found[i] - expected[i]));
  }
  return worst;
}

// A GPU's block with one thread.
struct OneThread {
  template <class Function>
  void share(int32_t count, const Function& function) const {
    for (int32_t i = 0; i < count; ++i) function(i);
  }
};

template <class Sample>
std::vector<float> as_gpu(const Made& made, const GpuSignals<Sample>& signals, int64_t batch) {
  const LogMelSetting& s = made.plan.setting;
  std::vector<float> units(static_cast<size_t>(2 * s.bank.n_fft));
  log_mel_units_into(s.bank.n_fft, units.data());
  const LogMelGpuPlan gpu = log_mel_gpu_plan(made.plan, sizeof(Sample) == 2, made.plan.window,
                                             units.data(), made.plan.bands, made.plan.weights);
  std::vector<float> mel(static_cast<size_t>(batch * signals.frames * s.bank.bands), -77);
  std::vector<MelPoint> a(static_cast<size_t>(gpu.points));
  std::vector<MelPoint> b(static_cast<size_t>(gpu.points));
  for (int64_t i = 0; i < batch * signals.frames; ++i) {
    mel_frame(OneThread{}, gpu, signals, i / signals.frames, i % signals.frames, a.data(), b.data(),
              mel.data());
  }
  return mel;
}

}  // namespace

TEST_CASE("log_mel: lengths of every kind follow the definition, on the CPU and as a GPU does") {
  // Lanes of 1, 4, 8 and 16 with whole and repeated blocks of rows, each radix, odd lengths, and
  // lengths for the chirp, even, odd and prime.
  for (const int64_t n :
       {1,  2,  3,  4,   5,   6,   7,   8,   9,   15,  16,  30,  31,  32,  48,  62,  64,   75,
        80, 96, 97, 128, 144, 160, 200, 240, 256, 320, 400, 401, 480, 512, 551, 640, 1024, 1102}) {
    CAPTURE(n);
    LogMelSetting of = setting(n);
    of.log = LogForm::kNone;
    const Made made(of);
    const std::vector<float> audio = noise(static_cast<size_t>(7 * of.hop + n), 5);
    const std::vector<double> expected = defined(made, audio);
    const auto samples = static_cast<int64_t>(audio.size());
    const std::vector<float> gpu =
        as_gpu<float>(made, {nullptr, audio.data(), 0, samples, n / 2, made.frames(samples)}, 1);
    const double most = *std::max_element(expected.begin(), expected.end());
    CHECK(difference(gpu, expected) <= 4e-6 * most);
    for (const Isa with : isas()) {
      CAPTURE(with);
      CHECK(difference(Made(of, with)(audio), expected) <= 2e-6 * most);
    }
  }
}

TEST_CASE("log_mel: forms, layouts, both element types, and a GPU's frame agree") {
  const std::vector<float> audio = noise(2 * 3001, 9);
  std::vector<int16_t> shorts(audio.size());
  std::vector<float> parts(audio.size());
  for (size_t i = 0; i < audio.size(); ++i) {
    shorts[i] = static_cast<int16_t>(std::lround(std::clamp(audio[i], -3.0F, 3.0F) * 9000));
    parts[i] = static_cast<float>(shorts[i]) / 32768;
  }
  for (const int power : {1, 2}) {
    for (const LogForm log :
         {LogForm::kNone, LogForm::kNatural, LogForm::kLog10, LogForm::kDecibel}) {
      LogMelSetting of = setting(240);
      of.power = power;
      of.log = log;
      of.padding = Padding::kZero;
      const Made made(of);
      const std::vector<float> mel = made(parts, 2);
      const int64_t frames = made.frames(3001);
      of.frames_first = true;
      const Made turned(of);
      std::vector<std::vector<float>> rows;
      rows.push_back(as_gpu<int16_t>(turned, {nullptr, shorts.data(), 0, 3001, 120, frames}, 2));
      for (const Isa with : isas()) {
        rows.push_back(Made(of, with)(shorts, 2));
        rows.push_back(Made(of, with)(parts, 2));
      }
      for (int64_t item = 0; item < 2; ++item) {
        for (int64_t b = 0; b < of.bank.bands; ++b) {
          for (int64_t f = 0; f < frames; ++f) {
            const auto at = static_cast<size_t>((item * of.bank.bands + b) * frames + f);
            const auto row = static_cast<size_t>((item * frames + f) * of.bank.bands + b);
            for (const std::vector<float>& each : rows) {
              REQUIRE(each[row] == doctest::Approx(mel[at]).epsilon(1e-5));
            }
          }
        }
      }
    }
  }
}

TEST_CASE("log_mel: the limit counts from the item's greatest number, past NaN") {
  const auto check = [](const char* name, auto function) {
    CAPTURE(name);
    std::vector<float> mel = {-2, kNan, -30, 1.5F, kNan};
    mel.resize(40, -9);
    function(MelLimit{8, 4, 0.25F}, mel.data(), 40);
    CHECK(mel[0] == 0.5F);
    CHECK(std::isnan(mel[1]));
    CHECK(mel[2] == -0.625F);
    CHECK(mel[3] == 1.375F);
    CHECK(mel[39] == -0.625F);
  };
  ZL_FOR_EACH_ISA(apply_limit, check);
  LogMelSetting of = setting(64);
  of.log = LogForm::kWhisper;
  const Made whisper(of);
  of.log = LogForm::kLog10;
  const Made plain(of);
  std::vector<float> audio = noise(2 * 1000, 3);
  for (size_t i = 300; i < 700; ++i) audio[i] = 0;  // far below the limit
  audio[900] = kNan;
  const std::vector<float> y = plain(audio, 2);
  const std::vector<float> found = whisper(audio, 2);
  const auto half = static_cast<std::ptrdiff_t>(y.size() / 2);
  bool limited_some = false;
  for (int item = 0; item < 2; ++item) {
    float greatest = -kInf;
    for (auto v = y.begin() + item * half; v != y.begin() + (item + 1) * half; ++v) {
      if (*v > greatest) greatest = *v;
    }
    for (auto i = static_cast<size_t>(item * half); i < static_cast<size_t>((item + 1) * half);
         ++i) {
      if (std::isnan(y[i])) {
        REQUIRE(std::isnan(found[i]));
        continue;
      }
      limited_some = limited_some || y[i] < greatest - 8;
      REQUIRE(found[i] == (std::max(y[i], greatest - 8) + 4) / 4);
    }
  }
  CHECK(limited_some);
}

TEST_CASE("log_mel: NaN and infinity spoil their frames alone, and whole ones") {
  LogMelSetting of = setting(400);
  of.padding = Padding::kNone;
  of.hop = 100;
  const Made made(of);
  const std::vector<float> clean = noise(3000, 1);
  const std::vector<float> expected = made(clean);
  const int64_t frames = made.frames(3000);
  for (const float bad : {kNan, kInf, -kInf, 3e38F}) {
    std::vector<float> audio = clean;
    audio[1234] = bad;
    const std::vector<float> found = made(audio);
    for (int64_t f = 0; f < frames; ++f) {
      // The window (320 of 400) does not reach the sample in all frames that hold it.
      const bool holds = 1234 >= f * 100 && 1234 < f * 100 + 400;
      const bool certain = 1234 > f * 100 + 40 && 1234 < f * 100 + 360;
      for (int64_t b = 0; b < of.bank.bands; ++b) {
        const auto at = static_cast<size_t>(b * frames + f);
        if (!holds) REQUIRE(found[at] == expected[at]);
        if (certain || (holds && !std::isfinite(bad))) REQUIRE(std::isnan(found[at]));
      }
    }
  }
}

TEST_CASE("log_mel: short and empty signals") {
  LogMelSetting of = setting(64);
  for (const Padding padding : {Padding::kNone, Padding::kZero, Padding::kReflect}) {
    of.padding = padding;
    const Made made(of);
    for (const int64_t samples : {0, 1, 2, 3, 31, 32, 63}) {
      CHECK(made.frames(samples) == (padding == Padding::kNone ? 0 : 1 + samples / of.hop));
      const std::vector<float> audio = noise(static_cast<size_t>(samples), 2);
      const std::vector<float> found = made(audio);
      const std::vector<double> expected = defined(made, audio);
      REQUIRE(found.size() == expected.size());
      for (size_t i = 0; i < found.size(); ++i) {
        CHECK(found[i] == doctest::Approx(std::log(std::max(expected[i], 1e-10))).epsilon(1e-4));
      }
    }
  }
}

TEST_CASE("log_mel: a stream equals the whole, bit for bit, however it is cut") {
  for (const int64_t n : {1, 33, 64, 97, 256, 400, 480, 512}) {
    for (const int64_t hop : {int64_t{1}, n / 3, n / 2, n - 1, n}) {
      if (hop < 1) continue;
      CAPTURE(n);
      CAPTURE(hop);
      LogMelSetting of = setting(n);
      of.hop = hop;
      of.padding = Padding::kNone;
      of.frames_first = true;
      const Isa with = isas()[static_cast<size_t>(n + hop) % isas().size()];
      const Made made(of, with);
      const int64_t carried = n - hop;
      const int64_t hops = 37;
      const std::vector<float> audio = noise(static_cast<size_t>(carried + hops * hop), 4);
      const std::vector<float> whole = made(audio);
      std::vector<float> state(audio.begin(), audio.begin() + carried);
      int64_t at = 0;
      for (int64_t step = 0; at < hops; ++step) {
        const int64_t count = std::min<int64_t>(hops - at, (step * 5) % 19);
        const float* from = audio.data() + carried + at * hop;
        std::vector<float> mel(static_cast<size_t>(count * of.bank.bands));
        const std::vector<float> gpu =
            as_gpu<float>(made, {state.data(), from, carried, count * hop, 0, count}, 1);
        log_mel_stream(made.plan, from, state.data(), 1, count, mel.data(), state.data(),
                       made.scratch.get());
        const float* wanted = whole.data() + at * of.bank.bands;
        REQUIRE(std::equal(mel.begin(), mel.end(), wanted));
        for (size_t i = 0; i < mel.size(); ++i) {
          REQUIRE(gpu[i] == doctest::Approx(mel[i]).epsilon(1e-4));
        }
        at += count;
        REQUIRE(std::equal(state.begin(), state.end(), audio.begin() + at * hop));
      }
    }
  }
}
