// SPDX-License-Identifier: Apache-2.0
// Ops of every kind that the kit offers, for tests; built by build.py beside this file.
#include <algorithm>
#include <cmath>
#include <stdexcept>

#include "zerolane/op.h"

namespace zl = zerolane::op;

namespace {

struct Scale {
  float factor = 2;
  int64_t times = 1;
  bool negate = false;
  std::string mode = "plain";
  std::vector<float> offsets;
  std::vector<int64_t> steps{1, 2};

  static void define(zl::Definition<Scale>& op) {
    op.name("test", "Scale").doc("y = factor * x, times times, plus the sums of two lists");
    const auto T = op.type<float, double, zerolane::Half, int32_t>("T");
    op.attribute("factor", &Scale::factor).bounds(-100, 100).doc("what to multiply by");
    op.attribute("times", &Scale::times).bounds(0, 10);
    op.attribute("negate", &Scale::negate);
    op.attribute("mode", &Scale::mode).choices({"plain", "square"});
    op.attribute("offsets", &Scale::offsets).counts(0, 3);
    op.attribute("steps", &Scale::steps).bounds(0, 50);
    op.input("x", T, "any shape");
    op.output("y", T);
    op.cpu(T);
  }
  void shape(zl::Shapes& s) const { s.output(0, s.dims(0)); }
  template <typename T>
  void cpu(const zl::Call& call) const {
    const auto x = call.input<T>(0);
    const auto y = call.output<T>(0);
    double more = 0;
    for (float offset : offsets) more += offset;
    for (int64_t step : steps) more += static_cast<double>(step) - 1.5;
    for (int64_t i = 0; i < x.size(); ++i) {
      double v = static_cast<double>(x[i]) * std::pow(factor, static_cast<double>(times)) + more;
      if (mode == "square") v *= v;
      y[i] = static_cast<T>(static_cast<float>(negate ? -v : v));
    }
  }
};

// A later version that computes something else.
struct ScaleAgain {
  float factor = 2;
  static void define(zl::Definition<ScaleAgain>& op) {
    op.name("test", "Scale", 3).doc("y = factor * x + 1000");
    const auto T = op.type<float>("T");
    op.attribute("factor", &ScaleAgain::factor).bounds(-100, 100);
    op.input("x", T);
    op.output("y", T);
    op.cpu();
  }
  void shape(zl::Shapes& s) const { s.output(0, s.dims(0)); }
  void cpu(const zl::Call& call) const {
    const auto x = call.input<float>(0);
    const auto y = call.output<float>(0);
    for (int64_t i = 0; i < x.size(); ++i) y[i] = factor * x[i] + 1000;
  }
};

// A variadic input: all of one shape.
struct AddAll {
  static void define(zl::Definition<AddAll>& op) {
    op.name("test", "AddAll").doc("the sum of all inputs");
    const auto T = op.type<float, int64_t>("T");
    op.variadic_input("x", T);
    op.output("y", T);
    op.cpu(T);
  }
  void shape(zl::Shapes& s) const {
    zl::Dims dims = s.dims(0);
    for (size_t i = 1; i < s.input_count(); ++i) {
      s.require_rank(i, dims.rank());
      for (int axis = 0; axis < dims.rank(); ++axis) {
        dims[axis] = s.require_same(dims[axis], s.dim(i, axis), "the extents of the inputs");
      }
    }
    s.output(0, dims);
  }
  template <typename T>
  void cpu(const zl::Call& call) const {
    const auto y = call.output<T>(0);
    std::fill(y.begin(), y.end(), T{0});
    for (size_t k = 0; k < call.input_count(); ++k) {
      const auto x = call.input<T>(k);
      for (int64_t i = 0; i < x.size(); ++i) y[i] += x[i];
    }
  }
};

// An optional input in the middle, and an output that may be unwanted.
struct Affine {
  static void define(zl::Definition<Affine>& op) {
    op.name("test", "Affine").doc("y = x * w + b; total = sum of y");
    const auto T = op.type<float, double>("T");
    op.input("x", T);
    op.optional_input("b", T);
    op.input("w", T);
    op.output("y", T);
    op.optional_output("total", T);
    op.cpu(T);
  }
  void shape(zl::Shapes& s) const {
    s.require_rank(0, 2);
    s.require_rank(2, 1);
    const zl::Dim columns = s.require_same(s.dim(0, -1), s.dim(2, 0), "the columns of x and w");
    if (s.has(1)) s.require_same(columns, s.dim(1, 0), "the columns of x and b");
    s.output(0, {s.dim(0, 0), columns});
    s.output(1, {});
  }
  template <typename T>
  void cpu(const zl::Call& call) const {
    const auto x = call.input<T>(0);
    const auto w = call.input<T>(2);
    const auto y = call.output<T>(0);
    T total = 0;
    for (int64_t i = 0; i < x.size(); ++i) {
      const int64_t column = i % x.dim(1);
      y[i] = x[i] * w[column] + (call.has_input(1) ? call.input<T>(1)[column] : T{0});
      total += y[i];
    }
    if (call.wants_output(1)) call.output<T>(1)[0] = total;
  }
};

// Data decides the size of the first output.
struct Above {
  float threshold = 0;
  static void define(zl::Definition<Above>& op) {
    op.name("test", "Above").doc("the values above a threshold, their places, and how many");
    const auto T = op.type<float>("T");
    const auto I = op.type<int64_t>("I");
    op.attribute("threshold", &Above::threshold);
    op.input("x", T);
    op.output("values", T);
    op.output("places", I);
    op.output("mean", T);
    op.cpu();
  }
  void shape(zl::Shapes& s) const {
    s.require_rank(0, 1);
    const zl::Dim count = s.counted(s.dim(0, 0) / 2, s.dim(0, 0));
    s.output(0, {count});
    s.output(1, {count, s.number(1)});
    s.output(2, {});
  }
  void cpu(const zl::Call& call) const {
    const auto x = call.input<float>(0);
    const int64_t count = std::count_if(x.begin(), x.end(), [&](float v) { return v > threshold; });
    const auto values = call.allocate<float>(0, {count});
    const auto places = call.allocate<int64_t>(1, {count, 1});
    int64_t at = 0;
    float sum = 0;
    for (int64_t i = 0; i < x.size(); ++i) {
      if (!(x[i] > threshold)) continue;
      sum += x[i];
      values[at] = x[i];
      places[at++] = i;
    }
    call.output<float>(2)[0] = count > 0 ? sum / static_cast<float>(count) : 0;
  }
};

// Two types, decided apart.
struct Mix {
  static void define(zl::Definition<Mix>& op) {
    op.name("test", "Mix").doc("x + i in the type of x");
    const auto T = op.type<float, double>("T");
    const auto I = op.type<int32_t, int64_t, uint8_t>("I");
    op.input("x", T);
    op.input("i", I);
    op.output("y", T);
    op.output("j", I);
    op.cpu(T, I);
  }
  void shape(zl::Shapes& s) const {
    s.output(0, s.dims(0));
    s.output(1, s.dims(1));
  }
  template <typename T, typename I>
  void cpu(const zl::Call& call) const {
    const auto x = call.input<T>(0);
    const auto i = call.input<I>(1);
    for (int64_t k = 0; k < x.size(); ++k) call.output<T>(0)[k] = x[k] + static_cast<T>(i[0]);
    for (int64_t k = 0; k < i.size(); ++k) call.output<I>(1)[k] = static_cast<I>(i[k] + 1);
  }
};

// State from attributes, constants and scratch memory.
struct Lookup {
  std::vector<float> table;
  std::vector<float> squares;
  static void define(zl::Definition<Lookup>& op) {
    op.name("test", "Lookup").doc("squares of the table's entries");
    const auto I = op.type<int64_t>("I");
    const auto T = op.type<float>("T");
    op.attribute("table", &Lookup::table).required().counts(1, 1000);
    op.input("index", I);
    op.output("y", T);
    op.cpu();
  }
  void init() {
    if (table[0] < 0) throw zl::Error("the table begins with a negative number");
    for (float value : table) squares.push_back(value * value);
  }
  std::vector<ZlConstant> constants() const {
    return {{squares.data(), squares.size() * sizeof(float)}};
  }
  size_t scratch(const zl::Call& call) const {
    return static_cast<size_t>(call.input<int64_t>(0).size()) * sizeof(float);
  }
  void shape(zl::Shapes& s) const { s.output(0, s.dims(0)); }
  void cpu(const zl::Call& call) const {
    const auto index = call.input<int64_t>(0);
    const auto y = call.output<float>(0);
    auto* scratch = call.scratch<float>();
    for (int64_t i = 0; i < index.size(); ++i) {
      if (index[i] < 0 || index[i] >= static_cast<int64_t>(table.size())) {
        throw zl::Error("index " + std::to_string(index[i]) + " is outside of a table of " +
                        std::to_string(table.size()));
      }
      scratch[i] = call.constant<float>(0)[index[i]];
    }
    std::copy_n(scratch, index.size(), y.data());
  }
};

// All arithmetic on extents.
struct Extents {
  int64_t divisor = 2;
  static void define(zl::Definition<Extents>& op) {
    op.name("test", "Extents").doc("zeros of computed shape");
    const auto T = op.type<float>("T");
    op.attribute("divisor", &Extents::divisor);
    op.input("x", T);
    op.output("y", T);
    op.cpu();
  }
  void shape(zl::Shapes& s) const {
    s.require_rank(0, 2);
    const zl::Dim n = s.dim(0, 0), m = s.dim(0, 1);
    s.output(0, {n / divisor, ceil_divide(n, divisor), max(n, m), min(n, 3), (n + 1) * m - m});
  }
  void cpu(const zl::Call& call) const {
    const auto y = call.output<float>(0);
    std::fill(y.begin(), y.end(), 0.0f);
  }
};

// Everything that can go wrong, by number.
struct Faulty {
  int64_t how = 0;
  static void define(zl::Definition<Faulty>& op) {
    op.name("test", "Faulty").doc("fails as it is told");
    const auto T = op.type<float>("T");
    op.attribute("how", &Faulty::how);
    op.input("x", T);
    op.output("y", T);
    op.cpu();
  }
  void init() {
    if (how == 1) throw std::runtime_error("init failed");
    if (how == 2) throw 7;
  }
  size_t scratch(const zl::Call&) const {
    if (how == 3) throw zl::Error("no scratch today", kZlUnsupported);
    return how == 4 ? size_t{1} << 60 : 0;
  }
  void shape(zl::Shapes& s) const {
    if (how == 5) throw zl::Error("this shape is not to be had", kZlShapeMismatch);
    if (how == 6) return;
    if (how == 7) (void)s.dim(0, 9);
    if (how == 8) return s.output(0, {s.number(1) / 0});
    if (how == 9) return s.output(0, {s.number(INT64_MAX) * 4});
    if (how == 10) return s.output(0, {s.number(0) - 5});
    if (how == 11) return s.output(0, {s.number(int64_t{1} << 60)});
    if (how == 12) return s.output(4, {});
    if (how == 13) throw std::bad_alloc();
    if (how == 14) return s.output(0, {s.counted(s.dim(0, 0), s.dim(0, 0))});
    s.output(0, s.dims(0));
  }
  void cpu(const zl::Call& call) const {
    if (how == 14) return;  // never allocates
    if (how == 15) throw std::runtime_error("the body failed");
    if (how == 16) throw 7;
    if (how == 17) (void)call.input<double>(0);
    if (how == 18) (void)call.allocate<float>(0, {1});
    const auto x = call.input<float>(0);
    std::copy(x.begin(), x.end(), call.output<float>(0).begin());
  }
};

}  // namespace

ZEROLANE_OPS("test_ops", "1.2", Scale, ScaleAgain, AddAll, Affine, Above, Mix, Lookup, Extents,
             Faulty)
