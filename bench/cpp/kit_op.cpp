// SPDX-License-Identifier: Apache-2.0
// The op of hand_op.c written with the kit.
#include "zerolane/op.h"

namespace zl = zerolane::op;

namespace {

struct KitScale {
  float factor = 2;
  static void define(zl::Definition<KitScale>& op) {
    op.name("kit", "KitScale").doc("y = factor * x");
    const auto T = op.type<float>("T");
    op.attribute("factor", &KitScale::factor);
    op.input("x", T);
    op.output("y", T);
    op.cpu();
  }
  void shape(zl::Shapes& shapes) const { shapes.output(0, shapes.dims(0)); }
  void cpu(const zl::Call& call) const {
    const auto x = call.input<float>(0);
    const auto y = call.output<float>(0);
    for (int64_t i = 0; i < x.size(); ++i) y[i] = factor * x[i];
  }
};

}  // namespace

ZEROLANE_OPS("kit_op", "1", KitScale)
