// SPDX-License-Identifier: Apache-2.0
// Ops for engines that a GPU runs: one with a constant and scratch memory, one whose output the
// data sizes. Compiled by test_plugins.py where nvcc is.
#include "zerolane/op.h"

namespace zl = zerolane::op;

namespace {

struct AddTable {
  std::vector<float> table;
  static void define(zl::Definition<AddTable>& op) {
    op.name("gpu_plug", "AddTable").doc("y = x + table, along the last axis");
    op.attribute("table", &AddTable::table).required().counts(1, 1000);
    const auto T = op.type<float>("T");
    op.input("x", T);
    op.output("y", T);
    op.cpu();
    op.cuda();
  }
  std::vector<ZlConstant> constants() const {
    return {{table.data(), table.size() * sizeof(float)}};
  }
  size_t scratch(const zl::Call& call) const {
    return call.on_gpu() ? static_cast<size_t>(call.input<float>(0).size()) * sizeof(float) : 0;
  }
  void shape(zl::Shapes& s) const {
    s.require_between(s.dim(0, -1), static_cast<int64_t>(table.size()),
                      static_cast<int64_t>(table.size()), "the last extent of x");
    s.output(0, s.dims(0));
  }
  void cpu(const zl::Call& call) const {
    const auto x = call.input<float>(0);
    for (int64_t i = 0; i < x.size(); ++i) {
      call.output<float>(0)[i] = x[i] + table[static_cast<size_t>(i % x.dim(-1))];
    }
  }
  struct Copy {
    const float* from;
    float* to;
    ZL_HOST_DEVICE void operator()(int64_t i) const { to[i] = from[i]; }
  };
  struct Add {
    const float* x;
    const float* table;
    float* y;
    int64_t columns;
    ZL_HOST_DEVICE void operator()(int64_t i) const { y[i] = x[i] + table[i % columns]; }
  };
  int cuda(const zl::Call& call) const {
    const auto x = call.input<float>(0);
    auto* scratch = call.scratch<float>();
    const int status = zerolane::for_each_on(call.stream(), x.size(), Copy{x.data(), scratch});
    if (status != 0) return status;
    return zerolane::for_each_on(
        call.stream(), x.size(),
        Add{scratch, call.constant<float>(0), call.output<float>(0).data(), x.dim(-1)});
  }
};

struct Positive {
  static void define(zl::Definition<Positive>& op) {
    op.name("gpu_plug", "Positive").doc("the values above zero, in order");
    const auto T = op.type<float>("T");
    op.input("x", T);
    op.output("y", T);
    op.cpu();
    op.cuda();
  }
  void shape(zl::Shapes& s) const {
    s.require_rank(0, 1);
    s.output(0, {s.counted(s.dim(0, 0) / 2, s.dim(0, 0))});
  }
  void cpu(const zl::Call& call) const {
    const auto x = call.input<float>(0);
    int64_t count = 0;
    for (float value : x) count += value > 0 ? 1 : 0;
    float* to = call.allocate<float>(0, {count}).data();
    for (float value : x) {
      if (value > 0) *to++ = value;
    }
  }
  // One thread: order matters, speed does not.
  struct Collect {
    const float* x;
    float* y;
    int64_t size;
    int64_t* count;
    ZL_HOST_DEVICE void operator()(int64_t) const {
      int64_t found = 0;
      for (int64_t i = 0; i < size; ++i) {
        if (x[i] > 0) y[found++] = x[i];
      }
      *count = found;
    }
  };
  int cuda(const zl::Call& call) const {
    const auto x = call.input<float>(0);
    return zerolane::for_each_on(
        call.stream(), 1, Collect{x.data(), call.output<float>(0).data(), x.size(), call.count(0)});
  }
};

}  // namespace

ZEROLANE_OPS("gpu_plug_ops", "1.0", AddTable, Positive)
