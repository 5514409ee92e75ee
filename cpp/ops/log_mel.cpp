// SPDX-License-Identifier: Apache-2.0
#include "kernels/log_mel.h"

#include "ops/list.h"
#include "zerolane/op.h"

#if defined(ZL_OPS_CUDA)
#include "kernels/log_mel_cuda.h"
#endif

namespace zerolane::ops {
namespace {

using kernels::LogForm;
using kernels::Padding;

// What the whole form and the stream have in common: attributes, and tables made from them.
struct LogMel {
  double sample_rate = 16000;
  int64_t n_fft = 400;
  int64_t hop_length = 160;
  int64_t win_length = 0;
  bool periodic = true;
  int64_t n_mels = 80;
  double f_min = 0;
  double f_max = 0;
  std::string mel_scale = "slaney";
  std::string norm = "slaney";
  int32_t power = 2;
  std::string log = "ln";
  float floor = 1e-10F;
  std::string layout = "BMF";

  template <typename Self>
  static void define_common(op::Definition<Self>& op, std::initializer_list<const char*> logs) {
    const auto add = [&op](const char* name, auto member) {
      return op.attribute(name, of<Self>(member));
    };
    add("sample_rate", &LogMel::sample_rate).bounds(1, 1e9).doc("samples a second");
    add("n_fft", &LogMel::n_fft).bounds(2, kernels::kLongestFft).doc("samples of a frame");
    add("hop_length", &LogMel::hop_length)
        .bounds(1, 1 << 24)
        .doc("samples from the beginning of a frame to that of the next");
    add("win_length", &LogMel::win_length)
        .bounds(0, kernels::kLongestFft)
        .doc("samples under the window of Hann, in the middle of the frame; 0: n_fft");
    add("periodic", &LogMel::periodic)
        .doc("true: the window's period is win_length, false: win_length - 1");
    add("n_mels", &LogMel::n_mels).bounds(1, 4096).doc("bands");
    add("f_min", &LogMel::f_min).bounds(0, 1e9).doc("Hz where the first band begins");
    add("f_max", &LogMel::f_max)
        .bounds(0, 1e9)
        .doc("Hz where the last band ends; 0: sample_rate / 2");
    add("mel_scale", &LogMel::mel_scale)
        .choices({"slaney", "htk"})
        .doc("slaney: linear up to 1000 Hz, then logarithmic; htk: logarithmic");
    add("norm", &LogMel::norm)
        .choices({"slaney", "none"})
        .doc("slaney: the triangle of each band has an area of one; none: a height of one");
    add("power", &LogMel::power).bounds(1, 2).doc("of the magnitudes that a band sums");
    add("log", &LogMel::log).choices(logs).doc("none: the sums; else of max(sum, floor)");
    add("floor", &LogMel::floor)
        .bounds(1.17549435e-38, 1e38)
        .doc("the least sum that a logarithm is taken of");
    add("layout", &LogMel::layout)
        .choices({"BMF", "BFM"})
        .doc("of the result: batch, then bands and frames, or frames and bands");
  }

  void make(Padding padding, double range) {
    kernels::LogMelSetting setting{};
    const double highest = f_max == 0 ? sample_rate / 2 : f_max;
    if (highest <= f_min) {
      throw op::Error("f_max is " + std::to_string(highest) + " Hz, expected more than f_min, " +
                      std::to_string(f_min) + " Hz");
    }
    if (win_length > n_fft) {
      throw op::Error("win_length is " + std::to_string(win_length) + ", expected n_fft, " +
                      std::to_string(n_fft) + ", at most");
    }
    setting.bank = {
        sample_rate,     n_fft,
        n_mels,          f_min,
        highest,         mel_scale == "htk" ? kernels::MelScale::kHtk : kernels::MelScale::kSlaney,
        norm == "slaney"};
    setting.hop = hop_length;
    setting.window_length = win_length == 0 ? n_fft : win_length;
    setting.periodic = periodic;
    setting.padding = padding;
    setting.power = power;
    setting.log = log == "ln"      ? LogForm::kNatural
                  : log == "log10" ? LogForm::kLog10
                  : log == "db"    ? LogForm::kDecibel
                  : log == "none"  ? LogForm::kNone
                                   : LogForm::kWhisper;
    setting.floor = floor;
    setting.range = static_cast<float>(range);
    setting.frames_first = layout == "BFM";
    tables_.resize(kernels::log_mel_bytes(setting, kernels::isa()) / sizeof(Line) + 1);
    plan_ = kernels::log_mel_plan(setting, kernels::isa(), tables_.data());
#if defined(ZL_OPS_CUDA)
    units_.resize(static_cast<size_t>(2 * n_fft));
    kernels::log_mel_units_into(n_fft, units_.data());
#endif
  }

