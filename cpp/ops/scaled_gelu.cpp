// SPDX-License-Identifier: Apache-2.0
#include <cmath>

#include "ops/list.h"
#include "zerolane/op.h"

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
  }

  void shape(op::Shapes& shapes) const { shapes.output(0, shapes.dims(0)); }

  template <typename Element>
  void cpu(const op::Call& call) const {
    const auto x = call.input<Element>(0);
    const auto y = call.output<Element>(0);
    const bool tanh = approximate == "tanh";
    for (int64_t i = 0; i < x.size(); ++i) {
      const double v = static_cast<double>(alpha) * static_cast<double>(x[i]);
      const double gate = tanh ? std::tanh(0.7978845608028654 * (v + 0.044715 * v * v * v))
                               : std::erf(v * M_SQRT1_2);
      y[i] = static_cast<Element>(static_cast<float>(scale * 0.5 * v * (1 + gate)));
    }
  }
};

}  // namespace

const ZlOp* scaled_gelu() { return op::Definition<ScaledGelu>::table(); }

}  // namespace zerolane::ops
