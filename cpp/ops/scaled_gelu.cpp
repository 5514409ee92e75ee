// SPDX-License-Identifier: Apache-2.0
#include "kernels/scaled_gelu.h"
#include "ops/list.h"
#include "zerolane/op.h"

#ifdef ZL_OPS_CUDA
#include "kernels/scaled_gelu_cuda.h"
#endif

namespace zerolane::ops {
namespace {

// The teaching example: y = scale * gelu(alpha * x).
struct ScaledGelu {
  float alpha = 1;
  float scale = 1;
  std::string approximate = "none";

  static void define(op::Definition<ScaledGelu>& op) {
    op.name("zerolane", "ScaledGelu").doc("y = scale * gelu(alpha * x)");
    const auto T = op.type<float, double, Half, BFloat16>("T");
    op.attribute("alpha", &ScaledGelu::alpha).bounds(-1e6, 1e6).doc("factor of the input");
    op.attribute("scale", &ScaledGelu::scale).bounds(-1e6, 1e6).doc("factor of the result");
    op.attribute("approximate", &ScaledGelu::approximate)
        .choices({"none", "tanh"})
        .doc("none: by the error function; tanh: Hendrycks and Gimpel's approximation");
    op.input("x", T, "any shape");
    op.output("y", T, "the shape of x");
    op.cpu(T);
#ifdef ZL_OPS_CUDA
    op.cuda(T);
#endif
  }

  void shape(op::Shapes& shapes) const { shapes.output(0, shapes.dims(0)); }

  template <typename Element>
  void cpu(const op::Call& call) const {
    const auto x = call.input<Element>(0);
    kernels::scaled_gelu(x.data(), call.output<Element>(0).data(), static_cast<size_t>(x.size()),
                         alpha, scale, form());
  }

#ifdef ZL_OPS_CUDA
  template <typename Element>
  int cuda(const op::Call& call) const {
    const auto x = call.input<Element>(0);
    return kernels::scaled_gelu_on(call.stream(), x.data(), call.output<Element>(0).data(),
                                   x.size(), alpha, scale, form());
  }
#endif

 private:
  kernels::GeluForm form() const {
    return approximate == "tanh" ? kernels::GeluForm::kTanh : kernels::GeluForm::kErf;
  }
};

}  // namespace

const ZlOp* scaled_gelu() { return op::Definition<ScaledGelu>::table(); }

}  // namespace zerolane::ops