  op::Dims result(const op::Shapes& shapes, op::Dim batch, op::Dim frames) const {
    const op::Dim bands = shapes.number(n_mels);
    return layout == "BFM" ? op::Dims{batch, frames, bands} : op::Dims{batch, bands, frames};
  }

  size_t scratch(const op::Call& call) const {
#if defined(ZL_OPS_CUDA)
    if (call.on_gpu()) return kernels::log_mel_gpu_scratch(n_fft);
#else
    (void)call;
#endif
    return kernels::log_mel_scratch(plan_);
  }

  const kernels::LogMelPlan& plan() const { return plan_; }

#if defined(ZL_OPS_CUDA)
  std::vector<ZlConstant> constants() const {
    size_t weights = 0;
    for (int64_t b = 0; b < n_mels; ++b) weights += static_cast<size_t>(plan_.bands[b].count);
    const auto count = static_cast<size_t>(n_fft);
    return {{plan_.window, count * sizeof(float)},
            {units_.data(), 2 * count * sizeof(float)},
            {plan_.bands, static_cast<size_t>(n_mels) * sizeof(kernels::MelBand)},
            {plan_.weights, (weights + 1) * sizeof(float)}};
  }

  template <typename Sample>
  kernels::LogMelGpuPlan gpu_plan(const op::Call& call) const {
    return kernels::log_mel_gpu_plan(plan_, std::is_same_v<Sample, int16_t>,
                                     call.constant<float>(0), call.constant<float>(1),
                                     call.constant<kernels::MelBand>(2), call.constant<float>(3));
  }
#endif

 private:
  struct alignas(64) Line {
    char bytes[64];
  };

  // A member of this class as one of `Self`'s.
  template <typename Self, typename Member>
  static Member Self::* of(Member LogMel::* member) {
    return member;
  }

  std::vector<Line> tables_;
  kernels::LogMelPlan plan_{};
#if defined(ZL_OPS_CUDA)
  std::vector<float> units_;
#endif
};

struct LogMelSpectrogram : LogMel {
  std::string padding = "reflect";
  double top_db = 0;

  static void define(op::Definition<LogMelSpectrogram>& op) {
    op.name("zerolane", "LogMelSpectrogram")
        .doc("Logarithms of mel-band sums of the spectra of overlapping frames of sound.");
    const auto T = op.type<float, int16_t>("T");
    define_common(op, {"ln", "log10", "db", "whisper", "none"});
    op.attribute("padding", &LogMelSpectrogram::padding)
        .choices({"reflect", "zero", "none"})
        .doc("none: frames lie within the signal; else n_fft / 2 samples are put on both sides");
    op.attribute("top_db", &LogMelSpectrogram::top_db)
        .bounds(0, 1e6)
        .doc("with log db: nothing is less than the item's greatest value minus this; 0: no limit");
    op.input("audio", T, "[batch, samples]; int16 counts as parts of 32768");
    op.output("mel", op.type<float>("float"), "[batch, n_mels, frames] or [batch, frames, n_mels]");
    op.cpu(T);
#if defined(ZL_OPS_CUDA)
    op.cuda(T);
#endif
  }

  void init() {
    if (top_db != 0 && log != "db") {
      throw op::Error("top_db is given with log '" + log + "', expected log 'db'");
    }
    make(padding == "none"   ? Padding::kNone
         : padding == "zero" ? Padding::kZero
                             : Padding::kReflect,
         top_db);
  }

  void shape(op::Shapes& shapes) const {
    shapes.require_rank(0, 2);
    const op::Dim samples = shapes.dim(0, 1);
    // kernels::log_mel_frames, so that no number is divided that may be negative.
    const op::Dim frames = padding == "none" ? max(samples + (hop_length - n_fft), 0) / hop_length
                                             : (samples + (hop_length - n_fft % 2)) / hop_length;
    shapes.output(0, result(shapes, shapes.dim(0, 0), frames));
  }

