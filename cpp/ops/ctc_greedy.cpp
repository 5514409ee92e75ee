// SPDX-License-Identifier: Apache-2.0
#include "kernels/ctc_greedy.h"

#include <algorithm>
#include <cstdint>
#include <limits>
#include <string>

#include "ops/list.h"
#include "zerolane/op.h"

#ifdef ZL_OPS_CUDA
#include "kernels/ctc_greedy_cuda.h"
#endif

namespace zerolane::ops {
namespace {

constexpr int64_t kMostClasses = std::numeric_limits<uint32_t>::max();

// What both forms of the op share.
struct CtcGreedy {
  int64_t blank = 0;
  bool merge_repeats = true;
  std::string layout = "NTC";

  template <typename Self>
  static void define_inputs(op::Definition<Self>& op) {
    op.attribute("blank", static_cast<int64_t Self::*>(&Self::blank))
        .bounds(-static_cast<double>(kMostClasses), static_cast<double>(kMostClasses))
        .doc("the class that stands for nothing; negative counts from the last");
    op.attribute("merge_repeats", static_cast<bool Self::*>(&Self::merge_repeats))
        .doc("a class counts again only after another one");
    op.attribute("layout", static_cast<std::string Self::*>(&Self::layout))
        .choices({"NTC", "TNC"})
        .doc("of log_probs: sequences, steps, classes");
  }

  struct Extents {
    op::Dim sequences;
    op::Dim steps;
  };
  Extents check(const op::Shapes& shapes) const {
    shapes.require_rank(0, 3);
    const bool steps_first = layout == "TNC";
    op::Dim sequences = shapes.dim(0, steps_first ? 1 : 0);
    const op::Dim classes = shapes.dim(0, 2);
    shapes.require_between(classes, blank < 0 ? -blank : blank + 1, kMostClasses,
                           "the number of classes, with the blank among them,");
    if (shapes.has(1)) {
      shapes.require_rank(1, 1);
      sequences = shapes.require_same(sequences, shapes.dim(1, 0),
                                      "the numbers of sequences and of lengths");
    }
    return {sequences, shapes.dim(0, steps_first ? 0 : 1)};
  }

  template <typename Element>
  struct Arguments {
    const Element* x;
    int64_t sequences;
    int64_t steps;
    int64_t classes;
    int64_t sequence_stride;
    int64_t step_stride;
    int64_t blank;
    const int64_t* lengths;
  };
  template <typename Element>
  Arguments<Element> arguments(const op::Call& call) const {
    const auto x = call.input<Element>(0);
    const int64_t classes = x.dim(2);
    const int64_t* lengths = call.has_input(1) ? call.input<int64_t>(1).data() : nullptr;
    const int64_t dropped = blank < 0 ? blank + classes : blank;
    if (layout == "TNC") {
      return {x.data(), x.dim(1), x.dim(0), classes, classes, x.dim(1) * classes, dropped, lengths};
    }
    return {x.data(), x.dim(0), x.dim(1), classes, x.dim(1) * classes, classes, dropped, lengths};
  }

  // Decodes one sequence on the CPU; returns how many labels there are.
  template <typename Element>
  int64_t decode(const Arguments<Element>& from, int64_t sequence, int64_t* labels,
                 float* score) const {
    int64_t steps = from.steps;
    if (from.lengths != nullptr) {
      steps = from.lengths[sequence];
      if (steps < 0 || steps > from.steps) {
        throw op::Error("length " + std::to_string(sequence) + " is " + std::to_string(steps) +
                        ", expected 0 to the " + std::to_string(from.steps) +
                        " steps of log_probs");
      }
    }
    return static_cast<int64_t>(kernels::ctc_greedy(
        from.x + sequence * from.sequence_stride, static_cast<size_t>(steps),
        static_cast<size_t>(from.step_stride), static_cast<size_t>(from.classes), from.blank,
        merge_repeats, labels, score));
  }

#ifdef ZL_OPS_CUDA
  template <typename Element>
  int decode_on(void* stream, const Arguments<Element>& from, int64_t* labels, int64_t* counts,
                float* scores) const {
    return kernels::ctc_greedy_on(
        stream, from.x,
        {from.sequences, from.steps, from.classes, from.sequence_stride, from.step_stride},
        from.lengths, from.blank, merge_repeats, labels, counts, scores);
  }
#endif
};

struct CtcGreedyDecode : CtcGreedy {
  static void define(op::Definition<CtcGreedyDecode>& op) {
    op.name("zerolane", "CtcGreedyDecode")
        .doc("the best path of connectionist temporal classification, labels padded with -1");
    const auto T = op.type<float, Half, BFloat16>("T");
    const auto I = op.type<int64_t>("I");
    const auto F = op.type<float>("F");
    define_inputs(op);
    op.input("log_probs", T, "[N, T, C], or [T, N, C] by layout");
    op.optional_input("lengths", I, "[N], the steps that count in each sequence; all if left out");
    op.output("labels", I, "[N, T], -1 behind the last label");
    op.output("label_lengths", I, "[N]");
    op.output("scores", F, "[N], the sum of the chosen log-probabilities");
    op.cpu(T);
#ifdef ZL_OPS_CUDA
    op.cuda(T);
#endif
  }

