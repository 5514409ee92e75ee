// SPDX-License-Identifier: Apache-2.0
#include "kernels/softmax_top_k.h"

#include <cstdint>
#include <limits>
#include <optional>
#include <string>

#include "ops/list.h"
#include "zerolane/op.h"

#ifdef ZL_OPS_CUDA
#include "kernels/softmax_top_k_cuda.h"
#endif

namespace zerolane::ops {
namespace {

// The head of a classifier: the likeliest classes and their probabilities.
struct SoftmaxTopK {
  int64_t k = 5;
  float temperature = 1;

  static constexpr int64_t kMostClasses = std::numeric_limits<uint32_t>::max();

  static void define(op::Definition<SoftmaxTopK>& op) {
    op.name("zerolane", "SoftmaxTopK")
        .doc("the k largest of softmax(logits / temperature) over the last axis, sorted");
    const auto T = op.type<float, Half, BFloat16>("T");
    const auto I = op.type<int64_t>("I");
    op.attribute("k", &SoftmaxTopK::k)
        .bounds(1, static_cast<double>(kMostClasses))
        .doc("how many classes, at most as many as there are");
    op.attribute("temperature", &SoftmaxTopK::temperature)
        .bounds(1e-6, 1e6)
        .doc("divides the logits");
    op.input("logits", T, "[..., classes]");
    op.output("probabilities", T, "[..., k], largest first");
    op.output("indices", I, "[..., k], the classes; equal ones lowest first, NaN last");
    op.cpu(T);
#ifdef ZL_OPS_CUDA
    op.cuda(T);
#endif
  }

  void shape(op::Shapes& shapes) const {
    const op::Dim classes = shapes.dim(0, -1);
    if (const std::optional<int64_t> count = classes.known()) {
      shapes.require(*count >= k && *count <= kMostClasses,
                     "there are " + std::to_string(*count) + " classes, expected k = " +
                         std::to_string(k) + " to " + std::to_string(kMostClasses));
    }
    op::Dims dims = shapes.dims(0);
    dims[dims.rank() - 1] = shapes.number(k);
    shapes.output(0, dims);
    shapes.output(1, dims);
  }

  size_t scratch(const op::Call& call) const {
    if (call.on_gpu()) return 0;
    return kernels::softmax_top_k_scratch(static_cast<size_t>(call.input_dim(0, -1)),
                                          static_cast<size_t>(k));
  }

  template <typename Element>
  void cpu(const op::Call& call) const {
    const auto logits = call.input<Element>(0);
    const auto classes = static_cast<size_t>(logits.dim(-1));
    kernels::softmax_top_k(
        logits.data(), call.output<Element>(0).data(), call.output<int64_t>(1).data(),
        static_cast<size_t>(logits.size()) / classes, classes, static_cast<size_t>(k), temperature,
        scratch(call) == 0 ? nullptr : call.scratch());
  }

#ifdef ZL_OPS_CUDA
  template <typename Element>
  int cuda(const op::Call& call) const {
    const auto logits = call.input<Element>(0);
    const int64_t classes = logits.dim(-1);
    return kernels::softmax_top_k_on(call.stream(), logits.data(), call.output<Element>(0).data(),
                                     call.output<int64_t>(1).data(), logits.size() / classes,
                                     classes, k, temperature);
  }
#endif
};

}  // namespace

const ZlOp* softmax_top_k() { return op::Definition<SoftmaxTopK>::table(); }

}  // namespace zerolane::ops