  template <typename Sample>
  void cpu(const op::Call& call) const {
    const auto audio = call.input<Sample>(0);
    const auto mel = call.output<float>(0);
    if (mel.size() == 0) return;
    kernels::log_mel(plan(), audio.data(), audio.dim(0), audio.dim(1), mel.data(), call.scratch());
  }

#if defined(ZL_OPS_CUDA)
  template <typename Sample>
  int cuda(const op::Call& call) const {
    const auto audio = call.input<Sample>(0);
    const auto mel = call.output<float>(0);
    if (mel.size() == 0) return 0;
    return kernels::launch_log_mel(gpu_plan<Sample>(call), audio.data(), audio.dim(0), audio.dim(1),
                                   mel.data(), call.scratch(), call.stream());
  }
#endif
};

struct LogMelStream : LogMel {
  static void define(op::Definition<LogMelStream>& op) {
    op.name("zerolane", "LogMelStream")
        .doc("LogMelSpectrogram without padding, on a signal that comes piece by piece.");
    const auto T = op.type<float, int16_t>("T");
    define_common(op, {"ln", "log10", "db", "none"});
    op.input("audio", T, "[batch, frames * hop_length]: the samples that are new");
    op.input("state", T, "[batch, n_fft - hop_length]: those before them; at first zeros, say");
    op.output("mel", op.type<float>("float"), "[batch, n_mels, frames] or [batch, frames, n_mels]");
    op.output("next_state", T, "the state for the next call");
    op.cpu(T);
#if defined(ZL_OPS_CUDA)
    op.cuda(T);
#endif
  }

  void init() {
    if (hop_length > n_fft) {
      throw op::Error("hop_length is " + std::to_string(hop_length) + ", expected n_fft, " +
                      std::to_string(n_fft) + ", at most");
    }
    make(Padding::kNone, 0);
  }

  void shape(op::Shapes& shapes) const {
    shapes.require_rank(0, 2);
    shapes.require_rank(1, 2);
    const std::optional<int64_t> samples = shapes.dim(0, 1).known();
    shapes.require(!samples || *samples % hop_length == 0,
                   "audio has " + std::to_string(samples.value_or(0)) +
                       " samples, expected a multiple of hop_length, " +
                       std::to_string(hop_length));
    shapes.require_between(shapes.dim(1, 1), n_fft - hop_length, n_fft - hop_length,
                           "the length of state, n_fft - hop_length,");
    const op::Dim batch =
        shapes.require_same(shapes.dim(0, 0), shapes.dim(1, 0), "the batches of audio and state");
    shapes.output(0, result(shapes, batch, shapes.dim(0, 1) / hop_length));
    shapes.output(1, {batch, shapes.number(n_fft - hop_length)});
  }

  template <typename Sample>
  void cpu(const op::Call& call) const {
    const auto audio = call.input<Sample>(0);
    const auto next_state = call.output<Sample>(1);
    const auto mel = call.output<float>(0);
    if (mel.size() == 0 && next_state.size() == 0) return;
    kernels::log_mel_stream(plan(), audio.data(), call.input<Sample>(1).data(), audio.dim(0),
                            audio.dim(1) / hop_length, mel.data(), next_state.data(),
                            call.scratch());
  }

#if defined(ZL_OPS_CUDA)
  template <typename Sample>
  int cuda(const op::Call& call) const {
    const auto audio = call.input<Sample>(0);
    const auto next_state = call.output<Sample>(1);
    const auto mel = call.output<float>(0);
    if (mel.size() == 0 && next_state.size() == 0) return 0;
    return kernels::launch_log_mel_stream(
        gpu_plan<Sample>(call), audio.data(), call.input<Sample>(1).data(), audio.dim(0),
        audio.dim(1) / hop_length, mel.data(), next_state.data(), call.scratch(), call.stream());
  }
#endif
};

}  // namespace

const ZlOp* log_mel_spectrogram() { return op::Definition<LogMelSpectrogram>::table(); }
const ZlOp* log_mel_stream() { return op::Definition<LogMelStream>::table(); }

}  // namespace zerolane::ops