  void shape(op::Shapes& shapes) const {
    const Extents extents = check(shapes);
    shapes.output(0, {extents.sequences, extents.steps});
    shapes.output(1, {extents.sequences});
    shapes.output(2, {extents.sequences});
  }

  template <typename Element>
  void cpu(const op::Call& call) const {
    const auto from = arguments<Element>(call);
    int64_t* labels = call.output<int64_t>(0).data();
    for (int64_t i = 0; i < from.sequences; ++i, labels += from.steps) {
      const int64_t count = decode(from, i, labels, &call.output<float>(2)[i]);
      std::fill(labels + count, labels + from.steps, int64_t{-1});
      call.output<int64_t>(1)[i] = count;
    }
  }

#ifdef ZL_OPS_CUDA
  template <typename Element>
  int cuda(const op::Call& call) const {
    return decode_on(call.stream(), arguments<Element>(call), call.output<int64_t>(0).data(),
                     call.output<int64_t>(1).data(), call.output<float>(2).data());
  }
#endif
};

// The same labels one sequence behind the other, as many as there are.
struct CtcGreedyDecodeFlat : CtcGreedy {
  static void define(op::Definition<CtcGreedyDecodeFlat>& op) {
    op.name("zerolane", "CtcGreedyDecodeFlat")
        .doc("the best path of connectionist temporal classification, labels without padding");
    const auto T = op.type<float, Half, BFloat16>("T");
    const auto I = op.type<int64_t>("I");
    const auto F = op.type<float>("F");
    define_inputs(op);
    op.input("log_probs", T, "[N, T, C], or [T, N, C] by layout");
    op.optional_input("lengths", I, "[N], the steps that count in each sequence; all if left out");
    op.output("values", I, "[M], the labels of all sequences");
    op.output("row_splits", I, "[N + 1], where each sequence begins in values, then M");
    op.output("scores", F, "[N], the sum of the chosen log-probabilities");
    op.cpu(T);
#ifdef ZL_OPS_CUDA
    op.cuda(T);
#endif
  }

  void shape(op::Shapes& shapes) const {
    const Extents extents = check(shapes);
    const op::Dim most = extents.sequences * extents.steps;
    shapes.output(0, {shapes.counted(ceil_divide(most, 4), most)});
    shapes.output(1, {extents.sequences + 1});
    shapes.output(2, {extents.sequences});
  }

  // Labels with gaps between sequences and, on a GPU, how many each has.
  size_t scratch(const op::Call& call) const {
    const int64_t first = call.input_dim(0, 0);
    const int64_t second = call.input_dim(0, 1);
    const int64_t counts = call.on_gpu() ? (layout == "TNC" ? second : first) : 0;
    return static_cast<size_t>(first * second + counts) * sizeof(int64_t);
  }

  template <typename Element>
  void cpu(const op::Call& call) const {
    const auto from = arguments<Element>(call);
    int64_t* const labels = call.scratch<int64_t>();
    int64_t* splits = call.output<int64_t>(1).data();
    int64_t total = 0;
    splits[0] = 0;
    for (int64_t i = 0; i < from.sequences; ++i) {
      total += decode(from, i, labels + total, &call.output<float>(2)[i]);
      splits[i + 1] = total;
    }
    std::copy_n(labels, total, call.allocate<int64_t>(0, {total}).data());
  }

#ifdef ZL_OPS_CUDA
  template <typename Element>
  int cuda(const op::Call& call) const {
    const auto from = arguments<Element>(call);
    int64_t* const labels = call.scratch<int64_t>();
    int64_t* const counts = labels + from.sequences * from.steps;
    const int status = decode_on(call.stream(), from, labels, counts, call.output<float>(2).data());
    if (status != 0) return status;
    return kernels::ctc_flatten_on(call.stream(), labels, counts, from.sequences, from.steps,
                                   call.output<int64_t>(0).data(), call.output<int64_t>(1).data(),
                                   call.count(0));
  }
#endif
};

}  // namespace

const ZlOp* ctc_greedy_decode() { return op::Definition<CtcGreedyDecode>::table(); }
const ZlOp* ctc_greedy_decode_flat() { return op::Definition<CtcGreedyDecodeFlat>::table(); }

}  // namespace zerolane::ops
